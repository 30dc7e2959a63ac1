"""From an interval and fixed margins to a verdict (DESIGN, How a claim is judged), and the words for both."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from scrimp.config.claims import Claim, Direction

VerdictName = Literal["supported", "partly supported", "not supported", "contradicted", "inconclusive", "not run"]

ONE_SEED = "one seed gives no interval"


class Verdict(NamedTuple):
    """A verdict and the comparison that led to it, as one clause."""

    name: VerdictName
    reason: str


class Band(NamedTuple):
    """A stretch of a claim's axis, in the unit of its number, and what it means; an end may be infinite."""

    low: float
    high: float
    label: str


def verdict(
    low: float, high: float, published: float | None, no_effect: tuple[float, float], direction: Direction
) -> Verdict:
    """Judge the interval [low, high] of an effect; all numbers share one unit, `no_effect` is the band (lower, upper).

    `direction` is the side of the band where the claim says that the *measured* number lies. `published` None: the
    source gives no size, and being beyond the band is enough. Ends that are nan (one seed) are inconclusive.
    """
    if math.isnan(low) or math.isnan(high):
        return Verdict("inconclusive", ONE_SEED)
    sign, beyond, short = side(direction)
    worse, better = sorted((sign * low, sign * high))
    floor, ceiling = sorted((sign * no_effect[0], sign * no_effect[1]))
    interval = interval_words(low, high)
    if worse > ceiling:
        clear = f"the interval {interval} lies wholly {beyond} {number_words(sign * ceiling)}"
        if published is None:
            return Verdict("supported", f"{clear}; the source gives no size to reach")
        if better >= sign * published:
            return Verdict("supported", f"{clear} and reaches the published {number_words(published)}")
        return Verdict("partly supported", f"{clear} but ends short of the published {number_words(published)}")
    if better < floor:
        return Verdict("contradicted", f"the interval {interval} lies wholly {short} {number_words(sign * floor)}")
    band = interval_words(*sorted(no_effect))
    if worse >= floor and better <= ceiling:
        return Verdict("not supported", f"the interval {interval} lies inside the no-effect band {band}")
    return Verdict("inconclusive", f"the interval {interval} reaches over an edge of the no-effect band {band}")


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


def number_words(value: float) -> str:
    return f"{value:.4g}"


def interval_words(low: float, high: float) -> str:
    return f"[{number_words(low)}, {number_words(high)}]"
