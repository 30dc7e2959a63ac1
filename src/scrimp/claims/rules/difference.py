"""A paired difference of the metric, method minus baseline."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from scrimp.claims.rules.effect import Effect
from scrimp.config.claims import Claim

if TYPE_CHECKING:
    from scrimp.claims.evidence import Evidence
    from scrimp.claims.power import Truth
    from scrimp.runs import Runs


class Difference(Effect):
    kind: Literal["difference"]
    method: str
    baseline: str

    def quantity(self, claim: Claim) -> str:
        return f"Paired difference of {claim.metric}, {self.method} minus {self.baseline}"

    def measure(self, claim: Claim, runs: Runs) -> Evidence:
        from scrimp.claims.evidence import signed_sum

        return signed_sum(claim.metric, [(self.method, 1), (self.baseline, -1)], self.method, runs)

    @property
    def plantable(self) -> bool:
        return True

    def plant(self, claim: Claim, number: float, truth: Truth, runs: Runs) -> Truth:
        method, baseline = runs.arm(self.method), runs.arm(self.baseline)
        return replace(truth, quality={**truth.quality, method: truth.quality[baseline] + number})


RULE = Difference
