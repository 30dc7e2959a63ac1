"""Image-text pairs for two towers: shapes with captions, in a tar as `scrimp try --pairs` takes it; recall at 5."""

from __future__ import annotations

import io
import itertools
import tarfile
from pathlib import Path

from PIL import Image, ImageDraw

from scrimp.audit.pairs import pairs_of
from scrimp.files import replacing
from scrimp.tasks.image_text import ImageText

SIZE, LENGTH = 24, 12  # pixels a side, tokens of a caption
SHAPES = ("disc", "square", "triangle", "cross")
COLOURS = ("red", "green", "blue", "orange", "purple", "black", "brown", "pink")
SIZES = {"small": 3, "middling": 4, "large": 5}  # half the side
ACROSS, DOWN = {"left": 5, "middle": 12, "right": 18}, {"upper": 5, "middle": 12, "lower": 18}


def draw(shape: str, colour: str, half: int, x: int, y: int) -> bytes:
    """A PNG of one shape on white."""
    picture = Image.new("RGB", (SIZE, SIZE), "white")
    pen, box = ImageDraw.Draw(picture), (x - half, y - half, x + half, y + half)
    if shape == "disc":
        pen.ellipse(box, fill=colour)
    elif shape == "square":
        pen.rectangle(box, fill=colour)
    elif shape == "triangle":
        pen.polygon([(x - half, y + half), (x + half, y + half), (x, y - half)], fill=colour)
    else:
        pen.line([(x - half, y), (x + half, y)], fill=colour, width=2)
        pen.line([(x, y - half), (x, y + half)], fill=colour, width=2)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def write(path: Path) -> None:
    """A tar with KEY.png and KEY.txt of every shape, colour, size and place: 864 pairs."""
    every = itertools.product(SHAPES, COLOURS, SIZES, ACROSS, DOWN)
    with tarfile.open(path, "w") as tar:
        for number, (shape, colour, size, across, down) in enumerate(every):
            caption = f"a {size} {colour} {shape} in the {down} {across}"
            picture = draw(shape, colour, SIZES[size], ACROSS[across], DOWN[down])
            for extension, content in (("png", picture), ("txt", caption.encode())):
                member = tarfile.TarInfo(f"{number:03d}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


class Captions(ImageText):
    plain = {
        "epochs": 20,
        "model": {
            "name": "two-towers",
            "options": {
                "size": SIZE,
                "length": LENGTH,
                "patch": 4,
                "finest_patch": 4,
                "image": [32, 1, 2],  # width, blocks, heads
                "text": [32, 1, 2],
                "width_out": 32,
            },
        },
        "recipe": {"optimizer": "adamw", "learning_rate": 3e-3, "weight_decay": 1e-4, "batch_size": 64, "loss": "sigmoid"},
        "metric": "r5",
    }

    def setup(self, workspace) -> None:
        tar = workspace.root / "resources" / "shapes.tar"
        if not tar.exists():
            with replacing(tar) as temporary:
                write(temporary)
        self.use(pairs_of(workspace, str(tar), SIZE, LENGTH))
