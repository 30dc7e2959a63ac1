"""Forgetting static pruning: keep the examples that a proxy model forgets most often.

A forgetting event is an example that was classified rightly at one visit and wrongly at the next; one that was never
learned counts as infinitely often forgotten. Cost: training one proxy (in the paper: a full training run), counted as
reference FLOPs and seconds. Source: Toneva et al. 2019, *An empirical study of example forgetting* (arXiv 1812.05159),
algorithm 1. Deviations: the proxy's horizon is a parameter.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from scrimp.config.base import Closed
from scrimp.methods.base import Scoring
from scrimp.methods.el2n import EL2N


class Params(Closed):
    ratio: float = Field(ge=0, lt=1, description="share of the examples pruned, the least forgotten first")
    models: int = Field(1, ge=1)
    horizon: float = Field(1.0, gt=0, le=1, description="length of the proxy's training, as a share of the full recipe")


def forgetting_events(right: Tensor) -> Tensor:
    """Times an example went from right to wrong, from its history (bool [visits, N]): float [N], never right: inf."""
    events = (right[:-1] & ~right[1:]).sum(dim=0).float()
    events[~right.any(dim=0)] = float("inf")
    return events


class Forgetting(EL2N):
    """Keeps the share 1 - ratio of the examples forgotten most often, the same in every epoch."""

    Params = Params

    def scoring(self) -> Scoring:
        return Scoring(self.params.models, self.params.horizon, of_history=forgetting_events)


METHOD = Forgetting
