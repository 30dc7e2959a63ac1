"""`icon-pairs`: an image-text view of `icons`. Few pairs with canonical captions, many with raw ones, held-out tests.

`curated` pairs come from sets with well-chosen names and from emoji with the words of the CLDR; `pool` is everything else,
noise included; nothing that is trained on is a near-duplicate of a test picture. The data card is docs/icon-pairs.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from scrimp.config import Closed, unknown
from scrimp.data import captions, emoji_labels
from scrimp.data.icon_classes import near_duplicates, unit_ink
from scrimp.data.loading import load_pixels
from scrimp.data.pairs import SPLITS, TESTS, TRAINED
from scrimp.data.shards import read_manifest, read_samples
from scrimp.errors import ScrimpError

SCHEMA = [
    "index",
    "split",
    "caption",
    "set",
    "designer",
    "curated",
    "descriptive",
    "extended",
    "gallery",
    "shard",
    "offset",
    "size",
    "base_index",
]
BLOCK = 8192  # pictures looked at together
FLAG = "flag: "  # how the CLDR's labels of countries' flags begin


class Options(Closed):
    """How the view is cut; names are of icon sets of the base, or of datasets among `also_reads`.

    `zero_shot` is a classification view of the same base whose `test` nothing here trains on. The designers of
    `test_unseen_sets`, whose names are as canonical as the curated ones, and of `test_emoji_sets` are left out of training
    altogether: they redraw their own icons.
    """

    curated_sets: list[str] = Field(min_length=1)
    curated_emoji_sets: list[str] = Field([])
    test_unseen_sets: list[str] = Field([])
    test_emoji_sets: list[str] = Field([])
    extended_sets: list[str] = Field([], description="sets whose descriptive pool rows count as extended")
    emoji_labels: str | None = None
    zero_shot: str | None = None
    test: PositiveInt = 1000
    validation: PositiveInt = 1000
    test_unseen: PositiveInt = Field(1000, description="of each set, at most; a set is a gallery")
    test_emoji: PositiveInt = Field(1000, description="at most")
    gallery: PositiveInt = Field(1000, description="pairs of the test among which one is looked for")
    near_duplicate: float = Field(0.98, gt=0, le=1, description="cosine from which two pictures count as one")
    word_designers: PositiveInt = Field(8, description="designers that use a word of a descriptive caption, at least")
    vocabulary: int = Field(4096, gt=256, lt=2**15)
    length: PositiveInt = Field(12, description="tokens of a caption; longer ones are cut")


@dataclass(frozen=True)
class Read:
    """What the view is made from: the base's table and pixels (uint8 [N, S, S, 3], row for row), and what is read beside."""

    name: str
    base: Path
    samples: pd.DataFrame
    pixels: Tensor
    labels: pd.DataFrame | None
    zero_shot: np.ndarray  # int64: rows of the base


def build(folder: Path, name: str, base: Path, also: dict[str, Path], options: Options) -> dict[str, Any]:
    """Write the view's table, tokens and tokenizer into `folder`; returns counts for the manifest.

    `also` maps the names of `also_reads` to their folders. Raises ScrimpError for names that are not there, for a
    `zero_shot` of another base, and where too few icons are left to hold out.
    """
    read = _read(name, base, also, options)
    _check_sets(read, options)
    kinds, shown = _captioned(read, options)
    split, gallery = _split(read, options, kinds, shown)
    duplicates = _drop_near_duplicates(read, options, split)
    table = _table(read, options, split, gallery, shown)
    table.to_parquet(folder / "samples.parquet", index=False)
    trained = table["split"].isin(TRAINED)
    return {
        "counts": {part: int((table["split"] == part).sum()) for part in SPLITS},
        "trained_on_by": {flag: int(table[flag].sum()) for flag in ("curated", "descriptive", "extended")},
        "distinct_captions": {part: int(table.loc[table["split"] == part, "caption"].nunique()) for part in SPLITS},
        "sets": {part: int(table.loc[table["split"] == part, "set"].nunique()) for part in SPLITS},
        "left_out": {
            "near_duplicates": duplicates,
            "zero_shot_test": len(read.zero_shot),
            "unseen_designers": int((split == "unseen designer").sum()),
        },
        "galleries": {part: int(table.loc[table["split"] == part, "gallery"].nunique()) for part in TESTS},
        "tokens": captions.write_tokens(folder, table["caption"], trained, options.vocabulary, options.length),
        "base": {"dataset": base.name, "samples_sha256": read_manifest(base)["samples_sha256"]},
        "also_read": {other: read_manifest(at)["samples_sha256"] for other, at in also.items()},
    }


