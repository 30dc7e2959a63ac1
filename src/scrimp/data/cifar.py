"""CIFAR-10 and CIFAR-100 from the official binary archives, and CIFAR-10 from folders of JPEG files.

The "python" archives are pickles and are not read. All layouts give the same samples in a fixed order: the training
split, then the test split. Binary layouts keep the order of the official files (`data_batch_1.bin`, `data_batch_2.bin`,
...; record by record); JPEG folders go by class, in the official order of classes (which is the alphabet's), then by
file name. So a sample's place in the sequence never changes, and shuffling is left to whoever trains.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from scrimp.config import Closed, DatasetConfig, parse_model
from scrimp.data.archives import iter_members
from scrimp.errors import ScrimpError

SIDE = 32  # pixels
PIXEL_BYTES = 3 * SIDE * SIDE
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class CifarOptions(Closed):
    """`options` of a dataset whose builder is `cifar`. `train` and `test` are the counts the archive must have."""

    layout: Literal["cifar10-binary", "cifar100-binary", "cifar10-jpeg"]
    labels: Literal["fine", "coarse"] = "fine"  # CIFAR-100 only
    train: int = 50_000
    test: int = 10_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture: `image` is RGB, uint8 [32, 32, 3] (row, column, channel); `label` counts from 0."""

    split: str
    image: npt.NDArray[np.uint8]
    label: int
    class_name: str


def samples(dataset: DatasetConfig, archive: Path) -> Iterator[Sample]:
    """Every sample of the archive, in the order given at the top of this file.

    The archive's content (up to 184 MB) is held in memory while samples are drawn. Raises `ScrimpError`, naming the
    archive and the member, for a missing or superfluous record, an unknown class, or a picture that does not decode.
    """
    options = parse_model(dataset.options, CifarOptions, f"config/datasets.yaml: {dataset.title}: options")
    if options.layout == "cifar10-jpeg":
        yield from _from_jpegs(archive, options)
    else:
        yield from _from_binary(archive, options)


# -------------------------------------------------------------------------------------------------------------- binary
@dataclass(frozen=True)
class _Layout:
    """A binary archive: the member with the class names, the files of each split, and a record's label bytes."""

    names: str
    files: dict[str, str]  # split -> pattern of file names
    label_bytes: int
    label_at: int


def _layout(options: CifarOptions) -> _Layout:
    if options.layout == "cifar10-binary":
        files = {"train": r"data_batch_(\d+)\.bin", "test": r"test_batch\.bin"}
        return _Layout(names="batches.meta.txt", files=files, label_bytes=1, label_at=0)
    files = {"train": r"train\.bin", "test": r"test\.bin"}
    # Each record starts with the coarse label, then the fine one.
    label_at = 0 if options.labels == "coarse" else 1
    return _Layout(names=f"{options.labels}_label_names.txt", files=files, label_bytes=2, label_at=label_at)


def _from_binary(archive: Path, options: CifarOptions) -> Iterator[Sample]:
    layout = _layout(options)
    wanted = re.compile("|".join([re.escape(layout.names), *layout.files.values()]))
    members = {
        PurePosixPath(name).name: content
        for name, content in iter_members(archive, wanted=lambda name: _is_match(wanted, PurePosixPath(name).name))
    }
    if layout.names not in members:
        raise ScrimpError(f"{archive} has no member {layout.names}; {_WRONG_ARCHIVE.format(options.layout)}")
    classes = members[layout.names].decode("utf-8", errors="replace").split()
    for split, pattern in layout.files.items():
        files = sorted((name for name in members if re.fullmatch(pattern, name)), key=_numbers_in)
        records = {name: _records(archive, name, members[name], layout.label_bytes) for name in files}
        _require_count(archive, options, split, sum(len(table) for table in records.values()))
        for name, table in records.items():
            for record in table:
                label = int(record[layout.label_at])
                if label >= len(classes):
                    raise ScrimpError(f"{archive}: member {name} has a label {label}, but {len(classes)} classes exist")
                pixels = record[layout.label_bytes :].reshape(3, SIDE, SIDE)  # one plane a colour
                yield Sample(split, np.ascontiguousarray(pixels.transpose(1, 2, 0)), label, classes[label])


def _records(archive: Path, name: str, content: bytes, label_bytes: int) -> npt.NDArray[np.uint8]:
    """A file's records as uint8 [records, label bytes + 3072]."""
    length = label_bytes + PIXEL_BYTES
    if len(content) % length:
        raise ScrimpError(
            f"{archive}: member {name} has {len(content):,} bytes, which is no whole number of records of {length}; "
            "delete the archive and bring it again with `scrimp fetch`"
        )
    return np.frombuffer(content, np.uint8).reshape(-1, length)


# ---------------------------------------------------------------------------------------------------------------- JPEG
def _from_jpegs(archive: Path, options: CifarOptions) -> Iterator[Sample]:
    path = re.compile(r"(?:.*/)?(train|test)/([^/]+)/([^/]+)\.jpe?g")
    pictures: dict[tuple[str, int, str], tuple[str, bytes]] = {}
    for name, content in iter_members(archive, wanted=lambda name: _is_match(path, name)):
        match = path.fullmatch(name)
        assert match is not None  # `wanted` let it through
        split, class_name, stem = match.groups()
        if class_name not in CIFAR10_CLASSES:
            raise ScrimpError(f"{archive}: member {name}: {class_name!r} is no class of CIFAR-10")
        pictures[split, CIFAR10_CLASSES.index(class_name), stem] = (name, content)
    for split in ("train", "test"):
        keys = sorted(key for key in pictures if key[0] == split)
        _require_count(archive, options, split, len(keys))
        for _, label, stem in keys:
            name, content = pictures[split, label, stem]
            yield Sample(split, _decoded(archive, name, content), label, CIFAR10_CLASSES[label])


def _decoded(archive: Path, name: str, content: bytes) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
            if picture.size != (SIDE, SIDE):
                raise ScrimpError(f"{archive}: member {name} is {picture.size[0]} x {picture.size[1]} pixels, not 32 x 32")
            return np.array(picture.convert("RGB"), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for broken files
        raise ScrimpError(
            f"{archive}: member {name} is not a readable JPEG ({error}); "
            "delete the archive and bring it again with `scrimp fetch`"
        ) from error


# -------------------------------------------------------------------------------------------------------------- shared
_WRONG_ARCHIVE = "is it the archive that the layout {} stands for?"


def _require_count(archive: Path, options: CifarOptions, split: str, counted: int) -> None:
    expected = options.train if split == "train" else options.test
    if counted != expected:
        raise ScrimpError(
            f"{archive} has {counted:,} samples in its {split} split, but {expected:,} are expected; "
            f"{_WRONG_ARCHIVE.format(options.layout)}"
        )


def _is_match(pattern: re.Pattern[str], name: str) -> bool:
    return pattern.fullmatch(name) is not None


def _numbers_in(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]
