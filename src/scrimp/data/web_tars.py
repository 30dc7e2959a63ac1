"""WebDataset tars of pictures with captions (KEY.jpg, KEY.txt or KEY.json): what one tar holds.

The tars stay where they are: an image-text dataset says where in them each picture lies (`web_index`). The layout is that of
img2dataset, and so of DataComp and of CC12M as it is usually fetched.
"""

from __future__ import annotations

import glob
import json
import math
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt, model_validator

from scrimp.config import Closed
from scrimp.data.archives import iter_places
from scrimp.data.loading import CORRUPT, as_rgb
from scrimp.data.shards import writable
from scrimp.data.sources import expanded
from scrimp.errors import ScrimpError
from scrimp.files import digest_of

SCHEMA = ["index", "split", "key", "caption", "set", "score", "descriptive", "extended", "shard", "offset", "size"]
PICTURES = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff"]
KINDS = {**dict.fromkeys(PICTURES, "picture"), "txt": "caption", "json": "about"}
LARGEST_PICTURE = 2**31  # bytes: a place on disk has four bytes for a size
LARGEST_TEXT = 2**20  # bytes of a caption or of what is told beside it; no real one has as many
# At the last dot, since names from the web have dots of their own; webdataset takes them apart at the first.
KEY = re.compile(r"(?P<key>.*[^/])\.(?P<extension>[^./]*)", re.DOTALL)


class Options(Closed):
    """How the pairs are split. Held-out pairs have captions that no other pair has, and are the last by a hash of the key.

    `score` names a number of KEY.json that says how well picture and caption fit, such as `clip_l14_similarity_score` of
    DataComp: pairs that have at least `curated_from` are the `curated` ones, which references are trained on and learners
    are not; those of the pool with at least `extended_from` are added for `curated++`.
    """

    validation: PositiveInt = 5000
    test: PositiveInt = 5000
    vocabulary: int = Field(32_000, gt=256, lt=2**15)
    length: PositiveInt = Field(64, description="tokens of a caption; longer ones are cut")
    score: str | None = None
    curated_from: float | None = None
    extended_from: float | None = None
    caption_key: str | None = Field(
        None, description="where there is no KEY.txt, this text of KEY.json is the caption, such as `caption`"
    )
    decode: bool = Field(False, description="decode every picture once and leave the corrupt out, which takes a while")

    @model_validator(mode="after")
    def _thresholds_have_a_score(self) -> Options:
        if (self.score is None) != (self.curated_from is None):
            raise ValueError("give both of `score` and `curated_from`, or neither")
        if self.extended_from is not None and (self.curated_from is None or self.extended_from > self.curated_from):
            raise ValueError("`extended_from` needs a `curated_from` that is no lower")
        return self


class Member(NamedTuple):
    """Where a file lies in its tar, in bytes."""

    offset: int
    size: int


def tars_of(pattern: Path, obtain: str, option: str = "--path") -> list[Path]:
    """The tars that a folder, a glob, or a pattern with braces such as `cc12m/{00000..01242}.tar` stands for.

    `obtain` says where they come from, `option` which option of the command they were given by.
    """
    text = str(pattern)
    if pattern.is_dir():
        tars = sorted(pattern.glob("*.tar"))
    elif pattern.is_file():
        tars = [pattern]
    elif "{" in text or "}" in text:
        tars = [Path(path) for path in expanded(text, option)]
    else:
        tars = [Path(path) for path in sorted(glob.glob(text))]
    if not tars:
        raise ScrimpError(
            f"no tar at {pattern}: {option} takes a folder of tars, a glob, or a pattern with braces. {obtain}"
        )
    missing = [path for path in tars if not path.is_file()]
    if missing:
        raise ScrimpError(f"{missing[0]} does not exist; {len(missing)} of the {len(tars)} tars of {pattern} are missing")
    return tars


def tars_digest(tars: list[Path]) -> str:
    """Which tars a dataset was made from, by name and size: to read terabytes for a digest would take hours."""
    return digest_of([[tar.name, tar.stat().st_size] for tar in tars])


def shard_name(tar: Path, folder: Path) -> str:
    """A tar as the table names it: absolute where it was given so, else relative to the dataset's folder."""
    if tar.is_absolute():
        return str(tar)
    return os.path.relpath(tar.parent.resolve() / tar.name, folder.parent.resolve() / folder.name)


