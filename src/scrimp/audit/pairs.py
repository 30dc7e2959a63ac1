"""Tars of image-text pairs for the files that `scrimp try --pairs` writes; a task of your own may use them, too.

What the tars hold is found once and kept in the audit's folder, for all of its runs: where pictures lie, captions as tokens,
and, where they fit into memory, the pictures at their size.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap

from scrimp.config import Workspace
from scrimp.data import web_index, web_tars
from scrimp.data.digests import cached
from scrimp.data.pairs import PairData, Pairs, read_tokens
from scrimp.data.shards import building, write_manifest
from scrimp.data.web_pairs import load_web_pairs
from scrimp.data.web_parts import find, kept_parts
from scrimp.errors import ScrimpError
from scrimp.files import digest_of

OPTION = "--pairs"
LAYOUT = 2  # of what is kept; another one is made anew
CAPTION_KEY = "caption"  # of KEY.json, as img2dataset writes it
HELD_OUT = 1000  # pairs of the test split and of the validation split, at most
HELD_OUT_SHARE = 10  # and no more than one in so many
FEWEST = 100  # pairs with a caption of their own
VOCABULARY = 8192
LARGEST = 2**31  # bytes of pictures that are kept in memory; more are read from the tars
AT_A_TIME = 512
WORTH_A_PROCESS = 2**28  # bytes of tars; starting one takes seconds


def tars_in(patterns: str | Sequence[str]) -> list[Path]:
    """The tars that folders, files, globs and patterns with braces stand for, each once, by their whole paths."""
    told = [patterns] if isinstance(patterns, str) else patterns
    found = [tar for pattern in told for tar in web_tars.tars_of(Path(pattern), "", OPTION)]
    return list(dict.fromkeys(Path(os.path.abspath(tar)) for tar in found))


def pairs_of(
    workspace: Workspace,
    tars: str | Sequence[str],
    size: int,
    length: int,
    *,
    score: str | None = None,
    curated_from: float | None = None,
) -> PairData:
    """Pictures of `size` x `size` pixels and captions of at most `length` tokens, split into pool, validation and test.

    A pair is KEY.jpg (or another picture) with KEY.txt, or with `caption` in KEY.json. Pictures without a caption, captions
    without a picture, and pictures that do not decode are counted and named on the screen. With `score`, a number in
    KEY.json, pairs that have at least `curated_from` are curated: a reference may learn from them, and learners do not.
    Raises ScrimpError for a tar that is damaged or missing, and for too few pairs.
    """
    found = tars_in(tars)
    options = web_tars.Options(
        vocabulary=VOCABULARY,
        length=length,
        score=score,
        curated_from=curated_from,
        caption_key=CAPTION_KEY,
        decode=True,
    )
    files = [(tar, tar.stat()) for tar in found]
    told = [LAYOUT, options.model_dump(), [[str(tar), one.st_size, one.st_mtime_ns] for tar, one in files]]
    name = f"pairs-{digest_of(told, 8)}"
    folder = workspace.shards(name)
    if not (folder / "manifest.json").exists():
        _index(folder, name, found, options)
    return _in_memory(folder, load_web_pairs(folder, size), size)


def _index(folder: Path, name: str, tars: list[Path], options: web_tars.Options) -> None:
    processes = 1 + sum(tar.stat().st_size for tar in tars) // WORTH_A_PROCESS
    with kept_parts(folder) as parts, building(folder) as temporary:
        found = find(name, tars, options, min(processes, os.cpu_count() or 1), parts)
        empty = sorted({str(tar) for tar, count in zip(tars, found.pairs, strict=True) if count == 0})
        if empty:
            told = f"{', '.join(empty[:3])}{', ...' if len(empty) > 3 else ''}"
            print(f"no pair in {len(empty)} of {len(tars)} tars ({told})")
        alone = found.alone()
        if alone < FEWEST:
            others = f" and {len(tars) - 1} more" if len(tars) > 1 else ""
            raise ScrimpError(
                f"{tars[0]}{others}: {found.total:,} pairs, {alone:,} of them with a caption of their own, are too few: "
                f"{FEWEST} of these is the least. A pair is KEY.jpg with KEY.txt, or with {CAPTION_KEY!r} in KEY.json; left "
                f"out: {found.told}"
            )
        count = min(HELD_OUT, alone // HELD_OUT_SHARE)
        options = options.model_copy(update={"test": count, "validation": count})
        details = web_index.write(temporary, name, found, options)
        write_manifest(temporary, name, web_tars.tars_digest(tars), web_tars.SCHEMA, **details)


def _in_memory(folder: Path, data: PairData, size: int) -> PairData:
    """The same pairs, their pictures mapped from one file that all processes share; unless that would be LARGEST."""
    count = len(data.pairs)
    if count * size * size * 3 > LARGEST:
        return data
    file = folder / f"pixels-{size}.npy"

    def write(path: Path) -> None:
        pixels = open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, size, size, 3))
        for part in torch.arange(count).split(AT_A_TIME):
            pixels[part.numpy()] = data.pairs.images(part).numpy()
        pixels.flush()

    if not cached(file, write):
        return data
    pixels = torch.from_numpy(np.load(file, mmap_mode="c", allow_pickle=False))  # "c": private, never written back
    pairs = Pairs(pixels, torch.arange(count), read_tokens(folder, count))
    splits = {split: pairs.subset(data.table.rows(split)) for split in data.splits}
    return replace(data, pairs=pairs, splits=dict(splits))
