"""Pictures read from their shards by offset: an image folder of one's own, decoded by workers, trained on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scrimp.config import Augmentation, FolderSource
from scrimp.data import image_folder
from scrimp.data.shards import ShardWriter, building, write_manifest
from scrimp.data.streaming import centred, open_classification, randomly_cropped
from scrimp.errors import ScrimpError

SOURCE = FolderSource(kind="folder", obtain="draw them yourself")
CPU = torch.device("cpu")


def whole(count: int) -> tuple[slice, float]:
    return slice(None), 1 / count


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """Red and blue pictures of several sizes: 6 to train on, 2 to test on, as an image folder and then as shards."""
    for split, numbers in (("train", range(3)), ("val", range(1))):
        for name, color in (("red", (250, 0, 0)), ("blue", (0, 0, 250))):
            for number in numbers:
                path = tmp_path / "own" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (20 + 10 * number, 40), color).save(path)
    with building(tmp_path / "shards" / "own") as folder:
        writer = ShardWriter(folder)
        details = image_folder.build(tmp_path / "own", SOURCE, writer)
        writer.close()
        write_manifest(folder, "own", "none", ["index"], **details)
    return tmp_path / "shards" / "own"


def test_labels_follow_the_class_folders_in_the_order_of_their_names(sharded: Path) -> None:
    splits, classes = open_classification(sharded, 16, CPU)
    assert classes == ["blue", "red"]
    assert splits["train"].labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert splits["test"].labels.tolist() == [0, 1]
    for pixels, labels in splits["test"].plain(1):
        assert pixels.shape == (1, 16, 16, 3)
        assert int(pixels[0, 8, 8].argmax()) == (0 if int(labels) == 1 else 2)


def test_an_epoch_visits_just_the_order_it_was_given_and_repeats_itself(sharded: Path) -> None:
    images = open_classification(sharded, 8, CPU)[0]["train"]
    order = torch.tensor([5, 0, 3])
    augmentation = Augmentation(smallest_crop=0.2, flip=True)
    first = list(images.visits(order.split(2), augmentation, 0, 1, whole))
    again = list(images.visits(order.split(2), augmentation, 0, 1, whole))
    assert [labels.tolist() for _, labels in first] == [[1, 0], [1]]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))


def test_the_middle_of_a_picture_is_what_is_evaluated() -> None:
    wide = Image.fromarray(np.repeat(np.arange(70, dtype=np.uint8)[None, :, None], 35, axis=0).repeat(3, axis=2))
    cut = np.asarray(centred(wide, 30))  # scaled by 30 * 8 / 7 / 35 to 69 x 34, columns 19 to 49 of 69
    assert cut.shape == (30, 30, 3)
    assert abs(float(cut[15, 15, 0]) - 35) <= 1


def test_a_whole_crop_keeps_the_picture_and_a_flip_mirrors_it() -> None:
    ramp = Image.fromarray(np.arange(64, dtype=np.uint8)[None, :, None].repeat(64, axis=0).repeat(3, axis=2))
    kept = np.asarray(randomly_cropped(ramp, 64, Augmentation(), torch.full((5,), 0.9)))
    assert np.array_equal(kept, np.asarray(ramp))
    mirrored = np.asarray(randomly_cropped(ramp, 64, Augmentation(flip=True), torch.full((5,), 0.1)))
    assert np.array_equal(mirrored, np.asarray(ramp)[:, ::-1])


def test_links_pipes_and_folders_called_as_pictures_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not for the shards")
    for split in ("train", "val"):
        folder = tmp_path / "own" / split / "red"
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "a.png")
        (folder / "link.jpg").symlink_to(secret)
        (folder / "folder.jpg").mkdir()
        os.mkfifo(folder / "pipe.jpg")  # reading it would wait for ever
    (tmp_path / "own" / "train" / "elsewhere").symlink_to(tmp_path)
    with building(tmp_path / "shards") as folder:
        details = image_folder.build(tmp_path / "own", SOURCE, ShardWriter(folder))
    assert details["counts"] == {"train": 1, "test": 1}
    assert details["classes"] == ["red"]
    assert details["left_out"] == {"a link": 3, "no regular file": 2}
    said = capsys.readouterr().err
    assert "left out, a link: 3" in said
    assert "left out, no regular file: 2" in said


def test_a_missing_split_says_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(ScrimpError, match=r"train holds no CLASS/.*draw them yourself"):
        image_folder.build(tmp_path, SOURCE, ShardWriter(tmp_path))
