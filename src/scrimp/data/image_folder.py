"""A user's own image folder, `SPLIT/CLASS/*.jpg`, as a labelled dataset: ImageNet, or data of one's own.

Every picture is decoded once before it is copied. What is not taken is named and counted by reason: hidden files and
folders, files that are no pictures, pictures in folders below a class's, class folders without any, damaged pictures. Names
that are not UTF-8 are spelled out.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.progress import track

from scrimp.config import FolderSource
from scrimp.data.loading import CORRUPT, as_rgb
from scrimp.data.shards import ShardWriter, writable
from scrimp.data.sources import say
from scrimp.errors import ScrimpError

EXTENSIONS = {
    ".jpg": "jpg",
    ".jpeg": "jpg",
    ".png": "png",
    ".webp": "webp",
    ".bmp": "bmp",
    ".tif": "tif",
    ".tiff": "tif",
}
AT_A_TIME = 64  # pictures that are read and decoded ahead of the one that is written
NAMED = 5  # files that are named on the screen for each reason; the manifest names up to NAMED_IN_MANIFEST
NAMED_IN_MANIFEST = 1000

LeftOut = defaultdict[str, list[str]]


def files_of(folder: Path, left_out: LeftOut) -> list[tuple[str, Path]]:
    """(class name, file) of every picture below `folder`, classes and files in the order of their names.

    What is passed over is added to `left_out`, by reason, as a path that begins with the split's folder.
    """

    def passed(reason: str, path: Path) -> None:
        left_out[writable(reason)].append(writable(path.relative_to(folder.parent).as_posix()))

    files: list[tuple[str, Path]] = []
    for class_folder in sorted(folder.iterdir()):
        if class_folder.name.startswith("."):
            passed("hidden", class_folder)
            continue
        if class_folder.is_symlink():  # it may lead anywhere
            passed("a link", class_folder)
            continue
        if not class_folder.is_dir():
            passed("outside a class's folder", class_folder)
            continue
        before = len(files)
        for path in sorted(class_folder.iterdir()):
            if path.name.startswith("."):
                passed("hidden", path)
            elif path.is_symlink():
                passed("a link", path)
            elif path.is_dir():
                deep = [below for below in sorted(path.rglob("*")) if below.suffix.lower() in EXTENSIONS]
                for below in deep:
                    passed("in a folder below a class's", below)
            elif path.suffix.lower() in EXTENSIONS and path.is_file():
                files.append((writable(class_folder.name), path))
            elif path.suffix.lower() in EXTENSIONS:
                passed("no regular file", path)
            else:
                passed(f"no picture ({path.suffix.lower() or 'no extension'})", path)
        if len(files) == before:
            passed("a class's folder without pictures", class_folder)
    return files


def build(folder: Path, source: FolderSource, writer: ShardWriter) -> dict[str, Any]:
    """Copy every picture as it is into shards. Returns class names, counts and what was left out for the manifest.

    Raises ScrimpError where a split's folder is missing or has no picture, where a split has a class that the training split
    lacks, and where all pictures of a class are damaged.
    """
    pictures: dict[str, list[tuple[str, Path]]] = {}
    left_out: LeftOut = defaultdict(list)
    for split, name in source.splits.items():
        if not (folder / name).is_dir():
            raise ScrimpError(f"{folder / name} is not a folder; {source.obtain}")
        pictures[split] = files_of(folder / name, left_out)
        if not pictures[split]:
            raise ScrimpError(f"{folder / name} holds no CLASS/*.{{{','.join(sorted(EXTENSIONS))}}}; {source.obtain}")
    classes = sorted({class_name for class_name, _ in pictures["train"]})
    label_of = {name: label for label, name in enumerate(classes)}
    counts = dict.fromkeys(pictures, 0)
    for split, files in pictures.items():
        for class_name, path in files:
            if class_name not in label_of:
                raise ScrimpError(f"{path.parent}: class {class_name!r} is not among those of the training split")
        taken = set()
        for (class_name, path), content, damage in track(_read(files), description=f"sharding {split}", total=len(files)):
            if damage:
                left_out["damaged"].append(writable(f"{path.relative_to(folder).as_posix()} ({damage})"))
                continue
            fields = {"label": label_of[class_name], "class_name": class_name, "name": writable(path.name)}
            writer.write(split, content, EXTENSIONS[path.suffix.lower()], fields)
            taken.add(class_name)
            counts[split] += 1
        lost = sorted({class_name for class_name, _ in files} - taken)
        if lost:
            raise ScrimpError(
                f"{folder / source.splits[split] / lost[0]}: all of its pictures are damaged; mend them or remove the folder"
            )
    for reason, files_left in sorted(left_out.items()):
        more = ", ..." if len(files_left) > NAMED else ""
        say(f"left out, {reason}: {len(files_left):,} ({', '.join(files_left[:NAMED])}{more})")
    return {
        "classes": classes,
        "counts": counts,
        "left_out": {reason: len(names) for reason, names in sorted(left_out.items())},
        "left_out_files": {reason: names[:NAMED_IN_MANIFEST] for reason, names in sorted(left_out.items())},
    }


def _read(files: list[tuple[str, Path]]) -> Iterator[tuple[tuple[str, Path], bytes, str]]:
    """Every content, and what is wrong with it or "", in their order; threads decode without the interpreter's lock."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        for begin in range(0, len(files), AT_A_TIME):
            part = files[begin : begin + AT_A_TIME]
            contents = threads.map(_content_of, [path for _, path in part])
            for file, (content, damage) in zip(part, contents, strict=True):
                yield file, content, damage


def _content_of(path: Path) -> tuple[bytes, str]:
    content = path.read_bytes()
    if not content:
        return content, "empty"
    try:
        as_rgb(content)
    except CORRUPT as error:
        return content, str(error).split("<_io")[0].strip() or type(error).__name__
    return content, ""
