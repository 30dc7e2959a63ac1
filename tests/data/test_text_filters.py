"""What is kept out of training text, filtered, sorted and cut; WordPiece; vocabularies that a text does not make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from scrimp.data import text_tokens
from scrimp.data.labelled_text import SCHEMA as LABELLED
from scrimp.data.shards import building, read_manifest, write_manifest
from scrimp.data.text import ids, load_text
from scrimp.data.text_documents import SCHEMA as DOCUMENTS
from scrimp.data.text_documents import Document
from scrimp.data.text_filters import Sentences, arranged, compressible, sentences_of, without_repeats
from scrimp.data.text_packing import SCHEMA, Options, build_view, decoded_sentences, pack
from scrimp.errors import ScrimpError

SPLITS: dict[str, Any] = {"validation": 0.2, "test": 0.2}


def documents(count: int = 60) -> list[Document]:
    return [
        Document(f"north/{n}", "north", "", f"Tale {n} of the north began in year {n}. It was cold there, and dark. Ends.")
        for n in range(count)
    ]


def packed(folder: Path, found: list[Document], **options: Any) -> Path:
    with building(folder) as temporary:
        details = pack(temporary, folder.name, found, Options(**{**SPLITS, **options}), 1)
        write_manifest(temporary, folder.name, "digest", SCHEMA, **details)
    return folder


# ------------------------------------------------------------------------------------------------------------ sentences
def test_sentences_end_with_signs_or_lines() -> None:
    found = sentences_of('He said "No." Then\nhe left!  Why? e.g 3.5 m')
    assert found == ['He said "No."', "Then", "he left!", "Why?", "e.g 3.5 m"]


def test_sentences_are_found_whatever_their_signs_and_cut() -> None:
    known = Sentences(["The cat sat on the mat. Too short."])
    assert len(known) == 1
    text = "Before. THE CAT -- sat on, the mat! After. The cat sat on the mats."
    assert [text[begin:end] for begin, end in known.places(text)] == ["THE CAT -- sat on, the mat"]
    assert known.cut_from(text) == ("Before. ! After. The cat sat on the mats.", 1)
    assert known.cut_from("Nothing of it.") == ("Nothing of it.", 0)


def test_no_text_of_a_labelled_set_is_packed(tmp_path: Path) -> None:
    found = documents()
    secret = "It was cold there, and dark."  # in all of them
    judged = pd.DataFrame([("north/3", secret, "")], columns=["document", "text", "other"])
    tables = {"texts": (DOCUMENTS, pd.DataFrame(found)), "set": (LABELLED, judged)}
    for name, (schema, table) in tables.items():
        with building(tmp_path / name) as temporary:
            table.to_parquet(temporary / "samples.parquet")
            write_manifest(temporary, name, "digest", schema)
    with building(tmp_path / "view") as temporary:
        bases = {name: tmp_path / name for name in tables}
        details = build_view(temporary, "view", bases, Options(**SPLITS))
        write_manifest(temporary, "view", "digest", SCHEMA, **details)
    kept = pd.read_parquet(tmp_path / "view" / "documents.parquet")
    assert "north/3" not in set(kept["document"])
    assert len(kept) == 59
    counts = {"documents": 1, "sentences": 59, "decoded_sentences": 0}
    assert read_manifest(tmp_path / "view")["kept_out"] == {"datasets": ["set"], **counts}
    text = load_text(tmp_path / "view")
    assert all("cold there" not in text.decode(ids(split)) for split in text.splits.values())


def test_no_sentence_is_left_in_what_wordpiece_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Words with the rarest letter are unknown, and gone from what tokens decode to: then the sentences are the same.
    planted = "It began in the \u0436 dark year. Cold was the north there. The end."
    judged = ["It began in the dark year.", "Cold was \u0436 the north there."]
    found = [*documents(), Document("south/1", "south", "", planted)]
    assert Sentences(judged).cut_from(planted) == (planted, 0)  # letter by letter they are not
    letters = {letter for document in found for letter in document.text.lower() if letter != " "}
    monkeypatch.setattr(text_tokens, "ALPHABET", len(letters) - 1)
    folder = tmp_path / "set"
    with building(folder) as temporary:
        options = Options(**SPLITS, tokenizer="wordpiece", vocabulary=80)
        details = pack(temporary, "set", found, options, 1, judged)
        write_manifest(temporary, "set", "digest", SCHEMA, **details)
    assert read_manifest(folder)["kept_out"] == {"decoded_sentences": 2}
    text, row = load_text(folder), pd.read_parquet(folder / "documents.parquet").set_index("document").loc["south/1"]
    assert text.tokenizer is not None
    assert text.tokenizer.decode(text.tokenizer.encode([planted])[0].tolist()).startswith("it began in the dark year.")
    tokens = text.splits[row["split"]][row["first_token"] : row["first_token"] + row["tokens"]]
    assert text.decode(ids(tokens)) == ".. the end."
    assert not list(
        decoded_sentences(judged, text.tokenizer).places(" ".join(map(text.decode, map(ids, text.splits.values()))))
    )


def test_bytes_leave_every_letter_so_nothing_more_is_cut(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    with building(folder) as temporary:
        details = pack(temporary, "set", documents(), Options(**SPLITS), 1, ["It began in the dark year."])
    assert details["kept_out"] == {"decoded_sentences": 0}


def test_a_sentence_that_came_before_is_cut_and_a_short_one_stays() -> None:
    twice = "A sentence that has eight words comes again here. Short one."
    counts: dict[str, int] = {}
    found = list(without_repeats([Document("a", "s", "", twice), Document("b", "s", "", twice)], counts))
    assert [document.text for document in found] == [twice, "Short one."]
    assert counts == {"repeated_sentences": 1}


# ------------------------------------------------------------------------------------------------------- filters, order
def test_the_published_bound_is_a_quarter_of_a_token_a_letter() -> None:
    assert compressible(np.zeros(24, np.uint16), "x" * 100, 0.25)
    assert not compressible(np.zeros(25, np.uint16), "x" * 100, 0.25)


def test_windows_are_sorted_and_cut_by_hand() -> None:
    # Windows of two; 9 is a full stop. Shares: 1 has 3 of 8, 9 has 3, 5 and 7 have 1 each.
    tokens = np.array([1, 5, 9, 9, 1, 1, 9, 7, 4], np.uint16)
    by_stops = arranged(tokens, 2, "full-stops", 1.0, "sorted", 9, 0)
    assert by_stops.tolist() == [9, 9, 9, 7, 1, 5, 1, 1]  # two, one, none, none: ties as they were
    by_share = arranged(tokens, 2, "prevalence", 0.5, "sorted", 9, 0)
    assert by_share.tolist() == [9, 9, 1, 1]
    random = arranged(tokens, 2, "full-stops", 0.5, "random", 9, 0).reshape(-1, 2)
    assert len(random) == 2
    stops = (random == 9).sum(axis=1)
    assert stops[0] >= stops[1]  # cut first, then sorted
    assert arranged(tokens, 2, None, 0.5, "random", 9, 0).tolist() == arranged(tokens, 2, None, 0.5, "random", 9, 0).tolist()


def test_filters_change_the_training_split_alone(tmp_path: Path) -> None:
    plain = packed(tmp_path / "plain", documents())
    cut = packed(tmp_path / "cut", documents(), deduplicate=True, window=16, sort="full-stops", keep=0.5)
    one, other = load_text(plain), load_text(cut)
    assert all(one.splits[split].equal(other.splits[split]) for split in ("validation", "test"))
    assert len(other.splits["train"]) % 16 == 0
    facts = read_manifest(cut)
    assert facts["filtered"]["repeated_sentences"] == 0  # "It was cold there, and dark." has but six words
    assert facts["filtered"]["windows_dropped"] > 0
    assert facts["bytes"]["train"] == pytest.approx(len(other.splits["train"]), rel=0.05)  # bytes are tokens here


def test_incompressible_documents_are_dropped(tmp_path: Path) -> None:
    # A byte is a token, so plain text has one token a letter, and letters of two bytes have two.
    odd = [Document(f"odd/{n}", "odd", "", f"{n}" + "éàü" * 40) for n in range(30)]
    folder = packed(tmp_path / "set", [*documents(), *odd], compressibility=1.5)
    rows = pd.read_parquet(folder / "documents.parquet")
    assert not ((rows["source"] == "odd") & (rows["split"] == "train")).any()
    assert ((rows["source"] == "odd") & (rows["split"] != "train")).any()  # held-out text stays
    assert read_manifest(folder)["filtered"]["incompressible"] == 30 - (rows["source"] == "odd").sum()


# ------------------------------------------------------------------------------------------------------------ WordPiece
def test_wordpiece_is_berts_and_the_same_for_any_order(tmp_path: Path) -> None:
    folder = packed(tmp_path / "one", documents(), tokenizer="wordpiece", vocabulary=80)
    text = load_text(folder)
    assert (text.vocabulary, text.end_of_text) == (80, 1)
    assert text.tokenizer is not None
    first, second = text.tokenizer.encode(["Tale 7 of the NORTH", "tale 7 of the north"])
    assert first.tolist() == second.tolist()
    again = packed(tmp_path / "again" / "one", documents()[::-1], tokenizer="wordpiece", vocabulary=80)
    assert (folder / "tokenizer.json").read_bytes() == (again / "tokenizer.json").read_bytes()
    rows = pd.read_parquet(folder / "documents.parquet")
    row = rows.iloc[0]
    decoded = text.decode(ids(text.splits[row["split"]][row["first_token"] : row["first_token"] + row["tokens"]]))
    assert decoded.startswith(f"tale {row['document'].partition('/')[2]} of the north")


@pytest.mark.parametrize("tokenizer", ["wordpiece", "bpe"])
def test_a_vocabulary_larger_than_the_text_supports_is_an_error(tmp_path: Path, tokenizer: str) -> None:
    with pytest.raises(ScrimpError, match=r"set: its options ask for a vocabulary of 9,000, but the text makes \d+ tokens"):
        packed(tmp_path / "set", documents(), tokenizer=tokenizer, vocabulary=9000)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tokenizer": "wordpiece"}, "give a `vocabulary`"),
        ({"tokenizer": "bpe", "vocabulary": 200}, "a `bpe` has the 256 bytes and more"),
        ({"vocabulary": 300}, "none with `bytes`"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Options(**options)
