"""Random static pruning: one uniform subset, drawn before training and kept.

Cost: one permutation. Source: the first row of InfoBatch's Table 1 (Qin et al., ICLR 2024). Deviations: none.
"""

from __future__ import annotations

import torch
from pydantic import Field

from scrimp.config.base import Closed
from scrimp.methods.base import EpochSelector, Selection, derived_generator, uniform_subset


class Params(Closed):
    ratio: float = Field(ge=0, lt=1, description="share of the examples pruned")


class RandomStatic(EpochSelector):
    """The same uniform share 1 - ratio of the examples in every epoch."""

    Params = Params
    keeps_a_share = True

    def select(self, epoch: int, fraction: float) -> Selection:
        count = self.kept_count
        kept = uniform_subset(self.size, count, derived_generator(self.seed, 0, "random-static"))
        return Selection(kept, torch.ones(count))


METHOD = RandomStatic
