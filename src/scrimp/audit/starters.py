"""The files that `scrimp try` writes: a task over plain data, to be audited as it is and edited afterwards."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from scrimp.audit.marks import is_as_written, marked
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

PAIRS = '''"""Pictures with captions of {where}, for two towers. Written by `scrimp try`; yours to edit."""

from scrimp.audit.pairs import pairs_of
from scrimp.tasks.image_text import ImageText

TARS, SIZE, LENGTH = {tars!r}, {size}, 32  # pixels a side, tokens of a caption
# A number of KEY.json that says how well picture and caption fit, and from where on a pair is curated: on these pairs the
# reference of JEST is trained, and the others are the pool to learn from. Without one the reference learns from the pool.
SCORE, CURATED_FROM = None, None


class Pairs(ImageText):  # recall at 1, 5 and 10 among held-out pairs, r1, r5 and r10, and one way: i2t_r1, t2i_r1
    plain = {{
        "epochs": {epochs},
        "model": {{
            "name": "two-towers",
            "options": {{
                "size": SIZE,
                "length": LENGTH,
                "patch": {patch},
                "finest_patch": {patch},
                "image": [128, 2, 4],  # width, blocks, heads
                "text": [128, 2, 4],
                "width_out": 128,
            }},
        }},
        "recipe": {{
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 1e-4,
            "batch_size": 128,
            "loss": "sigmoid",  # or softmax, the loss of CLIP
        }},
        "metric": "r5",
    }}
    reference_subset = "raw" if SCORE is None else "curated"

    def setup(self, workspace):
        self.use(pairs_of(workspace, TARS, SIZE, LENGTH, score=SCORE, curated_from=CURATED_FROM))
'''
PATTERN = "*?[{"  # a path with one of these stands for many


def starter(
    data: Path | None,
    texts: Path | None,
    model: str | None,
    size: int,
    text: str,
    label: str,
    epochs: int,
    to: Path | None,
    pairs: Sequence[str] = (),
) -> Path:
    """Write a task over a folder of pictures (`data`), a table of texts, or tars of `pairs`, and return its file.

    Raises ScrimpError where not exactly one is given, and where the file is there already and somebody has edited it.
    """
    sources = [Path(source) for source in (data, texts, *pairs[:1]) if source is not None]
    if len(sources) != 1:
        raise ScrimpError(
            "give one of --data FOLDER (pictures, a class a subfolder), --text FILE.csv, and --pairs TARS (pictures with "
            "captions)"
        )
    source = sources[0]
    several = bool(pairs) and (len(pairs) > 1 or any(c in source.name for c in PATTERN))
    place = (source.parent if several else source).resolve()
    stem = "".join(c if c.isalnum() else "_" for c in place.stem.lower()).strip("_") or "data"
    file = to or Path(f"try_{stem}.py")
    if file.exists() and not is_as_written(file):
        raise ScrimpError(
            f"{file} is there already, and edited: `scrimp audit {file}` goes on with it; or name another with --file"
        )
    where = str(source.resolve())
    if pairs:
        content = _of_pairs(pairs, model, size, epochs)
    elif source == data:
        content = PICTURES.format(data=where, size=size, model=at_home(model or "resnet-narrow"), epochs=epochs)
    else:
        named = at_home(model or BAG_OF_WORDS)
        rate = 3e-3 if named == BAG_OF_WORDS else 5e-5  # a model that is there already is only tuned
        content = TEXTS.format(data=where, text=text, label=label, length=64, model=named, rate=rate, epochs=epochs)
    write_text(file, marked(content + "\n\n"))
    return file


def _of_pairs(pairs: Sequence[str], model: str | None, size: int, epochs: int) -> str:
    if model is not None:
        raise ScrimpError(f"--model {model}: of pairs, the two towers are made in the file; edit it there")
    patch = 16 if size >= 128 else 8
    if size % patch:
        raise ScrimpError(f"--size {size}: a picture is cut into patches of {patch} x {patch}: give a multiple of {patch}")
    tars = [os.path.abspath(pattern) for pattern in pairs]
    told = tars[0] if len(tars) == 1 else tars
    where = tars[0] if len(tars) == 1 else f"{tars[0]} and {len(tars) - 1} more"
    return PAIRS.format(where=where, tars=told, size=size, patch=patch, epochs=epochs)


def at_home(model: str) -> str:
    """A model's name that holds wherever the runs are made: files and folders of the user's by their whole path."""
    kind, colon, rest = model.partition(":")
    if kind.endswith(".py"):
        return f"{Path(kind).resolve()}{colon}{rest}"
    return f"hf:{Path(rest).resolve()}" if kind == "hf" and Path(rest).is_dir() else model
