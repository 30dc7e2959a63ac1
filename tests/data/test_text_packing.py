"""Packing: splits by document, a seeded order, duplicates, runs of tokens, tokenizers, and the same bytes twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from study_folders import rewrite_table

from scrimp.data import text_packing
from scrimp.data.shards import building, read_manifest, write_manifest
from scrimp.data.text import ids, load_text
from scrimp.data.text_documents import Document
from scrimp.data.text_packing import SCHEMA, SPLITS, Options, build_view, pack, split_of
from scrimp.data.text_tokens import END_OF_TEXT, BpeTokenizer
from scrimp.errors import ScrimpError

SMALL: dict[str, Any] = {"validation": 0.2, "test": 0.2}
BPE: dict[str, Any] = {**SMALL, "tokenizer": "bpe", "vocabulary": 280}


def worlds(count: int = 60, word: str = "tale") -> list[Document]:
    """Documents of two sources, some with letters of several bytes, each with a text of its own."""
    return [
        Document(f"{source}/{number}", source, f"Title {number}", f"{word} {number} of {source}: " + "é, no " * (number % 5))
        for source in ("north", "south")
        for number in range(count // 2)
    ]


def packed(folder: Path, documents: list[Document], buckets: int = 1, **options: Any) -> Path:
    with building(folder) as temporary:
        details = pack(temporary, folder.name, documents, Options(**{**SMALL, **options}), buckets)
        write_manifest(temporary, folder.name, "digest", SCHEMA, **details)
    return folder


def table(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "documents.parquet")


def texts_of(folder: Path) -> dict[str, str]:
    """Each document's text, decoded from where the table says that its tokens lie."""
    text = load_text(folder)
    found = {}
    for row in table(folder).itertuples():
        tokens = ids(text.splits[row.split][row.first_token : row.first_token + row.tokens])
        assert tokens[-1] == text.end_of_text
        assert (tokens[:-1] != text.end_of_text).all()
        found[row.document] = text.decode(tokens)
    return found


