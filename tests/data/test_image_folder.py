"""Folders of pictures as people have them: what is taken, what is left out and named, and how pictures are seen."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scrimp.config import Augmentation, FolderSource
from scrimp.data import image_folder
from scrimp.data.loading import as_rgb, load_classification
from scrimp.data.shards import ShardWriter, building, read_manifest, read_samples, write_manifest
from scrimp.data.streaming import open_classification
from scrimp.errors import ScrimpError
from scrimp.files import sha256_of

SOURCE = FolderSource(kind="folder", obtain="draw them yourself")


def encoded(kind: str = "JPEG", seed: int = 0, size: tuple[int, int] = (40, 60)) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def save(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def cats_and_dogs(folder: Path, **more: bytes) -> Path:
    for split in ("train", "val"):
        for kind in ("cat", "dog"):
            save(folder, {f"{split}/{kind}/{kind}{number}.jpg": encoded(seed=number) for number in range(3)})
    save(folder, more)
    return folder


def sharded(folder: Path, own: Path) -> Path:
    with building(folder) as temporary:
        writer = ShardWriter(temporary)
        details = image_folder.build(own, SOURCE, writer)
        writer.close()
        write_manifest(temporary, folder.name, "none", ["index"], shards=writer.shards, **details)
    return folder


# --------------------------------------------------------------------------------------------------- what is in a folder
def test_hidden_files_empty_folders_and_nested_pictures_are_named_and_make_no_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = cats_and_dogs(tmp_path / "mine")
    save(own, {"train/.ipynb_checkpoints/dog0-checkpoint.jpg": encoded(), "train/cat/._cat0.jpg": b"?"})
    save(own, {"train/bird/2024/deep.jpg": encoded(), "train/readme.txt": b"?", "train/dog/notes.txt": b"?"})
    (own / "val" / "fish").mkdir()
    manifest = read_manifest(sharded(tmp_path / "shards" / "pets", own))
    assert manifest["classes"] == ["cat", "dog"]
    assert manifest["counts"] == {"train": 6, "test": 6}
    assert manifest["left_out_files"] == {
        "hidden": ["train/.ipynb_checkpoints", "train/cat/._cat0.jpg"],
        "in a folder below a class's": ["train/bird/2024/deep.jpg"],
        "a class's folder without pictures": ["train/bird", "val/fish"],
        "outside a class's folder": ["train/readme.txt"],
        "no picture (.txt)": ["train/dog/notes.txt"],
    }
    assert manifest["left_out"]["a class's folder without pictures"] == 2
    assert "left out, a class's folder without pictures: 2 (train/bird, val/fish)" in capsys.readouterr().err


@pytest.mark.parametrize(("extension", "kind"), [("webp", "WEBP"), ("bmp", "BMP"), ("tif", "TIFF"), ("TIFF", "TIFF")])
def test_other_formats_are_read(tmp_path: Path, extension: str, kind: str) -> None:
    own = cats_and_dogs(tmp_path / "mine")
    other = encoded(kind, seed=7)
    save(own, {f"train/dog/other.{extension}": other})
    folder = sharded(tmp_path / "shards" / "pets", own)
    assert read_manifest(folder)["counts"]["train"] == 7
    assert read_manifest(folder)["left_out"] == {}
    pixels = load_classification(folder)[0]["train"].pixels
    if kind != "WEBP":  # whose saving loses something
        wanted = np.random.default_rng(7).integers(0, 255, (40, 60, 3), dtype=np.uint8)
        assert np.array_equal(pixels[6].numpy(), wanted)  # `other` comes last in the folder


def test_names_that_are_not_utf_8_are_spelled_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = cats_and_dogs(tmp_path / "mine")
    for name in (b"train/dog/gro\xdf.jpg", b"train/v\xf6gel/0.jpg", b"train/dog/h\xf6ren.wav", b"train/dog/half\xdf.jpg"):
        path = own / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"?" if b"half" in name else encoded())
    folder = sharded(tmp_path / "shards" / "pets", own)
    manifest = read_manifest(folder)
    assert manifest["classes"] == ["cat", "dog", r"v\xf6gel".replace("xf6", "udcf6")]
    assert manifest["counts"]["train"] == 8
    assert r"gro\udcdf.jpg" in set(read_samples(folder)["name"])
    assert manifest["left_out"] == {"damaged": 1, "no picture (.wav)": 1}
    assert r"train/dog/h\udcf6ren.wav" in capsys.readouterr().err
    assert len(load_classification(folder)[0]["train"]) == 8


# --------------------------------------------------------------------------------------------------------------- damage
def test_damaged_pictures_are_left_out_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = cats_and_dogs(tmp_path / "mine")
    save(own, {"train/dog/half.jpg": encoded()[:900], "train/dog/empty.jpg": b"", "train/dog/gif.jpg": encoded("GIF")})
    folder = sharded(tmp_path / "shards" / "pets", own)
    manifest = read_manifest(folder)
    assert manifest["counts"] == {"train": 6, "test": 6}
    assert manifest["left_out"] == {"damaged": 3}
    told = capsys.readouterr().err
    for name in ("train/dog/half.jpg", "train/dog/empty.jpg", "train/dog/gif.jpg"):
        assert any(left.startswith(f"{name} (") for left in manifest["left_out_files"]["damaged"])
        assert name in told
    assert len(load_classification(folder)[0]["train"]) == 6


def test_a_class_of_damaged_pictures_alone_is_an_error(tmp_path: Path) -> None:
    own = cats_and_dogs(tmp_path / "mine")
    save(own, {"val/dog/dog0.jpg": b"", "val/dog/dog1.jpg": b"", "val/dog/dog2.jpg": b""})
    with pytest.raises(ScrimpError, match=r"val/dog: all of its pictures are damaged"):
        sharded(tmp_path / "shards" / "pets", own)


def spoilt(folder: Path, name: str) -> None:
    """Overwrite a picture's bytes in its shard, which keeps a digest that fits: what a picture cannot be read for later."""
    samples = read_samples(folder)
    row = samples[(samples["name"] == name) & (samples["split"] == "train")].iloc[0]
    with (folder / row["shard"]).open("r+b") as file:
        file.seek(row["offset"])
        file.write(bytes(64))
    manifest = json.loads((folder / "manifest.json").read_text())
    for shard in manifest["shards"]:
        shard["sha256"] = sha256_of(folder / shard["file"])
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_picture_that_spoils_later_is_named_by_class_and_file(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "shards" / "pets", cats_and_dogs(tmp_path / "mine"))
    spoilt(folder, "dog1.jpg")
    with pytest.raises(ScrimpError, match=r"^picture dog/dog1\.jpg .*cannot be decoded.*scrimp shard pets --path FOLDER"):
        load_classification(folder)


