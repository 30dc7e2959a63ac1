"""Tars as img2dataset writes them, tiny: pictures in three formats, captions and scores, and their index."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scrimp.data import web_index, web_tars
from scrimp.data.shards import building, write_manifest
from scrimp.data.web_parts import kept_parts
from scrimp.data.web_tars import Options, tars_of

SIDE = 8
SMALL: dict[str, Any] = {"test": 4, "validation": 3, "vocabulary": 300, "length": 6}
Files = dict[str, bytes]


def picture(seed: int, kind: str = "PNG", width: int = SIDE) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def pixels_of(encoded: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def write_tar(path: Path, files: Files) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def a_pair(number: int, **about: Any) -> Files:
    """Pictures in the three formats by turns; every caption has a number of its own."""
    extension, kind = (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"))[number % 3]
    about = {"url": f"https://site{number % 2}.example/{number}.jpg", **about}
    return {
        f"{number:09d}.{extension}": picture(number, kind),
        f"{number:09d}.json": json.dumps(about).encode(),
        f"{number:09d}.txt": f"a drawing of thing {number}".encode(),
    }


def two_tars(folder: Path, count: int = 40) -> dict[str, Files]:
    """Two tars of `count` pairs in all, scored 0, 0.01, 0.02 ...; returns what each pair holds, by key."""
    pairs = {f"{number:09d}": a_pair(number, fit=number / 100) for number in range(count)}
    for half, part in enumerate((list(pairs)[: count // 2], list(pairs)[count // 2 :])):
        write_tar(folder / f"{half:05d}.tar", {name: content for key in part for name, content in pairs[key].items()})
    return pairs


def indexed(folder: Path, tars: list[Path], **changes: Any) -> Path:
    options = Options(**{**SMALL, **changes})
    with kept_parts(folder) as parts, building(folder) as temporary:
        details = web_index.build(temporary, folder.name, tars, options, 1, parts)
        write_manifest(temporary, folder.name, "digest", web_tars.SCHEMA, **details)
    return folder


def scored(root: Path) -> Path:
    """The index `root/shards/web` of two tars in `root/own`, with curated pairs."""
    two_tars(root / "own")
    tars = tars_of(root / "own", "")
    return indexed(root / "shards" / "web", tars, score="fit", curated_from=0.3, extended_from=0.2)
