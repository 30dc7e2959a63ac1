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

from scrimp.audit.columns import columns
from scrimp.data.image_folder import LeftOut, files_of
from scrimp.data.loading import CORRUPT, as_rgb
from scrimp.errors import ScrimpError
from scrimp.models.vision import BUILDERS, build
from scrimp.tasks.base import Batch, Task
from scrimp.user_files import loaded

TEST_SHARE = 0.2
VALIDATION = ("val", "validation", "valid")  # folders
MANY = 20  # values of a label that are surely classes
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

    `val/` or `validation/` is the split `validation` beside a `test/`, and takes its place where there is none. Values lie
    in [-1, 1]. Sides are scaled to `size` each. Raises ScrimpError for a folder without two classes; damaged and other files
    are counted in a line on the screen.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ScrimpError(f"{folder} is no folder")
    left_out: LeftOut = defaultdict(list)
    given = _splits_in(folder)
    found: dict[str, list[tuple[str, Path]]] = {split: files_of(folder / name, left_out) for split, name in given.items()}
    if not given:
        found = {"train": [], "test": []}
        for name, path in files_of(folder, left_out):
            found["test" if is_test(f"{name}/{path.name}") else "train"].append((name, path))
    classes = sorted({name for name, _ in found["train"]})
    if len(classes) < 2:
        place = folder / given.get("train", "")
        told = f"pictures of one class only, {classes[0]!r}" if classes else "no class's folder with pictures in it"
        raise ScrimpError(
            f"{place} has {told}: put pictures in {folder}/CLASS/, of two classes or more; or, with splits of your own, in "
            f"{folder}/train/CLASS/ and {folder}/test/CLASS/ (or val/)"
        )
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


def _splits_in(folder: Path) -> dict[str, str]:
    """Which splits a folder has as subfolders, split -> name: `train`, `test`, `validation`; none where it has classes.

    Without a `test` what is there for validation is held out in its place.
    """
    there = [name for name in ("train", "test", *VALIDATION) if (folder / name).is_dir()]
    if len(there) < 2 or there[0] != "train":
        return {}
    given = {"train": "train", "test": there[1]}
    if there[1] != "test":
        print(f"{folder / there[1]} is what methods are held against, as the split `test`")
    elif len(there) > 2:
        given["validation"] = there[2]
    for name in set(there) - set(given.values()):
        print(f"left out, one more split: {folder / name}")
    return given


def table(
    path: str | Path, text: str = "text", label: str = "label"
) -> tuple[dict[str, tuple[list[str], Tensor]], list[str]]:
    """A CSV file (or TSV, parquet) with a text and a label in each row: split -> (texts, int64 [n]), and the classes.

    Raises ScrimpError for a file that `columns` cannot read, for a missing column, for empty cells, and for labels that are
    fewer than two classes, or no classes but numbers.
    """
    path = Path(path)
    texts, labels = columns(path, [text, label])
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise ScrimpError(f"{path}: column {label!r} has {len(classes)} value")
    if len(classes) > MANY and (2 * len(classes) > len(labels) or any(map(_is_fraction, classes))):
        raise ScrimpError(
            f"{path}: column {label!r} has {len(classes):,} different values in {len(labels):,} rows, too many for classes: "
            "name the column of the classes with --label-column; to learn a number, write a task with a loss for it, as "
            "examples/audit/diabetes.py"
        )
    number_of = {name: number for number, name in enumerate(classes)}
    test = [is_test(line) for line in texts]
    splits = {}
    for split, wanted in (("train", False), ("test", True)):
        chosen = [place for place, here in enumerate(test) if here is wanted]
        if not chosen:
            raise ScrimpError(f"{path}: no row is left for the split {split!r}")
        numbers = torch.tensor([number_of[labels[place]] for place in chosen])
        splits[split] = ([texts[place] for place in chosen], numbers)
    return splits, classes


def _is_fraction(value: str) -> bool:
    try:
        return not float(value).is_integer()
    except (ValueError, OverflowError):
        return False


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
