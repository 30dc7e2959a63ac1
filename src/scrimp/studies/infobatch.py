"""The InfoBatch study: what it probes. Its figures and tables are in `infobatch_figures.py`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from scrimp.config import Horizon, Workspace
from scrimp.data.loading import Images, epoch_order
from scrimp.measure.clock import Clock
from scrimp.selection.base import EpochSelector, derived_generator
from scrimp.selection.infobatch import InfoBatchSelector, prune
from scrimp.training.budget import Budget
from scrimp.training.classify import train
from scrimp.training.runner import Task, load_task

EPOCHS_PUBLISHED = 90  # ImageNet epochs to which the published overhead of .0028 h (10 s) belongs


def overhead(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Seconds that InfoBatch itself takes per epoch, by data-set size: score upkeep, pruning, shuffling.

    Options: `sizes`, `batch_size`, `repeats`. A row per (size, repeat); `seconds_90_epochs` is set against the published
    10 s. Losses are drawn log-normal: the cost does not hang on their values, only on the share below their mean.
    """
    rows = []
    for size in options["sizes"]:
        draws = torch.Generator().manual_seed(0)
        losses = torch.randn(size, generator=draws).exp()
        selector = InfoBatchSelector(size, seed=0, ratio=0.5)
        selector.observe(torch.arange(size), losses)
        selector.select(1, 0.0)  # the first call pays for the allocator's growth
        for repeat in range(options["repeats"]):
            start = time.perf_counter()
            selection = selector.select(repeat + 2, 0.0)
            pruned = time.perf_counter()
            order = selection.indices[epoch_order(len(selection.indices), 0, repeat)]
            shuffled = time.perf_counter()
            for batch in order.split(options["batch_size"]):
                selector.observe(batch, losses[batch])
            ended = time.perf_counter()
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


def gradient_bias(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """How far the mean gradient of pruned epochs is from that of the full data, with and without rescaling.

    A model is trained for `horizon` of the full recipe; per-example gradients of `examples` training images are taken
    (batch norm in evaluation mode, so that examples do not mix); `prunings` prunings of them are drawn at `ratio`. A row
    per (rescale, k): the norm of the difference between the mean over k prunings of the epoch's summed, weighted
    gradient and the full sum, over the norm of the full sum.
    """
    study = workspace.study("infobatch")
    setting = study.scale(scale).settings[study.scale(scale).main]
    task = load_task(workspace, setting, torch.device("cpu"))
    model = _partly_trained(task, options["horizon"])
    chosen = torch.randperm(len(task.train), generator=derived_generator(0, 0, "gradient-bias"))[: options["examples"]]
    gradients, losses = _per_example(model, task, chosen)  # [n, P], [n]
    full = gradients.sum(dim=0)
    rows = []
    for rescale in (True, False):
        total = torch.zeros_like(full)
        for number in range(1, options["prunings"] + 1):
            generator = derived_generator(0, number, "gradient-bias")
            selection = prune(losses, options["ratio"], generator, rescale=rescale)
            total += selection.weights @ gradients[selection.indices]
            if number & (number - 1) == 0 or number == options["prunings"]:
                error = float((total / number - full).norm() / full.norm())
                rows.append({"rescale": rescale, "prunings": number, "relative_error": error})
    return pd.DataFrame(rows).assign(last=lambda table: table["prunings"] == options["prunings"])


def _partly_trained(task: Task, horizon: float) -> torch.nn.Module:
    recipe, images = task.setting.recipe, task.train
    model = task.model(0)
    budget = Budget.of(Horizon(epochs=horizon), task.setting.epochs, len(images), recipe.batch_size, task.flops.training)
    common = {"normalise": task.normalise, "flops": task.flops, "place": task.place, "clock": Clock(task.place.device)}
    train(model, images, EpochSelector(len(images), 0), recipe, budget, 0, **common)  # type: ignore[arg-type]
    return model.eval()


def _per_example(model: torch.nn.Module, task: Task, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients [n, P] and losses [n] of single examples at the model's present weights."""
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    buffers = dict(model.named_buffers())
    smoothing = task.setting.recipe.label_smoothing

    def loss_of(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        logits = functional_call(model, (weights, buffers), (image[None],))
        loss = F.cross_entropy(logits, label[None], label_smoothing=smoothing)
        return loss, loss

    per_example = vmap(grad(loss_of, has_aux=True), in_dims=(None, 0, 0))
    gradients, losses = [], []
    images_in_memory = task.train
    assert isinstance(images_in_memory, Images), "the probe is for data in memory"
    for batch in chosen.split(64):
        images = task.normalise(images_in_memory.pixels[batch]).contiguous()
        of_batch, loss = per_example(parameters, images, task.train.labels[batch])
        gradients.append(torch.cat([g.flatten(1) for g in of_batch.values()], dim=1))
        losses.append(loss)
    return torch.cat(gradients).detach(), torch.cat(losses).detach()


PROBES: dict[str, Callable[[Workspace, str, dict[str, Any]], pd.DataFrame]] = {
    "overhead": overhead,
    "gradient-bias": gradient_bias,
}
