"""Verdicts: each case of the design by a derived example, and what must hold of all."""

from __future__ import annotations

import math

import pytest
from fake_study import make_claim
from hypothesis import given
from hypothesis import strategies as st

from scrimp.claims.rules.exact import exact_verdict
from scrimp.claims.rules.non_inferiority import non_inferiority_verdict
from scrimp.claims.verdicts import ONE_SEED, Verdict, check_claim, rule_text, verdict
from scrimp.config.claims import Direction
from scrimp.errors import ScrimpError

ends = st.floats(-10, 10) | st.sampled_from([-math.inf, math.inf, -1.0, 1.0, 0.0])


def ratio_verdict(low: float, high: float, published: float | None, margin: float, direction: Direction) -> Verdict:
    return verdict(low, high, published, (1 / (1 + margin), 1 + margin), direction)


def difference_verdict(low: float, high: float, published: float | None, margin: float, direction: Direction) -> Verdict:
    return verdict(low, high, published, (-margin, margin), direction)


RANK = {"contradicted": 0, "not supported": 1, "inconclusive": 1, "partly supported": 2, "supported": 3}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.1, 1.7, "supported"),  # beyond 1.05, reaches 1.67
        (1.1, 1.67, "supported"),  # just reaches it
        (1.1, 1.6, "partly supported"),
        (1.8, 2.0, "supported"),  # more than published
        (1.2, math.inf, "supported"),  # an open end reaches every size
        (0.5, 0.95, "contradicted"),  # 1 / 1.05 = .9524
        (0.0, 0.95, "contradicted"),
        (0.96, 1.04, "not supported"),
        (1.05, 1.7, "inconclusive"),  # on the edge is not beyond it
        (0.9, 1.01, "inconclusive"),
        (0.0, math.inf, "inconclusive"),
        (math.nan, math.nan, "inconclusive"),
    ],
)
def test_ratio(low: float, high: float, expected: str) -> None:
    assert ratio_verdict(low, high, 1.67, 0.05, "higher").name == expected


def test_one_seed_says_so() -> None:
    for found in (
        ratio_verdict(math.nan, math.nan, 2.0, 0.05, "higher"),
        non_inferiority_verdict(math.nan, math.nan, 0.5, "higher"),
    ):
        assert found == ("inconclusive", ONE_SEED)


def test_without_a_published_size_beyond_is_enough() -> None:
    assert difference_verdict(0.3, 0.4, None, 0.2, "higher").name == "supported"
    assert difference_verdict(0.3, 0.4, 1.0, 0.2, "higher").name == "partly supported"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.4, 0.9, "supported"), (-0.9, -0.6, "contradicted"), (-0.6, 0.1, "inconclusive"), (-0.5, 0.1, "inconclusive")],
)
def test_non_inferiority(low: float, high: float, expected: str) -> None:
    assert non_inferiority_verdict(low, high, 0.5, "higher").name == expected
    assert non_inferiority_verdict(-high, -low, 0.5, "lower").name == expected


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
    assert exact_verdict(low, high, published, 0.1, "higher", bound).name == expected
    assert exact_verdict(-high, -low, -published, 0.1, "lower", bound).name == expected


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
    lossless = [non_inferiority_verdict(low + u, high + u, margin + 0.1, "higher").name for u in (0.0, up)]
    assert RANK[lossless[1]] >= RANK[lossless[0]]


@given(st.floats(0.01, 10), st.floats(0.01, 10), st.floats(0.01, 1))
def test_a_ratio_and_its_reciprocal_agree(a: float, b: float, margin: float) -> None:
    low, high = sorted((a, b))
    edges = (1 / (1 + margin), 1 + margin)
    if min(abs(end / edge - 1) for end in (low, high) for edge in edges) > 1e-9:
        up = ratio_verdict(low, high, None, margin, "higher").name
        assert ratio_verdict(1 / high, 1 / low, None, margin, "lower").name == up


def test_reason_names_the_margin_that_decided() -> None:
    assert verdict(-0.9, -0.3, -1.0, (-0.2, 0.2), "lower").reason == (
        "the interval [-0.9, -0.3] lies wholly below -0.2 but ends short of the published -1"
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
    assert rule_text(make_claim(RATIO, published=1.67)) == (
        "Speedup of flops: the cost at which the fully decayed plain recipe reaches the test_accuracy of method, over "
        "the cost of method: supported if the 95 % interval lies wholly above 1.05 and reaches 1.67, partly supported "
        "if it lies there but ends short of that, contradicted if wholly below 0.9524, not supported if inside "
        "[0.9524, 1.05], otherwise inconclusive."
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