@pytest.mark.parametrize("options", [SMALL, BPE])
def test_every_document_comes_back_from_its_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(text_packing, "RUN", 100)  # tokens: documents lie across runs, and a run holds several
    monkeypatch.setattr(text_packing, "RUNS_PER_SHARD", 3)
    documents = worlds()
    folder = packed(tmp_path / "set", documents, **options)
    assert texts_of(folder) == {document.document: document.text for document in documents}
    samples, manifest = pd.read_parquet(folder / "samples.parquet"), read_manifest(folder)
    assert list(samples.columns) == ["index", "split", "shard", "offset", "size", "first_token", "tokens", "sha256"]
    for split, runs in samples.groupby("split"):
        assert runs["tokens"].iloc[:-1].eq(100).all()
        assert runs["first_token"].tolist() == list(range(0, manifest["tokens"][split], 100))
        assert runs["tokens"].sum() == manifest["tokens"][split]
        assert runs["shard"].nunique() == -(-len(runs) // 3)


def test_the_manifest_counts(tmp_path: Path) -> None:
    documents = worlds()
    manifest = read_manifest(packed(tmp_path / "set", documents))
    sizes = dict.fromkeys(SPLITS, 0)
    for document in documents:
        sizes[split_of(document.document, 0.2, 0.2)] += len(document.text.encode())
    rows = table(tmp_path / "set")
    assert manifest["bytes"] == sizes
    assert manifest["tokens"] == {split: sizes[split] + int((rows["split"] == split).sum()) for split in SPLITS}
    assert sum(manifest["documents"].values()) == len(rows) == 60
    assert {split: sum(by.values()) for split, by in manifest["bytes_by_source"].items()} == sizes
    assert (manifest["tokenizer"], manifest["vocabulary"], manifest["end_of_text"]) == ("bytes", 257, 256)
    assert [shard["file"] for shard in manifest["shards"]] == [f"{split}-00000.tar" for split in SPLITS]


@pytest.mark.parametrize("options", [SMALL, BPE])
def test_a_second_build_gives_the_same_bytes_whatever_the_order_and_the_buckets(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    documents = worlds()
    packed(tmp_path / "one" / "set", documents, **options)
    packed(tmp_path / "two" / "set", documents[::-1], buckets=7, **options)
    files = sorted(path.name for path in (tmp_path / "one" / "set").iterdir())
    assert "documents.parquet" in files
    for file in files:
        assert (tmp_path / "one" / "set" / file).read_bytes() == (tmp_path / "two" / "set" / file).read_bytes(), file
    assert files == sorted(path.name for path in (tmp_path / "two" / "set").iterdir())


def test_no_document_changes_its_split_when_others_come(tmp_path: Path) -> None:
    few = table(packed(tmp_path / "few", worlds(40))).set_index("document")["split"]
    many = table(packed(tmp_path / "many", worlds(90))).set_index("document")["split"]
    assert few.index.is_unique
    assert set(few) == set(SPLITS)
    assert many[few.index].equals(few)


def test_the_held_out_shares_are_what_was_asked_for() -> None:
    splits = [split_of(f"d/{number}", 0.05, 0.1) for number in range(20_000)]
    # Four standard deviations of a binomial count: 4 * sqrt(20,000 * 0.1 * 0.9) = 170.
    assert abs(splits.count("test") - 2000) < 170
    assert abs(splits.count("validation") - 1000) < 124
    # A document that is held out as a test remains one whatever the validation's share.
    assert all(split_of(f"d/{n}", 0.3, 0.1) == "test" for n, split in enumerate(splits) if split == "test")


def test_documents_lie_in_a_seeded_order_that_mixes_the_sources(tmp_path: Path) -> None:
    order = table(packed(tmp_path / "zero", worlds(200)))
    other = table(packed(tmp_path / "one", worlds(200), seed=1))
    assert order["document"].tolist() != other["document"].tolist()
    assert sorted(order["document"]) == sorted(other["document"])
    train = order[order["split"] == "train"]
    beginning = train["source"].iloc[:50].eq("north").sum()
    assert 10 <= beginning <= 40  # of 50 out of equal halves: 25, standard deviation 3.1


def test_equal_texts_are_kept_once_under_the_first_name(tmp_path: Path) -> None:
    twins = [Document(f"{name}/twin", name, "", "the very same") for name in ("zebra", "ant", "moth")]
    folder = packed(tmp_path / "set", [*worlds(), *twins])
    names = set(table(folder)["document"])
    assert read_manifest(folder)["duplicates_dropped"] == 2
    assert names & {"zebra/twin", "ant/twin", "moth/twin"} == {"ant/twin"}


def test_a_share_keeps_the_same_documents_when_others_come(tmp_path: Path) -> None:
    half = set(table(packed(tmp_path / "half", worlds(200), share=0.5))["document"])
    more = set(table(packed(tmp_path / "more", worlds(400), share=0.5))["document"])
    assert 70 <= len(half) <= 130  # 100, standard deviation 7
    assert half == more & {document.document for document in worlds(200)}


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    lone = [document for document in worlds() if split_of(document.document, 0.2, 0.2) != "validation"]
    with pytest.raises(ScrimpError, match="set: no document falls into validation: raise `share`, or `validation`"):
        packed(tmp_path / "set", lone)


def test_a_bpe_learns_from_the_training_split_alone(tmp_path: Path) -> None:
    """Other held-out texts leave the tokenizer as it is; other training texts do not."""
    documents = worlds()

    def with_other(split: str) -> list[Document]:
        return [
            document._replace(text="zyxwvut " * 20 + document.text)
            if split_of(document.document, 0.2, 0.2) == split
            else document
            for document in documents
        ]

    plain = packed(tmp_path / "plain", documents, **BPE)
    before = (plain / "tokenizer.json").read_bytes()
    assert read_manifest(plain)["vocabulary"] == 280
    for split in ("validation", "test"):
        assert (packed(tmp_path / split, with_other(split), **BPE) / "tokenizer.json").read_bytes() == before
    assert (packed(tmp_path / "train", with_other("train"), **BPE) / "tokenizer.json").read_bytes() != before


def test_a_bpe_gives_end_of_text_for_no_text() -> None:
    bpe = BpeTokenizer.trained(["a tale of two cities, " * 9], 300)
    text = f"say {END_OF_TEXT} and\n\ngo on: é 漢 \U0001f600  \t."
    (tokens,) = bpe.encode([text])
    assert bpe.end_of_text not in tokens
    assert bpe.decode(tokens) == text
    assert bpe.decode([*tokens, bpe.end_of_text]) == text


def test_a_saved_bpe_is_the_same_one(tmp_path: Path) -> None:
    bpe = BpeTokenizer.trained(["a tale of two cities, " * 9], 300)
    bpe.save(tmp_path)
    text = [f"two tales {END_OF_TEXT}"]
    np.testing.assert_array_equal(BpeTokenizer.read(tmp_path).encode(text)[0], bpe.encode(text)[0])
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ScrimpError, match=r"tokenizer\.json is missing or damaged"):
        BpeTokenizer.read(tmp_path)


@pytest.mark.parametrize(
    "options", [{"tokenizer": "bpe"}, {"vocabulary": 300}, {"tokenizer": "bpe", "vocabulary": 65_537}, {"share": 0}]
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options(**options)


def test_a_view_packs_several_tables(tmp_path: Path) -> None:
    for source in ("north", "south"):
        folder = tmp_path / source
        folder.mkdir()
        rows = [document for document in worlds() if document.source == source]
        pd.DataFrame(rows).to_parquet(folder / "samples.parquet")
        write_manifest(folder, source, "digest", [], documents={source: len(rows)}, unreadable=3)
    (tmp_path / "view").mkdir()
    details = build_view(tmp_path / "view", "view", {n: tmp_path / n for n in ("north", "south")}, Options(**SMALL))
    assert set(table(tmp_path / "view")["document"]) == {document.document for document in worlds()}
    assert details["bases"]["north"]["documents"] == {"north": 30}
    assert details["bases"]["north"]["unreadable"] == 3
    json.dumps(details)
    rewrite_table(tmp_path / "north", pd.DataFrame({"label": [1]}))
    (tmp_path / "other").mkdir()
    with pytest.raises(ScrimpError, match="north has no documents"):
        build_view(tmp_path / "other", "view", {"north": tmp_path / "north"}, Options(**SMALL))
