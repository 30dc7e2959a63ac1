"""Paired difference of two falls of the metric: (baseline[0] - baseline[1]) - (method[0] - method[1])."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from scrimp.claims.rules.effect import Effect
from scrimp.config.claims import Claim

if TYPE_CHECKING:
    from scrimp.claims.evidence import Evidence
    from scrimp.claims.power import Truth
    from scrimp.runs import Runs


class Slope(Effect):
    kind: Literal["slope"]
    method: tuple[str, str]
    baseline: tuple[str, str]

    def quantity(self, claim: Claim) -> str:
        return (
            f"Fall of {claim.metric} from {self.baseline[0]} to {self.baseline[1]}, less its fall from "
            f"{self.method[0]} to {self.method[1]}, paired by seed"
        )

    def measure(self, claim: Claim, runs: Runs) -> Evidence:
        from scrimp.claims.evidence import signed_sum

        terms = [(self.baseline[0], 1), (self.baseline[1], -1), (self.method[0], -1), (self.method[1], 1)]
        return signed_sum(claim.metric, terms, self.method[1], runs)

    @property
    def plantable(self) -> bool:
        return self.method[1] not in (self.method[0], *self.baseline)

    def plant(self, claim: Claim, number: float, truth: Truth, runs: Runs) -> Truth:
        begin, end = (runs.arm(arm) for arm in self.method)
        first, last = (truth.quality[runs.arm(arm)] for arm in self.baseline)
        return replace(truth, quality={**truth.quality, end: number - (first - last) + truth.quality[begin]})


RULE = Slope
