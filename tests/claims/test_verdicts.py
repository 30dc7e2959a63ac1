"""Verdicts: each case of the design by a derived example, and what must hold of all."""

from __future__ import annotations

import math
from typing import Any

import pytest
from fake_study import make_claim
from hypothesis import given
from hypothesis import strategies as st

from scrimp.claims.rules.exact import exact_verdict, tolerated
from scrimp.claims.rules.non_inferiority import non_inferiority_verdict
from scrimp.claims.statistics import Interval
from scrimp.claims.verdicts import (
    NO_SPREAD,
    ONE_SEED,
    Size,
    Verdict,
    VerdictName,
    beside_published,
    check_claim,
    rule_text,
    verdict,
)
from scrimp.config.claims import Direction
from scrimp.errors import ScrimpError

ends = st.floats(-10, 10) | st.sampled_from([-math.inf, math.inf, -1.0, 1.0, 0.0])


def ratio_verdict(
    low: float, high: float, published: float | None, margin: float, direction: Direction, mean: float | None = None
) -> Verdict:
    """The mean is the geometric one of both ends, unless it is told."""
    size = None if published is None else Size(published, nothing=1.0, logarithmic=True)
    middle = math.sqrt(low * high) if mean is None else mean
    return verdict(Interval(middle, low, high, 3), size, (1 / (1 + margin), 1 + margin), direction)


def difference_verdict(low: float, high: float, published: float | None, margin: float, direction: Direction) -> Verdict:
    size = None if published is None else Size(published)
    return verdict(Interval((low + high) / 2, low, high, 3), size, (-margin, margin), direction)


def lossless_verdict(low: float, high: float, margin: float, direction: Direction, published: float | None = 0.0) -> Verdict:
    return non_inferiority_verdict(Interval((low + high) / 2, low, high, 3), published, margin, direction)


RANK = {"contradicted": 0, "not supported": 1, "inconclusive": 1, "partly supported": 2, "supported": 3}


# Of a published factor 4, half of the size is 2 and 80 % of it 4 ** .8 = 3.03.
@pytest.mark.parametrize(
    ("low", "high", "mean", "expected"),
    [
        (1.1, 9.0, 3.04, "supported"),  # the mean has 80 % of the size
        (1.1, 9.0, 3.02, "partly supported"),  # a wide interval that holds the published size is no support
        (1.1, 16.0, 1.5, "partly supported"),
        (2.01, 2.9, 2.5, "supported"),  # all of it beyond half
        (1.99, 2.9, 2.5, "partly supported"),
        (5.0, 6.0, 5.5, "supported"),  # more than published
        (2.01, math.inf, 2.5, "supported"),
        (0.5, 0.95, 0.7, "contradicted"),  # 1 / 1.05 = .9524
        (0.0, 0.95, 0.7, "contradicted"),
        (0.96, 1.04, 1.0, "not supported"),
        (1.05, 9.0, 4.0, "inconclusive"),  # on the edge is not beyond it
        (0.9, 1.01, 0.95, "inconclusive"),
        (0.0, math.inf, 4.0, "inconclusive"),
        (math.nan, math.nan, 4.0, "inconclusive"),
    ],
)
def test_ratio(low: float, high: float, mean: float, expected: str) -> None:
    assert ratio_verdict(low, high, 4.0, 0.05, "higher", mean).name == expected


def test_a_size_is_counted_from_no_effect_and_for_factors_in_logs() -> None:
    assert Size(4.0, 1.0, logarithmic=True).share(0.5) == pytest.approx(2.0)
    assert Size(0.25, 1.0, logarithmic=True).share(0.5) == pytest.approx(0.5)
    assert Size(-3.0).share(0.5) == -1.5
    assert Size(1.0, 0.5).share(0.8) == pytest.approx(0.9)


def test_a_mean_that_is_no_size_supports_nothing() -> None:
    size, band = Size(4.0, 1.0, logarithmic=True), (0.95, 1.05)
    assert verdict(Interval(4.0, 1.2, 9.0, 3), size, band, "higher").name == "supported"
    flat = verdict(Interval(4.0, 1.2, 9.0, 3, sized=False), size, band, "higher")
    assert flat.name == "partly supported"
    assert "its mean is no size to go by" in flat.reason
    assert verdict(Interval(4.0, 2.1, 9.0, 3, sized=False), size, band, "higher").name == "supported"


