"""CCS, coverage-centric coreset selection: cut the hardest examples, then take evenly from strata of equal score width.

Cost: that of the score it rests on. Source: Zheng et al. 2023 (arXiv 2210.15809), algorithm 1, 50 strata. Deviations: the
score is EL2N or forgetting, both used in the paper beside the area under the margin, which we do not have.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from scrimp.config.base import Closed
from scrimp.methods.base import Scoring, derived_generator, share_of
from scrimp.methods.el2n import EL2N, error_norm, hardest
from scrimp.methods.forgetting import forgetting_events


class Params(Closed):
    ratio: float = Field(ge=0, lt=1, description="share of the examples pruned")
    cutoff: float = Field(0.1, ge=0, lt=1, description="beta: share of the hardest examples cut first")
    strata: int = Field(50, ge=1)
    statistic: Literal["el2n", "forgetting"] = "el2n"
    models: int = Field(10, ge=1)
    horizon: float = Field(0.1, gt=0, le=1)


def stratified(scores: Tensor, count: int, strata: int, generator: torch.Generator) -> Tensor:
    """Positions of `count` of the scores (float [M], M >= count), spread over strata of equal width.

    The smallest stratum is served first, each with an equal part of what is left, so that what it cannot use goes to
    the larger ones.
    """
    low, high = scores.min(), scores.max()
    stratum = ((scores - low) / (high - low).clamp(min=1e-12) * strata).long().clamp(max=strata - 1)
    members = sorted((m for m in ((stratum == s).nonzero().flatten() for s in range(strata)) if len(m)), key=len)
    chosen: list[Tensor] = []
    left = count
    for served, group in enumerate(members):
        take = min(len(group), left // (len(members) - served))
        chosen.append(group[torch.randperm(len(group), generator=generator)[:take]])
        left -= take
    return torch.cat(chosen)


class CCS(EL2N):
    """Keeps a share 1 - ratio of the examples, evenly over difficulty, none of the hardest; the same in every epoch."""

    Params = Params

    def scoring(self) -> Scoring:
        if self.params.statistic == "forgetting":
            return Scoring(self.params.models, self.params.horizon, of_history=forgetting_events)
        return Scoring(self.params.models, self.params.horizon, of_logits=error_norm)

    def kept_by(self, scores: Tensor, labels: Tensor) -> Tensor:
        never = scores.isinf()  # never learned: one above the hardest of the others, if there are others
        finite = scores.masked_fill(never, float(scores[~never].max()) + 1 if not never.all() else 0.0)
        count = self.kept_count
        cut = min(share_of(self.size, self.params.cutoff), self.size - count)
        remaining = hardest(finite, self.size)[cut:]
        generator = derived_generator(self.seed, 0, "ccs")
        return remaining[stratified(finite[remaining], count, self.params.strata, generator)]


METHOD = CCS
