"""Shards: same input, same bytes; every row points at its image; damage and full disks are errors that say what to do."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import webdataset
from PIL import Image

from scrimp.config import Workspace
from scrimp.data.loading import decode, load_classification
from scrimp.data.shards import ShardWriter, building, read_images, read_manifest, read_samples, write_manifest
from scrimp.data.stage import shard
from scrimp.errors import ScrimpError

# Sizes about a tar block of 512 bytes, where an offset that forgets the padding goes wrong.
IMAGES = [bytes([number]) * size for number, size in enumerate([1, 511, 512, 513, 1024, 3000, 7])]


def write_dataset(folder: Path, extension: str = "png", samples_per_shard: int = 3) -> Path:
    with building(folder) as temporary:
        writer = ShardWriter(temporary, samples_per_shard)
        for number, image in enumerate(IMAGES):
            # Captions of very different lengths: the JSON may take more than one block.
            fields = {"caption": "é" * 100 * number, "label": number % 2}
            writer.write("train" if number < 5 else "test", image, extension, fields)
        writer.close()
        write_manifest(temporary, folder.name, "digest", ["index"], shards=writer.shards)
    return folder


def tar_members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


@pytest.mark.parametrize("extension", ["png", "jpg"])  # sorted behind and before "json"
def test_rows_point_at_exactly_the_bytes_that_the_tar_holds(tmp_path: Path, extension: str) -> None:
    folder = write_dataset(tmp_path / "set", extension)
    samples = read_samples(folder)
    assert list(samples["index"]) == list(range(7))
    assert list(samples["shard"]) == ["train-00000.tar"] * 3 + ["train-00001.tar"] * 2 + ["test-00000.tar"] * 2
    assert list(read_images(folder, samples)) == IMAGES
    backwards = samples.iloc[::-1]
    assert list(read_images(folder, backwards)) == IMAGES[::-1]
    for row, image in zip(samples.itertuples(), IMAGES, strict=True):
        members = tar_members(folder / str(row.shard))
        assert members[f"{row.index:08d}.{extension}"] == image
        about = json.loads(members[f"{row.index:08d}.json"])
        assert about == {"index": row.index, "caption": row.caption, "label": row.label}


def test_webdataset_reads_the_same_samples_in_the_same_order(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set")
    names = [str(folder / name) for name in ("train-00000.tar", "train-00001.tar", "test-00000.tar")]
    read = list(webdataset.WebDataset(names, shardshuffle=False))
    assert [sample["png"] for sample in read] == IMAGES
    assert [json.loads(sample["json"])["index"] for sample in read] == list(range(7))


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = write_dataset(tmp_path / "a" / "set"), write_dataset(tmp_path / "b" / "set")
    names = sorted(path.name for path in first.iterdir())
    assert names == ["manifest.json", "samples.parquet", "test-00000.tar", "train-00000.tar", "train-00001.tar"]
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    with tarfile.open(first / "train-00000.tar") as tar:
        assert {(member.mtime, member.uname, member.uid) for member in tar} == {(0, "scrimp", 0)}


def test_the_manifest_counts_and_digests_every_shard(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set")
    manifest = read_manifest(folder)
    assert [(s["file"], s["split"], s["count"]) for s in manifest["shards"]] == [
        ("train-00000.tar", "train", 3),
        ("train-00001.tar", "train", 2),
        ("test-00000.tar", "test", 2),
    ]
    for about in manifest["shards"]:
        assert about["sha256"] == hashlib.sha256((folder / about["file"]).read_bytes()).hexdigest()
    assert manifest["samples_sha256"] == hashlib.sha256((folder / "samples.parquet").read_bytes()).hexdigest()


# -------------------------------------------------------------------------------------------------------------- damage
def test_a_truncated_shard_is_named_with_the_remedy(tiny: Workspace) -> None:
    folder = tiny.shards("colours")
    tar = folder / "train-00000.tar"
    samples = read_samples(folder)
    last = samples.query("split == 'train'").iloc[-1]
    reach = int(last["offset"] + last["size"])
    os.truncate(tar, reach)  # the padding and the end marker are not needed
    assert len(list(read_images(folder, samples))) == len(samples)
    os.truncate(tar, reach - 1)
    with pytest.raises(ScrimpError, match=r"train-00000\.tar ends at byte \d+.*truncated.*scrimp shard colours"):
        list(read_images(folder, samples))
    with pytest.raises(ScrimpError, match=r"train-00000\.tar is missing or damaged .*scrimp shard colours"):
        load_classification(folder)


def test_a_missing_shard_is_named_with_the_remedy(tiny: Workspace) -> None:
    (tiny.shards("colours") / "test-00000.tar").unlink()
    with pytest.raises(ScrimpError, match=r"test-00000\.tar is missing or damaged .*`scrimp shard colours`"):
        load_classification(tiny.shards("colours"))


@pytest.mark.parametrize("damage", ["header", "data"])
def test_a_corrupt_picture_is_named_with_the_remedy(tiny: Workspace, damage: str) -> None:
    folder = tiny.shards("colours")
    samples = read_samples(folder)
    encoded = bytearray(list(read_images(folder, samples))[5])
    begin = 0 if damage == "header" else 60
    encoded[begin : begin + 200] = bytes(200)
    with pytest.raises(ScrimpError, match=r"image 5 in .*train-00000\.tar is corrupt.*scrimp shard colours"):
        decode(bytes(encoded), folder / samples["shard"].iloc[5], 5)


@pytest.mark.parametrize("content", [None, b"not parquet"])
def test_a_missing_or_torn_index_is_named_with_the_remedy(tmp_path: Path, content: bytes | None) -> None:
    folder = write_dataset(tmp_path / "set")
    (folder / "samples.parquet").unlink()
    if content is not None:
        (folder / "samples.parquet").write_bytes(content)
    with pytest.raises(ScrimpError, match=r"samples\.parquet is missing or damaged.*scrimp shard set"):
        read_samples(folder)


def test_what_was_never_sharded_says_which_command_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ScrimpError, match=r"manifest\.json does not exist: run `scrimp shard cifar10` first"):
        read_samples(tmp_path / "cifar10")


def test_data_without_labels_cannot_be_classified(tmp_path: Path) -> None:
    with building(tmp_path / "plain") as temporary:
        writer = ShardWriter(temporary)
        writer.write("train", b"x", "png", {})
        writer.close()
        write_manifest(temporary, "plain", "digest", [])
    with pytest.raises(ScrimpError, match="plain has no labels"):
        load_classification(tmp_path / "plain")


# ------------------------------------------------------------------------------------------------------ failing builds
def test_a_failing_build_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def build() -> None:
        with building(folder) as temporary:
            ShardWriter(temporary).write("train", b"new", "png", {})
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        build()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == [folder]


def test_a_build_that_succeeds_replaces_all_of_the_old_folder(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set")
    with building(folder) as temporary:
        (temporary / "only.txt").write_text("new")
    assert [path.name for path in folder.iterdir()] == ["only.txt"]


def test_a_full_disk_while_sharding_is_told_and_nothing_half_written_stays(
    tiny: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = webdataset.TarWriter.write

    def full_after_two(self: Any, sample: dict[str, Any]) -> int:
        if sample["__key__"] == "00000002":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        size: int = write(self, sample)
        return size

    monkeypatch.setattr(webdataset.TarWriter, "write", full_after_two)
    with pytest.raises(ScrimpError, match=r"icons: No space left on device \(\d+ MB free there\); free some space and run"):
        shard(tiny, "icons")
    there = tiny.shards("icons").parent.iterdir()
    assert sorted(path.name for path in there if path.suffix != ".lock") == ["colours"]


def test_a_picture_survives_the_way_through_the_shards(tiny: Workspace) -> None:
    folder = tiny.shards("colours")
    samples: pd.DataFrame = read_samples(folder)
    assert samples["split"].value_counts().to_dict() == {"train": 72, "validation": 24, "test": 24}
    splits, classes = load_classification(folder)
    assert classes == ["blue", "green", "red"]
    assert {name: split.pixels.shape for name, split in splits.items()} == {
        "train": (72, 32, 32, 3),
        "validation": (24, 32, 32, 3),
        "test": (24, 32, 32, 3),
    }
    encoded = tar_members(folder / "test-00000.tar")[f"{96 + 7:08d}.png"]  # 72 + 24 samples lie before the test split
    picture = Image.open(io.BytesIO(encoded))
    assert picture.tobytes() == splits["test"].pixels[7].numpy().tobytes()
    assert int(splits["test"].labels[7]) == 7 % 3