# ---------------------------------------------------------------------------------------------------- what is read
def _read(name: str, base: Path, also: dict[str, Path], options: Options) -> Read:
    for key in ("emoji_labels", "zero_shot"):
        wanted = getattr(options, key)
        if wanted is not None and wanted not in also:
            raise ScrimpError(unknown("dataset", wanted, also, f"config/datasets.yaml: {name}: options.{key} (also_reads)"))
    if (options.curated_emoji_sets or options.test_emoji_sets) and options.emoji_labels is None:
        raise ScrimpError(f"config/datasets.yaml: {name}: options: emoji sets need `emoji_labels`, a dataset of also_reads")
    held = np.empty(0, dtype=np.int64)
    if options.zero_shot is not None:
        view = read_manifest(also[options.zero_shot])
        if view.get("base", {}).get("samples_sha256") != read_manifest(base)["samples_sha256"]:
            raise ScrimpError(
                f"config/datasets.yaml: {name}: options.zero_shot: {options.zero_shot} is not a view of {base.name} as it "
                f"is now; name a view of {base.name}, or run `scrimp shard {options.zero_shot}` again"
            )
        classes = read_samples(also[options.zero_shot])
        held = classes.loc[classes["split"] == "test", "base_index"].to_numpy(np.int64)
    samples = read_samples(base)
    labels = None if options.emoji_labels is None else read_samples(also[options.emoji_labels])
    return Read(name, base, samples, load_pixels(base, samples), labels, held)


def _check_sets(read: Read, options: Options) -> None:
    where = f"config/datasets.yaml: {read.name}: options"
    listed = {
        key: getattr(options, key)
        for key in ("curated_sets", "curated_emoji_sets", "test_unseen_sets", "test_emoji_sets", "extended_sets")
    }
    known = set(read.samples["set"])
    for key, names in listed.items():
        for name in names:
            if name not in known:
                raise ScrimpError(unknown("icon set", name, known, f"{where}.{key}"))
    twice = sorted(
        {name for names in listed.values() for name in names if sum(name in other for other in listed.values()) > 1}
    )
    if twice:
        raise ScrimpError(f"{where}: an icon set plays one part, but {', '.join(twice)} is named more than once")
    unseen = _designers(read, [*options.test_unseen_sets, *options.test_emoji_sets])
    for key in ("curated_sets", "curated_emoji_sets", "extended_sets"):
        for name in listed[key]:
            if _designers(read, [name]) & unseen:
                raise ScrimpError(
                    f"{where}.{key}: {name} has the designer of a set of test_unseen_sets or test_emoji_sets, whom nothing "
                    "trains on"
                )


def _designers(read: Read, sets: list[str]) -> set[str]:
    return set(read.samples.loc[read.samples["set"].isin(sets), "designer"])


