"""What every epoch selector is: asked once per epoch for indices and weights, shown per-example losses.

A selector draws from generators derived from (seed, epoch, purpose) and never touches a global random state.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scrimp.config import Closed


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
    each visit (bool [visits, N]) to float [N].
    """

    models: int
    horizon: float
    of_logits: Callable[[Tensor, Tensor], Tensor] | None = None
    of_history: Callable[[Tensor], Tensor] | None = None


def derived_generator(seed: int, epoch: int, purpose: str) -> torch.Generator:
    """A CPU generator that is a pure function of its arguments."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{purpose}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def share_of(count: int, share: float) -> int:
    """The integer part of `share * count`, unharmed by binary fractions: share_of(10, 1 - 0.9) is 1, not 0."""
    return math.floor(round(count * share, 6))


def uniform_subset(size: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` distinct indices out of `size`, uniformly: int64 [count]."""
    return torch.randperm(size, generator=generator)[:count]


class EpochSelector:
    """Base of all epoch selectors over `size` examples; by itself it selects all of them in every epoch.

    Subclasses define `Params` (a closed model, their keys in the YAML) and `select`; those that need losses set
    `needs_losses` and define `observe`; those that need scores define `scoring` and `accept_scores`.
    """

    Params: type[Closed] = Closed
    task = "classification"
    needs_losses = False

    def __init__(self, size: int, seed: int, **params: Any) -> None:
        self.size = size
        self.seed = seed
        self.params: Any = self.Params(**params)

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
        """Receive the statistics asked for (float32 [size]) and the labels (int64 [size])."""
        raise TypeError(f"{type(self).__name__} asks for no scores")

    def diagnostics(self) -> dict[str, float]:
        """Numbers about the present state that are worth a curve, one value an epoch."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """All that changes while training, as tensors (safetensors takes nothing else)."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` gave; the continuation is then identical."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, but was given {sorted(state)}")
