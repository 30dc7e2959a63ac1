"""A batch that grows while training goes on: the recipe's size times a factor of the budget's spent fraction.

Use it in place of a falling learning rate (list it in an arm whose schedule is `constant`), or beside one. Cost: none;
fewer updates for as many examples. Growth in steps multiplies the size at even parts of the budget; smooth growth follows
an exponential. `learning_rate` couples the rate to the size: `linear` (Goyal et al. 2017, arXiv 1706.02677) or `sqrt`
(Krizhevsky 2014, arXiv 1404.5997), or leaves it alone.
Source: Smith, Kindermans, Ying, Le 2018, *Don't decay the learning rate, increase the batch size* (arXiv 1711.00489),
section 4; `linear`, up to a share of the budget, is the ramp of Geiping & Goldstein 2022 (arXiv 2212.14034, 4.3).
Deviations: the growth is a function of the budget, whatever its axis, not of named epochs; under a selector of
epochs, sizes are laid out when an epoch begins.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, PositiveFloat

from scrimp.config.base import Closed
from scrimp.methods.base import Method

# The power of the batch's growth that the learning rate is multiplied by.
COUPLINGS = {"same": 0.0, "linear": 1.0, "sqrt": 0.5}


class Params(Closed):
    start: PositiveFloat = Field(1.0, description="times the recipe's batch size at the beginning")
    end: PositiveFloat = Field(description="times the recipe's batch size at the end")
    shape: Literal["steps", "smooth", "linear"] = "steps"
    until: float = Field(1.0, gt=0, le=1, description="smooth and linear: the share of the budget at which it ends")
    stages: int = Field(4, ge=2, description="steps: how many sizes there are, the first and the last among them")
    learning_rate: Literal["same", "linear", "sqrt"] = "same"


def growth(
    fraction: float,
    start: float,
    end: float,
    shape: Literal["steps", "smooth", "linear"],
    stages: int = 4,
    until: float = 1.0,
) -> float:
    """The batch size over the recipe's when `fraction` in [0, 1] of the budget is spent.

    Sizes are a geometric series from `start` to `end`: `stages` of them, each for an even part of the budget, or all; or
    they lie on a straight line. A `smooth` or `linear` growth ends at `until`.
    """
    if shape != "steps":
        fraction = min(1.0, fraction / until)
    if shape == "linear":
        return start + (end - start) * fraction
    passed = fraction if shape == "smooth" else min(math.floor(fraction * stages + 1e-9), stages - 1) / (stages - 1)
    return float(start * (end / start) ** passed)


class BatchGrowth(Method):
    """The recipe's batch size times `growth`."""

    Params = Params

    def _growth(self, fraction: float) -> float:
        wanted = self.params
        return growth(fraction, wanted.start, wanted.end, wanted.shape, wanted.stages, wanted.until)

    def batch_size(self, fraction: float, size: int) -> int:
        return max(1, round(size * self._growth(fraction)))

    def learning_rate(self, fraction: float, factor: float) -> float:
        return factor * self._growth(fraction) ** COUPLINGS[self.params.learning_rate]


METHOD = BatchGrowth
