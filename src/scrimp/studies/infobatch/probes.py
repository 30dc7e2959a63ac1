"""The InfoBatch study: what it probes. Its figures and tables are in `infobatch_figures.py`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from scrimp.config import Horizon, Workspace
from scrimp.data.loading import Images
from scrimp.errors import ScrimpError
from scrimp.methods.base import derived_generator
from scrimp.methods.infobatch import InfoBatchSelector, prune
from scrimp.seeding import epoch_order
from scrimp.stages.fit import trained
from scrimp.studies import probe
from scrimp.tasks import load_task
from scrimp.tasks.classification import Classification
from scrimp.training.budget import Budget

EPOCHS_PUBLISHED = 90  # ImageNet epochs to which the published overhead of .0028 h (10 s) belongs


@probe("overhead")
def overhead(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """CPU seconds that InfoBatch itself takes per epoch, by data-set size: score upkeep, pruning, shuffling.

    Options: `sizes`, `batch_size`, `repeats`. A row per (size, repeat); `seconds_90_epochs` is set against the published
    10 s. Losses are drawn log-normal: the cost depends on the share below their mean alone. On one thread CPU
    seconds are the time on a machine of its own, and beside other work they still are.
    """
    rows = []
    for size in options["sizes"]:
        draws = torch.Generator().manual_seed(0)
        losses = torch.randn(size, generator=draws).exp()
        selector = InfoBatchSelector(size, seed=0, ratio=0.5)
        selector.observe(torch.arange(size), losses)
        selector.select(1, 0.0)  # the first call pays for the allocator's growth
        for repeat in range(options["repeats"]):
            start = time.process_time()
            selection = selector.select(repeat + 2, 0.0)
            pruned = time.process_time()
            order = selection.indices[epoch_order(len(selection.indices), 0, repeat)]
            shuffled = time.process_time()
            for batch in order.split(options["batch_size"]):
                selector.observe(batch, losses[batch])
            ended = time.process_time()
            parts = {"prune": pruned - start, "shuffle": shuffled - pruned, "upkeep": ended - shuffled}
            total = ended - start
            rows.append(
                {
                    "size": size,
                    "repeat": repeat,
                    **parts,
                    "seconds": total,
                    "seconds_90_epochs": EPOCHS_PUBLISHED * total,
                }
            )
    return pd.DataFrame(rows)


@probe("gradient-bias")
def gradient_bias(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """How far the mean gradient of pruned epochs is from that of the full data, with and without rescaling.

    A model is trained for `horizon` of the full recipe; per-example gradients of `examples` training images are taken
    (batch norm in evaluation mode, so that examples do not mix); `prunings` prunings of them are drawn at `ratio`. A row
    per (rescale, k): the norm of the difference between the mean over k prunings of the epoch's summed, weighted
    gradient and the full sum, over the norm of the full sum.
    """
    study = workspace.study("infobatch")
    workload = study.scale(scale).workloads[study.scale(scale).main]
    task = load_task(study.task, workspace, workload, torch.device("cpu"))
    assert isinstance(task, Classification)
    whole = Horizon(epochs=options["horizon"])
    model = trained(task, Budget.of(whole, workload, task.examples, task.flops.training, by_epochs=True), 0)
    chosen = torch.randperm(task.examples, generator=derived_generator(0, 0, "gradient-bias"))[: options["examples"]]
    losses = _losses(model, task, chosen)  # [n]
    counts = sorted({2**power for power in range(options["prunings"].bit_length())} | {options["prunings"]})
    weights = {rescale: _summed_weights(losses, counts, options["ratio"], rescale) for rescale in (True, False)}
    # Sums of gradients, weighted by what k prunings gave each example in all: no [n, P] table is ever kept.
    full, totals = _weighted_gradients(model, task, chosen, torch.cat([weights[True], weights[False]]))
    rows = []
    for row, (rescale, count) in enumerate((rescale, count) for rescale in (True, False) for count in counts):
        error = float((totals[row] / count - full).norm() / full.norm())
        rows.append({"rescale": rescale, "prunings": count, "relative_error": error})
    return pd.DataFrame(rows).assign(last=lambda table: table["prunings"] == options["prunings"])


def _summed_weights(losses: Tensor, counts: list[int], ratio: float, rescale: bool) -> Tensor:
    """What the first k prunings gave each example in all, for each k of `counts`: float [len(counts), n]."""
    total, kept = torch.zeros(len(losses)), []
    for number in range(1, counts[-1] + 1):
        selection = prune(losses, ratio, derived_generator(0, number, "gradient-bias"), rescale=rescale)
        total[selection.indices] += selection.weights
        if number in counts:
            kept.append(total.clone())
    return torch.stack(kept)


def _losses(model: torch.nn.Module, task: Classification, chosen: Tensor) -> Tensor:
    """Losses [n] of single examples at the model's present weights."""
    smoothing = task.workload.recipe.label_smoothing
    with torch.no_grad():
        return torch.cat(
            [
                F.cross_entropy(model(images), labels, reduction="none", label_smoothing=smoothing)
                for images, labels in _batches(task, chosen)
            ]
        )


def _weighted_gradients(
    model: torch.nn.Module, task: Classification, chosen: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """The sum of the examples' gradients [P], and their sums weighted by each row of `weights` [k, n]: [k, P]."""
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    buffers = dict(model.named_buffers())
    smoothing = task.workload.recipe.label_smoothing

    def loss_of(at: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, (at, buffers), (image[None],))
        return F.cross_entropy(logits, label[None], label_smoothing=smoothing)

    per_example = vmap(grad(loss_of), in_dims=(None, 0, 0))
    size = sum(value.numel() for value in parameters.values())
    full, totals, done = torch.zeros(size), torch.zeros(len(weights), size), 0
    for images, labels in _batches(task, chosen):
        gradients = torch.cat([g.flatten(1) for g in per_example(parameters, images, labels).values()], dim=1).detach()
        full += gradients.sum(dim=0)
        totals += weights[:, done : done + len(labels)] @ gradients
        done += len(labels)
    return full, totals


def _batches(task: Classification, chosen: Tensor, size: int = 32) -> Iterator[tuple[Tensor, Tensor]]:
    """The chosen training images, normalised, with their labels."""
    images = task.data["train"]
    if not isinstance(images, Images):
        raise ScrimpError("the probe gradient-bias is for data in memory: leave it out at this scale")
    for batch in chosen.split(size):
        yield task.normalise(images.pixels[batch]).contiguous(), images.labels[batch]
