"""From an interval and fixed margins to a verdict (DESIGN, How a claim is judged), and the same rule as a sentence."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from scrimp.claims.statistics import Interval
from scrimp.config import (
    Claim,
    DifferenceRule,
    EstimateRule,
    ExactRule,
    NonInferiorityRule,
    OrderingRule,
    RatioRule,
    ReductionRule,
    Rule,
    SlopeRule,
)
from scrimp.errors import ScrimpError

VerdictName = Literal["supported", "partly supported", "not supported", "contradicted", "inconclusive", "not run"]
Direction = Literal["higher", "lower"]

ONE_SEED = "one seed gives no interval"


class Verdict(NamedTuple):
    """A verdict and the comparison that led to it, as one clause."""

    name: VerdictName
    reason: str


# ----------------------------------------------------------------------------------------------------------- the rules
def verdict(
    low: float, high: float, published: float | None, no_effect: tuple[float, float], direction: Direction
) -> Verdict:
    """Judge the interval [low, high] of an effect; all numbers share one unit, `no_effect` is the band (lower, upper).

    `direction` is the side of the band where the claim says that the *measured* number lies. `published` None: the
    source gives no size, and being beyond the band is enough. Ends that are nan (one seed) are inconclusive.
    """
    if math.isnan(low) or math.isnan(high):
        return Verdict("inconclusive", ONE_SEED)
    sign, beyond, short = _side(direction)
    worse, better = sorted((sign * low, sign * high))
    floor, ceiling = sorted((sign * no_effect[0], sign * no_effect[1]))
    interval = _interval(low, high)
    if worse > ceiling:
        clear = f"the interval {interval} lies wholly {beyond} {_number(sign * ceiling)}"
        if published is None:
            return Verdict("supported", f"{clear}; the source gives no size to reach")
        if better >= sign * published:
            return Verdict("supported", f"{clear} and reaches the published {_number(published)}")
        return Verdict("partly supported", f"{clear} but ends short of the published {_number(published)}")
    if better < floor:
        return Verdict("contradicted", f"the interval {interval} lies wholly {short} {_number(sign * floor)}")
    band = _interval(*sorted(no_effect))
    if worse >= floor and better <= ceiling:
        return Verdict("not supported", f"the interval {interval} lies inside the no-effect band {band}")
    return Verdict("inconclusive", f"the interval {interval} reaches over an edge of the no-effect band {band}")


def ratio_verdict(low: float, high: float, published: float | None, margin: float, direction: Direction) -> Verdict:
    """A speedup (a factor): factors between 1 / (1 + margin) and 1 + margin are no effect."""
    return verdict(low, high, published, _ratio_band(margin), direction)


def difference_verdict(low: float, high: float, published: float | None, margin: float, direction: Direction) -> Verdict:
    """A difference, a slope, an ordering or a reduction: -margin to +margin is no effect."""
    return verdict(low, high, published, (-margin, margin), direction)


def non_inferiority_verdict(low: float, high: float, margin: float, direction: Direction) -> Verdict:
    """Lossless within `margin`: supported, contradicted or inconclusive; `direction` says which difference is good."""
    if math.isnan(low) or math.isnan(high):
        return Verdict("inconclusive", ONE_SEED)
    sign, beyond, short = _side(direction)
    worse, better = sorted((sign * low, sign * high))
    interval, limit = _interval(low, high), _number(-sign * margin)
    if worse > -margin:
        return Verdict("supported", f"the interval {interval} lies wholly {beyond} the margin {limit}")
    if better < -margin:
        return Verdict("contradicted", f"the interval {interval} lies wholly {short} the margin {limit}")
    return Verdict("inconclusive", f"the interval {interval} reaches over the margin {limit}")


def exact_verdict(
    low: float, high: float, published: float, tolerance: float, direction: Direction, bound: bool = False
) -> Verdict:
    """A number held against the published one; a single derived number has low == high.

    The tolerated band is `published` times and over 1 + tolerance (plus and minus tolerance where it is 0). Inside:
    supported. Beyond it on the bad side: contradicted. Beyond it on the good side: supported if the published number is
    a `bound`; otherwise the number was not reproduced, though in the claim's favour: not supported. Over an edge:
    inconclusive.
    """
    sign, beyond, short = _side(direction)
    worse, better = sorted((sign * low, sign * high))
    band = _exact_band(published, tolerance)
    floor, ceiling = sorted((sign * band[0], sign * band[1]))
    measured = f"the measured {_number(low)}" if low == high else f"the interval {_interval(low, high)}"
    if better < floor:
        return Verdict("contradicted", f"{measured} lies {short} {_number(sign * floor)}, the tolerated end")
    if bound and worse >= floor:
        return Verdict("supported", f"{measured} keeps to the published bound {_number(published)}")
    if worse >= floor and better <= ceiling:
        return Verdict("supported", f"{measured} lies within {_interval(*band)} around the published number")
    if worse > ceiling:
        return Verdict("not supported", f"{measured} lies {beyond} {_interval(*band)}: another number, on the good side")
    return Verdict("inconclusive", f"{measured} reaches over an edge of {_interval(*band)}")


# ------------------------------------------------------------------------------------------------- from rule to verdict
def decide(rule: Rule, interval: Interval, published: float | None, direction: Direction) -> Verdict:
    """Apply the function that belongs to a rule's kind."""
    low, high = interval.low, interval.high
    match rule:
        case RatioRule():
            return ratio_verdict(low, high, published, rule.no_effect, direction)
        case NonInferiorityRule():
            return non_inferiority_verdict(low, high, rule.margin, direction)
        case ExactRule():
            assert published is not None  # check_claim
            return exact_verdict(low, high, published, rule.tolerance, direction, rule.bound)
        case EstimateRule():
            band = (rule.neutral - rule.no_effect, rule.neutral + rule.no_effect)
            return verdict(low, high, published, band, direction)
        case _:
            return difference_verdict(low, high, published, rule.no_effect, direction)


