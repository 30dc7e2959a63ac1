"""Lossless: the interval of method minus baseline lies beyond minus `margin`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat

from scrimp.claims.rules.paired import Paired
from scrimp.claims.verdicts import Band, Verdict, exclusion, found_words, no_interval, number_words, side, why_none
from scrimp.config.claims import Claim, Direction

if TYPE_CHECKING:
    from scrimp.claims.statistics import Interval


class NonInferiority(Paired):
    kind: Literal["non-inferiority"]
    margin: PositiveFloat

    def decide(self, interval: Interval, claim: Claim) -> Verdict:
        return non_inferiority_verdict(interval, claim.size, self.margin, claim.direction)

    def sentence(self, claim: Claim) -> str:
        sign, beyond, short = side(claim.direction)
        limit = number_words(-sign * self.margin)
        return (
            f"{self.quantity(claim)}: supported if its 95 % interval lies wholly {beyond} {limit}, "
            f"contradicted if wholly {short}, otherwise inconclusive."
        )

    def search(self, claim: Claim) -> tuple[float, float]:
        """From a loss of the whole margin on."""
        sign = side(claim.direction)[0]
        return -sign * self.margin, sign * self.margin / 4

    def band(self, published: float | None, direction: Direction) -> Band:
        label = "worse than the margin"
        return Band(-math.inf, -self.margin, label) if direction == "higher" else Band(self.margin, math.inf, label)


def non_inferiority_verdict(interval: Interval, published: float | None, margin: float, direction: Direction) -> Verdict:
    """Lossless within `margin`: supported, contradicted or inconclusive; `direction` says which difference is good."""
    if no_interval(interval):
        return Verdict("inconclusive", f"{why_none(interval)}{exclusion(interval, published)}")
    sign, beyond, short = side(direction)
    worse, better = sorted((sign * interval.low, sign * interval.high))
    found, limit = found_words(interval), number_words(-sign * margin)
    if worse > -margin:
        return Verdict("supported", f"{found} lies wholly {beyond} the margin {limit}")
    if better < -margin:
        return Verdict("contradicted", f"{found} lies wholly {short} the margin {limit}")
    return Verdict("inconclusive", f"{found} reaches over the margin {limit}{exclusion(interval, published)}")


RULE = NonInferiority
