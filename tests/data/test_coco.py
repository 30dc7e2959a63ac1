"""COCO captions: which captions count, in which order pictures come, and what is wrong with a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from scrimp.config import Workspace
from scrimp.data.shards import read_images, read_manifest, read_samples
from scrimp.data.stage import shard
from scrimp.errors import ScrimpError

CAPTIONS = {7: ["a cat", "the cat", "a  cat on\na mat", "cat", "one cat", "a sixth"], 3: ["a dog"], 11: ["a cow", "cows"]}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder as COCO's, of three pictures; annotations stand in reverse."""
    (tmp_path / "own" / "annotations").mkdir(parents=True)
    (tmp_path / "own" / "val2017").mkdir()
    for number in CAPTIONS:
        Image.new("RGB", (10 + number, 12), (number, 0, 0)).save(tmp_path / "own" / "val2017" / f"{number:012d}.jpg")
    notes = [(number, caption) for number, captions in CAPTIONS.items() for caption in captions]
    write(
        tmp_path / "own",
        images=[{"id": number, "file_name": f"{number:012d}.jpg"} for number in CAPTIONS],
        annotations=[{"id": at, "image_id": number, "caption": text} for at, (number, text) in enumerate(notes)][::-1],
    )
    return tmp_path / "own"


def write(folder: Path, **content: Any) -> None:
    (folder / "annotations" / "captions_val2017.json").write_text(json.dumps(content))


def sharded(own: Path) -> Path:
    workspace = Workspace(own.parent)
    (workspace.root / "config").mkdir(exist_ok=True)
    dataset = {"title": "t", "builder": "coco", "licence": "none", "used_for": "a test"}
    source = {"kind": "folder", "obtain": "Ask a friend."}
    (workspace.root / "config" / "datasets.yaml").write_text(yaml.safe_dump({"coco": {**dataset, "source": source}}))
    return shard(workspace, "coco", own)


def test_pictures_come_by_number_with_their_first_five_captions(own: Path) -> None:
    folder = sharded(own)
    samples = read_samples(folder)
    assert samples["name"].tolist() == [f"{number:012d}.jpg" for number in (3, 7, 11)]
    wanted = [["a dog"], ["a cat", "the cat", "a cat on a mat", "cat", "one cat"], ["a cow", "cows"]]
    assert [list(row) for row in samples["captions"]] == wanted
    pictures = [(own / "val2017" / name).read_bytes() for name in samples["name"]]
    assert list(read_images(folder, samples)) == pictures
    manifest = read_manifest(folder)
    assert (manifest["counts"], manifest["captions"]) == ({"test": 3}, 8)


def test_a_folder_that_is_not_cocos_says_what_is_wrong(own: Path) -> None:
    (own / "val2017" / "000000000007.jpg").unlink()
    with pytest.raises(ScrimpError, match=r"000000000007\.jpg is missing; unpack"):
        sharded(own)
    write(own, images=[{"id": 1, "file_name": "a.jpg"}], annotations=[])
    with pytest.raises(ScrimpError, match="image 1 has no caption"):
        sharded(own)
    write(own, images=[{"id": 1, "file_name": "../a.jpg"}], annotations=[{"id": 1, "image_id": 1, "caption": "a"}])
    with pytest.raises(ScrimpError, match=r"is called '\.\./a\.jpg', which is not the name of a file"):
        sharded(own)
    write(own, annotations=[])
    with pytest.raises(ScrimpError, match=r"captions_val2017\.json holds no COCO captions \(KeyError"):
        sharded(own)
    shutil.rmtree(own / "annotations")
    with pytest.raises(ScrimpError, match=r"captions_val2017\.json cannot be read .*--path takes the folder"):
        sharded(own)
    assert not (own.parent / "resources" / "shards" / "coco").exists()
