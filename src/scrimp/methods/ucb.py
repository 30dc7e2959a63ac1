"""UCB dynamic pruning: every few epochs keep the examples with the highest upper confidence bound on their loss.

The bound is a moving average of the loss plus `confidence` times a moving average of its variance. Cost: a few passes
over the losses seen, one sort of N bounds per period. Source: Raju, Daruwalla, Lipasti 2021 (arXiv 2111.12621); momentum
.8 and a period of 10 of 90 epochs as in InfoBatch's ImageNet baseline. Deviations: as for eps-greedy (no extra forward
pass for examples left out; the first epoch takes all).
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from scrimp.config.base import Closed
from scrimp.methods.base import EpochSelector, Selection


class Params(Closed):
    ratio: float = Field(ge=0, lt=1, description="share of the examples pruned")
    confidence: float = Field(1.0, ge=0, description="weight of the variance")
    momentum: float = Field(0.8, ge=0, lt=1, description="of both moving averages")
    period: int = Field(10, ge=1, description="epochs between two choices")


def updated_moments(mean: Tensor, variance: Tensor, losses: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    """Moving mean and variance (float [n] each) after new losses (float [n]); a NaN mean starts at the loss."""
    started = torch.where(mean.isnan(), losses, mean)
    deviation = losses - started
    new_mean = started + (1 - momentum) * deviation
    new_variance = momentum * (variance + (1 - momentum) * deviation**2)
    return new_mean, new_variance


class UCB(EpochSelector):
    """Keeps the share 1 - ratio of the examples with the highest bound, chosen anew every `period` epochs."""

    Params = Params
    keeps_a_share = True
    needs_losses = True

    def __init__(self, size: int, seed: int, **params: object) -> None:
        super().__init__(size, seed, **params)
        self.mean = torch.full((size,), torch.nan)
        self.variance = torch.zeros(size)
        self.kept = torch.arange(size)

    def select(self, epoch: int, fraction: float) -> Selection:
        if epoch > 0 and (epoch - 1) % self.params.period == 0:
            bound = (self.mean + self.params.confidence * self.variance).nan_to_num(nan=torch.inf)
            order = bound.argsort(descending=True, stable=True)
            self.kept = order[: self.kept_count]
        return Selection(self.kept, torch.ones(len(self.kept)))

    def observe(self, indices: Tensor, losses: Tensor) -> None:
        at, values = indices.cpu(), losses.detach().to("cpu", torch.float32)
        finite = values.isfinite()  # one loss that is not would make its example's mean and variance so for ever
        at, values = at[finite], values[finite]
        self.mean[at], self.variance[at] = updated_moments(self.mean[at], self.variance[at], values, self.params.momentum)

    def state_dict(self) -> dict[str, Tensor]:
        return {"mean": self.mean.clone(), "variance": self.variance.clone(), "kept": self.kept.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.mean.copy_(state["mean"])
        self.variance.copy_(state["variance"])
        self.kept = state["kept"].clone()


METHOD = UCB
