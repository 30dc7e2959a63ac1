"""What image-text views are made from, tiny: an emoji package; a base of icons, curated, emoji, raw and near-copies."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from scrimp.data import icon_pairs
from scrimp.data.emoji_labels import name_of
from scrimp.data.shards import ShardWriter, building, read_manifest, read_samples, write_manifest

Picture = npt.NDArray[np.uint8]
WORDS = [f"{first}{second}" for first in ("lam", "tre", "hou") for second in ("p", "q", "r", "s", "t", "u", "v", "w")]
LABELS = [
    ("grinning face", ["cheerful", "happy"]),
    ("red heart", ["love"]),
    ("flag: Norway", ["NO", "flag"]),
    ("fire engine", ["truck"]),
]


def picture(seed: int) -> Picture:
    """A picture in colours of which no other seed's is a near-duplicate."""
    coarse = np.random.default_rng(seed).integers(0, 2, (8, 8, 1), dtype=np.uint8) * 255
    return np.tile(coarse.repeat(4, 0).repeat(4, 1), (1, 1, 3)) // np.array([1, 2, 3], dtype=np.uint8)


def nearly(original: Picture) -> Picture:
    """The same but for one pixel of 1,024."""
    copy = original.copy()
    copy[0, 0] = 255 - copy[0, 0]
    return copy


@dataclass(frozen=True)
class Icon:
    set: str
    designer: str
    name: str
    picture: Picture


def icons() -> list[Icon]:
    """The base, row by row."""
    found = [Icon("clear", "Ann", name, picture(number)) for number, name in enumerate(WORDS)]
    found += [Icon("clear", "Ann", f"{name}-fill", picture(100 + number)) for number, name in enumerate(WORDS[:6])]
    found += [Icon("clear", "Ann", name, picture(150 + number)) for number, name in enumerate(["3d-box", "logo-acme"])]
    found += [Icon("plain", "Abe", f"{name}-outline-24px", picture(200 + number)) for number, name in enumerate(WORDS[4:12])]
    found += [Icon("plain", "Abe", f"{name}-line", picture(250 + number)) for number, name in enumerate(WORDS[12:14])]
    found += [Icon("raw", "Bob", f"copy-{icon.set}-{icon.name}", nearly(icon.picture)) for icon in found]
    emoji = ["grinning-face", "red-heart", "flag-norway", "fire-engine", "unheard-of"]
    found += [Icon("smile", "Emma", name, picture(300 + number)) for number, name in enumerate(emoji)]
    found += [Icon("moji", "Emil", name, picture(400 + number)) for number, name in enumerate(emoji)]
    found += [Icon("moji-mono", "Emil", name, picture(500 + number)) for number, name in enumerate(emoji)]
    found += [
        Icon("raw", "Bob", "stolen-heart", nearly(picture(401))),
        Icon("raw", "Bob", "stolen-mono", nearly(picture(501))),
    ]
    found += [
        Icon(where, who, "arrow-left-24", picture(600 + n))
        for n, (where, who) in enumerate([("raw", "Bob"), ("wide", "Cid")])
    ]
    found += [
        Icon(where, who, "arrow-left", picture(610 + n)) for n, (where, who) in enumerate([("raw", "Bob"), ("wide", "Cid")])
    ]
    found += [Icon("wide", "Cid", "sole-arrow", picture(620))]
    found += [Icon("raw", "Dan", "seen-class", picture(630)), Icon("raw", "Bob", "copied-class", nearly(picture(630)))]
    return found


OPTIONS: dict[str, Any] = {
    "emoji_labels": "labels",
    "zero_shot": "classes",
    "curated_sets": ["clear", "plain"],
    "curated_emoji_sets": ["smile"],
    "test_emoji_sets": ["moji"],
    "extended_sets": ["wide"],
    "test": 6,
    "validation": 5,
    "test_emoji": 9,
    "word_designers": 2,
    "vocabulary": 300,
    "length": 6,
}