def check_claim(claim: Claim, where: str) -> None:
    """Refuse a claim whose numbers contradict each other, before they turn into a wrong verdict.

    Raises ScrimpError if the published size lies on the far side of no effect from `direction`, if an exact rule has no
    published number, or if reading curves has no baseline. `where` names the file.
    """
    rule, published, at = claim.rule, claim.published, f"{where}: claims.{claim.id}"
    if isinstance(rule, ExactRule) and published is None:
        raise ScrimpError(f"{at}.published: an exact rule needs the number it is held against")
    if isinstance(rule, RatioRule) and rule.way == "curves" and rule.baseline is None:
        raise ScrimpError(f"{at}.rule.baseline: name the arm whose curve is read, as `way: curves` needs one")
    if rule is None or published is None or isinstance(rule, ExactRule | NonInferiorityRule):
        return
    neutral = {"ratio": 1.0, "estimate": getattr(rule, "neutral", 0.0)}.get(rule.kind, 0.0)
    sign, beyond, _ = _side(claim.direction)
    if sign * published < sign * neutral:
        raise ScrimpError(
            f"{at}: direction {claim.direction!r} puts the measured {rule.kind} {beyond} {neutral:g}, but published is "
            f"{published:g}; direction speaks of the measured number, not of the metric: mend one of the two"
        )


