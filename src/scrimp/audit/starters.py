"""The files that `scrimp try` writes: a task over plain data, to be audited as it is and edited afterwards."""

from __future__ import annotations

from pathlib import Path

from scrimp.audit.ready import BAG_OF_WORDS
from scrimp.errors import ScrimpError
from scrimp.files import write_text

PICTURES = '''"""Pictures of {data}, a class a subfolder. Written by `scrimp try`; yours to edit."""

from scrimp.audit.ready import Classifier, model_named, pictures
from scrimp.tasks.base import seeded

FOLDER, SIZE, MODEL = {data!r}, {size}, {model!r}


class Pictures(Classifier):  # cross-entropy and accuracy; define `losses` and `evaluate` here to replace them
    plain = {{
        "epochs": {epochs},
        "recipe": {{"optimizer": "sgd", "learning_rate": 0.05, "weight_decay": 5e-4, "batch_size": 64}},
        "metric": "accuracy",
    }}

    def setup(self, workspace):
        self.data, self.classes = pictures(FOLDER, SIZE)

    def model(self, seed):
        return seeded(seed, lambda: model_named(MODEL, len(self.classes))).to(self.place.device)
'''

TEXTS = '''"""Texts of {data} with a label each. Written by `scrimp try`; yours to edit."""

from scrimp.audit.ready import Classifier, table, text_model, text_numbers
from scrimp.tasks.base import seeded

FILE, LENGTH, MODEL = {data!r}, {length}, {model!r}


class Texts(Classifier):  # cross-entropy and accuracy; define `losses` and `evaluate` here to replace them
    plain = {{
        "epochs": {epochs},
        "recipe": {{"optimizer": "adamw", "learning_rate": {rate}, "weight_decay": 0.01, "batch_size": 64}},
        "metric": "accuracy",
    }}

    def setup(self, workspace):
        splits, self.classes = table(FILE, text={text!r}, label={label!r})
        self.data = {{name: (text_numbers(MODEL, texts, LENGTH), labels) for name, (texts, labels) in splits.items()}}

    def model(self, seed):
        return seeded(seed, lambda: text_model(MODEL, len(self.classes))).to(self.place.device)
'''


def starter(
    data: Path | None, texts: Path | None, model: str | None, size: int, text: str, label: str, epochs: int, to: Path | None
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
    where = str(source.resolve())
    if source is data:
        content = PICTURES.format(data=where, size=size, model=at_home(model or "resnet-narrow"), epochs=epochs)
    else:
        named = at_home(model or BAG_OF_WORDS)
        rate = 3e-3 if named == BAG_OF_WORDS else 5e-5  # a model that is there already is only tuned
        content = TEXTS.format(data=where, text=text, label=label, length=64, model=named, rate=rate, epochs=epochs)
    write_text(file, content)
    return file


def at_home(model: str) -> str:
    """A model's name that holds wherever the runs are made: files and folders of the user's by their whole path."""
    kind, colon, rest = model.partition(":")
    if kind.endswith(".py"):
        return f"{Path(kind).resolve()}{colon}{rest}"
    return f"hf:{Path(rest).resolve()}" if kind == "hf" and Path(rest).is_dir() else model
