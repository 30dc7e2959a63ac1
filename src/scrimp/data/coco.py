"""COCO captions, the user's own copy: pictures that each have several captions, to test retrieval on.

Source: Chen et al. 2015, arXiv 1504.00325. Of an image that has more than five captions the first five count, as usual.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from pydantic import PositiveInt
from rich.progress import track

from scrimp.config import Closed
from scrimp.data.shards import ShardWriter
from scrimp.errors import ScrimpError

SCHEMA = ["index", "split", "name", "captions", "shard", "offset", "size"]


class Options(Closed):
    """Where pictures and captions lie below the folder that the user gives."""

    images: str = "val2017"
    annotations: str = "annotations/captions_val2017.json"
    captions: PositiveInt = 5


def build(folder: Path, options: Options, writer: ShardWriter) -> dict[str, Any]:
    """Copy every captioned picture as it is into shards, in the order of COCO's ids; returns counts for the manifest."""
    path = folder / options.annotations
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images = {int(image["id"]): str(image["file_name"]) for image in content["images"]}
        captions = defaultdict(list)
        for note in sorted(content["annotations"], key=lambda note: int(note["id"])):
            captions[int(note["image_id"])].append(" ".join(str(note["caption"]).split()))
    except OSError as error:
        raise ScrimpError(f"{path} cannot be read ({error.strerror}); --path takes the folder that holds it") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ScrimpError(f"{path} holds no COCO captions ({error!r}); unpack it again from COCO's archive") from error
    for number, name in track(sorted(images.items()), description="sharding test"):
        if not captions[number]:
            raise ScrimpError(f"{path}: image {number} has no caption; unpack it again from COCO's archive")
        if "/" in name or "\\" in name or ".." in name:
            raise ScrimpError(f"{path}: image {number} is called {name!r}, which is not the name of a file")
        picture = folder / options.images / name
        if not picture.is_file():
            raise ScrimpError(f"{picture} is missing; unpack COCO's archive of pictures again")
        fields = {"name": name, "captions": captions[number][: options.captions]}
        writer.write("test", picture.read_bytes(), "jpg", fields)
    return {"counts": {"test": len(images)}, "captions": sum(len(row["captions"]) for row in writer.rows)}
