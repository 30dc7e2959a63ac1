"""What rules share that read one metric of a method against that of a baseline, paired by seed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from scrimp.config.claims import Claim, Rule

if TYPE_CHECKING:
    from scrimp.claims.evidence import Evidence
    from scrimp.claims.power import Truth
    from scrimp.runs import Runs


class Paired(Rule):
    method: str
    baseline: str

    def quantity(self, claim: Claim) -> str:
        """The number in words, as the beginning of the rule's sentence."""
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
