"""Data that changed after they were written are not trained on: the broken file is named, and what makes it again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from study_folders import rewrite_table

from scrimp.config import Workspace
from scrimp.data import digests
from scrimp.data.digests import cached, check_digest
from scrimp.data.loading import load_classification
from scrimp.data.shards import building, read_manifest, read_samples, write_manifest
from scrimp.data.stage import shard
from scrimp.data.streaming import open_classification
from scrimp.errors import ScrimpError
from scrimp.files import sha256_of
from scrimp.stages.run import run_arm


def flip(path: Path, at: int = -5) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


# -------------------------------------------------------------------------------------------------- what is trained on
def test_rolled_labels_are_not_trained_on(tiny: Workspace) -> None:
    path = tiny.shards("colours") / "samples.parquet"
    table = pd.read_parquet(path)
    table.assign(label=np.roll(table["label"], 1)).to_parquet(path, index=False)
    told = r"samples\.parquet is missing or damaged .*; delete .*colours and run `scrimp shard colours` again"
    with pytest.raises(ScrimpError, match=told):
        run_arm(tiny, "tiny", "full", 0, "smoke")


def test_a_flipped_bit_of_the_pixels_is_not_trained_on(tiny: Workspace) -> None:
    folder = tiny.shards("colours")
    load_classification(folder)
    (pixels,) = folder.glob("pixels-*.npy")
    flip(pixels)
    with pytest.raises(ScrimpError, match=rf"{pixels.name} is missing or damaged .*; delete it and run the same command"):
        run_arm(tiny, "tiny", "full", 0, "smoke")
    pixels.unlink()
    load_classification(folder)  # what the remedy says is enough


def a_picture_s_last_byte(folder: Path) -> tuple[Path, int]:
    row = read_samples(folder).iloc[5]
    return folder / row["shard"], int(row["offset"] + row["size"]) - 1


@pytest.mark.parametrize("read", [load_classification, lambda folder: open_classification(folder, 8, torch.device("cpu"))])
def test_a_flipped_bit_of_a_shard_is_found_before_it_is_decoded(tiny: Workspace, read: Callable[[Path], object]) -> None:
    shard_path, at = a_picture_s_last_byte(tiny.shards("colours"))
    flip(shard_path, at)
    told = rf"colours/{shard_path.name} is missing or damaged .*; delete .*colours and run `scrimp shard colours` again"
    with pytest.raises(ScrimpError, match=told):
        read(tiny.shards("colours"))


# ------------------------------------------------------------------------------------------------------------- views
def test_a_view_s_remedy_names_the_base_that_is_broken(tiny: Workspace) -> None:
    folder = shard(tiny, "icons-2")
    tar = next(tiny.shards("icons").glob("*.tar"))
    flip(tar, 700)
    told = rf"shards/icons/{tar.name} is missing or damaged .*; delete .*shards/icons and run `scrimp shard icons` again"
    with pytest.raises(ScrimpError, match=told):
        load_classification(folder)


def test_a_classification_view_of_a_base_that_changed_is_refused(tiny: Workspace) -> None:
    folder, base = shard(tiny, "icons-2"), tiny.shards("icons")
    rewrite_table(base, read_samples(base).iloc[::-1])
    told = r"shards/icons has changed since .*icons-2 was made from it; run `scrimp shard icons-2` again"
    with pytest.raises(ScrimpError, match=told):
        load_classification(folder)


@pytest.mark.parametrize("key", ["base", "bases", "also_read"])
def test_views_of_every_kind_are_held_against_what_they_were_made_from(tmp_path: Path, key: str) -> None:
    for name in ("base", "view"):
        with building(tmp_path / name) as temporary:
            pd.DataFrame({"index": [0, 1]}).to_parquet(temporary / "samples.parquet")
            digest = read_manifest(tmp_path / "base")["samples_sha256"] if name == "view" else ""
            about = {"base": {"dataset": "base", "samples_sha256": digest}, "bases": {"base": {"samples_sha256": digest}}}
            made_from = {**about, "also_read": {"base": digest}}
            write_manifest(temporary, name, "none", [], **({key: made_from[key]} if name == "view" else {}))
    assert len(read_samples(tmp_path / "view")) == 2
    rewrite_table(tmp_path / "base", pd.DataFrame({"index": [0]}))
    with pytest.raises(ScrimpError, match=r"base has changed since .*view was made from it; run `scrimp shard view` again"):
        read_samples(tmp_path / "view")


# ------------------------------------------------------------------------------------------------------------- caches
def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    cache = tmp_path / "pixels-1.npy"
    left = [tmp_path / f".pixels-1.npy.{process}.tmp" for process in (1, 99999)]
    other = tmp_path / ".pixels-2.npy.1.tmp"
    for path in (*left, other):
        path.write_bytes(b"half")
    assert cached(cache, lambda path: path.write_bytes(b"whole"))
    assert cache.read_bytes() == b"whole"
    assert [path.exists() for path in (*left, other)] == [False, False, True]
    folder = tmp_path / "set"
    (tmp_path / ".set.1.tmp").mkdir()
    with building(folder) as temporary:
        (temporary / "a").touch()
    assert not (tmp_path / ".set.1.tmp").exists()
    assert (folder / "a").exists()


def test_two_that_want_one_cache_take_turns(tmp_path: Path) -> None:
    written: list[Path] = []

    def write(path: Path) -> None:
        written.append(path)
        time.sleep(0.2)
        path.write_bytes(b"whole")

    both = [threading.Thread(target=cached, args=(tmp_path / "pixels.npy", write)) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert len(written) == 1


def test_a_cache_without_its_digest_is_made_anew(tmp_path: Path) -> None:
    cache = tmp_path / "pixels.npy"
    cache.write_bytes(b"from somewhere")
    assert cached(cache, lambda path: path.write_bytes(b"whole"))
    assert cache.read_bytes() == b"whole"


def test_where_nothing_can_be_written_no_cache_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert not cached(tmp_path / "pixels.npy", lambda path: pytest.fail("written"))
    assert list(tmp_path.iterdir()) == []


def test_a_large_file_is_hashed_once_a_day_and_whenever_it_was_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.npy"
    path.write_bytes(b"content")
    hashed: list[Path] = []

    def counting(file: Path) -> str:
        hashed.append(file)
        return sha256_of(file)

    digest = sha256_of(path)
    monkeypatch.setattr(digests, "SMALL", 3)
    monkeypatch.setattr(digests, "sha256_of", counting)
    for _ in range(3):
        check_digest(path, digest, "remedy")
    assert len(hashed) == 1
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # the clock of files may tick every 4 ms only
        path.write_bytes(b"CONTENT")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # of its size and its time, but another file
    with pytest.raises(ScrimpError, match=r"large\.npy is missing or damaged .*; remedy"):
        check_digest(path, digest, "remedy")
    path.write_bytes(b"content")
    check_digest(path, digest, "remedy")
    count = len(hashed)
    now = digests.time.time()
    monkeypatch.setattr(digests.time, "time", lambda: now + digests.TRUSTED + 1)
    check_digest(path, digest, "remedy")
    assert len(hashed) == count + 1
