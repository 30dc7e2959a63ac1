"""Data and models for the files that `scrimp try` writes; a task of your own may use them, too.

Splits are drawn by a hash of each file's name or text, so that they stay as they are when data are added.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scrimp.data.image_folder import LeftOut, files_of
from scrimp.data.loading import CORRUPT, as_rgb
from scrimp.errors import ScrimpError
from scrimp.models.vision import BUILDERS, build
from scrimp.tasks.base import Batch, Task
from scrimp.user_files import loaded

TEST_SHARE = 0.2
BAG_OF_WORDS = "bag-of-words"
BUCKETS = 16384  # numbers of words
Splits = dict[str, tuple[Tensor, Tensor]]


class Classifier(Task):
    """Cross-entropy and accuracy, for batches of (inputs, labels int64 [b]) and models from inputs to logits [b, C]."""

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        logits, labels = self.outputs(model, batch)
        if self.on_outputs is not None:
            self.on_outputs(logits.detach(), labels)
        return F.cross_entropy(logits, labels, reduction="none")

    def outputs(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        inputs, labels = batch
        return model(inputs).float(), labels

    @property
    def labels(self) -> Tensor:
        labels: Tensor = self.data[self.train_split][1]
        return labels

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Top-1 accuracy in percent and mean cross-entropy in nats."""
        model.eval()
        right, loss = 0, 0.0
        for batch in self.batches(split):
            with self.place.autocast():
                logits, labels = self.outputs(model, batch)
            right += int((logits.argmax(dim=1) == labels).sum())
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        model.train()
        return {"accuracy": 100 * right / self.size(split), "loss": loss / self.size(split)}


def is_test(key: str, share: float = TEST_SHARE) -> bool:
    """Whether an example belongs to the test split; `key` names it."""
    return _hash(key) < share * 2**32


def pictures(folder: str | Path, size: int) -> tuple[Splits, list[str]]:
    """Pictures in `FOLDER/CLASS/` or `FOLDER/{train,test}/CLASS/`: split -> (float [n, 3, size, size], int64 [n]); classes.

    Values lie in [-1, 1]. Sides are scaled to `size` each. Raises ScrimpError for a folder without two classes; damaged and
    other files are counted in a line on the screen.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ScrimpError(f"{folder} is no folder")
    given = [name for name in ("train", "test") if (folder / name).is_dir()]
    left_out: LeftOut = defaultdict(list)
    found: dict[str, list[tuple[str, Path]]] = {"train": [], "test": []}
    if len(given) == 2:
        found = {split: files_of(folder / split, left_out) for split in given}
    else:
        for name, path in files_of(folder, left_out):
            found["test" if is_test(f"{name}/{path.name}") else "train"].append((name, path))
    classes = sorted({name for name, _ in found["train"]})
    if len(classes) < 2:
        raise ScrimpError(f"{folder} has pictures of {len(classes)} classes for training: put them in {folder}/CLASS/")
    splits = {}
    for split, files in found.items():
        arrays, labels = [], []
        for name, path in files:
            if name not in classes:
                raise ScrimpError(f"{path.parent}: no training picture of class {name!r}")
            try:
                picture = as_rgb(path.read_bytes())
            except CORRUPT:
                left_out["damaged"].append(str(path))
                continue
            arrays.append(np.asarray(picture.resize((size, size)), dtype=np.uint8))
            labels.append(classes.index(name))
        if not arrays:
            raise ScrimpError(f"{folder}: no picture is left for the split {split!r}")
        pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1
        splits[split] = (pixels, torch.tensor(labels))
    for reason, names in sorted(left_out.items()):
        print(f"left out, {reason}: {len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
    return splits, classes


def table(
    path: str | Path, text: str = "text", label: str = "label"
) -> tuple[dict[str, tuple[list[str], Tensor]], list[str]]:
    """A CSV file (or TSV, parquet) with a text and a label in each row: split -> (texts, int64 [n]), and the classes.

    Raises ScrimpError for a missing file or column, for empty cells, and for fewer than two classes.
    """
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise ScrimpError(f"{path} does not exist")
    rows = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, sep=None, engine="python")
    for column in (text, label):
        if column not in rows.columns:
            raise ScrimpError(f"{path}: no column {column!r}; it has {', '.join(map(str, rows.columns))}")
        if rows[column].isna().any():
            raise ScrimpError(
                f"{path}: column {column!r} is empty in row {int(rows[column].isna().to_numpy().argmax()) + 2}"
            )
    classes = sorted(map(str, rows[label].unique()))
    if len(classes) < 2:
        raise ScrimpError(f"{path}: column {label!r} has {len(classes)} value")
    texts, labels = rows[text].astype(str).tolist(), rows[label].astype(str).tolist()
    test = [is_test(line) for line in texts]
    splits = {}
    for split, wanted in (("train", False), ("test", True)):
        chosen = [place for place, here in enumerate(test) if here is wanted]
        if not chosen:
            raise ScrimpError(f"{path}: no row is left for the split {split!r}")
        numbers = torch.tensor([classes.index(labels[place]) for place in chosen])
        splits[split] = ([texts[place] for place in chosen], numbers)
    return splits, classes


def text_numbers(model: str, texts: list[str], length: int) -> Tensor:
    """The first `length` words or tokens of each text, as the model named so wants them: int64 [n, length]."""
    kind, _, name = model.partition(":")
    if kind != "hf":
        return hashed_words(texts, length, BUCKETS)
    tokenizer = _from("AutoTokenizer", name)
    if tokenizer.pad_token_id is None:
        raise ScrimpError(f"--model {model}: its tokenizer has no padding token; edit the task's file")
    told = tokenizer(texts, max_length=length, truncation=True, padding="max_length", return_tensors="pt")
    numbers: Tensor = told["input_ids"]
    return numbers


def hashed_words(texts: list[str], length: int, buckets: int) -> Tensor:
    """The first `length` words of each text as numbers, int64 [n, length]: 0 pads, 1 to `buckets` are hashes."""
    numbers = torch.zeros(len(texts), length, dtype=torch.int64)
    for row, line in enumerate(texts):
        words = re.findall(r"\w+|[^\w\s]", line.lower())[:length]
        numbers[row, : len(words)] = torch.tensor([1 + _hash(word) % buckets for word in words], dtype=torch.int64)
    return numbers


def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "big")


class BagOfWords(nn.Module):
    """The mean of words' embeddings, one hidden layer, logits: int64 [b, L] to float [b, classes]."""

    def __init__(self, classes: int, buckets: int, width: int = 64) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(buckets + 1, width, mode="mean", padding_idx=0)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, numbers: Tensor) -> Tensor:
        logits: Tensor = self.head(self.words(numbers))
        return logits


