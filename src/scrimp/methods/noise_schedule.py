"""A fall of the gradient's noise that the batch takes over from the learning rate: decay, growth, or both.

SGD's noise scale is g = rate x N / (batch x (1 - momentum)), so a batch that is multiplied where a schedule would divide the
rate leaves the same noise after as many examples, in fewer updates. `growths` says how many of the falls the batch takes:
none is plain decay, one the paper's hybrid, all of them growth. What a batch that may not become larger than `largest`
cannot take, the rate does. List it in an arm whose schedule is `constant`; it goes with SGD, momentum, Nesterov and Adam.
Use it where a device is faster with large batches, or where updates are what costs. Cost: none; fewer updates for as many
examples. The paper lets the batch grow to a tenth of the examples (`largest_batch`).
Source: Smith, Kindermans, Ying, Le 2018, *Don't decay the learning rate, increase the batch size* (arXiv 1711.00489),
sections 3 to 5.
Deviations: falls stand at shares of the budget, whatever its axis, not at epochs; `smooth`, an even fall of the logarithm
over the whole budget, is ours; under a selector of epochs, sizes are laid out when an epoch begins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from pydantic import Field, field_validator

from scrimp.config.base import Closed
from scrimp.methods.base import Method

LARGEST_SHARE = 0.1  # of the examples: section 5.1's rule for the largest batch


class Params(Closed):
    at: list[float] = Field([0.3, 0.6, 0.8], min_length=1, description="shares of the budget at which the noise falls")
    factor: float = Field(5.0, gt=1, description="how many times it falls at each")
    growths: int | None = Field(None, ge=0, description="how many of the first falls the batch takes; null: all")
    largest: float | None = Field(None, ge=1, description="times the batch it starts from; null: without a bound")
    shape: Literal["steps", "smooth"] = Field("steps", description="smooth: as far in all, evenly over the budget")

    @field_validator("at")
    @classmethod
    def _in_order(cls, at: list[float]) -> list[float]:
        if not all(0 < share < 1 for share in at) or any(a >= b for a, b in pairwise(at)):
            raise ValueError("give shares between 0 and 1, each larger than the one before")
        return at


def falls(fraction: float, at: Sequence[float], shape: Literal["steps", "smooth"] = "steps") -> float:
    """How many falls lie behind when `fraction` in [0, 1] of the budget is spent: real for `smooth`."""
    return len(at) * fraction if shape == "smooth" else float(sum(share <= fraction + 1e-12 for share in at))


def share_out(
    passed: float, factor: float, growths: float | None = None, largest: float | None = None
) -> tuple[float, float]:
    """The batch and the learning rate, each over what it starts from, after so many falls of the noise by `factor`.

    rate / batch is factor ** -passed, whatever is chosen: the noise scale does not depend on who takes its fall. Raises
    ValueError where noise would not fall, or the batch would have to shrink.
    """
    if factor <= 1 or passed < 0 or (growths is not None and growths < 0) or (largest is not None and largest < 1):
        raise ValueError(
            f"want factor > 1, passed >= 0, growths >= 0, largest >= 1; got {factor}, {passed}, {growths}, {largest}"
        )
    batch = factor ** min(passed, math.inf if growths is None else growths)
    if largest is not None:
        batch = min(batch, largest)
    return batch, batch * factor**-passed


def noise_scale(rate: float, examples: int, batch: float, momentum: float = 0.0) -> float:
    """SGD's noise scale g = rate x N / (batch x (1 - momentum)), in units of the rate (section 3, for batch << N)."""
    if examples < 1 or batch <= 0 or not 0 <= momentum < 1:
        raise ValueError(f"want examples >= 1, batch > 0 and momentum in [0, 1); got {examples}, {batch}, {momentum}")
    return rate * examples / (batch * (1 - momentum))


def largest_batch(examples: int) -> int:
    """The batch up to which the paper lets it grow: a tenth of the examples."""
    return max(1, round(LARGEST_SHARE * examples))


class NoiseSchedule(Method):
    """Batch and rate as `share_out` says; alone in a loop of one's own, ask it for both before a step:

    schedule = NoiseSchedule(0, at=[0.3, 0.6, 0.8], factor=5)
    batch_size = schedule.batch_size(step_share, 128)
    rate = 0.1 * schedule.learning_rate(step_share, 1.0)
    """

    Params = Params

    def _shares(self, fraction: float) -> tuple[float, float]:
        wanted = self.params
        return share_out(falls(fraction, wanted.at, wanted.shape), wanted.factor, wanted.growths, wanted.largest)

    def batch_size(self, fraction: float, size: int) -> int:
        return max(1, round(size * self._shares(fraction)[0]))

    def learning_rate(self, fraction: float, factor: float) -> float:
        return factor * self._shares(fraction)[1]


METHOD = NoiseSchedule
