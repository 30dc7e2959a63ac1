"""A share saved: 1 - cost(method) / cost(baseline), paired by seed, with no regard to quality.

Where a method cannot cost more than its baseline, `neutral`, the share that speaks for neither side, is half of what is
promised, so that saving next to nothing contradicts the claim.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat

from scrimp.claims.rules.effect import SMALL, Effect
from scrimp.config.claims import Axis, Claim

if TYPE_CHECKING:
    from scrimp.claims.evidence import Evidence
    from scrimp.claims.power import Truth
    from scrimp.runs import Runs


class Reduction(Effect):
    kind: Literal["reduction"]
    method: str
    baseline: str
    axis: Axis
    no_effect: PositiveFloat = 0.05
    neutral: float = Field(0.0, lt=1)

    reads_quality: ClassVar[bool] = False

    def nothing(self) -> float:
        return self.neutral

    def quantity(self, claim: Claim) -> str:
        return f"Share of {self.axis} saved, 1 - {self.method} / {self.baseline}, paired by seed"

    def measure(self, claim: Claim, runs: Runs) -> Evidence:
        from scrimp.claims.evidence import Evidence, comparable, interval_of, observations
        from scrimp.runs import unit

        arms = [runs.arm(self.method), runs.arm(self.baseline)]
        seeds, notes = runs.paired_seeds(arms)
        costs = [(runs.cost(arms[0], seed, self.axis), runs.cost(arms[1], seed, self.axis)) for seed in seeds]
        seeds, (values,), more = comparable(seeds, [[1 - method / baseline for method, baseline in costs]])
        notes = [*notes, *more]
        points = observations(arms[0], seeds, values)
        step = unit(self.axis) / min(baseline for _, baseline in costs)
        return Evidence(interval_of(values, step=step), points, arms, runs.run_commands(arms, seeds), notes)

    @property
    def plantable(self) -> bool:
        return True

    def plant(self, claim: Claim, number: float, truth: Truth, runs: Runs) -> Truth:
        method, baseline = runs.arm(self.method), runs.arm(self.baseline)
        # A share of 1 and more cannot be saved.
        return replace(truth, cost={**truth.cost, method: max(1 - number, SMALL) * truth.cost[baseline]})


RULE = Reduction
