"""A number that a probe prints, held against the published one within the tolerance of its kind.

`number: counted` is one that follows from definitions or published tables, and differs by how the source rounded it;
`number: measured` (the default) depends on what was trained or timed. `TOLERANCES` has the size for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat

from scrimp.claims.verdicts import (
    TOLERANCES,
    Band,
    Verdict,
    exclusion,
    found_words,
    interval_words,
    no_interval,
    number_words,
    side,
    why_none,
)
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
    number: Literal["counted", "measured"] = "measured"
    tolerance: PositiveFloat | None = Field(
        None, description="relative, absolute where the published value is 0; null: that of its kind of number"
    )
    bound: bool = Field(False, description="the published value is a bound: anything on its good side also agrees")

    @property
    def two_sided(self) -> bool:
        return not self.bound

    def check(self, claim: Claim, at: str) -> None:
        if claim.size is None:
            raise ScrimpError(f"{at}.published: an exact rule needs the number it is held against, and not a remembered one")

    def tolerated(self, published: float) -> tuple[float, float]:
        """The numbers that agree with the published one."""
        return tolerated(published, TOLERANCES[self.number] if self.tolerance is None else self.tolerance)

    def measure(self, claim: Claim, runs: Runs) -> Evidence:
        from scrimp.claims.evidence import probed

        return probed(self.probe, self.column, self.where, runs)

    def decide(self, interval: Interval, claim: Claim) -> Verdict:
        assert claim.published is not None  # check
        band = self.tolerated(claim.published)
        return exact_verdict(interval, claim.published, band, claim.direction, self.bound)

    def sentence(self, claim: Claim) -> str:
        assert claim.published is not None  # check
        _, beyond, short = side(claim.direction)
        band = self.tolerated(claim.published)
        if self.bound:
            bad = number_words(band[0] if claim.direction == "higher" else band[1])
            outcome = f"supported if not {short} {bad} (the published bound and its tolerance), contradicted if {short}"
        else:
            outcome = f"supported if inside {interval_words(*band)}, contradicted if {short}, not supported if {beyond}"
        return f"{self.column} from the probe {self.probe}: {outcome}; an interval over an edge is inconclusive."

    def band(self, published: float | None, direction: Direction) -> Band | None:
        return None if published is None else Band(*self.tolerated(published), "agrees")


def exact_verdict(
    interval: Interval, published: float, band: tuple[float, float], direction: Direction, bound: bool = False
) -> Verdict:
    """A number held against the published one and the `band` of numbers that agree with it.

    Inside: supported. Beyond it on the bad side: contradicted. Beyond it on the good side: supported if the published
    number is a `bound`; otherwise the number was not reproduced, though in the claim's favour: not supported. Over an
    edge: inconclusive.
    """
    if no_interval(interval):
        return Verdict("inconclusive", f"{why_none(interval)}{exclusion(interval, published)}")
    sign, beyond, short = side(direction)
    worse, better = sorted((sign * interval.low, sign * interval.high))
    floor, ceiling = sorted((sign * band[0], sign * band[1]))
    found = found_words(interval)
    if better < floor:
        return Verdict("contradicted", f"{found} lies {short} {number_words(sign * floor)}, the tolerated end")
    if bound and worse >= floor:
        return Verdict("supported", f"{found} keeps to the published bound {number_words(published)}")
    if worse >= floor and better <= ceiling:
        return Verdict("supported", f"{found} lies within {interval_words(*band)} around the published number")
    if worse > ceiling:
        another = f"{found} lies {beyond} {interval_words(*band)}: another number, on the good side"
        return Verdict("not supported", another)
    over = f"{found} reaches over an edge of {interval_words(*band)}"
    return Verdict("inconclusive", f"{over}{exclusion(interval, published)}")


def tolerated(published: float, tolerance: float) -> tuple[float, float]:
    """The numbers that agree with the published one: a factor 1 + tolerance either way, around 0 a distance."""
    if published == 0:
        return -tolerance, tolerance
    near, far = sorted((published / (1.0 + tolerance), published * (1.0 + tolerance)))
    return near, far


RULE = Exact
