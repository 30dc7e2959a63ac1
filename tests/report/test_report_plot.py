"""The dot-and-interval drawing: what is drawn, and where."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from fake_results import claim

from scrimp.claims.judge import ClaimResult
from scrimp.report.plot import Band, Plot, Point, interval_plot, nice_ticks, sparkline
from scrimp.report.views import claim_plot


def positions(drawing: str, css_class: str, attribute: str) -> list[float]:
    return [float(x) for x in re.findall(rf'class="{css_class}"[^>]*? {attribute}="([-\d.]+)"', drawing)]


def test_every_seed_the_interval_and_the_published_value_are_drawn_in_order() -> None:
    seeds = tuple(Point("half", seed, value) for seed, value in enumerate((0.2, 0.3, 0.4)))
    drawing = interval_plot(Plot(0.3, 0.1, 0.5, 0.45, "points", seeds, Band(-0.1, 0.1, "no effect")))
    dots = positions(drawing, "seed", "cx")
    assert len(dots) == 3
    assert dots == sorted(dots)
    assert positions(drawing, "estimate", "cx") == [dots[1]]
    assert dots[2] < positions(drawing, "published", "x1")[0]
    assert "no effect" in drawing


def test_speedups_lie_on_a_logarithmic_axis() -> None:
    """The middle of 1 and 4 is 2 there."""
    drawing = interval_plot(Plot(2.0, 1.0, 4.0, None, "x", logarithmic=True))
    ends = positions(drawing, "interval", "x1")
    low, high = min(ends), max(positions(drawing, "interval", "x2"))
    assert positions(drawing, "estimate", "cx")[0] == pytest.approx((low + high) / 2, abs=0.2)


def test_a_censored_end_and_a_censored_seed_are_arrows() -> None:
    plot = Plot(2.0, 1.5, math.inf, 2.0, "x", (Point("half", 0, 2.0, 1),), logarithmic=True)
    drawing = interval_plot(plot)
    assert drawing.count('<path class="arrow"') == 1
    assert drawing.count('<path class="seed"') == 1
    assert "beyond 2×" in drawing


def test_no_number_no_drawing() -> None:
    nothing = Plot(None, None, None, None, "x")
    assert interval_plot(nothing) == ""
    assert sparkline(nothing) == ""


def test_names_are_escaped() -> None:
    assert "<b>" not in interval_plot(Plot(1.0, None, None, None, "", (Point("<b>", 0, 1.0),)))


def test_ticks_are_round() -> None:
    assert nice_ticks(0.07, 0.93) == pytest.approx([0.2, 0.4, 0.6, 0.8])


def drawn(**changes: Any) -> Plot:
    return claim_plot(ClaimResult.model_validate(claim("gain", "1", "supported", **changes)))


def test_a_claim_is_drawn_as_its_rule_says() -> None:
    lossless = {"kind": "non-inferiority", "method": "half", "baseline": "full", "margin": 0.5}
    assert drawn(rule=lossless).band == Band(-math.inf, -0.5, "worse than the margin")
    speedup = drawn(rule={"kind": "ratio", "method": "half", "axis": "flops", "no_effect": 0.25}, low=0.0)
    assert (speedup.band, speedup.logarithmic, speedup.low) == (Band(0.8, 1.25, "no effect"), True, -math.inf)
    ordering = drawn(rule={"kind": "ordering", "arms": ["full", "half"], "no_effect": 0.1})
    assert (ordering.band, ordering.logarithmic) == (Band(-0.1, 0.1, "no effect"), False)
    assert {point.arm for point in ordering.points} == {"vs half"}


def test_no_rule_no_band() -> None:
    assert drawn(rule=None).band is None
