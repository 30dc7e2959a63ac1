"""RS2: a fresh uniform subset for every epoch, without replacement from epoch to epoch until the data is used up.

Cost: one permutation per pass over the data. Source: Okanovic et al. 2023, *Repeated random sampling for minimizing the
time-to-accuracy of learning* (arXiv 2305.18424), the variant without replacement; InfoBatch's table calls the idea
Random*. Deviations: none.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from scrimp.config.base import Closed
from scrimp.methods.base import EpochSelector, Selection, derived_generator


class Params(Closed):
    ratio: float = Field(ge=0, lt=1, description="share of the examples left out of each epoch")


def following_pass(order: Tensor, carried: int, count: int, generator: torch.Generator) -> Tensor:
    """The order of the pass over the data that follows the pass `order` (int64 [N]).

    An epoch of `count` examples that holds the last `carried` of `order` is filled up with others from the new pass, and
    those `carried` come later in it. So no epoch has an example twice, and every pass has each example once.
    """
    shuffled = torch.randperm(len(order), generator=generator)
    if carried == 0:
        return shuffled
    held = torch.zeros(len(order), dtype=torch.bool)
    held[order[-carried:]] = True
    first = shuffled[~held[shuffled]][: count - carried]
    held.zero_()[first] = True
    return torch.cat([first, shuffled[~held[shuffled]]])


class RS2(EpochSelector):
    """A uniform share 1 - ratio of the examples, another one every epoch."""

    Params = Params
    keeps_a_share = True

    def __init__(self, size: int, seed: int, **params: object) -> None:
        super().__init__(size, seed, **params)
        # Passes by number. The first and the last two are kept, since each rests on the one before: no state, a memory.
        self._passes = {0: torch.randperm(size, generator=derived_generator(seed, 0, "rs2"))}

    def select(self, epoch: int, fraction: float) -> Selection:
        count = self.kept_count
        number, offset = divmod(epoch * count, self.size)
        taken = self._pass(number, count)[offset : offset + count]
        if len(taken) < count:
            taken = torch.cat([taken, self._pass(number + 1, count)[: count - len(taken)]])
        return Selection(taken, torch.ones(count))

    def _pass(self, number: int, count: int) -> Tensor:
        nearest = max(known for known in self._passes if known <= number)
        for new in range(nearest + 1, number + 1):
            generator = derived_generator(self.seed, new, "rs2")
            self._passes[new] = following_pass(self._passes[new - 1], new * self.size % count, count, generator)
            if new > 2:
                self._passes.pop(new - 2, None)
        return self._passes[number]


METHOD = RS2