@dataclass(frozen=True)
class PairsWorld:
    """The folders of a base, a classification view of it, a table of emoji labels, and a way to build the view."""

    root: Path
    icons: list[Icon]

    def build(self, name: str = "pairs", **changes: Any) -> dict[str, Any]:
        options = icon_pairs.Options(**{**OPTIONS, **changes})
        also = {"labels": self.root / "labels", "classes": self.root / "classes"}
        with building(self.root / name) as temporary:
            details = icon_pairs.build(temporary, name, self.root / "base", also, options)
            write_manifest(temporary, name, "digest", icon_pairs.SCHEMA, view_of="base", **details)
        return details

    def table(self, name: str = "pairs") -> pd.DataFrame:
        """The view's rows, with the name of each icon beside."""
        rows = read_samples(self.root / name)
        return rows.assign(name=[self.icons[at].name for at in rows["base_index"]])


def write_world(root: Path, found: list[Icon]) -> PairsWorld:
    with building(root / "base") as temporary:
        writer = ShardWriter(temporary)
        for icon in found:
            file = io.BytesIO()
            Image.fromarray(icon.picture).save(file, "PNG")
            about = {"name": icon.name, "caption": icon.name.replace("-", " "), "set": icon.set, "designer": icon.designer}
            writer.write("all", file.getvalue(), "png", about)
        writer.close()
        write_manifest(temporary, "base", "digest", [])
    with building(root / "labels") as temporary:
        rows = [{"name": name_of(label), "label": label, "tags": tags} for label, tags in LABELS]
        pd.DataFrame(rows).to_parquet(temporary / "samples.parquet")
        write_manifest(temporary, "labels", "digest", [])
    write_classes(root)
    return PairsWorld(root, found)


def write_classes(root: Path) -> None:
    """A classification view of the base as it is now, whose test is the icon `seen-class` and whose train is another."""
    base = read_samples(root / "base")
    with building(root / "classes") as temporary:
        held = int(base.index[base["name"] == "seen-class"][0])
        view = pd.DataFrame({"split": ["train", "test"], "label": [0, 0], "base_index": [0, held]})
        view.to_parquet(temporary / "samples.parquet")
        digest = read_manifest(root / "base")["samples_sha256"]
        write_manifest(temporary, "classes", "digest", [], base={"dataset": "base", "samples_sha256": digest}, classes=["c"])


EMOJI: list[dict[str, Any]] = [
    {"hexcode": "1F1E6", "label": "regional indicator A", "unicode": "🇦"},
    {"label": "grinning face", "tags": ["cheerful", "face", "grin", "happy", "smile"]},
    {"label": "blond-haired person", "tags": ["hair"]},
    {"label": "flag: Norway", "tags": ["NO", "flag"]},
    {"label": "fire engine", "tags": ["truck"]},
    {"label": "waving hand", "tags": []},
]


@pytest.fixture(scope="session")
def write_emoji_package() -> Callable[..., Path]:
    """`write(path, emoji=..., member=...)` writes an archive as `npm pack emojibase-data` makes it; returns its path."""

    def write(path: Path, emoji: list[dict[str, Any]] = EMOJI, member: str = "package/en/compact.json") -> Path:
        with tarfile.open(path, "w:gz") as tar:
            # A language that nobody asked for lies beside it.
            for name, content in ((member, emoji), ("package/de/compact.json", [{"label": "grinsendes Gesicht"}])):
                encoded = json.dumps(content).encode()
                about = tarfile.TarInfo(name)
                about.size = len(encoded)
                tar.addfile(about, io.BytesIO(encoded))
        return path

    return write


@pytest.fixture
def pairs_world(tmp_path: Path) -> PairsWorld:
    return write_world(tmp_path / "shards", icons())


@pytest.fixture
def shuffled_world(tmp_path: Path) -> Callable[[int], PairsWorld]:
    """`shuffled_world(seed)` is the same base with its rows in another order."""

    def shuffled(seed: int) -> PairsWorld:
        found = icons()
        order = np.random.default_rng(seed).permutation(len(found))
        return write_world(tmp_path / f"shuffled-{seed}", [found[at] for at in order])

    return shuffled
