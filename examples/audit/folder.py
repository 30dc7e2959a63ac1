"""A ready-made model on a folder of pictures, a class a subfolder: the file that `scrimp try --data FOLDER` writes, edited.

The pictures are scikit-learn's handwritten digits, saved here as PNGs. MODEL takes what `--model` takes: a built-in name,
`hf:NAME_OR_FOLDER`, `timm:NAME`, or `my_file.py:function`.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

from scrimp.audit.ready import Classifier, model_named, pictures
from scrimp.tasks.base import seeded

SIZE, MODEL = 16, "resnet-narrow"


def write(folder: Path) -> None:
    """1,797 PNGs of 8 x 8 in ten subfolders."""
    values, labels = load_digits(return_X_y=True)
    folder.mkdir()
    for number, (grey, label) in enumerate(zip(values.reshape(-1, 8, 8), labels, strict=True)):
        (folder / str(label)).mkdir(exist_ok=True)
        Image.fromarray((grey * (255 / 16)).round().astype("uint8")).save(folder / str(label) / f"{number:04d}.png")


class Folder(Classifier):  # cross-entropy and accuracy
    plain = {
        "epochs": 8,
        "recipe": {"optimizer": "sgd", "learning_rate": 0.05, "weight_decay": 5e-4, "batch_size": 64},
        "metric": "accuracy",
    }

    def setup(self, workspace) -> None:
        folder = workspace.root / "resources" / "digits"
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=folder.parent) as temporary:  # another run may have been first
                write(Path(temporary, "digits"))
                with suppress(OSError):
                    Path(temporary, "digits").rename(folder)
        self.data, self.classes = pictures(str(folder), SIZE)

    def model(self, seed: int) -> nn.Module:
        return seeded(seed, lambda: model_named(MODEL, len(self.classes))).to(self.place.device)
