"""The files that `scrimp try` writes: a task over plain data, to be audited as it is and edited afterwards."""

from __future__ import annotations

from pathlib import Path

from scrimp.errors import ScrimpError
from scrimp.files import write_text

PICTURES = '''"""Pictures of {data}, a class a subfolder. Written by `scrimp try`; yours to edit."""

import torch
from torch.nn import functional as F

from scrimp.audit.ready import model_named, pictures
from scrimp.tasks.base import Task, seeded

FOLDER, SIZE, MODEL = {data!r}, {size}, {model!r}


class Pictures(Task):
    plain = {{
        "epochs": {epochs},
        "recipe": {{"optimizer": {optimizer!r}, "learning_rate": {rate}, "weight_decay": {decay}, "batch_size": {batch}}},
        "metric": "accuracy",
    }}

    def setup(self, workspace):
        self.data, self.classes = pictures(FOLDER, SIZE)

    def model(self, seed):
        return seeded(seed, lambda: model_named(MODEL, len(self.classes))).to(self.place.device)

    def losses(self, model, batch):
        inputs, labels = batch
        return F.cross_entropy(model(inputs), labels, reduction="none")

    @torch.no_grad()
    def evaluate(self, model, split):
        model.eval()
        right = torch.cat([model(inputs).argmax(dim=1) == labels for inputs, labels in self.batches(split)])
        model.train()
        return {{"accuracy": 100 * right.double().mean().item(), "loss": self.mean_loss(model, split)}}
'''

TEXTS = '''"""Texts of {data} with a label each. Written by `scrimp try`; yours to edit."""

import torch
from torch.nn import functional as F

from scrimp.audit.ready import BagOfWords, hashed_words, table
from scrimp.tasks.base import Task, seeded

FILE, LENGTH, BUCKETS = {data!r}, 64, 16384


class Texts(Task):
    plain = {{
        "epochs": {epochs},
        "recipe": {{"optimizer": {optimizer!r}, "learning_rate": {rate}, "weight_decay": {decay}, "batch_size": {batch}}},
        "metric": "accuracy",
    }}

    def setup(self, workspace):
        splits, self.classes = table(FILE, text={text!r}, label={label!r})
        self.data = {{name: (hashed_words(texts, LENGTH, BUCKETS), labels) for name, (texts, labels) in splits.items()}}

    def model(self, seed):
        return seeded(seed, lambda: BagOfWords(len(self.classes), BUCKETS)).to(self.place.device)

    def losses(self, model, batch):
        inputs, labels = batch
        return F.cross_entropy(model(inputs), labels, reduction="none")

    @torch.no_grad()
    def evaluate(self, model, split):
        model.eval()
        right = torch.cat([model(inputs).argmax(dim=1) == labels for inputs, labels in self.batches(split)])
        model.train()
        return {{"accuracy": 100 * right.double().mean().item(), "loss": self.mean_loss(model, split)}}
'''


def starter(
    data: Path | None, texts: Path | None, model: str, size: int, text: str, label: str, epochs: int, to: Path | None
) -> Path:
    """Write a task over a folder of pictures (`data`) or a table of texts, and return its file.

    Raises ScrimpError where not exactly one is given, and where the file is there already: it may have been edited.
    """
    if (data is None) == (texts is None):
        raise ScrimpError("give one of --data FOLDER (pictures, a class a subfolder) and --text FILE.csv")
    source = data or texts
    assert source is not None
    stem = "".join(c if c.isalnum() else "_" for c in source.resolve().stem.lower()).strip("_") or "data"
    file = to or Path(f"try_{stem}.py")
    if file.exists():
        raise ScrimpError(f"{file} is there already: `scrimp audit {file}` goes on with it; or name another with --file")
    if source is data:
        recipe = {"optimizer": "sgd", "rate": 0.05, "decay": 5e-4, "batch": 64}
        content = PICTURES.format(data=str(source.resolve()), size=size, model=model, epochs=epochs, **recipe)
    else:
        recipe = {"optimizer": "adamw", "rate": 3e-3, "decay": 0.01, "batch": 64}
        content = TEXTS.format(data=str(source.resolve()), text=text, label=label, epochs=epochs, **recipe)
    write_text(file, content)
    return file