# ------------------------------------------------------------------------------------------------------------- wording
def rule_text(claim: Claim) -> str:
    """The decision rule of a claim as one sentence with its margins; empty where the claim has no rule."""
    rule, metric = claim.rule, claim.metric
    _, beyond, short = _side(claim.direction)
    match rule:
        case None:
            return ""
        case RatioRule():
            return _effect_text(_ratio_words(rule, metric), _ratio_band(rule.no_effect), claim)
        case DifferenceRule():
            what = f"Paired difference of {metric}, {rule.method} minus {rule.baseline}"
        case SlopeRule():
            what = (
                f"Fall of {metric} from {rule.baseline[0]} to {rule.baseline[1]}, less its fall from "
                f"{rule.method[0]} to {rule.method[1]}, paired by seed"
            )
        case OrderingRule():
            extreme = "Smallest" if claim.direction == "higher" else "Largest"
            what = f"{extreme} paired difference of {metric}, {rule.arms[0]} minus each of {', '.join(rule.arms[1:])}"
        case ReductionRule():
            what = f"Share of {rule.axis} saved, 1 - {rule.method} / {rule.baseline}, paired by seed"
        case NonInferiorityRule():
            limit = _number(-rule.margin if claim.direction == "higher" else rule.margin)
            return (
                f"Paired difference of {metric}, {rule.method} minus {rule.baseline}: supported if its 95 % interval "
                f"lies wholly {beyond} {limit}, contradicted if wholly {short}, otherwise inconclusive."
            )
        case ExactRule():
            return _exact_text(rule, claim)
        case EstimateRule():
            band = (rule.neutral - rule.no_effect, rule.neutral + rule.no_effect)
            return _effect_text(f"{rule.column} from the probe {rule.probe}, by seed", band, claim)
    return _effect_text(what, (-rule.no_effect, rule.no_effect), claim)


def _ratio_words(rule: RatioRule, metric: str) -> str:
    if rule.way == "curves":
        return (
            f"Speedup of {rule.axis} read from two curves (the published way): where {rule.baseline} first reaches its "
            f"own final {metric}, over where {rule.method} does"
        )
    return (
        f"Speedup of {rule.axis}: the cost at which the fully decayed plain recipe reaches the {metric} of "
        f"{rule.method}, over the cost of {rule.method}"
    )


def _effect_text(what: str, band: tuple[float, float], claim: Claim) -> str:
    _, beyond, short = _side(claim.direction)
    good, bad = (band[1], band[0]) if claim.direction == "higher" else band
    size = "" if claim.published is None else f" and reaches {_number(claim.published)}"
    partly = "" if claim.published is None else ", partly supported if it lies there but ends short of that"
    return (
        f"{what}: supported if the 95 % interval lies wholly {beyond} {_number(good)}{size}{partly}, contradicted if "
        f"wholly {short} {_number(bad)}, not supported if inside {_interval(*band)}, otherwise inconclusive."
    )


def _exact_text(rule: ExactRule, claim: Claim) -> str:
    assert claim.published is not None  # check_claim
    _, beyond, short = _side(claim.direction)
    band = _exact_band(claim.published, rule.tolerance)
    if rule.bound:
        bad = _number(band[0] if claim.direction == "higher" else band[1])
        outcome = f"supported if not {short} {bad} (the published bound and its tolerance), contradicted if {short}"
    else:
        outcome = f"supported if inside {_interval(*band)}, contradicted if {short}, not supported if {beyond}"
    return f"{rule.column} from the probe {rule.probe}: {outcome}; repeats are inconclusive over an edge."


def _side(direction: Direction) -> tuple[float, str, str]:
    """The sign that turns a number so that larger is better for the claim, and the words for both sides."""
    return (1.0, "above", "below") if direction == "higher" else (-1.0, "below", "above")


def _ratio_band(margin: float) -> tuple[float, float]:
    return 1.0 / (1.0 + margin), 1.0 + margin


def _exact_band(published: float, tolerance: float) -> tuple[float, float]:
    if published == 0:
        return -tolerance, tolerance
    near, far = sorted((published / (1.0 + tolerance), published * (1.0 + tolerance)))
    return near, far


def _number(value: float) -> str:
    return f"{value:.4g}"


def _interval(low: float, high: float) -> str:
    return f"[{_number(low)}, {_number(high)}]"
