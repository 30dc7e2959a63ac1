"""The CIFAR readers, on archives of a few records made here byte by byte."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scrimp.config import DatasetConfig
from scrimp.data.cifar import CIFAR10_CLASSES, Sample, samples
from scrimp.errors import ScrimpError

PLANE = 32 * 32


def dataset(**options: Any) -> DatasetConfig:
    return DatasetConfig(title="CIFAR", builder="cifar", view_of="other", licence="none", used_for="a test", options=options)


def write_archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def record(labels: list[int], red: int, green: int = 0, blue: int = 0) -> bytes:
    return bytes(labels) + bytes([red]) * PLANE + bytes([green]) * PLANE + bytes([blue]) * PLANE


def cifar10(path: Path, **changed: bytes) -> Path:
    members = {
        "test_batch.bin": record([9], 30),
        "data_batch_10.bin": record([2], 20),
        "batches.meta.txt": "\n".join([*CIFAR10_CLASSES, "", ""]).encode(),
        "readme.html": b"<html>",
        "data_batch_2.bin": record([1], 12) + record([0], 13),
        "data_batch_1.bin": record([3], 10, green=11, blue=12),
    }
    members = {name: changed.get(name.partition(".")[0], content) for name, content in members.items()}
    return write_archive(path, {f"cifar-10-batches-bin/{name}": content for name, content in members.items()})


def jpeg(colour: tuple[int, int, int], side: int = 32, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).convert(mode).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def summary(found: list[Sample]) -> list[tuple[str, int, str, int]]:
    return [(sample.split, sample.label, sample.class_name, int(sample.image[0, 0, 0])) for sample in found]


def test_cifar10_goes_by_the_number_of_the_batch_not_by_the_order_in_the_archive(tmp_path: Path) -> None:
    archive = cifar10(tmp_path / "c.tar.gz")
    found = list(samples(dataset(layout="cifar10-binary", train=4, test=1), archive))
    assert summary(found) == [
        ("train", 3, "cat", 10),
        ("train", 1, "automobile", 12),
        ("train", 0, "airplane", 13),
        ("train", 2, "bird", 20),
        ("test", 9, "truck", 30),
    ]
    assert found[0].image[5, 7].tolist() == [10, 11, 12]


def test_pixels_are_rows_of_colours(tmp_path: Path) -> None:
    planes = np.arange(3 * PLANE, dtype=np.uint32).astype(np.uint8)
    archive = cifar10(tmp_path / "c.tar.gz", data_batch_1=bytes([3]) + planes.tobytes())
    image = next(samples(dataset(layout="cifar10-binary", train=4, test=1), archive)).image
    assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)
    # Row 2, column 5 lies 2 * 32 + 5 bytes into each colour's plane of 1,024 (a multiple of 256).
    assert image[2, 5].tolist() == [69, 69, 69]
    assert image[9, 1, 0] == (9 * 32 + 1) % 256


@pytest.mark.parametrize(
    ("labels", "expected"),
    [("fine", [(7, "fine7"), (4, "fine4")]), ("coarse", [(1, "coarse1"), (0, "coarse0")])],
)
def test_cifar100_has_two_labels(tmp_path: Path, labels: str, expected: list[tuple[int, str]]) -> None:
    members = {
        "train.bin": record([1, 7], 1),
        "test.bin": record([0, 4], 2),
        "fine_label_names.txt": "\n".join(f"fine{k}" for k in range(10)).encode(),
        "coarse_label_names.txt": b"coarse0\ncoarse1\n",
    }
    archive = write_archive(tmp_path / "c.tar.gz", {f"cifar-100-binary/{k}": v for k, v in members.items()})
    found = list(samples(dataset(layout="cifar100-binary", labels=labels, train=1, test=1), archive))
    assert [(sample.label, sample.class_name) for sample in found] == expected
    assert [sample.split for sample in found] == ["train", "test"]


def test_jpegs_go_by_split_then_class_then_file(tmp_path: Path) -> None:
    grey = 128, 128, 128
    names = ["test/truck/0000", "train/ship/0001", "train/ship/0000", "train/airplane/0000", "train/airplane/0001"]
    members = {f"prefix-1/{name}.jpg": jpeg(grey) for name in names}
    members["prefix-1/README.md"] = b"read me"
    members["prefix-1/train/airplane/0000.jpg"] = jpeg((200, 50, 100))
    members["prefix-1/train/airplane/0001.jpg"] = jpeg(grey, mode="L")
    archive = write_archive(tmp_path / "c.tar.gz", members)
    found = list(samples(dataset(layout="cifar10-jpeg", train=4, test=1), archive))
    assert [(sample.split, sample.label, sample.class_name) for sample in found] == [
        ("train", 0, "airplane"),
        ("train", 0, "airplane"),
        ("train", 8, "ship"),
        ("train", 8, "ship"),
        ("test", 9, "truck"),
    ]
    assert all(sample.image.shape == (32, 32, 3) and sample.image.dtype == np.uint8 for sample in found)
    # JPEG at quality 95 keeps a flat colour to within a few levels; a grey file becomes RGB.
    assert np.abs(found[0].image.astype(int) - [200, 50, 100]).max() <= 3
    assert np.abs(found[1].image.astype(int) - 128).max() <= 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (jpeg((1, 2, 3))[:-300], "is not a readable JPEG"),
        (b"no picture at all", "is not a readable JPEG"),
        (jpeg((1, 2, 3), side=28), "28 x 28 pixels, not 32 x 32"),
    ],
)
def test_a_bad_jpeg_names_its_member(tmp_path: Path, content: bytes, message: str) -> None:
    archive = write_archive(tmp_path / "c.tar.gz", {"p/train/cat/0007.jpg": content})
    with pytest.raises(ScrimpError, match=rf"p/train/cat/0007\.jpg .*{message}"):
        list(samples(dataset(layout="cifar10-jpeg", train=1, test=0), archive))


def test_an_unknown_class_names_its_member(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "c.tar.gz", {"p/train/zebra/1.jpg": jpeg((1, 2, 3))})
    with pytest.raises(ScrimpError, match=r"p/train/zebra/1\.jpg: 'zebra' is no class"):
        list(samples(dataset(layout="cifar10-jpeg", train=1, test=0), archive))


def test_a_short_record_names_its_member(tmp_path: Path) -> None:
    archive = cifar10(tmp_path / "c.tar.gz", data_batch_2=record([1], 12)[:-1])
    with pytest.raises(ScrimpError, match=r"data_batch_2\.bin has 3,072 bytes.*records of 3073"):
        list(samples(dataset(layout="cifar10-binary", train=4, test=1), archive))


def test_a_label_without_a_class_names_its_member(tmp_path: Path) -> None:
    archive = cifar10(tmp_path / "c.tar.gz", test_batch=record([10], 30))
    with pytest.raises(ScrimpError, match=r"test_batch\.bin has a label 10, but 10 classes exist"):
        list(samples(dataset(layout="cifar10-binary", train=4, test=1), archive))


def test_counts_are_those_of_the_real_sets_unless_told_otherwise(tmp_path: Path) -> None:
    archive = cifar10(tmp_path / "c.tar.gz")
    with pytest.raises(ScrimpError, match="4 samples in its train split, but 50,000 are expected"):
        list(samples(dataset(layout="cifar10-binary"), archive))


def test_the_wrong_archive_and_a_wrong_option(tmp_path: Path) -> None:
    archive = cifar10(tmp_path / "c.tar.gz")
    with pytest.raises(ScrimpError, match=r"no member fine_label_names\.txt.*cifar100-binary"):
        list(samples(dataset(layout="cifar100-binary"), archive))
    with pytest.raises(ScrimpError, match="options: layouts: unknown key"):
        list(samples(dataset(layout="cifar10-binary", layouts=1), archive))
