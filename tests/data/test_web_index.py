"""The index of tars: written part by part as if at once, gone on with after a kill, and mapped by training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tar_worlds import SIDE, SMALL, Files, a_pair, indexed, picture, scored, two_tars, write_tar

from scrimp.data import web_index, web_parts
from scrimp.data.mapped import ArrayWriter, mapped
from scrimp.data.shards import read_manifest, read_samples
from scrimp.data.tables import COLUMNS, Frame, Mapped
from scrimp.data.web_pairs import load_web_pairs
from scrimp.data.web_parts import kept_parts
from scrimp.data.web_tars import Options, index_tar, tars_of
from scrimp.errors import ScrimpError
from scrimp.files import sha256_of
from scrimp.stages.reference import subset_of


@pytest.fixture
def web(tmp_path: Path) -> Path:
    return scored(tmp_path)


# --------------------------------------------------------------------------------------------------------------- columns
def test_the_columns_say_what_the_table_says(web: Path) -> None:
    data, frame = load_web_pairs(web, SIDE), Frame(read_samples(web))
    assert isinstance(data.table, Mapped)
    shards = [tar["file"] for tar in read_manifest(web)["tars"]]
    places = data.table.columns["place"]
    assert [shards[number] for number in places["tar"]] == frame.frame["shard"].tolist()
    for name in ("offset", "size"):
        assert places[name].tolist() == frame.frame[name].tolist()
    for name in ("descriptive", "extended"):
        assert data.table.marks(name).tolist() == frame.marks(name).tolist()
    for split, pairs in data.splits.items():
        rows, wanted = data.table.rows(split), frame.rows(split)
        assert list(rows) == list(map(int, wanted))
        assert data.table.tokens(split) == int((pairs.captions(torch.arange(len(pairs))) != 0).sum())
        largest = data.table.largest_sets(split, 12)
        assert list(largest) == list(frame.largest_sets(split, 12))
        names = {number: name for name, number in largest.items()}
        in_table = frame.frame.loc[frame.frame["split"] == split, "set"]
        assert [names[number] for number in data.table.sets(split)] == in_table.tolist()


def test_training_holds_no_pair_in_memory(web: Path) -> None:
    data = load_web_pairs(web, SIDE)
    for pairs in data.splits.values():
        assert isinstance(pairs.rows, range)  # type: ignore[attr-defined]
        for array in (pairs.tokens, pairs.places):  # type: ignore[attr-defined]
            assert not array.flags.writeable
            assert not array.flags.owndata
    assert (data.splits["pool"].tokens.dtype, data.splits["pool"].places.itemsize) == (np.int16, 16)  # type: ignore[attr-defined]
    chosen = subset_of(data, "curated++")
    assert chosen.rows.dtype == torch.int32  # type: ignore[attr-defined]
    rows = torch.from_numpy(np.flatnonzero(data.samples["extended"]))
    assert torch.equal(chosen.captions(torch.arange(len(rows))), data.pairs.captions(rows))
    again = chosen.subset(range(1, 3))
    assert torch.equal(again.images(torch.tensor([1])), data.pairs.images(rows[2:3]))
    with pytest.raises(IndexError, match="pairs 3 to 4 were asked for, of 4"):
        data.splits["test"].captions(torch.tensor([3, 4]))


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_a_column_that_is_not_the_one_written_is_refused(web: Path, name: str) -> None:
    path = web / f"{name}.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ScrimpError, match=rf"{name}\.npy is missing or damaged.*run `scrimp shard web` again"):
        load_web_pairs(web, SIDE)


def test_an_array_is_written_as_numpy_writes_it(tmp_path: Path) -> None:
    whole = np.arange(12, dtype=np.int16).reshape(6, 2)
    writer = ArrayWriter(tmp_path / "blocks.npy", np.dtype("<i2"), (6, 2))
    for block in (whole[:1], whole[1:1], whole[1:]):
        writer.append(block)
    digest = writer.close()
    np.save(tmp_path / "whole.npy", whole)
    assert (tmp_path / "blocks.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert digest == sha256_of(tmp_path / "whole.npy")
    np.testing.assert_array_equal(mapped(tmp_path / "whole.npy", digest, ""), whole)


# ---------------------------------------------------------------------------------------------------------------- splits
def test_held_out_pairs_are_looked_for_among_more_where_captions_are_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: Files = {}
    for number in range(60):
        shared = number % 4 != 0
        files |= {f"{number}.png": picture(0), f"{number}.txt": f"thing {0 if shared else number}".encode()}
    tars = [write_tar(tmp_path / "a.tar", files)]
    at_once = read_samples(indexed(tmp_path / "at-once", tars))
    monkeypatch.setattr(web_index, "SPARE", 1)
    by_and_by = read_samples(indexed(tmp_path / "by-and-by", tars))
    assert by_and_by.assign(shard="").equals(at_once.assign(shard=""))
    held = at_once[at_once["split"].isin(["test", "validation"])]
    assert len(held) == 7
    assert all(int(key) % 4 == 0 for key in held["key"])


def test_a_tokenizer_learns_from_an_even_share_of_very_many_captions(
    web: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    learn = web_index.captions.train_tokenizer

    def watched(texts: Any, *more: Any) -> Any:
        read[:] = texts
        return learn(read, *more)

    monkeypatch.setattr(web_index.captions, "train_tokenizer", watched)
    monkeypatch.setattr(web_index, "MOST_READ", 12)
    tars = tars_of(tmp_path / "own", "")
    samples = read_samples(indexed(tmp_path / "few", tars, score="fit", curated_from=0.3))
    trained = samples[samples["split"].isin(["curated", "pool"])]
    assert len(trained) == 33
    assert read == trained["caption"].tolist()[::3]


# --------------------------------------------------------------------------------------------------------------- resumed
def test_what_was_read_of_tars_is_kept_and_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_tars(tmp_path / "own")
    tars = tars_of(tmp_path / "own", "")
    whole = indexed(tmp_path / "shards" / "whole", tars)
    content = tars[1].read_bytes()
    tars[1].write_bytes(content[:-20_000])
    web, read = tmp_path / "shards" / "web", list[Path]()

    def watched(tar: Path, options: Options) -> Any:
        read.append(tar)
        return index_tar(tar, options)

    monkeypatch.setattr(web_parts, "index_tar", watched)
    with pytest.raises(ScrimpError, match=r"00001\.tar cannot be read to its end"):
        indexed(web, tars)
    assert read == tars
    assert not web.exists()
    assert len(list((tmp_path / "shards" / ".web.parts").glob("*.parquet"))) == 1
    tars[1].write_bytes(content)
    indexed(web, tars)
    assert read == [*tars, tars[1]]
    assert not (tmp_path / "shards" / ".web.parts").exists()
    for file in whole.iterdir():
        if file.name != "manifest.json":
            assert (web / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_tar_that_has_changed_and_options_that_matter_are_read_anew(tmp_path: Path) -> None:
    two_tars(tmp_path / "own", 20)
    tars = tars_of(tmp_path / "own", "")
    with kept_parts(tmp_path / "web") as parts:
        first = web_parts.find("web", tars, Options(**SMALL), 1, parts)
        assert first.parts == web_parts.find("web", tars, Options(**{**SMALL, "test": 2}), 1, parts).parts
        scores = web_parts.find("web", tars, Options(**SMALL, score="fit", curated_from=0.1), 1, parts)
        assert set(scores.parts).isdisjoint(first.parts)
        write_tar(tars[0], {name: content for number in range(11) for name, content in a_pair(number).items()})
        changed = web_parts.find("web", tars, Options(**SMALL), 1, parts)
        assert changed.pairs == [11, 10]
        assert changed.parts[1] == first.parts[1]
        assert changed.parts[0] != first.parts[0]
    assert not parts.exists()


def test_a_part_that_is_torn_is_made_anew_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    two_tars(tmp_path / "own", 20)
    tars = tars_of(tmp_path / "own", "")
    parts = tmp_path / "parts"
    parts.mkdir()
    found = web_parts.find("web", tars, Options(**SMALL), 1, parts)
    found.parts[0].write_bytes(found.parts[0].read_bytes()[:-9])
    assert web_parts.find("web", tars, Options(**SMALL), 1, parts).pairs == [10, 10]
    content = bytearray(found.parts[1].read_bytes())
    captions = pq.read_metadata(found.parts[1]).row_group(0).column(1)
    content[captions.dictionary_page_offset + captions.total_compressed_size - 2] ^= 255
    found.parts[1].write_bytes(content)
    with pytest.raises(ScrimpError, match=r"\.parquet is damaged .*delete it and run the same command again"):
        found.read(1, ["key", "caption"])


def test_parts_are_kept_after_an_error_and_swept_at_the_end(tmp_path: Path) -> None:
    for fails in (True, False):
        try:
            with kept_parts(tmp_path / "web") as parts:
                (parts / ".half.parquet.17.tmp").write_bytes(b"?")
                (parts / "whole.parquet").write_bytes(b"?")
                if fails:
                    raise ScrimpError("no space")
        except ScrimpError:
            assert (parts / "whole.parquet").exists()
    assert not parts.exists()


def test_reasons_are_counted_over_all_tars_with_an_example(tmp_path: Path) -> None:
    tars = [write_tar(tmp_path / f"{name}.tar", {f"{name}.png": picture(0), **a_pair(3)}) for name in "ab"]
    with kept_parts(tmp_path / "web") as parts:
        found = web_parts.find("web", tars, Options(**SMALL), 1, parts)
        assert found.told == f"2 with no caption (a in {tars[0]})"
        assert found.alone() == 0
        told = json.loads(pq.read_metadata(found.parts[1]).metadata[b"left_out"])
    assert told == {"no caption": [1, "b"]}
