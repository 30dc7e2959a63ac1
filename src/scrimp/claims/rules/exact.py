"""A number that a probe prints, held against the published one within a factor 1 + `tolerance`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat

from scrimp.claims.verdicts import Band, Verdict, interval_words, number_words, side
from scrimp.config.claims import Claim, Direction, Rule
from scrimp.errors import ScrimpError

if TYPE_CHECKING:
    from scrimp.claims.evidence import Evidence
    from scrimp.claims.statistics import Interval
    from scrimp.runs import Runs


class Exact(Rule):
    kind: Literal["exact"]
    probe: str
    column: str
    where: dict[str, str | int | float | bool] = Field({}, description="column -> value, of the rows that count")
    tolerance: PositiveFloat = Field(description="relative; absolute where the published value is 0")
    bound: bool = Field(False, description="the published value is a bound: anything on its good side also agrees")

    def check(self, claim: Claim, at: str) -> None:
        if claim.published is None:
            raise ScrimpError(f"{at}.published: an exact rule needs the number it is held against")

    def measure(self, claim: Claim, runs: Runs) -> Evidence:
        from scrimp.claims.evidence import probed

        return probed(self.probe, self.column, self.where, runs)

    def decide(self, interval: Interval, claim: Claim) -> Verdict:
        assert claim.published is not None  # check
        return exact_verdict(interval.low, interval.high, claim.published, self.tolerance, claim.direction, self.bound)

    def sentence(self, claim: Claim) -> str:
        assert claim.published is not None  # check
        _, beyond, short = side(claim.direction)
        band = tolerated(claim.published, self.tolerance)
        if self.bound:
            bad = number_words(band[0] if claim.direction == "higher" else band[1])
            outcome = f"supported if not {short} {bad} (the published bound and its tolerance), contradicted if {short}"
        else:
            outcome = f"supported if inside {interval_words(*band)}, contradicted if {short}, not supported if {beyond}"
        return f"{self.column} from the probe {self.probe}: {outcome}; repeats are inconclusive over an edge."

    def band(self, published: float | None, direction: Direction) -> Band | None:
        return None if published is None else Band(*tolerated(published, self.tolerance), "agrees")


def exact_verdict(
    low: float, high: float, published: float, tolerance: float, direction: Direction, bound: bool = False
) -> Verdict:
    """A number held against the published one; a single derived number has low == high.

    The tolerated band is `published` times and over 1 + tolerance (plus and minus tolerance where it is 0). Inside:
    supported. Beyond it on the bad side: contradicted. Beyond it on the good side: supported if the published number is
    a `bound`; otherwise the number was not reproduced, though in the claim's favour: not supported. Over an edge:
    inconclusive.
    """
    sign, beyond, short = side(direction)
    worse, better = sorted((sign * low, sign * high))
    band = tolerated(published, tolerance)
    floor, ceiling = sorted((sign * band[0], sign * band[1]))
    measured = f"the measured {number_words(low)}" if low == high else f"the interval {interval_words(low, high)}"
    if better < floor:
        return Verdict("contradicted", f"{measured} lies {short} {number_words(sign * floor)}, the tolerated end")
    if bound and worse >= floor:
        return Verdict("supported", f"{measured} keeps to the published bound {number_words(published)}")
    if worse >= floor and better <= ceiling:
        return Verdict("supported", f"{measured} lies within {interval_words(*band)} around the published number")
    if worse > ceiling:
        another = f"{measured} lies {beyond} {interval_words(*band)}: another number, on the good side"
        return Verdict("not supported", another)
    return Verdict("inconclusive", f"{measured} reaches over an edge of {interval_words(*band)}")


def tolerated(published: float, tolerance: float) -> tuple[float, float]:
    """The numbers that agree with the published one: a factor 1 + tolerance either way, around 0 a distance."""
    if published == 0:
        return -tolerance, tolerance
    near, far = sorted((published / (1.0 + tolerance), published * (1.0 + tolerance)))
    return near, far


RULE = Exact
