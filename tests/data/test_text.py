"""Reading tokens: windows, what is checked, and decoding."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from scrimp.data.shards import building, read_manifest, write_manifest
from scrimp.data.text import Text, ids, load_text, window_count, windows
from scrimp.data.text_packing import SCHEMA, PackedWriter
from scrimp.errors import ScrimpError

SIZES = {"train": 50, "validation": 20, "test": 11}


def written(folder: Path) -> Path:
    """Splits whose tokens count on from 65,500 backwards and so need all 16 bits."""
    with building(folder) as temporary:
        writer = PackedWriter(temporary)
        for split, size in SIZES.items():
            writer.add(split, np.arange(65_500, 65_500 - size, -1).astype(np.uint16))
        facts = {"tokenizer": "none", "vocabulary": 65_501, "end_of_text": 0, "bytes": {k: 3 * v for k, v in SIZES.items()}}
        write_manifest(temporary, folder.name, "digest", SCHEMA, **writer.close(), **facts)
    return folder


@pytest.fixture
def text(tmp_path: Path) -> Text:
    return load_text(written(tmp_path / "set"))


def test_splits_hold_what_was_written(text: Text) -> None:
    assert {split: len(tokens) for split, tokens in text.splits.items()} == SIZES
    assert ids(text.splits["test"]).tolist() == list(range(65_500, 65_489, -1))
    assert text.bytes_per_token == {"train": 3.0, "validation": 3.0, "test": 3.0}
    assert text.entropy is None


def test_a_window_s_targets_are_its_inputs_one_further(text: Text) -> None:
    split = text.splits["validation"]
    inputs, targets = windows(split, 4, torch.tensor([0, 3]))
    assert inputs.dtype == targets.dtype == torch.int64
    assert inputs.tolist() == [[65_500, 65_499, 65_498, 65_497], [65_488, 65_487, 65_486, 65_485]]
    assert targets.tolist() == [[65_499, 65_498, 65_497, 65_496], [65_487, 65_486, 65_485, 65_484]]


@pytest.mark.parametrize(("size", "count"), [(0, 0), (1, 0), (5, 0), (6, 1), (10, 1), (11, 2), (20, 3), (21, 4)])
def test_windows_have_all_their_targets(size: int, count: int) -> None:
    assert window_count(torch.zeros(size, dtype=torch.int16), 5) == count


def test_windows_together_are_the_split(text: Text) -> None:
    split = text.splits["train"]
    count = window_count(split, 7)  # 49 inputs, and the target of the last is token 49
    inputs, targets = windows(split, 7, torch.arange(count))
    assert inputs.flatten().tolist() == ids(split[:49]).tolist()
    assert targets.flatten().tolist() == ids(split[1:50]).tolist()


def test_the_second_reader_maps_the_file_of_the_first(tmp_path: Path) -> None:
    folder = written(tmp_path / "set")
    first = load_text(folder)
    (folder / "train-00000.tar").unlink()
    assert torch.equal(load_text(folder).splits["train"], first.splits["train"])


def test_a_damaged_run_is_found(tmp_path: Path) -> None:
    folder = written(tmp_path / "set")
    shard = folder / "validation-00000.tar"
    content = bytearray(shard.read_bytes())
    content[content.index(np.array([65_500], "<u2").tobytes())] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ScrimpError, match=r"validation-00000\.tar is damaged: a run of tokens .* `scrimp shard set`"):
        load_text(folder)
    shard.unlink()
    with pytest.raises(ScrimpError, match=r"validation-00000\.tar is missing; run `scrimp shard set` again"):
        load_text(folder)


def test_a_damaged_file_of_tokens_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path / "set")
    load_text(folder)
    (cache,) = folder.glob("tokens-*.npy")
    cache.write_bytes(b"nothing")
    with pytest.raises(ScrimpError, match=r"tokens-\w+\.npy is missing or damaged .*; delete it"):
        load_text(folder)


def test_a_flipped_bit_of_the_tokens_is_found(tmp_path: Path) -> None:
    folder = written(tmp_path / "set")
    load_text(folder)
    (cache,) = folder.glob("tokens-*.npy")
    content = bytearray(cache.read_bytes())
    content[-1] ^= 1
    cache.write_bytes(content)
    with pytest.raises(ScrimpError, match=r"tokens-\w+\.npy is missing or damaged .*; delete it"):
        load_text(folder)


def test_a_text_view_of_a_base_that_changed_is_refused(tmp_path: Path) -> None:
    folder, base = written(tmp_path / "view"), written(tmp_path / "base")
    manifest = read_manifest(folder)
    bases = {"base": {"samples_sha256": read_manifest(base)["samples_sha256"]}, "gone": {"samples_sha256": "0"}}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "bases": bases}))
    load_text(folder)  # what is not there has not changed: the view holds all that it needs
    (base / "manifest.json").write_text(json.dumps({**read_manifest(base), "samples_sha256": "other"}))
    with pytest.raises(ScrimpError, match=r"base has changed since .*view was made from it; run `scrimp shard view` again"):
        load_text(folder)


def test_a_dataset_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "samples.parquet").touch()
    write_manifest(tmp_path, "icons", "digest", [])
    with pytest.raises(ScrimpError, match="has no tokens; a language study needs a text dataset"):
        load_text(tmp_path)


def test_symbols_are_shown_as_numbers(text: Text) -> None:
    assert text.decode(torch.tensor([3, 0, 12])) == "3 0 12"
