"""A batch larger than the recipe's from the beginning, with the learning rate that a rule gives it, and a warm-up.

`scaling`: none leaves the rate alone; `linear` multiplies it as the batch (Goyal et al. 2017), and with `momentum: [from,
to]` by (1 - to) / (1 - from) beside, so that SGD's noise scale stays (Smith et al. 2018); `sqrt` multiplies it by the root
(Hoffer et al. 2017), which keeps the covariance of an update. `warmup` is the share of the budget over which the rate rises
from the recipe's to the scaled one. Goes with ghost batch norm, and with regime adaptation, which is a longer horizon: as
many times the epochs as the batch is larger, so that updates stay as many.
Use it where updates are what costs. Cost: none; fewer updates for as many examples, and more memory a step.
Source: Goyal et al. 2017 (arXiv 1706.02677), sections 2.1 and 2.2; Hoffer, Hubara, Soudry 2017 (arXiv 1705.08741), sections
4 and 5; Smith et al. 2018 (arXiv 1711.00489), section 3, for momentum.
Deviations: the warm-up is a share of the budget, not five epochs. The momentum itself is the recipe's: change it there.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field
from pydantic import model_validator as validate_model

from scrimp.config.base import Closed
from scrimp.methods.base import Method
from scrimp.methods.batch_growth import COUPLINGS

Scaling = Literal["none", "linear", "sqrt"]


class Params(Closed):
    times: float = Field(ge=1, description="the batch over the recipe's")
    scaling: Scaling = "none"
    momentum: tuple[float, float] | None = Field(
        None, description="linear: the momentum the rate was tuned for, and the new"
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the budget over which the rate rises to the scaled one")

    @validate_model(mode="after")
    def _momentum_fits(self) -> Self:
        if self.momentum is not None and (self.scaling != "linear" or not all(0 <= m < 1 for m in self.momentum)):
            raise ValueError("momentum: give two numbers from 0 to below 1, with `scaling: linear`")
        return self


def scaled_rate(times: float, scaling: Scaling, momentum: tuple[float, float] | None = None) -> float:
    """The learning rate over the recipe's for a batch `times` the recipe's."""
    if times <= 0:
        raise ValueError(f"times must be above 0, got {times}")
    before, after = momentum or (0.0, 0.0)
    return times ** COUPLINGS["same" if scaling == "none" else scaling] * (1 - after) / (1 - before)


def warmed(fraction: float, scaled: float, warmup: float) -> float:
    """The rate over the recipe's on the way from 1 to `scaled`, reached when `warmup` of the budget is spent."""
    return scaled if fraction >= warmup else 1 + (scaled - 1) * fraction / warmup


class LargeBatch(Method):
    """The recipe's batch times `times`, and its rate as the rule says; alone in a loop of one's own:

    large = LargeBatch(0, times=32, scaling="sqrt", warmup=0.05)
    batch_size = large.batch_size(0.0, 128)
    rate = 0.1 * large.learning_rate(step_share, 1.0)
    """

    Params = Params

    def batch_size(self, fraction: float, size: int) -> int:
        return max(1, round(size * self.params.times))

    def learning_rate(self, fraction: float, factor: float) -> float:
        wanted = self.params
        return factor * warmed(fraction, scaled_rate(wanted.times, wanted.scaling, wanted.momentum), wanted.warmup)


METHOD = LargeBatch
