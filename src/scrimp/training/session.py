"""A run on its way: what it has spent and told, what is due, and the checkpoint that it goes on from when killed."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from scrimp.cost import Cost
from scrimp.errors import ScrimpError
from scrimp.measure.clock import Clock
from scrimp.methods.combined import Methods
from scrimp.records import Diverged
from scrimp.training import parallel
from scrimp.training.budget import Budget, Spent
from scrimp.training.checkpoint import load_checkpoint, save_checkpoint
from scrimp.training.examples import Chosen, Epochs, Steps
from scrimp.training.optimizers import AnyOptimizer, optimizer_tensors, restore_optimizer

if TYPE_CHECKING:
    from scrimp.tasks.base import Task

State = tuple[Path, str]  # a checkpoint's file and the key that it must have
LOSSES_AT_ONCE = 32  # steps whose losses are looked at together where a look has the processor wait for a GPU


class DivergedError(ScrimpError):
    """A run's numbers ceased to be finite. `session` is what it was until then."""

    def __init__(self, end: Diverged, session: Session | None = None) -> None:
        super().__init__(f"diverged at step {end.step}, learning rate {end.learning_rate:.4g}: {end.what}")
        self.end = end
        self.session = session


@dataclass
class Trace:
    """What a run has to tell: curve rows (step, examples, flops, seconds, metric, value), and what was spent.

    Of that, the constant-LR run that a cooldown starts from spent what is `inherited`.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)
    inherited: Cost = field(default_factory=Cost)
    resumed: bool = False

    def note(self, **metrics: float) -> None:
        """Add one row per metric at the present point of the run."""
        at = {"step": self.spent.steps, "examples": self.spent.examples, "flops": self.spent.flops}
        self.rows += [{**at, "seconds": self.spent.seconds, "metric": m, "value": v} for m, v in metrics.items()]


@dataclass
class Session:
    """All that changes while a run trains, and what it is measured by.

    `checkpoint` is written every `every` seconds, where the examples allow it. `starts` maps numbers of steps to files
    that the state is left in for cooldowns. `evaluate` gives metrics for the curve, after every part but the last of
    `times` even parts of the budget: the end is for the caller to measure.
    """

    task: Task
    model: nn.Module
    optimizer: AnyOptimizer
    ema: nn.Module | None
    methods: Methods
    examples: Epochs | Steps
    budget: Budget
    clock: Clock
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None
    times: int = 1
    checkpoint: State | None = None
    every: float = 20.0
    starts: Mapping[int, Path] = field(default_factory=dict)
    on_progress: Callable[[float], None] | None = None
    trace: Trace = field(default_factory=Trace)
    evaluated: int = 0
    rate: float = 0.0  # the last step's learning rate
    unseen: list[tuple[int, float, Tensor]] = field(default_factory=list)  # steps with their rates and losses

    def __post_init__(self) -> None:
        self.saved_at = time.monotonic()

    @property
    def spent(self) -> Spent:
        return self.trace.spent

    @property
    def fraction(self) -> float:
        """The share of the budget that is spent."""
        return self.budget.fraction(self.spent)

    def passed(self, points: int, before: float) -> bool:
        """Whether one of `points` even parts of the budget has ended since the fraction `before`."""
        return math.floor(self.fraction * points + 1e-9) > math.floor(before * points + 1e-9)

    # --- what is spent ---
    def count(self, spent: Spent, examples: int, passes: float) -> None:
        """Add an update on so many examples."""
        spent.flops += self.methods.flops(self.budget.fraction(spent), self.task.step_flops(examples))
        spent.steps += 1
        spent.epochs = passes
        spent.examples += examples

    def account(self, chosen: Chosen) -> None:
        """Add a finished step."""
        examples = len(chosen.indices)
        self.count(self.spent, examples, self.examples.passes(self.spent, examples))
        self.spent.flops += chosen.scoring_flops
        self.spent.flops_scoring += chosen.scoring_flops
        self.spent.drawn += chosen.drawn
        self.spent.scored += chosen.scored
        self.settle()

    def settle(self) -> None:
        """Read the clock."""
        earlier, clock = self.trace.inherited, self.clock
        self.spent.seconds = earlier.seconds + clock["train"] + clock["selection"]
        self.spent.cpu_seconds = earlier.cpu_seconds + clock.cpu("train") + clock.cpu("selection")

    # --- whether it is still a run ---
    def watch(self, loss: Tensor) -> None:
        """Look at the loss of the step that was accounted last, on a GPU at many together; DivergedError if not finite."""
        at_once = loss.device.type == "cpu"
        if at_once and parallel.world_size() == 1 and math.isfinite(float(loss)):
            return
        self.unseen.append((self.spent.steps, self.rate, loss))
        if at_once or len(self.unseen) >= LOSSES_AT_ONCE:
            self.look()

    def look(self) -> None:
        """Look at the losses that were not looked at; every process of several comes to the same end."""
        if not self.unseen:
            return
        losses = torch.stack([loss.float() for _, _, loss in self.unseen])
        bad = parallel.summed((~losses.isfinite()).float())
        (steps, rates, _), found = zip(*self.unseen, strict=True), bad.tolist()
        self.unseen.clear()
        if any(found):
            at = next(place for place, count in enumerate(found) if count)
            what = f"the loss is {float(losses[at])}"
            raise DivergedError(Diverged(step=steps[at], learning_rate=rates[at], what=what), self)

    def must_be_finite(self, metrics: Mapping[str, float]) -> None:
        """Raise DivergedError where a measured number is not finite."""
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise self._diverged(f"{name} is {value}")

    def check_weights(self) -> None:
        """Raise DivergedError where a weight is not finite: scores that are no numbers come from such."""
        if not self.has_finite_weights():
            raise self._diverged("a weight is not finite")

    def has_finite_weights(self) -> bool:
        return all(bool(weight.isfinite().all()) for weight in self.model.parameters())

    def _diverged(self, what: str) -> DivergedError:
        return DivergedError(Diverged(step=self.spent.steps, learning_rate=self.rate, what=what), self)

    # --- what is due ---
    def evaluate_if_due(self) -> None:
        due = math.floor(self.fraction * self.times + 1e-9)
        if self.evaluate is None or not self.evaluated < due < self.times:
            return
        self.look()
        self.evaluated = due
        with self.clock.span("evaluation"):
            found = self.evaluate(self.ema or self.model)
            self.model.train()  # a task's `evaluate` may have left it in evaluation mode
            self.must_be_finite(found)
            self.trace.note(**found, **self.last_loss())

    def last_loss(self) -> dict[str, float]:
        """The last step's loss, for tasks that note it beside evaluations."""
        if isinstance(self.examples, Epochs) or self.task.loss_points is not None or self.examples.last is None:
            return {}
        return {"train_loss": float(self.examples.last)}

    def save_if_due(self) -> None:
        """Leave the state for cooldowns where one begins, and the checkpoint from time to time."""
        if not parallel.is_first() or self.checkpoint is None:
            return
        path, key = self.checkpoint
        if self.spent.steps in self.starts:
            self._write(self.starts[self.spent.steps], key)
        if self.examples.resumable and time.monotonic() - self.saved_at >= self.every:
            self._write(path, key)
            self.saved_at = time.monotonic()

    # --- and resumed ---
    def _write(self, path: Path, key: str) -> None:
        if not self.has_finite_weights():
            return  # nobody shall go on from it; the next loss ends the run
        groups = {
            "model": self.model.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer),
            "methods": self.methods.state_dict(),
        }
        if self.ema is not None:
            groups["ema"] = self.ema.state_dict()
        progress = {
            "key": key,
            "rows": self.trace.rows,
            "spent": asdict(self.spent),
            "inherited": asdict(self.trace.inherited),
            "clock": self.clock.state(),
            "evaluated": self.evaluated,
            "examples": self.examples.state(),
        }
        save_checkpoint(path, groups, progress)

    def restore(self, start: State | None) -> None:
        """Go on from the checkpoint, or else from `start`, the state that a constant-LR run left for this cooldown."""
        state = load_checkpoint(*self.checkpoint, say=self._say_anew) if self.checkpoint is not None else None
        resumed = state is not None
        if state is None and start is not None:
            state = load_checkpoint(*start)
            if state is None:
                raise ScrimpError(
                    f"{start[0]} is not there, is damaged, or was left by another run than the one this cooldown is of"
                )
        if state is None:
            return
        tensors, progress = state
        self.model.load_state_dict(tensors["model"])
        restore_optimizer(self.optimizer, tensors.get("optimizer", {}))
        if self.ema is not None:
            self.ema.load_state_dict(tensors["ema"])
        self.examples.restore(progress["examples"])
        self.trace.rows, self.trace.resumed = progress["rows"], resumed
        self.trace.spent = Spent(**progress["spent"])
        if resumed:
            self.methods.load_state_dict(tensors.get("methods", {}))
            self.clock.restore(progress["clock"])
            self.evaluated = progress["evaluated"]
            self.trace.inherited = Cost(**progress["inherited"])
        else:
            self.trace.inherited = cost_of(self.spent)

    def _say_anew(self, why: str) -> None:
        if self.checkpoint is not None and parallel.is_first():
            print(f"not gone on from {self.checkpoint[0]}: {why}", file=sys.stderr, flush=True)


def cost_of(spent: Spent) -> Cost:
    """All that was spent, as one cost."""
    return Cost(spent.steps, spent.examples, spent.scored, spent.flops, spent.seconds, spent.cpu_seconds)
