"""What may be wrong with a user's task, and would show in no run's end: told before any of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scrimp.errors import ScrimpError
from scrimp.tasks.base import Task

LOOKED_AT = 8  # examples whose losses are looked at


def check_data(task: Task, file: Path) -> None:
    """Raise ScrimpError for tuples in `self.data` that hold no tensors, or tensors of different lengths."""
    for split, held in task.data.items():
        if not isinstance(held, tuple):
            continue
        for place, part in enumerate(held):
            if not isinstance(part, Tensor):
                raise ScrimpError(
                    f"{file}: self.data[{split!r}][{place}] is no tensor but of the type {type(part).__name__}: give "
                    "torch.as_tensor(...) of it"
                )
        if len(lengths := [len(part) for part in held]) > 1 and len(set(lengths)) > 1:
            raise ScrimpError(f"{file}: the tensors of self.data[{split!r}] have different lengths: {lengths}")


def check_model(task: Task, file: Path) -> list[str]:
    """What is odd about how models are drawn, in lines: a model is a function of the seed, and of nothing else."""
    first, again, other = (_weights(task.model(seed)) for seed in (0, 0, 1))
    if not _same(first, again):
        return [
            f"{file.name}: model(0) gives other weights each time, so arms of one seed do not begin alike and differences "
            "have more noise: draw it with scrimp.tasks.base.seeded(seed, ...)"
        ]
    if first and _same(first, other):
        return [
            f"{file.name}: model(0) and model(1) have the same weights: unless they come from a file, draw them with "
            "scrimp.tasks.base.seeded(seed, ...), or the intervals know nothing of initial weights"
        ]
    return []


def _weights(model: nn.Module) -> list[Tensor]:
    return [weight.detach().cpu() for weight in model.parameters()]


def _same(some: list[Tensor], others: list[Tensor]) -> bool:
    return len(some) == len(others) and all(map(torch.equal, some, others))


def check_losses(task: Task, file: Path) -> None:
    """Raise ScrimpError for losses that are no tensor, not one an example, constant, not finite or not differentiable."""
    model = task.model(0).train()
    count = min(LOOKED_AT, task.examples)
    indices = torch.linspace(0, task.examples - 1, count).long()
    batch = task.batch(task.train_split, indices)
    if type(task).loss is Task.loss and not isinstance(found := task.losses(model, batch), Tensor):
        raise ScrimpError(f"{file}: losses gave {type(found).__name__}, not a tensor of one loss an example")
    loss, losses = task.loss(model, batch, None, 1.0)
    if not loss.requires_grad:
        raise ScrimpError(
            f"{file}: the losses do not depend on the model's weights for torch: no detach(), item(), numpy() or no_grad() "
            "in losses, and weights that require gradients"
        )
    if not bool(loss.isfinite()):
        raise ScrimpError(f"{file}: the losses of {count} examples under fresh weights are not finite: {_few(losses, loss)}")
    if losses is None:
        return
    if len(losses) != count:
        raise ScrimpError(f"{file}: losses gave {len(losses)} values for {count} examples, not one an example")
    if count > 1 and _constant(losses) and _constant(_moved_losses(task, model, batch)):
        raise ScrimpError(
            f"{file}: all {count} examples have the same loss, {float(losses[0]):.4g}, under other weights too: a mean that "
            "is repeated tells no example from another; give each its own"
        )


def _few(losses: Tensor | None, loss: Tensor) -> list[float]:
    return [round(value, 4) for value in (loss[None] if losses is None else losses[:4]).tolist()]


def _constant(losses: Tensor | None) -> bool:
    return losses is not None and bool((losses == losses[0]).all())


@torch.no_grad()
def _moved_losses(task: Task, model: nn.Module, batch: object) -> Tensor | None:
    """The losses under weights with noise: a last layer that begins at zero gives every example the same loss."""
    moved = copy.deepcopy(model)
    draws = torch.Generator().manual_seed(0)
    for weight in moved.parameters():
        weight.add_(0.1 * torch.randn(weight.shape, generator=draws).to(weight))
    return task.loss(moved, batch, None, 1.0)[1]


def check_evaluation(task: Task, split: str, file: Path) -> dict[str, float]:
    """What an untrained model's evaluation gives, by metric; ScrimpError for anything but numbers by name."""
    found: Any = task.evaluate(task.model(0), split)
    if not isinstance(found, Mapping) or not found:
        told = "nothing" if found is None else repr(found)[:60]
        raise ScrimpError(f"{file}: evaluate gave {told}: return the metrics by name, such as {{'accuracy': 97.5}}")
    for name, value in found.items():
        if not isinstance(value, Real):
            raise ScrimpError(f"{file}: evaluate gave {name!r} as {type(value).__name__}: return float(...) of it")
    return dict(found)