def text_model(name: str, classes: int) -> nn.Module:
    """A model from what `text_numbers` gives to logits: `bag-of-words`, `hf:NAME_OR_FOLDER`, or `file.py:function`.

    The function gets the number of classes; its module's numbers are hashes of words, 0 to BUCKETS, 0 being padding.
    """
    if name == BAG_OF_WORDS:
        return BagOfWords(classes, BUCKETS)
    where, _, what = name.partition(":")
    if where.endswith(".py") and what:
        return _of_file(where, what, classes)
    if where != "hf" or not what:
        raise ScrimpError(f"--model {name}: for texts it is {BAG_OF_WORDS}, hf:NAME_OR_FOLDER, or my_file.py:function")
    model = _from("AutoModelForSequenceClassification", what, num_labels=classes, ignore_mismatched_sizes=True)
    padding = _from("AutoTokenizer", what).pad_token_id
    model.config.pad_token_id = padding
    return _TextLogits(model, padding)


def model_named(name: str, classes: int) -> nn.Module:
    """A picture model: a built-in name (`resnet-18`), `timm:NAME`, `hf:NAME_OR_FOLDER`, or `file.py:function`.

    The function gets the number of classes, and returns a module from float [b, 3, S, S] to logits [b, classes]. Draw it
    under `scrimp.tasks.base.seeded`. Raises ScrimpError for what cannot be made here.
    """
    if name in BUILDERS:
        return build(name, classes, int(torch.randint(2**31, ())))
    if name.removeprefix("resnet") in ("18", "50"):
        return model_named(name.replace("resnet", "resnet-"), classes)
    where, _, what = name.partition(":")
    if where == "timm":
        return _of_timm(what, classes)
    if where == "hf":
        return _Logits(_from("AutoModelForImageClassification", what, num_labels=classes, ignore_mismatched_sizes=True))
    if where.endswith(".py") and what:
        return _of_file(where, what, classes)
    known = ", ".join(BUILDERS)
    raise ScrimpError(f"--model {name}: it is one of {known}, or timm:NAME, hf:NAME_OR_FOLDER, or my_file.py:function")


def _of_timm(name: str, classes: int) -> nn.Module:
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # its torchvision may not fit torch
        raise ScrimpError(
            f"timm does not import here ({str(error).splitlines()[0]}): install a torchvision that fits torch "
            f"{torch.__version__}, or write a function that makes the model, --model my_file.py:make"
        ) from error
    model: nn.Module = timm.create_model(name, num_classes=classes)
    return model


def _of_file(where: str, what: str, classes: int) -> nn.Module:
    if not Path(where).is_file():
        raise ScrimpError(f"--model {where}:{what}: {where} does not exist")
    function = getattr(loaded(Path(where)), what, None)
    if not callable(function):
        raise ScrimpError(f"--model {where}:{what}: {where} has no function {what!r}")
    model: nn.Module = function(classes)
    return model


def _from(kind: str, name: str, **options: Any) -> Any:
    """`transformers.KIND.from_pretrained(name)`."""
    try:
        import transformers
    except ImportError as error:
        raise ScrimpError("hf: needs transformers: pip install 'scrimp[integrations]'") from error
    try:
        return getattr(transformers, kind).from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        raise ScrimpError(f"--model hf:{name}: {str(error).strip().splitlines()[0]}") from error


class _Logits(nn.Module):
    """A Hugging Face model of pictures that gives its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=pixels).logits
        return logits


class _TextLogits(nn.Module):
    """A Hugging Face model of texts that gives its logits alone and takes no notice of padding."""

    def __init__(self, model: nn.Module, padding: int) -> None:
        super().__init__()
        self.model, self.padding = model, padding

    def forward(self, numbers: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=numbers, attention_mask=(numbers != self.padding).long()).logits
        return logits
