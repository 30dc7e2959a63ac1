"""InfoBatch: unbiased dynamic pruning. Each epoch leaves out a random part of the examples whose last loss was below the
mean, and weighs the rest of them up, so that the expected gradient stays that of the full data.

Use it where per-example losses are at hand. Cost per epoch: one pass over N scores and one permutation of the examples
below the threshold; no extra forward pass (`scrimp probe infobatch overhead` measures it).
Source: Qin et al., *InfoBatch: Lossless training speed up by unbiased dynamic data pruning*, ICLR 2024 (arXiv
2303.04947), sections 2.2-2.4. Deviations: an example without a loss yet (never seen, or dropped by `drop_last`) is always
kept and does not enter the threshold, where the official code starts all scores at 1.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from scrimp.config.base import Closed
from scrimp.kernels import prune_and_rescale
from scrimp.kernels.prune import mean_threshold
from scrimp.methods.base import EpochSelector, Selection, derived_generator, share_of


class Params(Closed):
    ratio: float = Field(0.5, ge=0, lt=1, description="r: share pruned of the examples below the threshold")
    delta: float = Field(0.875, ge=0, le=1, description="share of the budget after which all data is used")
    rescale: bool = Field(True, description="weigh the kept examples below the threshold by 1 / (1 - r)")
    anneal: bool = Field(True, description="false prunes to the end, whatever delta")
    threshold: Literal["mean"] | Annotated[float, Field(gt=0, lt=1)] = Field(
        "mean", description="the mean loss, or a quantile of it in (0, 1)"
    )


def below_threshold(scores: Tensor, threshold: Literal["mean"] | float = "mean") -> Tensor:
    """Which scores (float [N], NaN: not seen yet) lie below the mean, or the quantile, of those seen: bool [N].

    An infinite loss is kept out of the threshold, which it would lift above all others.
    """
    if threshold == "mean":
        return scores < mean_threshold(scores)
    return scores < quantile(scores, float(threshold))


def quantile(scores: Tensor, share: float) -> float:
    """The smallest finite score that has `share` of them below it; minus infinity if none was seen."""
    seen = scores[scores.isfinite()]
    if len(seen) == 0:
        return -math.inf
    # torch.quantile stops at 2^24 elements; kthvalue does not.
    rank = max(1, min(len(seen), share_of(len(seen), share) + 1))
    return float(seen.kthvalue(rank).values)


def prune(
    scores: Tensor,
    ratio: float,
    generator: torch.Generator,
    threshold: Literal["mean"] | float = "mean",
    rescale: bool = True,
) -> Selection:
    """Choose an epoch's examples from the last known losses `scores` (float [N], NaN: not seen yet).

    All examples at or above the threshold are kept with weight 1. Of the n below it, int((1 - ratio) n) are kept,
    uniformly, with weight 1 / (1 - ratio). Source: section 2.2, equations 3 and 4.
    """
    scores = scores.float()
    limit = None if threshold == "mean" else quantile(scores, float(threshold))
    seed = int(torch.randint(torch.iinfo(torch.int64).max, (), generator=generator))
    return Selection(*prune_and_rescale(scores, ratio, seed, limit, rescale))


class InfoBatchSelector(EpochSelector):
    """Prunes while less than `delta` of the budget is spent, then gives all data with weight 1."""

    Params = Params
    needs_losses = True

    def __init__(self, size: int, seed: int, **params: object) -> None:
        super().__init__(size, seed, **params)
        self.scores = torch.full((size,), torch.nan)

    def select(self, epoch: int, fraction: float) -> Selection:
        if self.params.anneal and fraction >= self.params.delta:
            return super().select(epoch, fraction)
        generator = derived_generator(self.seed, epoch, "infobatch")
        return prune(self.scores, self.params.ratio, generator, self.params.threshold, self.params.rescale)

    def changes_at(self, fraction: float) -> float:
        delta = float(self.params.delta)
        return delta if self.params.anneal and fraction < delta else 1.0

    def observe(self, indices: Tensor, losses: Tensor) -> None:
        if indices.shape != losses.shape:
            raise ValueError(f"one loss an index, got {tuple(losses.shape)} losses of {tuple(indices.shape)} indices")
        self.scores.scatter_(0, indices.cpu(), losses.detach().to("cpu", torch.float32))

    def diagnostics(self) -> dict[str, float]:
        """`below_mean`: P(loss < mean), on which the speedup r * P * delta rests; deciles of the scores."""
        seen = self.scores[self.scores.isfinite()].double().sort().values
        if len(seen) == 0:
            return {}
        deciles = {f"score_p{p}": float(seen[int(p / 100 * (len(seen) - 1))]) for p in (10, 25, 50, 75, 90)}
        return {
            "below_mean": float(below_threshold(self.scores).double().mean()),
            "score_mean": float(seen.mean()),
            **deciles,
        }

    def state_dict(self) -> dict[str, Tensor]:
        return {"scores": self.scores.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.scores.copy_(state["scores"])


METHOD = InfoBatchSelector