def test_no_interval_says_why() -> None:
    none = (math.nan, math.nan)
    assert verdict(Interval(1.0, *none, 1), None, (-1, 1), "higher").reason == f"{ONE_SEED}; the source gives no size"
    assert (
        verdict(Interval(1.0, *none, 3), Size(2.0), (-1, 1), "higher").reason
        == f"{NO_SPREAD}; the published 2 is not excluded"
    )
    assert non_inferiority_verdict(Interval(0.0, *none, 1), 0.0, 0.5, "higher").name == "inconclusive"
    assert exact_verdict(Interval(0.0, *none, 3), 0.0, (-1, 1), "higher").reason.startswith(NO_SPREAD)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (difference_verdict(-0.5, 1.5, 2.0, 0.2, "higher"), "; the published 2 is excluded"),
        (difference_verdict(-0.5, 2.5, 2.0, 0.2, "higher"), "; the published 2 is not excluded"),
        (difference_verdict(-2.5, 0.5, -2.0, 0.2, "lower"), "; the published -2 is not excluded"),
        (difference_verdict(-0.5, 2.5, None, 0.2, "higher"), "; the source gives no size"),
        (ratio_verdict(0.8, 1.5, 1.67, 0.05, "higher"), "; the published 1.67 is excluded"),
        (lossless_verdict(-0.9, -0.1, 0.5, "higher"), "; the published 0 is excluded"),
        (lossless_verdict(-0.9, 0.1, 0.5, "higher"), "; the published 0 is not excluded"),
        (exact_verdict(Interval(1.2, 1.05, 1.3, 3), 1.0, (0.9, 1.1), "higher"), "; the published 1 is excluded"),
        (exact_verdict(Interval(1.2, 0.95, 1.3, 3), 1.0, (0.9, 1.1), "higher"), "; the published 1 is not excluded"),
    ],
)
def test_inconclusive_says_whether_the_published_size_is_excluded(found: Verdict, words: str) -> None:
    assert found.name == "inconclusive"
    assert found.reason.endswith(words)


DIFFERENCE = {"kind": "difference", "method": "a", "baseline": "b", "no_effect": 0.5}
LOSSLESS = {"kind": "non-inferiority", "method": "a", "baseline": "b", "margin": 0.5}
EXACT = {"kind": "exact", "probe": "overhead", "column": "seconds"}


@pytest.mark.parametrize(
    ("rule", "name", "low", "high", "direction", "words"),
    [
        (DIFFERENCE, "inconclusive", 0.9, 1.1, "higher", "short of the published number"),
        (DIFFERENCE, "inconclusive", 0.9, 1.8, "higher", ""),
        (DIFFERENCE, "inconclusive", 0.9, math.inf, "higher", ""),
        (DIFFERENCE, "supported", 1.2, 1.6, "higher", "short of the published number"),
        (DIFFERENCE, "supported", 1.8, 2.6, "higher", "beyond the published number"),
        (DIFFERENCE, "partly supported", 1.2, 1.6, "lower", "beyond the published number"),
        (DIFFERENCE, "contradicted", 0.1, 0.2, "higher", ""),
        (DIFFERENCE, "not supported", 1.0, 1.0, "higher", ""),
        (LOSSLESS, "supported", 1.2, 1.6, "higher", ""),  # "lossless" says all that there is to say
        (LOSSLESS, "inconclusive", 1.2, 1.6, "higher", "short of the published number"),
        (EXACT, "inconclusive", 1.2, 1.6, "higher", "below the published number"),  # neither side of a number is better
        (EXACT, "inconclusive", 1.7, 1.9, "lower", "above the published number"),
        ({**EXACT, "bound": True}, "inconclusive", 1.2, 1.6, "lower", "beyond the published number"),
    ],
)
def test_tables_say_where_an_interval_excludes_the_published_number(
    rule: dict[str, Any], name: VerdictName, low: float, high: float, direction: Direction, words: str
) -> None:
    claim = make_claim(rule, published=1.67, direction=direction)
    assert beside_published(name, low, high, 1.67, "report", direction, claim.rule) == words
    assert beside_published(name, low, high, 1.67, "derived", direction, claim.rule) == words
    assert beside_published(name, low, high, 1.67, "ours", direction, claim.rule) == ""
    assert beside_published(name, low, high, 1.67, "remembered", direction, claim.rule) == ""