# ------------------------------------------------------------------------------------------------------------- one tar
def index_tar(tar: Path, options: Options) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """A row for each pair of a tar, in the order of their first files, and the names of what was left out, by reason."""
    pairs: dict[str, dict[str, list[Member]]] = {}
    left_out = defaultdict[str, list[str]](list)
    for name, offset, size in iter_places(tar):
        if name.rpartition("/")[2].startswith("."):
            left_out["a hidden file"].append(writable(name))
            continue
        parts = KEY.fullmatch(name)
        kind = KINDS.get(parts["extension"].lower()) if parts else None
        files = pairs.setdefault(parts["key"] if parts else name, {})
        if kind:
            files.setdefault(kind, []).append(Member(offset, size))
    rows = []
    with tar.open("rb") as file:
        for key, files in pairs.items():
            if _is_companion(key, pairs, options):
                continue
            about = _about(file.fileno(), files.get("about", []))
            caption, reason = _caption(file.fileno(), files, about, options)
            if reason:
                left_out[reason].append(writable(key))
                continue
            score = _number(about.get(options.score)) if options.score else math.nan
            where = files["picture"][0]
            rows.append((writable(key), caption, _host(about.get("url")), score, where.offset, where.size))
    table = pd.DataFrame(rows, columns=["key", "caption", "set", "score", "offset", "size"])
    return table.astype({"score": float, "offset": np.int64, "size": np.int64}), dict(left_out)  # also where it is empty


def _is_companion(key: str, pairs: dict[str, dict[str, list[Member]]], options: Options) -> bool:
    """Whether KEY.seg, say, only holds what lies beside the pair KEY, and no caption of its own."""
    captions = {"caption"} if options.caption_key is None else {"caption", "about"}

    def whole(one: str) -> bool:
        files = pairs.get(one, {})
        return "picture" in files and not captions.isdisjoint(files)

    folder, slash, base = key.rpartition("/")
    pieces = base.split(".")
    shorter = (folder + slash + ".".join(pieces[:count]) for count in range(1, len(pieces)))
    return not whole(key) and any(map(whole, shorter))


def _caption(file: int, files: dict[str, list[Member]], about: dict[str, Any], options: Options) -> tuple[str, str]:
    """A pair's caption and "", or "" and why the pair is of no use."""
    if not files:
        return "", "neither picture nor caption"
    told = about.get(options.caption_key) if options.caption_key is not None and "caption" not in files else None
    for kind in ("picture",) if isinstance(told, str) else ("picture", "caption"):
        members = files.get(kind, [])
        if len(members) != 1:
            return "", f"more than one {kind}" if members else f"no {kind}"
        if members[0].size == 0:
            return "", f"an empty {kind}"
        if members[0].size > LARGEST_PICTURE:
            return "", f"an endless {kind}"
    caption, reason = (told, "") if isinstance(told, str) else _text(file, files["caption"][0])
    caption = " ".join(writable(caption).split())
    if not caption:
        return "", reason or "an empty caption"
    if options.decode:
        try:
            as_rgb(_content(file, files["picture"][0]))
        except CORRUPT:
            return "", "a corrupt picture"
    return caption, ""


def _text(file: int, place: Member) -> tuple[str, str]:
    """The text of a KEY.txt and "", or "" and what is wrong with it."""
    if place.size > LARGEST_TEXT:
        return "", "an endless caption"
    try:
        # Notepad and some exports begin a file with a byte order mark.
        return _content(file, place).decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        return "", "a caption that is not UTF-8"


def _about(file: int, members: list[Member]) -> dict[str, Any]:
    """What KEY.json tells; nothing where it is missing or damaged, since a pair is none the worse for it."""
    if len(members) != 1 or members[0].size > LARGEST_TEXT:
        return {}
    try:
        about = json.loads(_content(file, members[0]))
    except (ValueError, RecursionError):  # no JSON, a number of thousands of digits; lists in lists without end
        return {}
    return about if isinstance(about, dict) else {}


def _number(value: object) -> float:
    """A score as a float; NaN for what is none."""
    try:
        number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _host(url: object) -> str:
    """The host that a picture came from: the groups in which a run counts what it chooses."""
    try:
        return writable((urlsplit(url).hostname if isinstance(url, str) else None) or "unknown")
    except ValueError:
        return "unknown"


def _content(file: int, place: Member) -> bytes:
    return os.pread(file, place.size, place.offset)
