"""A user's own image folder, `SPLIT/CLASS/*.jpg`, as a labelled dataset: ImageNet, or data of one's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.progress import track

from scrimp.config import FolderSource
from scrimp.data.shards import ShardWriter
from scrimp.data.sources import say
from scrimp.errors import ScrimpError

EXTENSIONS = {".jpg": "jpg", ".jpeg": "jpg", ".png": "png"}


def files_of(folder: Path, left_out: Counter[str]) -> Iterator[tuple[str, Path]]:
    """(class name, file) of every picture below `folder`, classes and files in the order of their names.

    Links, which may lead anywhere, and what is called as a picture and is no file are counted in `left_out`.
    """
    for class_folder in sorted(path for path in folder.iterdir() if path.is_dir()):
        if class_folder.is_symlink():
            left_out["a link to a folder"] += 1
            continue
        for path in sorted(class_folder.iterdir()):
            if path.suffix.lower() not in EXTENSIONS:
                continue
            if path.is_symlink():
                left_out["a link to a file"] += 1
            elif not path.is_file():
                left_out["no regular file"] += 1
            else:
                yield class_folder.name, path


def build(folder: Path, source: FolderSource, writer: ShardWriter) -> dict[str, Any]:
    """Copy every picture as it is into shards. Returns class names and counts for the manifest.

    Raises ScrimpError where a split's folder is missing or empty, or a split has a class that the training split lacks.
    """
    pictures: dict[str, list[tuple[str, Path]]] = {}
    left_out = Counter[str]()
    for split, name in source.splits.items():
        if not (folder / name).is_dir():
            raise ScrimpError(f"{folder / name} is not a folder; {source.obtain}")
        pictures[split] = list(files_of(folder / name, left_out))
        if not pictures[split]:
            raise ScrimpError(f"{folder / name} holds no CLASS/*.jpg, .jpeg or .png; {source.obtain}")
    if left_out:
        say(f"{folder}: left out " + ", ".join(f"{count:,} x {reason}" for reason, count in sorted(left_out.items())))
    classes = sorted({class_name for class_name, _ in pictures["train"]})
    label_of = {name: label for label, name in enumerate(classes)}
    for split, files in pictures.items():
        for class_name, path in track(files, description=f"sharding {split}"):
            if class_name not in label_of:
                raise ScrimpError(f"{path.parent}: class {class_name!r} is not among those of the training split")
            fields = {"label": label_of[class_name], "class_name": class_name, "name": path.name}
            writer.write(split, path.read_bytes(), EXTENSIONS[path.suffix.lower()], fields)
    counts = {split: len(files) for split, files in pictures.items()}
    return {"classes": classes, "counts": counts, **({"left_out": dict(left_out)} if left_out else {})}