def test_a_number_that_is_only_remembered_sets_no_threshold() -> None:
    rule = {"kind": "difference", "method": "a", "baseline": "b", "no_effect": 0.5}
    found = Interval(2.0, 1.5, 2.5, 3)
    verdicts = {}
    for origin in ("report", "remembered"):
        claim = make_claim(rule, published=6.0, origin=origin)
        assert claim.rule is not None
        verdicts[origin] = claim.rule.decide(found, claim).name
    assert verdicts == {"report": "partly supported", "remembered": "supported"}
    assert "6" not in rule_text(make_claim(rule, published=6.0, origin="remembered"))
    exact = make_claim({"kind": "exact", "probe": "overhead", "column": "seconds"}, published=6.0, origin="remembered")
    with pytest.raises(ScrimpError, match="not a remembered one"):
        check_claim(exact, "claims.yaml")


def test_without_a_published_size_beyond_is_enough() -> None:
    assert difference_verdict(0.3, 0.4, None, 0.2, "higher").name == "supported"
    assert difference_verdict(0.3, 0.4, 1.0, 0.2, "higher").name == "partly supported"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.4, 0.9, "supported"), (-0.9, -0.6, "contradicted"), (-0.6, 0.1, "inconclusive"), (-0.5, 0.1, "inconclusive")],
)
def test_non_inferiority(low: float, high: float, expected: str) -> None:
    assert lossless_verdict(low, high, 0.5, "higher").name == expected
    assert lossless_verdict(-high, -low, 0.5, "lower").name == expected


@pytest.mark.parametrize(
    ("low", "high", "published", "bound", "expected"),
    [
        (0.99, 0.99, 1.0, False, "supported"),  # the band is [.909, 1.1]
        (1.2, 1.2, 1.0, False, "not supported"),
        (1.2, 1.2, 1.0, True, "supported"),
        (0.95, 0.95, 1.0, True, "supported"),
        (0.9, 0.9, 1.0, True, "contradicted"),
        (0.9, 0.9, 1.0, False, "contradicted"),
        (0.8, 1.0, 1.0, True, "inconclusive"),
        (1.0, 1.2, 1.0, False, "inconclusive"),
        (0.09, 0.09, 0.0, False, "supported"),  # absolute around 0
        (-0.11, -0.11, 0.0, False, "contradicted"),
        (-1.05, -1.05, -1.0, False, "supported"),
    ],
)
def test_exact(low: float, high: float, published: float, bound: bool, expected: str) -> None:
    interval, mirrored = Interval((low + high) / 2, low, high, 1), Interval(-(low + high) / 2, -high, -low, 1)
    assert exact_verdict(interval, published, tolerated(published, 0.1), "higher", bound).name == expected
    assert exact_verdict(mirrored, -published, tolerated(-published, 0.1), "lower", bound).name == expected


@given(ends, ends, st.none() | st.floats(-5, 5), st.floats(0, 2))
def test_exactly_one_verdict_and_a_mirror_image(a: float, b: float, published: float | None, margin: float) -> None:
    low, high = sorted((a, b))
    found = difference_verdict(low, high, published, margin, "higher").name
    beyond, contrary, inside = low > margin, high < -margin, low >= -margin and high <= margin
    assert (found in ("supported", "partly supported")) == beyond
    assert (found == "contradicted") == contrary
    assert (found == "not supported") == inside
    assert (found == "inconclusive") == (not (beyond or contrary or inside))
    mirrored = None if published is None else -published
    assert difference_verdict(-high, -low, mirrored, margin, "lower").name == found


@given(ends, ends, st.floats(0, 5), st.floats(0, 5), st.floats(-5, 5), st.floats(0, 2))
def test_a_better_interval_never_gets_a_worse_verdict(
    a: float, b: float, up: float, more: float, published: float, margin: float
) -> None:
    low, high = sorted((a, b))
    before = difference_verdict(low, high, published, margin, "higher").name
    after = difference_verdict(low + up, max(high + up, high + more), published, margin, "higher").name
    assert RANK[after] >= RANK[before]
    lossless = [lossless_verdict(low + u, high + u, margin + 0.1, "higher").name for u in (0.0, up)]
    assert RANK[lossless[1]] >= RANK[lossless[0]]


