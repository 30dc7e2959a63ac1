"""The loop: one text for every task and method.

Choose examples, fetch them, take their losses, weigh them, go backward, step, account. The learning rate and the batch size
follow the fraction of the budget that is spent. Every random draw is a function of (seed, epoch or step), so a run that is
killed goes on from its last checkpoint and ends with the same numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from scrimp.config.training import Recipe
from scrimp.measure.clock import Clock
from scrimp.methods.base import EpochSelector
from scrimp.methods.combined import Methods
from scrimp.training import parallel
from scrimp.training.budget import Budget
from scrimp.training.examples import Epochs, Steps
from scrimp.training.optimizers import AnyOptimizer, OwnOptimizer, build_optimizer, set_learning_rate
from scrimp.training.schedules import learning_rate_factor
from scrimp.training.session import Session, State

if TYPE_CHECKING:
    from scrimp.tasks.base import Task


def train(
    task: Task,
    model: nn.Module,
    methods: Methods,
    recipe: Recipe,
    budget: Budget,
    seed: int,
    *,
    clock: Clock,
    reference: Any = None,
    start: State | None = None,
    starts: Mapping[int, Path] | None = None,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    evaluate_times: int = 1,
    on_batch: Callable[[Tensor], None] | None = None,
    checkpoint: Path | None = None,
    checkpoint_key: str = "",
    checkpoint_every: float = 20.0,
    on_progress: Callable[[float], None] | None = None,
) -> Session:
    """Train `model` in place until `budget` is spent; returns what it has spent and told.

    `reference` is what a batch selector's task scores against. `start` is a state that a constant-LR run left, `starts` maps
    numbers of steps to the files that this run leaves its own in. `evaluate(model)` gives metrics for the curve after
    every part but the last of `evaluate_times`. `on_batch` sees the indices of this process's part of every batch.
    `checkpoint_every` is in seconds. Under torchrun each process takes its part of every batch and the result is that of
    one process, but for batch statistics, which stay local: the first process's are kept. Raises DivergedError when a loss
    or a metric is not finite.
    """
    methods.adapt(model)
    own = task.optimizer(model)
    optimizer: AnyOptimizer = (
        build_optimizer(model, recipe, task.learning_rate_scales(model))
        if own is None
        else OwnOptimizer(own, recipe.learning_rate)
    )
    ema = copy.deepcopy(model).requires_grad_(False) if recipe.ema_decay is not None else None
    by_epochs = isinstance(methods.selector, EpochSelector) or (methods.selector is None and task.by_epochs)
    examples = Epochs(task, methods, recipe, seed) if by_epochs else Steps(task, methods, recipe, seed, reference)
    at = None if checkpoint is None else (checkpoint, checkpoint_key)
    session = Session(
        task, model, optimizer, ema, methods, examples, budget, clock,
        evaluate, evaluate_times, at, checkpoint_every, starts or {}, on_progress,
    )  # fmt: skip
    session.restore(start)

    model.train()
    while (fraction := session.fraction) < 1:
        try:
            chosen = examples.next(model, session)
        except ValueError:  # a selector refuses scores that are not finite
            session.check_weights()
            raise
        with clock.span("train", synchronise=False):
            rate = learning_rate_factor(recipe.schedule, fraction, session.spent.steps)
            session.rate = recipe.learning_rate * methods.learning_rate(fraction, rate)
            set_learning_rate(optimizer, session.rate)
            batch = chosen.fetch()
            part, factor = parallel.part_of(len(chosen.indices))
            indices = chosen.indices[part]  # [b], this process's
            weights = None if chosen.weights is None else chosen.weights[part].to(task.place.device)
            loss, losses = backward(task, model, batch, weights, factor, recipe.micro_batch)
            parallel.average_gradients(model)
            if recipe.gradient_clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip, foreach=True)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if ema is not None:
                average_into(ema, model, recipe.ema_decay or 0.0)
            methods.after_step(model, fraction)
            if on_batch is not None:
                on_batch(indices)
            examples.observe(indices, losses, loss)
        session.account(chosen)
        session.watch(loss)
        examples.note(session, fraction, chosen.indices)
        session.evaluate_if_due()
        if on_progress is not None:
            on_progress(session.fraction)
        session.save_if_due()

    session.look()
    if ema is not None:
        model.load_state_dict(ema.state_dict())
    return session


def backward(
    task: Task, model: nn.Module, batch: Any, weights: Tensor | None, factor: float, at_a_time: int | None
) -> tuple[Tensor, Tensor | None]:
    """Add the gradients of a batch, `at_a_time` examples of it (None: all); its loss, and the losses [b] of its examples."""
    from scrimp.tasks.base import sliced

    count = first_length(batch)
    if at_a_time is None or at_a_time >= count:
        with task.place.autocast():
            loss, losses = task.loss(model, batch, weights, factor)
        loss.backward()
        return loss.detach(), losses
    total, parts = torch.zeros((), device=task.place.device), []
    for begin in range(0, count, at_a_time):
        piece = slice(begin, begin + at_a_time)
        with task.place.autocast():
            loss, losses = task.loss(model, sliced(batch, piece), None if weights is None else weights[piece], factor)
        loss.backward()
        total += loss.detach()
        parts += [] if losses is None else [losses]
    return total, torch.cat(parts) if parts else None


def first_length(batch: Any) -> int:
    """How many examples a batch has: the first dimension of its first tensor."""
    while not isinstance(batch, Tensor):
        batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    return len(batch)


@torch.no_grad()
def average_into(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the model's; buffers (batch-norm statistics) are copied."""
    for kept, new in zip(ema.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)
    for held, current in zip(ema.buffers(), model.buffers(), strict=True):
        held.copy_(current)
