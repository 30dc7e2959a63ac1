"""What a method is: hooks on the training loop, all of which do nothing until a method defines them.

An epoch selector (below) is a method that is asked once per epoch for indices and weights, and shown per-example losses. A
batch selector (`batch.py`) chooses within a step. A method draws from generators derived from (seed, number, purpose) and
never touches a global random state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from scrimp.config.base import Closed
from scrimp.errors import ScrimpError
from scrimp.seeding import derived_generator

if TYPE_CHECKING:
    from scrimp.cost import Cost
    from scrimp.tasks.base import Task

__all__ = ["EpochSelector", "Method", "Scoring", "Selection", "derived_generator", "share_of", "uniform_subset"]


class Method:
    """Base of all methods. Subclasses define `Params` (a closed model, their keys in the YAML) and the hooks they need.

    `tasks` names the tasks that a method serves; None: all. A method that is no selector is made as `Class(seed, **params)`.
    """

    Params: type[Closed] = Closed
    tasks: tuple[str, ...] | None = None

    def __init__(self, seed: int, **params: Any) -> None:
        self.seed = seed
        self.params: Any = self.Params(**params)

    def adapt(self, model: nn.Module) -> None:
        """Change the model in place, before its optimizer is made."""

    def batch_size(self, fraction: float, size: int) -> int:
        """The batch size when `fraction` in [0, 1) of the budget is spent, given the recipe's, or another method's."""
        return size

    def learning_rate(self, fraction: float, factor: float) -> float:
        """The learning rate over its peak when `fraction` of the budget is spent, given the schedule's."""
        return factor

    def flops(self, fraction: float, training: float) -> float:
        """FLOPs of training one example when `fraction` of the budget is spent, given the plain recipe's."""
        return training

    def after_step(self, model: nn.Module, fraction: float) -> None:
        """Act on the model after an update."""

    def diagnostics(self) -> dict[str, float]:
        """Numbers about the present state that are worth a curve: one value an epoch, or where the loss is noted."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """All that changes while training, as tensors (safetensors takes nothing else)."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` gave; the continuation is then identical."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, but was given {sorted(state)}")


@dataclass(frozen=True)
class Selection:
    """An epoch's examples: distinct `indices` (int64 [n], in no particular order) and their loss `weights` (float32 [n])."""

    indices: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Scoring:
    """What a static selector needs to know first: a statistic of every example, averaged over proxy models.

    `models` proxies are trained on the full data for `horizon` times the full recipe, each under a fully decayed
    schedule of its own, with seeds that the learner does not use. Exactly one statistic is given: `of_logits` maps the
    final logits (float [B, C]) and labels (int64 [B]) to float [B]; `of_history` maps what was classified rightly at
    each visit (bool [visits, N]) to float [N]; `of_features` maps what one proxy makes of n examples (unit vectors [n, d]),
    their labels (int64 [n], None unless `labelled`) and the seed to float [n] and FLOPs. A method that trains a model of
    its own kind gives `of_task` instead, which makes everything of (task, seed, what to tell progress to): float [N], the
    cost of training, the cost of scoring, both without time.
    With `of_features` only `examples` are trained on and scored (None: all); the others have no score (NaN). `labelled`:
    whether the method looks at labels, which not every task has.
    """

    models: int
    horizon: float
    of_logits: Callable[[Tensor, Tensor], Tensor] | None = None
    of_history: Callable[[Tensor], Tensor] | None = None
    of_features: Callable[[Tensor, Tensor | None, int], tuple[Tensor, float]] | None = None
    of_task: Callable[[Task, int, Callable[[float], None] | None], tuple[Tensor, Cost, Cost]] | None = None
    examples: Tensor | None = None
    labelled: bool = True


def share_of(count: int, share: float) -> int:
    """The integer part of `share * count`, unharmed by binary fractions: share_of(10, 1 - 0.9) is 1, not 0."""
    return math.floor(round(count * share, 6))


def uniform_subset(size: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` distinct indices out of `size`, uniformly: int64 [count]."""
    return torch.randperm(size, generator=generator)[:count]


class EpochSelector(Method):
    """Base of all epoch selectors over `size` examples; by itself it selects all of them in every epoch.

    Subclasses define `Params` and `select`; those that need losses set `needs_losses` and define `observe`; those that need
    scores define `scoring` and `accept_scores`. It works on every task that has per-example losses.
    """

    needs_losses = False
    keeps_a_share = False  # whether `ratio` is the share of all examples that an epoch leaves out

    def __init__(self, size: int, seed: int, **params: Any) -> None:
        super().__init__(seed, **params)
        self.size = size
        if self.keeps_a_share and size > 0 and self.kept_count == 0:
            ratio = self.params.ratio
            raise ScrimpError(
                f"{type(self).__name__} with ratio={ratio:g} keeps none of {size:,} examples: give a smaller ratio"
            )

    @property
    def kept_count(self) -> int:
        """How many examples an epoch keeps, for a selector that keeps the share 1 - ratio of all."""
        return share_of(self.size, 1 - self.params.ratio)

    def select(self, epoch: int, fraction: float) -> Selection:
        """The examples of epoch `epoch`, which starts when `fraction` in [0, 1) of the budget is spent."""
        return Selection(torch.arange(self.size), torch.ones(self.size))

    def changes_at(self, fraction: float) -> float:
        """The fraction of the budget, after `fraction`, at which `select` wants to be asked again; 1 if it does not mind.

        Epochs are cut there where the budget is counted in examples or FLOPs.
        """
        return 1.0

    def observe(self, indices: Tensor, losses: Tensor) -> None:
        """Take note of losses (float [n]) of examples (int64 [n]), as the training forward pass gave them."""
        return

    def scoring(self) -> Scoring | None:
        """The proxy statistics wanted before training, if any."""
        return None

    def accept_scores(self, scores: Tensor, labels: Tensor) -> None:
        """Receive the statistics asked for (float32 [size]) and the labels (int64 [size]; 0 where it wants none)."""
        raise TypeError(f"{type(self).__name__} asks for no scores")