@given(st.floats(0.01, 10), st.floats(0.01, 10), st.floats(0.01, 1))
def test_a_ratio_and_its_reciprocal_agree(a: float, b: float, margin: float) -> None:
    low, high = sorted((a, b))
    edges = (1 / (1 + margin), 1 + margin)
    if min(abs(end / edge - 1) for end in (low, high) for edge in edges) > 1e-9:
        up = ratio_verdict(low, high, None, margin, "higher").name
        assert ratio_verdict(1 / high, 1 / low, None, margin, "lower").name == up


def test_reason_names_the_margin_that_decided() -> None:
    assert difference_verdict(-0.9, -0.3, -1.0, 0.2, "lower").reason == (
        "the interval [-0.9, -0.3] lies wholly below -0.2, but the mean -0.6 is short of -0.8, 80 % of the published -1, "
        "and the nearer end of -0.5, half of it"
    )
    assert difference_verdict(0.9, 0.9, None, 0.2, "higher").reason == (
        "the number 0.9 lies wholly above 0.2; the source gives no size to reach"
    )


# ------------------------------------------------------------------------------------------------- claims and sentences
RATIO = {"kind": "ratio", "method": "method", "axis": "flops"}


@pytest.mark.parametrize(
    ("rule", "given_", "message"),
    [
        (RATIO, {"published": 1.5, "direction": "lower"}, "below 1, but published is 1.5"),
        ({"kind": "difference", "method": "a", "baseline": "b", "no_effect": 1}, {"published": -1.0}, "above 0"),
        ({"kind": "exact", "probe": "p", "column": "c", "tolerance": 0.1}, {}, "needs the number"),
        (RATIO | {"way": "curves"}, {}, "name the arm whose curve"),
        (RATIO, {"metric": "test_acuracy"}, "unknown metric 'test_acuracy': did you mean 'accuracy'"),
        (RATIO, {"metric": "kept_fraction"}, "kept_fraction has no better side"),
    ],
)
def test_a_claim_at_odds_with_itself_is_refused(rule: dict, given_: dict, message: str) -> None:
    with pytest.raises(ScrimpError, match=message) as caught:
        check_claim(make_claim(rule, **given_), "config/studies/x.yaml")
    assert "config/studies/x.yaml: claims.a-claim" in str(caught.value)


def test_rule_text_states_the_margins() -> None:
    assert rule_text(make_claim(RATIO, published=4.0)) == (
        "Speedup of flops: the cost at which the fully decayed plain recipe, at its best so far, reaches the test_accuracy "
        "of method, over the cost of method (where the recipe's sweep is flat, its mean is no size): supported if the 95 % "
        "interval lies wholly above 1.05 and either the mean is at or above 3.031 (80 % of the published 4) or the whole "
        "interval above 2 (half of it), partly supported if it lies there without either, contradicted if wholly below "
        "0.9524, not supported if inside [0.9524, 1.05], otherwise inconclusive."
    )


@pytest.mark.parametrize("direction", ["higher", "lower"])
@pytest.mark.parametrize(
    ("rule", "part"),
    [
        ({"kind": "ratio", "method": "m", "axis": "flops", "way": "curves", "baseline": "full"}, "published way"),
        ({"kind": "difference", "method": "m", "baseline": "full", "no_effect": 0.2}, "m minus full"),
        ({"kind": "slope", "method": ["m", "n"], "baseline": ["f", "g"], "no_effect": 0.2}, "from f to g"),
        ({"kind": "non-inferiority", "method": "m", "baseline": "full", "margin": 0.5}, "0.5"),
        ({"kind": "ordering", "arms": ["a", "b", "c"], "no_effect": 0.2}, "a minus each of b, c"),
        ({"kind": "reduction", "method": "m", "baseline": "full", "axis": "examples"}, "1 - m / full"),
        ({"kind": "exact", "probe": "p", "column": "c", "tolerance": 0.1}, "probe p"),
        ({"kind": "exact", "probe": "p", "column": "c", "tolerance": 0.1, "bound": True}, "bound"),
    ],
)
def test_every_rule_has_its_sentence(rule: dict, part: str, direction: str) -> None:
    text = rule_text(make_claim(rule, direction=direction, published=0.0 if rule["kind"] == "exact" else None))
    assert part in text
    assert "supported if" in text
    assert text.endswith(".")
