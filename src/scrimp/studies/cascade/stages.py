"""What the cascade study's stages are: a rule that knows icons by their hash, and trained models; all give probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from scrimp.cascade import Floats, Integers
from scrimp.config import Arm
from scrimp.measure.clock import Clock
from scrimp.methods.combined import Methods
from scrimp.stages.fit import budget_of
from scrimp.tasks.base import EVALUATION_BATCH, Task
from scrimp.training.loop import train

HASH_SIDE = 8
Stage = Callable[[Any], Any]


def hashes(pixels: Tensor) -> list[bytes]:
    """Average hashes of pictures (uint8 [n, S, S, 3]): which of 8 x 8 grey places are lighter than the picture's mean."""
    grey = F.adaptive_avg_pool2d(pixels.float().mean(dim=3, keepdim=True).permute(0, 3, 1, 2), HASH_SIDE).flatten(1)
    bits: NDArray[np.uint8] = np.packbits((grey > grey.mean(dim=1, keepdim=True)).cpu().numpy(), axis=1)
    return [row.tobytes() for row in bits]


class KnownIcons:
    """A rule: a picture whose hash is known has the labels that training pictures of that hash have, or none.

    Of m pictures, of which k have a label, that label gets k / (m + 1): a single picture speaks with reservations.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, classes: int) -> None:
        self.classes = classes
        self.seen: dict[bytes, Floats] = {}
        for key, label in zip(hashes(pixels), labels.tolist(), strict=True):
            self.seen.setdefault(key, np.zeros(classes))[label] += 1

    def __call__(self, pixels: Tensor) -> Floats:
        counts = np.stack([self.seen.get(key, np.zeros(self.classes)) for key in hashes(pixels)])
        found: Floats = counts / (counts.sum(axis=1, keepdims=True) + 1)
        return found

    @staticmethod
    def flops(pixels: Tensor) -> float:
        """Of one picture: a mean over colours and places, and a comparison a place."""
        return float(pixels[0].numel() + 2 * HASH_SIDE**2)


@dataclass(frozen=True)
class Trained:
    """A model that takes pictures uint8 [n, S, S, 3] and gives probabilities; the examples that it was trained on."""

    task: Task
    model: torch.nn.Module
    kept: Tensor

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        labels = torch.zeros(len(pixels), dtype=torch.int64)
        parts = zip(pixels.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True)
        return torch.cat([self.task.outputs(self.model, part)[0].softmax(dim=1) for part in parts])


def trained(task: Task, arm: Arm, seed: int) -> Trained:
    """The model of an arm's run with a seed: on a CPU the same to the last bit."""
    methods = Methods.of(arm.methods, task.examples, task.workload.recipe.batch_size, seed)
    model = task.model(seed)
    train(task, model, methods, task.workload.recipe, budget_of(task, arm, methods), seed, clock=Clock(task.place.device))
    return Trained(task, model.eval(), methods.selector.select(0, 0.0).indices)


def split_of(task: Task, split: str, rows: Tensor | None = None) -> tuple[Tensor, Integers]:
    """Pictures and labels of a split, or of some of its rows."""
    indices = torch.arange(task.size(split)) if rows is None else rows
    pixels, labels = task.batch(split, indices)
    return pixels, labels.numpy().astype(np.int64)
