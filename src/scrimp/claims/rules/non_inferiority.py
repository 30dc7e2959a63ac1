"""Lossless: the interval of method minus baseline lies beyond minus `margin`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat

from scrimp.claims.verdicts import ONE_SEED, Band, Verdict, interval_words, number_words, side
from scrimp.config.claims import Claim, Direction, Rule

if TYPE_CHECKING:
    from scrimp.claims.evidence import Evidence
    from scrimp.claims.statistics import Interval
    from scrimp.runs import Runs


class NonInferiority(Rule):
    kind: Literal["non-inferiority"]
    method: str
    baseline: str
    margin: PositiveFloat

    def measure(self, claim: Claim, runs: Runs) -> Evidence:
        from scrimp.claims.evidence import signed_sum

        return signed_sum(claim.metric, [(self.method, 1), (self.baseline, -1)], self.method, runs)

    def decide(self, interval: Interval, claim: Claim) -> Verdict:
        return non_inferiority_verdict(interval.low, interval.high, self.margin, claim.direction)

    def sentence(self, claim: Claim) -> str:
        sign, beyond, short = side(claim.direction)
        limit = number_words(-sign * self.margin)
        return (
            f"Paired difference of {claim.metric}, {self.method} minus {self.baseline}: supported if its 95 % interval "
            f"lies wholly {beyond} {limit}, contradicted if wholly {short}, otherwise inconclusive."
        )

    def band(self, published: float | None, direction: Direction) -> Band:
        label = "worse than the margin"
        return Band(-math.inf, -self.margin, label) if direction == "higher" else Band(self.margin, math.inf, label)


def non_inferiority_verdict(low: float, high: float, margin: float, direction: Direction) -> Verdict:
    """Lossless within `margin`: supported, contradicted or inconclusive; `direction` says which difference is good."""
    if math.isnan(low) or math.isnan(high):
        return Verdict("inconclusive", ONE_SEED)
    sign, beyond, short = side(direction)
    worse, better = sorted((sign * low, sign * high))
    interval, limit = interval_words(low, high), number_words(-sign * margin)
    if worse > -margin:
        return Verdict("supported", f"the interval {interval} lies wholly {beyond} the margin {limit}")
    if better < -margin:
        return Verdict("contradicted", f"the interval {interval} lies wholly {short} the margin {limit}")
    return Verdict("inconclusive", f"the interval {interval} reaches over the margin {limit}")


RULE = NonInferiority
