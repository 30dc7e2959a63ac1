"""Training a transformer on text: one visible loop.

A step takes the next windows of the text in a seeded order, the same for every model and schedule, so runs of one seed see
the same tokens. A run whose rate stays constant is a trunk: it leaves its state where its branches begin, and a branch that
goes on from there ends with the numbers of a run that was trained from the start with the branch's schedule.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from scrimp.config import Recipe
from scrimp.data.order import candidates_of
from scrimp.data.text import window_count, windows
from scrimp.kernels.cross_entropy import rowwise_cross_entropy
from scrimp.measure.clock import Clock
from scrimp.models.language import Language
from scrimp.training import parallel
from scrimp.training.budget import Budget, Spent
from scrimp.training.checkpoint import load_checkpoint, save_checkpoint
from scrimp.training.optimizers import build_optimizer, optimizer_tensors, restore_optimizer, set_learning_rate
from scrimp.training.schedules import learning_rate_factor
from scrimp.training.stage import Place, Trace

EVALUATION_BATCH = 64
CURVE_POINTS = 200  # means of the training loss over even parts of the budget


def train(
    model: Language,
    tokens: Tensor,
    recipe: Recipe,
    budget: Budget,
    seed: int,
    *,
    place: Place,
    clock: Clock,
    start: tuple[Path, str] | None = None,
    branches: Mapping[int, Path] | None = None,
    evaluate: Callable[[Language], dict[str, float]] | None = None,
    evaluate_times: int = 1,
    checkpoint: Path | None = None,
    checkpoint_key: str = "",
    checkpoint_every: float = 20.0,
    on_progress: Callable[[float], None] | None = None,
) -> Trace:
    """Train `model` in place on `tokens` (a split's, [N]) until `budget` is spent; returns its trace.

    `start` is a state that another run left, and its key: what was spent for it counts. `branches` maps numbers of steps to
    the files that this run's state is written to after so many. `evaluate(model)` is asked after every part of the budget
    but the last of `evaluate_times`: the end is for the caller to measure. `checkpoint_every` is in seconds. The curve of
    `train_loss` is the mean, in nats a token, over every 200th of the budget. Under torchrun each process takes its part
    of every batch.
    """
    optimizer = build_optimizer(model, recipe, model.learning_rate_scales())
    flops_per_window = model.context * model.flops_per_token()
    trace, evaluated = Trace(), 0
    loss_sum, loss_steps = torch.zeros((), device=place.device), 0
    resumed = load_checkpoint(checkpoint, checkpoint_key) if checkpoint is not None else None
    state = resumed
    if state is None and start is not None:
        state = load_checkpoint(*start)
        if state is None:
            raise ValueError(f"{start[0]} is not there, or was left by another trunk than this branch's")
    if state is not None:
        tensors, progress = state
        model.load_state_dict(tensors["model"])
        restore_optimizer(optimizer, tensors["optimizer"])
        trace.rows, trace.resumed = progress["rows"], resumed is not None
        trace.spent.__dict__.update(progress["spent"])
        if resumed is not None:
            clock.seconds, evaluated = dict(progress["seconds"]), progress["evaluated"]
            trace.inherited = Spent(**progress["inherited"])
        else:
            clock.seconds["train"] = progress["seconds"]["train"]
            trace.inherited = Spent(**progress["spent"])
        loss_steps = progress["loss_steps"]
        loss_sum.fill_(progress["loss_sum"])
    saved_at = time.monotonic()

    def write_state(path: Path, key: str) -> None:
        groups = {"model": model.state_dict(), "optimizer": optimizer_tensors(optimizer)}
        progress = {
            "key": key,
            "rows": trace.rows,
            "spent": vars(trace.spent),
            "inherited": vars(trace.inherited),
            "seconds": clock.seconds,
            "evaluated": evaluated,
            "loss_sum": float(loss_sum),
            "loss_steps": loss_steps,
        }
        save_checkpoint(path, groups, progress)

    count = window_count(tokens, model.context)
    model.train()
    while budget.fraction(trace.spent) < 1:
        step, fraction = trace.spent.steps, budget.fraction(trace.spent)
        with clock.span("train", synchronise=False):
            set_learning_rate(optimizer, recipe.learning_rate * learning_rate_factor(recipe.schedule, fraction, step))
            drawn = candidates_of(count, recipe.batch_size, seed, step)
            part, factor = parallel.part_of(recipe.batch_size)
            for chosen in drawn[part].split(recipe.micro_batch or recipe.batch_size):
                inputs, targets = (ids.to(place.device) for ids in windows(tokens, model.context, chosen))  # [b, T] each
                with place.autocast():
                    logits = model(inputs)  # [b, T, V]
                loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="sum")
                loss = loss * (factor / model.context)
                loss.backward()
                loss_sum += loss.detach() / parallel.world_size()
            parallel.average_gradients(model)
            if recipe.gradient_clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip, foreach=True)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        loss_steps += 1
        trace.spent.steps += 1
        trace.spent.examples += recipe.batch_size
        trace.spent.flops += recipe.batch_size * flops_per_window
        trace.spent.seconds = clock["train"]
        now = budget.fraction(trace.spent)
        # A branch's curve goes on with its trunk's: what is pending at the branch point is noted with the next.
        if math.floor(now * CURVE_POINTS + 1e-9) > math.floor(fraction * CURVE_POINTS + 1e-9):
            with clock.span("train"):  # reading it waits for the device: that is training, too
                mean = float(parallel.summed(loss_sum)) / loss_steps
            trace.spent.seconds = clock["train"]
            trace.note(train_loss=mean)
            loss_sum, loss_steps = torch.zeros_like(loss_sum), 0
        due = math.floor(now * evaluate_times + 1e-9)
        if evaluated < due < evaluate_times and evaluate is not None:
            evaluated = due
            with clock.span("evaluation"):
                trace.note(**evaluate(model))
        if on_progress is not None:
            on_progress(now)
        if parallel.is_first():
            if branches is not None and trace.spent.steps in branches:
                write_state(branches[trace.spent.steps], checkpoint_key)
            if checkpoint is not None and time.monotonic() - saved_at >= checkpoint_every:
                write_state(checkpoint, checkpoint_key)
                saved_at = time.monotonic()
    return trace


@torch.no_grad()
def mean_loss(model: Language, tokens: Tensor, limit: int, place: Place) -> float:
    """Mean cross-entropy, nats a token, over at most `limit` tokens of a split, in whole windows evenly spaced over it."""
    count = window_count(tokens, model.context)
    wanted = max(1, min(count, limit // model.context))
    chosen = (torch.arange(wanted) * count) // wanted
    model.eval()
    total = 0.0
    for at in chosen.split(EVALUATION_BATCH):
        inputs, targets = (ids.to(place.device) for ids in windows(tokens, model.context, at))
        with place.autocast():
            hidden = model.hidden(inputs).flatten(0, 1)  # [b T, width]
        weight = model.embedding.weight.to(hidden.dtype)
        total += float(rowwise_cross_entropy(hidden, weight, targets.flatten()).sum(dtype=torch.float64))
    model.train()
    return total / (wanted * model.context)
