"""What trained towers are tested on beside held-out pairs: classes known by their names, pictures with many captions."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scrimp.config.tasks import ImageTextWorkload
from scrimp.config.workspace import Workspace
from scrimp.data.loading import load_classification
from scrimp.data.pairs import Pairs, PairSource
from scrimp.data.shards import read_manifest, read_samples
from scrimp.data.web_pairs import streamed
from scrimp.errors import ScrimpError
from scrimp.files import read_json

Encode = Callable[[list[str]], Tensor]  # captions to token ids, int64 [n, L]


@dataclass(frozen=True)
class ZeroShot:
    """Pictures to be classified by the words of their classes: `labels` int64 [N], `prompts` int64 [C, T, L].

    Each class has a prompt for every template. `pairs` goes with the tokens of the first.
    """

    pairs: PairSource
    labels: Tensor
    prompts: Tensor


@dataclass(frozen=True)
class Captioned:
    """Pictures with several captions: `captions` int64 [M, L] are of the pictures `owner`, int64 [M]."""

    pairs: PairSource
    captions: Tensor
    owner: Tensor


@dataclass(frozen=True)
class FewShot:
    """Labelled pictures to learn a linear classifier from, and others to test it on.

    A row of `drawn`, int64 [D, n], is one draw: rows of `pairs`, with `labels` int64 [M], the same number of every class.
    """

    pairs: PairSource
    labels: Tensor
    drawn: Tensor
    tested: PairSource
    tested_labels: Tensor


def load_zero_shot(workspace: Workspace, workload: ImageTextWorkload, encode: Encode) -> ZeroShot | None:
    """The split `test` of `workload.zero_shot`, a labelled dataset: in memory, or streamed at its `image_size`."""
    if workload.zero_shot is None:
        return None
    pictures, labels, classes = _labelled(workspace, workload, "test")
    words = class_words(classes, None if workload.class_names is None else workspace.root / workload.class_names)
    prompts = encode([template.replace("{}", name) for name in words for template in workload.templates])
    prompts = prompts.unflatten(0, (len(words), len(workload.templates)))
    return ZeroShot(pictures(torch.arange(len(labels)), prompts[labels, 0]), labels, prompts)


def load_few_shot(workspace: Workspace, workload: ImageTextWorkload) -> FewShot | None:
    """`few_shot_draws` draws of `few_shot` pictures a class from the split `train` of `workload.zero_shot`; its `test`.

    The draws are the same for every model, whatever its seed. Raises ScrimpError for a class with too few pictures.
    """
    if workload.zero_shot is None or workload.few_shot == 0:
        return None
    pictures, labels, classes = _labelled(workspace, workload, "train")
    counts = torch.bincount(labels, minlength=len(classes))
    if int(counts.min()) < workload.few_shot:
        scarce = classes[int(counts.argmin())]
        raise ScrimpError(
            f"{workload.zero_shot}: class {scarce!r} has {int(counts.min())} training pictures, but `few_shot` wants "
            f"{workload.few_shot}: lower it, or 0 to leave this test out"
        )
    rows = [_drawn(labels, len(classes), workload.few_shot, draw) for draw in range(workload.few_shot_draws)]
    used, places = torch.cat(rows).unique(return_inverse=True)
    tested, tested_labels, _ = _labelled(workspace, workload, "test")
    every = torch.arange(len(tested_labels))
    return FewShot(
        pictures(used, _no_captions(used)),
        labels[used],
        places.view(len(rows), -1),
        tested(every, _no_captions(every)),
        tested_labels,
    )


def _drawn(labels: Tensor, classes: int, shots: int, draw: int) -> Tensor:
    """Rows of a draw without replacement, the same number of each class: int64 [classes * shots]."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(draw))
    return torch.cat([order[labels[order] == label][:shots] for label in range(classes)])


def _no_captions(rows: Tensor) -> Tensor:
    return torch.zeros(len(rows), 1, dtype=torch.int64)


Pictures = Callable[[Tensor, Tensor], PairSource]  # rows int64 [n] of a split and their tokens [n, L] -> pairs


def _labelled(workspace: Workspace, workload: ImageTextWorkload, split: str) -> tuple[Pictures, Tensor, list[str]]:
    """A split of `workload.zero_shot`: how its pictures are had, its labels int64 [N], the names of the classes."""
    assert workload.zero_shot is not None
    folder = workspace.shards(workload.zero_shot)
    size = workload.image_size
    if size is None:
        splits, classes = load_classification(folder)
        pixels = splits[split].pixels
        return lambda rows, tokens: Pairs(pixels, rows, tokens), splits[split].labels, classes
    samples = read_samples(folder)
    if "label" not in samples.columns:
        raise ScrimpError(f"{folder.name} has no labels; zero-shot classification needs a labelled dataset")
    of_split = samples[samples["split"] == split]
    labels = torch.from_numpy(of_split["label"].to_numpy(np.int64, copy=True))
    return (
        lambda rows, tokens: streamed(folder, of_split.iloc[rows.numpy()], tokens, size),
        labels,
        list(read_manifest(folder)["classes"]),
    )


def class_words(classes: list[str], path: Path | None) -> list[str]:
    """What each class is called in a prompt: as the JSON file `path` says, else its name without underscores and hyphens."""
    if path is None:
        if all(re.fullmatch(r"n\d{8}", name) for name in classes):
            raise ScrimpError(f"{classes[0]} and the other classes are WordNet's numbers: give the workload `class_names`")
        return [re.sub("[_-]", " ", name) for name in classes]
    told = read_json(path)
    if isinstance(told, list):
        told = dict(zip(classes, told, strict=True)) if len(told) == len(classes) else {}
    missing = [name for name in classes if not isinstance(told, dict) or not isinstance(told.get(name), str)]
    if missing:
        raise ScrimpError(
            f"{path} must be a JSON object, class -> words, or a list of {len(classes)} words in the order of the classes; "
            f"it has none for {', '.join(missing[:3])}{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}"
        )
    return [told[name] for name in classes]


def load_captioned(workspace: Workspace, workload: ImageTextWorkload, encode: Encode) -> Captioned | None:
    """The dataset of `workload.coco`, streamed at the workload's `image_size`."""
    if workload.coco is None:
        return None
    if workload.image_size is None:
        raise ScrimpError(f"the pictures of {workload.coco} have different sizes: give the workload an `image_size`")
    folder = workspace.shards(workload.coco)
    samples = read_samples(folder)
    if "captions" not in samples.columns:
        raise ScrimpError(f"{folder.name} has no column of captions; `coco` takes a dataset such as coco-captions")
    captions = encode([caption for row in samples["captions"] for caption in row])
    counts = torch.tensor([len(row) for row in samples["captions"]])
    owner = torch.repeat_interleave(torch.arange(len(samples)), counts)
    first = counts.cumsum(0) - counts
    return Captioned(streamed(folder, samples, captions[first], workload.image_size), captions, owner)
