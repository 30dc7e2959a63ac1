"""A speedup: the sweep's cost at the method's quality over the method's cost, a factor.

The sweep's line is its running best. Where the sweep is flat at the method's quality, a speedup has no size: a note says
so, and only the interval's end can support the claim. `way: curves` reads two learning curves instead, as the reports do:
the cost at which each first reaches the target.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat

from scrimp.claims.rules.effect import Effect
from scrimp.config.claims import Axis, Claim
from scrimp.errors import ScrimpError
from scrimp.metrics import better_side

if TYPE_CHECKING:
    from scrimp.claims.evidence import Evidence
    from scrimp.claims.power import Truth
    from scrimp.claims.statistics import Censored, Interval, Speedup
    from scrimp.runs import Runs


FLAT = (
    "the baseline sweep does not rise, beyond its noise, within a factor of 2 around this speedup: its size is not defined "
    "there, and the mean is not judged"
)


class Ratio(Effect):
    kind: Literal["ratio"]
    method: str
    axis: Axis
    no_effect: PositiveFloat = Field(0.05, description="speedups within a factor 1 + no_effect of 1 are no effect")
    way: Literal["sweep", "curves"] = "sweep"
    baseline: str | None = Field(None, description="for `curves`: the arm whose curve is read")

    logarithmic: ClassVar[bool] = True

    def nothing(self) -> float:
        return 1.0

    def no_effect_band(self) -> tuple[float, float]:
        return 1.0 / (1.0 + self.no_effect), 1.0 + self.no_effect

    def check(self, claim: Claim, at: str) -> None:
        if self.way == "curves" and self.baseline is None:
            raise ScrimpError(f"{at}.rule.baseline: name the arm whose curve is read, as `way: curves` needs one")
        try:
            better_side(claim.metric)
        except ScrimpError as error:
            raise ScrimpError(f"{at}.metric: {error}") from error
        super().check(claim, at)

    def quantity(self, claim: Claim) -> str:
        if self.way == "curves":
            return (
                f"Speedup of {self.axis} read from two curves (the published way): where {self.baseline} first reaches its "
                f"own final {claim.metric}, over where {self.method} does"
            )
        return (
            f"Speedup of {self.axis}: the cost at which the fully decayed plain recipe, at its best so far, reaches the "
            f"{claim.metric} of {self.method}, over the cost of {self.method} (where the recipe's sweep is flat, its mean "
            "is no size)"
        )

    def measure(self, claim: Claim, runs: Runs) -> Evidence:
        from scrimp.claims.statistics import geometric_interval

        method = runs.arm(self.method)
        if self.way == "sweep":
            sweep = runs.sweep_arms()
            arms = [method, *(arm for arm in sweep if arm != method)]
            seeds, notes = runs.paired_seeds(arms)
            speedups, interval = runs.speedups(method, seeds, claim.metric, self.axis, sweep)
            if not interval.sized:
                notes = [*notes, FLAT]
        else:
            assert self.baseline is not None  # check
            arms = [method, runs.arm(self.baseline)]
            seeds, notes = runs.paired_seeds(arms)
            speedups = runs.speedups_by_curves(arms[0], arms[1], seeds, claim.metric, self.axis)
            interval = geometric_interval(speedups)
        return _evidence(interval, speedups, arms, seeds, notes, runs)

    @property
    def plantable(self) -> bool:
        return self.way == "sweep"  # a curve's noise along a run is another matter

    def plant(self, claim: Claim, number: float, truth: Truth, runs: Runs) -> Truth:
        """The method costs what it does; its quality is the sweep's at `number` times that.

        Beyond the sweep's ends the line goes on as between its outermost two points.
        """
        import numpy as np

        from scrimp.claims.statistics import sweep_line

        method, sweep = runs.arm(self.method), runs.sweep_arms()
        sign = 1.0 if better_side(claim.metric) == "higher" else -1.0
        logs, line = sweep_line([truth.cost[arm] for arm in sweep], [sign * truth.quality[arm] for arm in sweep])
        at = math.log(truth.cost[method] * number)
        quality = float(np.interp(at, logs, line))
        if at > logs[-1]:
            quality += (at - logs[-1]) * (line[-1] - line[-2]) / (logs[-1] - logs[-2])
        elif at < logs[0]:
            quality -= (logs[0] - at) * (line[1] - line[0]) / (logs[1] - logs[0])
        return replace(truth, quality={**truth.quality, method: sign * quality})

    def beyond(self, claim: Claim, truth: Truth, runs: Runs) -> str:
        last = max(truth.cost[arm] for arm in runs.sweep_arms()) / truth.cost[runs.arm(self.method)]
        if claim.published is None or claim.published <= last:
            return ""
        return f"the sweep ends at {last:.3g} times the method's cost: the published size can be seen only as a bound"


def _evidence(
    interval: Interval, speedups: list[Speedup], arms: list[str], seeds: list[int], notes: list[str], runs: Runs
) -> Evidence:
    """Speedups as points of the method, which is the first arm, with a note for each side on which some are censored."""
    from scrimp.claims.evidence import Evidence, Observation

    points = [
        Observation(arm=arms[0], seed=seed, value=speedup.value, censored=speedup.censored)
        for seed, speedup in zip(seeds, speedups, strict=True)
    ]
    bounds: tuple[tuple[Censored, str], ...] = (("above", "at least"), ("below", "at most"))
    for side, words in bounds:
        count = sum(speedup.censored == side for speedup in speedups)
        if count:
            known = f"{count} of {len(speedups)} speedups known only as {words} the value shown: the data end there"
            notes = [*notes, known]
    return Evidence(interval, points, arms, runs.run_commands(arms, seeds), notes)


RULE = Ratio