# ------------------------------------------------------------------------------------------- captions and splits
def _captioned(read: Read, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """What each row of the base could be ("icon" or "emoji" with a good caption, or "raw") and its caption: str [N] each."""
    kinds = np.full(len(read.samples), "raw", dtype=object)
    shown = read.samples["caption"].to_numpy(dtype=object, copy=True)
    sets, names = read.samples["set"].to_numpy(), read.samples["name"].to_numpy()
    for canonical in [*options.curated_sets, *options.test_unseen_sets]:
        rows = np.flatnonzero(sets == canonical)
        endings = captions.style_endings(names[rows])
        _assign(kinds, shown, rows, "icon", [captions.cleaned(name, endings) for name in names[rows]])
    if read.labels is not None:
        full, names_alone = emoji_labels.captions(read.labels), read.labels["label"].map(emoji_labels.plain)
        # In grey and at 32 pixels most countries' flags look like another's: they are trained on, but no test. Keywords
        # help who trains on them; the test asks for the name alone, in words that the pool has too.
        asked = names_alone.mask(read.labels["label"].str.startswith(FLAG), "").tolist()
        for emoji in [*options.curated_emoji_sets, *options.test_emoji_sets]:
            rows = np.flatnonzero(sets == emoji)
            said = asked if emoji in options.test_emoji_sets else full
            found = emoji_labels.matched(names[rows], read.labels)
            _assign(kinds, shown, rows, "emoji", ["" if at is None else said[at] for at in found])
    return kinds, shown


def _assign(kinds: np.ndarray, shown: np.ndarray, rows: np.ndarray, kind: str, told: list[str]) -> None:
    good = np.array([text != "" for text in told], dtype=bool)
    kinds[rows[good]] = kind
    shown[rows[good]] = [text for text in told if text]


def _split(read: Read, options: Options, kinds: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of each row of the base, one of SPLITS, or the reason why it has none: str [N]; its gallery: int64 [N]."""
    sets = read.samples["set"].to_numpy()
    split = np.where(kinds == "raw", "pool", "curated").astype(object)
    gallery = np.zeros(len(split), dtype=np.int64)
    unseen = _designers(read, [*options.test_unseen_sets, *options.test_emoji_sets])
    split[np.isin(read.samples["designer"], sorted(unseen))] = "unseen designer"
    split[read.zero_shot] = "zero-shot test"
    wanted = options.test + options.validation
    chosen = _chosen(read, shown, np.flatnonzero((split == "curated") & (kinds == "icon")), wanted, options.near_duplicate)
    if len(chosen) < wanted:
        raise ScrimpError(
            f"config/datasets.yaml: {read.name}: options: only {len(chosen)} icons of curated_sets have a caption and a "
            f"picture of their own, but test and validation want {wanted}: name more sets, or hold out fewer"
        )
    free = split == "unseen designer"
    for number, name in enumerate(options.test_unseen_sets):
        rows = np.flatnonzero(free & (sets == name) & (kinds == "icon"))
        held = _chosen(read, shown, rows, options.test_unseen, options.near_duplicate)
        split[held], gallery[held] = "test-unseen", number
    emoji = np.flatnonzero(free & np.isin(sets, options.test_emoji_sets) & (kinds == "emoji"))
    split[_chosen(read, shown, emoji, options.test_emoji, options.near_duplicate)] = "test-emoji"
    test = chosen[: options.test]
    split[test], gallery[test] = "test", np.arange(len(test)) // options.gallery
    split[chosen[options.test :]] = "validation"
    return split, gallery


def _chosen(read: Read, shown: np.ndarray, rows: np.ndarray, count: int, threshold: float) -> np.ndarray:
    """Up to `count` of the rows, in the order of a hash of (set, name), no two alike in caption or picture: int64 [n]."""
    if not len(rows):
        return rows
    of = read.samples.iloc[rows]
    hashes = [
        hashlib.sha256(f"{prefix}:{name}".encode()).digest() for prefix, name in zip(of["set"], of["name"], strict=True)
    ]
    in_order = pd.Series(shown[rows], index=rows).iloc[sorted(range(len(rows)), key=hashes.__getitem__)]
    first = in_order.drop_duplicates().index.to_numpy(np.int64)
    ink = _ink(read.pixels, first)
    kept: list[int] = []
    for at in range(len(first)):
        if len(kept) == count:
            break
        if not kept or not bool(near_duplicates(ink[at : at + 1], ink[kept], threshold)):
            kept.append(at)
    return first[kept]


def _drop_near_duplicates(read: Read, options: Options, split: np.ndarray) -> dict[str, int]:
    """Take out of `split` what is trained on and looks like a held-out picture; returns how many of each part."""
    held = np.flatnonzero(np.isin(split, [*TESTS, "zero-shot test"]))
    ink, dropped = _ink(read.pixels, held), {}
    for part in TRAINED:
        rows = np.flatnonzero(split == part)
        copies = [near_duplicates(_ink(read.pixels, block), ink, options.near_duplicate).numpy() for block in _blocks(rows)]
        alike = rows[np.concatenate(copies)] if copies else rows
        split[alike] = "near-duplicate"
        dropped[part] = len(alike)
    return dropped


def _ink(pixels: Tensor, rows: np.ndarray) -> Tensor:
    """`unit_ink` of the given rows of the base: float [n, d]."""
    return torch.cat([unit_ink(luma(pixels[torch.tensor(block)])) for block in _blocks(rows)])


def luma(pixels: Tensor) -> Tensor:
    """uint8 [N, S, S, 3] to grey as Pillow converts to "L" (ITU-R 601-2, in 16-bit fixed point): uint8 [N, S, S]."""
    red, green, blue = pixels.int().unbind(-1)
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).to(torch.uint8)


def _blocks(rows: np.ndarray) -> Iterable[np.ndarray]:
    return np.split(rows, range(BLOCK, len(rows), BLOCK))


# ------------------------------------------------------------------------------------------------------ what is written
def _table(read: Read, options: Options, split: np.ndarray, gallery: np.ndarray, shown: np.ndarray) -> pd.DataFrame:
    rows = np.concatenate([np.flatnonzero(split == part) for part in SPLITS])
    kept, parts = read.samples.iloc[rows], pd.Series(split[rows])
    in_pool = (parts == "pool").to_numpy()
    trained = np.isin(parts, TRAINED)
    passes = np.zeros(len(rows), dtype=bool)
    raw = kept[trained]
    passes[trained] = captions.descriptive(raw["caption"], raw["designer"], options.word_designers)
    curated = (parts == "curated").to_numpy()
    extended = curated | (in_pool & passes & kept["set"].isin(options.extended_sets).to_numpy())
    return pd.DataFrame(
        {
            "index": np.arange(len(rows)),
            "split": parts.to_numpy(),
            "caption": shown[rows],
            "set": kept["set"].to_numpy(),
            "designer": kept["designer"].to_numpy(),
            "curated": curated,
            "descriptive": in_pool & passes,
            "extended": extended,
            "gallery": gallery[rows],
            "shard": [f"../{read.base.name}/{shard}" for shard in kept["shard"]],
            "offset": kept["offset"].to_numpy(),
            "size": kept["size"].to_numpy(),
            "base_index": kept["index"].to_numpy(),
        }
    )
