"""A share saved: 1 - cost(method) / cost(baseline), paired by seed, with no regard to quality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat

from scrimp.claims.rules.effect import Effect
from scrimp.config.claims import Axis, Claim

if TYPE_CHECKING:
    from scrimp.claims.evidence import Evidence
    from scrimp.runs import Runs


class Reduction(Effect):
    kind: Literal["reduction"]
    method: str
    baseline: str
    axis: Axis
    no_effect: PositiveFloat = 0.05

    def quantity(self, claim: Claim) -> str:
        return f"Share of {self.axis} saved, 1 - {self.method} / {self.baseline}, paired by seed"

    def measure(self, claim: Claim, runs: Runs) -> Evidence:
        from scrimp.claims.evidence import Evidence, observations
        from scrimp.claims.statistics import mean_interval

        arms = [runs.arm(self.method), runs.arm(self.baseline)]
        seeds, notes = runs.paired_seeds(arms)
        values = [1 - runs.cost(arms[0], seed, self.axis) / runs.cost(arms[1], seed, self.axis) for seed in seeds]
        points = observations(arms[0], seeds, values)
        return Evidence(mean_interval(values), points, arms, runs.run_commands(arms, seeds), notes)


RULE = Reduction
