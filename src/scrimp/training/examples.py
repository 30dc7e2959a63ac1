"""Which examples the next step trains on: an epoch laid out by an epoch selector, or a choice within the step."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from scrimp.config.training import Recipe
from scrimp.errors import ScrimpError
from scrimp.methods.base import EpochSelector
from scrimp.methods.combined import Methods
from scrimp.seeding import epoch_order
from scrimp.training import parallel
from scrimp.training.budget import Spent

if TYPE_CHECKING:
    from scrimp.tasks.base import Batch, Task
    from scrimp.training.session import Session


@dataclass(frozen=True)
class Chosen:
    """A step's examples: `indices` int64 [B] and `weights` float32 [B] of the whole batch (None: all 1).

    `fetch()` gives this process's part of the batch. `drawn` examples were looked at, and `scored` of them by a forward
    pass, for `scoring_flops`.
    """

    indices: Tensor
    weights: Tensor | None
    fetch: Callable[[], Batch]
    drawn: int
    scored: int = 0
    scoring_flops: float = 0.0


class Epochs:
    """Whole passes: the selector is asked at the beginning of each, and shown its losses at the end.

    A run can be gone on with between two epochs only.
    """

    def __init__(self, task: Task, methods: Methods, recipe: Recipe, seed: int) -> None:
        self.task, self.methods, self.recipe, self.seed = task, methods, recipe, seed
        self.selector: EpochSelector = methods.selector or EpochSelector(task.examples, seed)
        self.epoch, self.planned, self.done = 0, 0, 0
        self._batches: deque[tuple[Tensor, Tensor]] = deque()
        self._visits: Iterator[Batch] = iter(())
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._loss: Any = 0.0

    @property
    def resumable(self) -> bool:
        return self.done == 0

    def next(self, model: nn.Module, session: Session) -> Chosen:
        """The next batch; lays out an epoch where one begins."""
        if not self._batches:
            with session.clock.span("selection"):
                self._begin(session)
        indices, weights = self._batches.popleft()
        return Chosen(indices, weights, lambda: next(self._visits), len(indices))

    def _begin(self, session: Session) -> None:
        selection = self.selector.select(self.epoch, session.fraction)
        self.planned, self.done = len(selection.indices), 0
        if self.planned == 0:
            raise ScrimpError(f"{type(self.selector).__name__} chose none of {self.task.examples} examples: lower its ratio")
        # The epoch in which the budget ends is cut to what is left of it, and so is one that would run over the point
        # where the selector changes its ways.
        until = self.selector.changes_at(session.fraction)
        training = self.methods.flops(session.fraction, self.task.flops.training)
        room = session.budget.room(session.spent, self.planned, self.planned, training, until)
        order = epoch_order(self.planned, self.seed, self.epoch)[:room]
        sizes = self._sizes(len(order), session)
        batches = selection.indices[order].split(sizes)
        self._batches.extend(zip(batches, selection.weights[order].split(sizes), strict=True))
        self._visits = self.task.visits(batches, self.seed, self.epoch)
        self._seen, self._loss = [], torch.zeros((), device=self.task.place.device)

    def _sizes(self, count: int, session: Session) -> list[int]:
        """The batches of an epoch of `count` examples, as the methods want them while the budget goes down."""
        ahead, sizes, done = copy.copy(session.spent), [], 0
        while done < count:
            size = min(count - done, self.methods.batch_size(session.budget.fraction(ahead), self.recipe.batch_size))
            sizes.append(size)
            done += size
            session.count(ahead, size, self.epoch + done / self.planned)
        # Batch norm has no variance of one example, and a pruned epoch may leave any rest.
        if len(sizes) > 1 and sizes[-1] == 1:
            sizes[-2:] = [sizes[-2] + 1]
        return sizes

    def passes(self, spent: Spent, count: int) -> float:
        """How many passes are over when `count` more examples are done."""
        self.done += count
        return self.epoch + self.done / self.planned

    def observe(self, indices: Tensor, losses: Tensor | None, loss: Tensor) -> None:
        """Take note of this process's losses [b] of a step."""
        if losses is None:
            raise ScrimpError(f"{type(self.task).__name__}.loss gives no losses of single examples, which epochs need")
        self._loss += losses.sum()
        if self.selector.needs_losses:
            self._seen.append((indices.to(losses.device), losses))

    def note(self, session: Session, before: float, indices: Tensor) -> None:
        """At the end of an epoch: show the selector its losses, and put down its numbers."""
        if self._batches and session.fraction < 1:
            return
        if self.selector.needs_losses:
            with session.clock.span("selection"):
                at, values = ([pair[side] for pair in self._seen] for side in (0, 1))
                self.selector.observe(*parallel.gathered(at, values, self.task.examples))
        session.trace.note(
            kept_fraction=self.planned / self.task.examples,
            train_loss=float(parallel.summed(self._loss)) / self.done,
            **self.methods.diagnostics(),
        )
        self.epoch += 1
        self.done = 0

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as plain data."""
        return {"epoch": self.epoch}

    def restore(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]


class Steps:
    """Choices within the step: the next candidates of the pool, all of them or the sub-batch that a batch selector takes."""

    resumable = True

    def __init__(self, task: Task, methods: Methods, recipe: Recipe, seed: int, reference: Any = None) -> None:
        self.task, self.methods, self.recipe, self.seed, self.reference = task, methods, recipe, seed, reference
        self.selector = methods.selector
        self.chooses = self.selector is not None and self.selector.super_batch > self.selector.size
        self.scoring_flops = task.scoring_flops(self.selector) if self.chooses else 0.0
        self.scores = self.chooses and (self.selector.needs_learner or self.selector.live)
        self.watch = task.on_choice()
        self._loss, self._steps = torch.zeros((), device=task.place.device), 0
        self.last: Tensor | None = None

    def next(self, model: nn.Module, session: Session) -> Chosen:
        step, size = session.spent.steps, self.methods.batch_size(session.fraction, self.recipe.batch_size)
        count = self.selector.super_batch if self.chooses else size
        # Where nothing is chosen the device need not wait.
        with session.clock.span("selection", synchronise=self.chooses):
            indices = drawn = self.task.draw(session.spent.drawn, count, self.seed)
            if self.chooses:
                learner, known = self.task.score(model, drawn, self.selector, self.reference)
                indices = drawn[self.selector.choose(step, learner, known).cpu()]
        visits = self.task.visits([indices], self.seed, step)
        scored = count if self.scores else 0
        return Chosen(indices, None, lambda: next(iter(visits)), count, scored, self.scoring_flops)

    def passes(self, spent: Spent, count: int) -> float:
        """A pass is a step, the one that is being counted among them."""
        return spent.steps + 1

    def observe(self, indices: Tensor, losses: Tensor | None, loss: Tensor) -> None:
        self._loss += loss / parallel.world_size()
        self._steps += 1
        self.last = loss

    def note(self, session: Session, before: float, indices: Tensor) -> None:
        """Show the step's examples to whoever watches, and put the mean loss down where a part of the budget ends."""
        if self.watch is not None:
            session.trace.note(**self.watch(indices, session.fraction))
        points = self.task.loss_points
        if points is None or not session.passed(points, before):
            return
        with session.clock.span("train"):  # reading it waits for the device: that is training, too
            mean = float(parallel.summed(self._loss)) / self._steps
        session.settle()
        session.trace.note(train_loss=mean, **self.methods.diagnostics())
        self._loss, self._steps = torch.zeros_like(self._loss), 0

    def state(self) -> dict[str, Any]:
        """What is pending of the training loss: a cooldown's curve goes on with that of the run it starts from."""
        return {"loss": float(self._loss), "steps": self._steps}

    def restore(self, state: dict[str, Any]) -> None:
        self._steps = state["steps"]
        self._loss.fill_(state["loss"])