@pytest.mark.slow
def test_a_loaders_worker_gives_its_message_and_no_traceback(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "shards" / "pets", cats_and_dogs(tmp_path / "mine"))
    spoilt(folder, "dog1.jpg")
    images = open_classification(folder, 16, torch.device("cpu"))[0]["train"]
    assert images.workers >= 1
    with pytest.raises(ScrimpError) as told:
        list(images.visits([torch.arange(6)], Augmentation(), 0, 0, lambda count: (slice(None), 1.0)))
    assert str(told.value).startswith("picture dog/dog1.jpg (image 4 in ")
    assert "\n" not in str(told.value)


# ------------------------------------------------------------------------------------------------- how pictures are seen
def seen(image: Image.Image, kind: str = "PNG", **options: Any) -> np.ndarray[Any, Any]:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return np.asarray(as_rgb(file.getvalue()))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_greys_of_16_bits_are_scaled(kind: str) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    grey = seen(Image.fromarray(ramp), kind)[..., 0]
    assert grey.mean() == pytest.approx(127.5, abs=0.1)
    assert len(np.unique(grey)) == 256
    assert (grey[0, 0], grey[-1, -1]) == (0, 255)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_numbers_of_32_bits_are_refused_in_words(dtype: Any) -> None:
    with pytest.raises(ValueError, match="numbers of 32 bits"):
        seen(Image.fromarray(np.zeros((4, 4), dtype=dtype)), "TIFF")


def test_transparent_pictures_are_laid_on_white() -> None:
    pixels = np.zeros((1, 4, 4), dtype=np.uint8)
    pixels[0] = [(200, 0, 0, 0), (200, 0, 0, 255), (0, 0, 0, 128), (10, 20, 30, 255)]
    # 128 / 255 of black and the rest of white: 127.
    assert seen(Image.fromarray(pixels)).tolist() == [[[255, 255, 255], [200, 0, 0], [127, 127, 127], [10, 20, 30]]]
    grey = np.array([[(0, 0), (0, 255)]], dtype=np.uint8)
    assert seen(Image.fromarray(grey, "LA"))[0, :, 0].tolist() == [255, 0]


def test_transparent_colours_of_palettes_and_of_plain_pictures_are_white() -> None:
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    palette.putpalette([9, 9, 9, 50, 60, 70])
    assert seen(palette, transparency=0).tolist() == [[[255, 255, 255], [50, 60, 70]]]
    plain = Image.fromarray(np.array([[(1, 2, 3), (4, 5, 6)]], dtype=np.uint8))
    assert seen(plain, transparency=(1, 2, 3)).tolist() == [[[255, 255, 255], [4, 5, 6]]]


def test_opaque_pictures_stay_as_they_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    opaque = np.concatenate([pixels, np.full((5, 6, 1), 255, dtype=np.uint8)], axis=2)
    assert np.array_equal(seen(Image.fromarray(opaque)), pixels)
    assert np.array_equal(seen(Image.fromarray(pixels)), pixels)
