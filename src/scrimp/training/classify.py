"""Training an image classifier under a selector: one visible loop.

An epoch is: ask the selector for indices and weights, visit them in an order that depends on (seed, epoch) alone, show the
selector the losses. The learning rate follows the fraction of the budget that is spent. A run that is killed goes on from
its last checkpoint and ends with the same numbers, since every random draw is a function of (seed, epoch).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scrimp.config import Recipe
from scrimp.data.loading import ImageSource, Normalisation
from scrimp.data.order import epoch_order
from scrimp.errors import ScrimpError
from scrimp.measure.clock import Clock
from scrimp.measure.flops import ExampleFlops
from scrimp.methods.base import EpochSelector
from scrimp.training import parallel
from scrimp.training.budget import Budget, Spent
from scrimp.training.checkpoint import load_checkpoint, save_checkpoint
from scrimp.training.optimizers import build_optimizer, optimizer_tensors, restore_optimizer, set_learning_rate
from scrimp.training.schedules import learning_rate_factor
from scrimp.training.stage import Place, Trace

EVALUATION_BATCH = 512


def evaluate(model: nn.Module, images: ImageSource, normalise: Normalisation, place: Place) -> tuple[float, float]:
    """Top-1 accuracy in percent and mean cross-entropy in nats of a split, without augmentation."""
    model.eval()
    right, loss = 0, 0.0
    with torch.no_grad(), place.autocast():
        for pixels, labels in images.plain(EVALUATION_BATCH):
            logits = model(normalise(pixels)).float()
            right += int((logits.argmax(dim=1) == labels).sum())
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
    model.train()
    return 100 * right / len(images), loss / len(images)


def train(
    model: nn.Module,
    images: ImageSource,
    selector: EpochSelector,
    recipe: Recipe,
    budget: Budget,
    seed: int,
    *,
    normalise: Normalisation,
    flops: ExampleFlops,
    place: Place,
    clock: Clock,
    evaluations: Mapping[str, ImageSource] | None = None,
    evaluate_times: int = 1,
    on_visit: Callable[[Tensor, Tensor, Tensor], None] | None = None,
    checkpoint: Path | None = None,
    checkpoint_key: str = "",
    checkpoint_every: float = 20.0,
    on_progress: Callable[[float], None] | None = None,
) -> Trace:
    """Train `model` in place until `budget` is spent; returns its trace.

    `images` and `evaluations` (name -> split; measured `evaluate_times` times, evenly over the budget, and at the end)
    lie on `place.device`. `on_visit(indices, logits, labels)` sees every training batch. `checkpoint_every` is in
    seconds. Under torchrun each process takes its part of every batch and the result is that of one process, but for
    batch statistics, which stay local.
    """
    learner = parallel.wrapped(model, place.device)
    optimizer = build_optimizer(model, recipe)
    ema = copy.deepcopy(model).requires_grad_(False) if recipe.ema_decay is not None else None
    trace, epoch, evaluated = Trace(), 0, 0

    resumed = load_checkpoint(checkpoint, checkpoint_key) if checkpoint is not None else None
    if resumed is not None:
        tensors, progress = resumed
        model.load_state_dict(tensors["model"])
        restore_optimizer(optimizer, tensors.get("optimizer", {}))
        selector.load_state_dict(tensors.get("selector", {}))
        if ema is not None:
            ema.load_state_dict(tensors["ema"])
        trace = Trace(progress["rows"], Spent(**progress["spent"]), resumed=True)
        epoch, evaluated = progress["epoch"], progress["evaluated"]
        clock.seconds = dict(progress["seconds"])
    saved_at = time.monotonic()

    model.train()
    while (fraction := budget.fraction(trace.spent)) < 1:
        with clock.span("selection"):
            selection = selector.select(epoch, fraction)
            planned = len(selection.indices)
            if planned == 0:
                raise ScrimpError(f"{type(selector).__name__} chose none of {len(images)} examples: lower its ratio")
            # The epoch in which the budget ends is cut to what is left of it, and so is one that would run over the
            # point where the selector changes its ways.
            until = selector.changes_at(fraction)
            room = budget.room(trace.spent, planned, planned, flops.training, until)
            order = epoch_order(planned, seed, epoch)[:room]
            chosen, weights = selection.indices[order], selection.weights[order]
        seen_indices: list[Tensor] = []
        seen_losses: list[Tensor] = []
        epoch_loss, done = torch.zeros((), device=place.device), 0
        visits = images.visits(chosen, recipe.batch_size, recipe.augmentation, seed, epoch, parallel.part_of)

        for batch_weights in weights.split(recipe.batch_size):
            with clock.span("train", synchronise=False):
                rate = learning_rate_factor(recipe.schedule, budget.fraction(trace.spent))
                set_learning_rate(optimizer, recipe.learning_rate * rate)
                indices, pixels, labels = next(visits)  # [b], uint8 [b, S, S, 3], [b]: this process's part
                part, factor = parallel.part_of(len(batch_weights))
                with place.autocast():
                    logits = learner(normalise(pixels))  # [B, classes]
                losses = F.cross_entropy(
                    logits.float(), labels, reduction="none", label_smoothing=recipe.label_smoothing
                )  # [B]
                loss = (losses * batch_weights[part].to(place.device)).sum() * factor
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if ema is not None:
                    _average_into(ema, model, recipe.ema_decay or 0.0)
                losses = losses.detach()
                epoch_loss += losses.sum()
                if selector.needs_losses:
                    seen_indices.append(indices)
                    seen_losses.append(losses)
                if on_visit is not None:
                    on_visit(indices, logits.detach(), labels)
            done += len(batch_weights)
            trace.spent.steps += 1
            trace.spent.examples += len(batch_weights)
            trace.spent.flops += len(batch_weights) * flops.training
            trace.spent.epochs = epoch + done / planned
            trace.spent.seconds = clock["train"] + clock["selection"]
            due = math.floor(budget.fraction(trace.spent) * evaluate_times + 1e-9)
            if due > evaluated and evaluations:
                evaluated = due
                with clock.span("evaluation"):
                    for name, split in evaluations.items():
                        accuracy, mean_loss = evaluate(ema or model, split, normalise, place)
                        trace.note(**{f"{name}_accuracy": accuracy, f"{name}_loss": mean_loss})
            if on_progress is not None:
                on_progress(budget.fraction(trace.spent))
            if budget.fraction(trace.spent) >= 1:
                break

        with clock.span("selection"):
            if selector.needs_losses:
                selector.observe(*parallel.gathered(seen_indices, seen_losses, len(images)))
        trace.note(
            kept_fraction=planned / len(images),
            train_loss=float(parallel.summed(epoch_loss)) / done,
            **selector.diagnostics(),
        )
        epoch += 1
        if checkpoint is not None and parallel.is_first() and time.monotonic() - saved_at >= checkpoint_every:
            groups = {"model": model.state_dict(), "optimizer": optimizer_tensors(optimizer)}
            groups["selector"] = selector.state_dict()
            if ema is not None:
                groups["ema"] = ema.state_dict()
            progress = {"key": checkpoint_key, "rows": trace.rows, "spent": vars(trace.spent), "epoch": epoch}
            save_checkpoint(checkpoint, groups, {**progress, "evaluated": evaluated, "seconds": clock.seconds})
            saved_at = time.monotonic()

    if ema is not None:
        model.load_state_dict(ema.state_dict())
    return trace


@torch.no_grad()
def _average_into(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the model's; buffers (batch-norm statistics) are copied."""
    for kept, new in zip(ema.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)
    for held, current in zip(ema.buffers(), model.buffers(), strict=True):
        held.copy_(current)
