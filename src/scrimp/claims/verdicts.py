"""From an interval and fixed margins to a verdict (DESIGN, How a claim is judged), and the words for both.

The margins that all rules share stand here, each once; docs/judging.md explains them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from scrimp.config.claims import Claim, Direction, Origin, Rule

if TYPE_CHECKING:
    from scrimp.claims.statistics import Interval

VerdictName = Literal["supported", "partly supported", "not supported", "contradicted", "inconclusive", "not run"]

REACH = 0.8  # share of the published size that a measured number must have; sizes are counted from no effect
HALF = 0.5  # or the share of it that the whole interval must lie beyond
# How far a number may lie from a published one and be the same: one tolerance for each kind of number.
TOLERANCES = {"counted": 0.02, "measured": 0.1}

ONE_SEED = "one seed gives no interval"
NO_SPREAD = "the values of all seeds are the same, which gives no interval"


class Verdict(NamedTuple):
    """A verdict and the comparison that led to it, as one clause."""

    name: VerdictName
    reason: str


class Band(NamedTuple):
    """A stretch of a claim's axis, in the unit of its number, and what it means; an end may be infinite."""

    low: float
    high: float
    label: str


class Size(NamedTuple):
    """A published number as a size: counted from `nothing`, the number that means no effect, for factors in logs."""

    published: float
    nothing: float = 0.0
    logarithmic: bool = False

    def share(self, share: float) -> float:
        """The number that has `share` of the size."""
        if self.logarithmic:
            return self.nothing * (self.published / self.nothing) ** share
        return self.nothing + share * (self.published - self.nothing)


def verdict(interval: Interval, size: Size | None, no_effect: tuple[float, float], direction: Direction) -> Verdict:
    """Judge the interval of an effect; all numbers share one unit, `no_effect` is the band (lower, upper).

    `direction` is the side of the band where the claim says that the *measured* number lies. `size` None: the source
    gives no size, and being beyond the band is enough. Ends that are nan (one seed, no spread) are inconclusive.
    """
    published = None if size is None else size.published
    if no_interval(interval):
        return Verdict("inconclusive", f"{why_none(interval)}{exclusion(interval, published)}")
    sign, beyond, short = side(direction)
    worse, better = sorted((sign * interval.low, sign * interval.high))
    floor, ceiling = sorted((sign * no_effect[0], sign * no_effect[1]))
    found = found_words(interval)
    if worse > ceiling:
        name, reached = _reached(interval, sign * worse, size, direction)
        return Verdict(name, f"{found} lies wholly {beyond} {number_words(sign * ceiling)}{reached}")
    if better < floor:
        return Verdict("contradicted", f"{found} lies wholly {short} {number_words(sign * floor)}")
    band = interval_words(*sorted(no_effect))
    if worse >= floor and better <= ceiling:
        return Verdict("not supported", f"{found} lies inside the no-effect band {band}")
    over = f"{found} reaches over an edge of the no-effect band {band}"
    return Verdict("inconclusive", f"{over}{exclusion(interval, published)}")


def _reached(interval: Interval, nearer: float, size: Size | None, direction: Direction) -> tuple[VerdictName, str]:
    """Whether a number beyond no effect has the published size; `nearer` is its interval's end nearer to no effect."""
    if size is None:
        return "supported", "; the source gives no size to reach"
    sign = side(direction)[0]
    reach, half = size.share(REACH), size.share(HALF)
    published = f"the published {number_words(size.published)}"
    if interval.sized and sign * interval.mean >= sign * reach:
        return "supported", f", and the mean {number_words(interval.mean)} has {percent(REACH)} of {published} or more"
    if sign * nearer > sign * half:
        return "supported", f", and beyond {number_words(half)}, half of {published}"
    mean = f"the mean {number_words(interval.mean)} is short of {number_words(reach)}, {percent(REACH)} of {published}"
    if not interval.sized:
        mean = "its mean is no size to go by"
    return "partly supported", f", but {mean}, and the nearer end of {number_words(half)}, half of it"


def check_claim(claim: Claim, where: str) -> None:
    """Refuse a claim whose numbers contradict each other, before they turn into a wrong verdict.

    Raises ScrimpError that begins with `where`, the file's name, and the claim's id.
    """
    if claim.rule is not None:
        claim.rule.check(claim, f"{where}: claims.{claim.id}")


def rule_text(claim: Claim) -> str:
    """The decision rule of a claim as one sentence with its margins; empty where the claim has no rule."""
    return "" if claim.rule is None else claim.rule.sentence(claim)


# ------------------------------------------------------------------------------------------------------- what rules share
def side(direction: Direction) -> tuple[float, str, str]:
    """The sign that turns a number so that larger is better for the claim, and the words for both sides."""
    return (1.0, "above", "below") if direction == "higher" else (-1.0, "below", "above")


def no_interval(interval: Interval) -> bool:
    """Whether an end of it is missing."""
    return math.isnan(interval.low) or math.isnan(interval.high)


def why_none(interval: Interval) -> str:
    """Why there is no interval."""
    return ONE_SEED if interval.n == 1 else NO_SPREAD


def exclusion(interval: Interval, published: float | None) -> str:
    """What an inconclusive interval says of the published number, as a clause that ends the reason."""
    if published is None:
        return "; the source gives no size"
    inside = no_interval(interval) or interval.low <= published <= interval.high
    return f"; the published {number_words(published)} is {'not excluded' if inside else 'excluded'}"


def beside_published(
    name: VerdictName,
    low: float,
    high: float,
    published: float | None,
    origin: Origin,
    direction: Direction,
    rule: Rule | None,
) -> str:
    """Where the interval excludes the published number and the verdict's name does not say so; "" elsewhere."""
    if rule is None or published is None or origin in ("ours", "remembered") or low <= published <= high:
        return ""
    # A number far from the published one may lie on the asked side of no effect, too.
    if name != "inconclusive" and not (rule.of_effect and name in ("supported", "partly supported")):
        return ""
    if rule.two_sided:
        return f"{'below' if high < published else 'above'} the published number"
    short = side(direction)[0] * (high - published) < 0
    return f"{'short of' if short else 'beyond'} the published number"


def percent(share: float) -> str:
    return f"{100 * share:g} %"


def number_words(value: float) -> str:
    return f"{value:.4g}"


def interval_words(low: float, high: float) -> str:
    return f"[{number_words(low)}, {number_words(high)}]"


def found_words(interval: Interval) -> str:
    """What was found: an interval, or a number that was counted or derived and has none."""
    if interval.low == interval.high:
        return f"the number {number_words(interval.low)}"
    return f"the interval {interval_words(interval.low, interval.high)}"
