"""Numbers as a reader meets them: the expected texts are written from the rules, not copied from the output."""

from __future__ import annotations

import math

import pytest

from scrimp.report.tables import (
    VERDICTS,
    format_estimate,
    format_interval,
    format_number,
    format_value,
    prose,
    scaled_column,
    shared_decimals,
    significant,
    verdict_rank,
)

SPACE = "\u00a0"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "n/a"),
        (math.nan, "n/a"),
        (0, "0"),
        (-0.31, "−0.31"),
        (1281167, "1,281,167"),
        (95.6, "95.6"),
        (3.14159, "3.142"),
        (0.0028, "0.0028"),
        (1.5e15, f"1.50{SPACE}×{SPACE}10¹⁵"),
        (2e-7, f"2.00{SPACE}×{SPACE}10⁻⁷"),
        (math.inf, "∞"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert format_number(value) == text


def test_a_rounded_negative_is_not_minus_zero() -> None:
    assert format_number(-0.004, decimals=2) == "0.00"


@pytest.mark.parametrize(
    ("unit", "text"), [("x", "1.4×"), ("%", f"1.4{SPACE}%"), ("points", f"1.4{SPACE}points"), ("", "1.4")]
)
def test_units(unit: str, text: str) -> None:
    assert format_value(1.4, unit) == text


def test_null_takes_no_unit() -> None:
    assert format_value(None, "hours") == "n/a"


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (1.2, 1.5, "1.2 to 1.5×"),
        (1.2, math.inf, f">{SPACE}1.2×"),
        (-math.inf, 1.5, f"<{SPACE}1.5×"),
        (-math.inf, math.inf, "unbounded"),
        (None, None, "n/a"),
    ],
)
def test_intervals_and_their_censored_ends(low: float | None, high: float | None, text: str) -> None:
    assert format_interval(low, high, "x") == text


def test_a_bound_says_on_which_side_the_truth_lies() -> None:
    assert format_estimate(2.75, "above", "x") == f">{SPACE}2.75×"
    assert format_estimate(2.75, "below", "x") == f"<{SPACE}2.75×"
    assert format_estimate(2.75, None, "x") == "2.75×"


@pytest.mark.parametrize(
    ("low", "high", "decimals"),
    [(1.51, 1.96, 2), (13.9, 14.6, 1), (-0.6, -0.24, 2), (80.0, 120.0, 0), (1.0, 1.0, None), (None, None, None)],
)
def test_decimals_follow_the_interval(low: float | None, high: float | None, decimals: int | None) -> None:
    """Half-widths 0.225, 0.35, 0.18 and 20: two digits where they begin with 1 or 2, else one."""
    assert shared_decimals(low, low, high) == decimals


def test_one_prefix_serves_a_whole_column() -> None:
    assert scaled_column([1.02e13, 5.13e12, None], "FLOP") == ("TFLOP", ["10.2", "5.13", "n/a"])
    assert scaled_column([None], "B") == ("B", ["n/a"])


def test_measured_numbers_keep_their_zeros() -> None:
    assert significant(60.0) == "60.0"
    assert significant(None) == "n/a"


def test_prose_mends_minus_and_percent_but_leaves_names_alone() -> None:
    text = prose("[-0.31, 0.15] is 40 % of infobatch-50 in 2020-01")
    assert text == f"[−0.31, 0.15] is 40{SPACE}% of infobatch-50 in 2020-01"


def test_verdicts_have_an_order_and_unknown_ones_are_refused() -> None:
    assert [verdict_rank(verdict) for verdict in VERDICTS] == list(range(6))
    with pytest.raises(ValueError, match="not in tuple"):
        verdict_rank("perhaps")
