"""The dot-and-interval drawing: what is drawn, and where."""

from __future__ import annotations

import math
import re

import pytest

from scrimp.report.plot import Band, Plot, Point, interval_plot, nice_ticks, sparkline
from scrimp.report.views import reference_band


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


def test_savings_lie_on_a_logarithmic_axis() -> None:
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


@pytest.mark.parametrize(
    ("rule", "published", "direction", "ends"),
    [
        ({"kind": "ratio", "no_effect": 0.25}, 2.0, "higher", (0.8, 1.25)),
        ({"kind": "difference", "no_effect": 0.1}, 1.0, "higher", (-0.1, 0.1)),
        ({"kind": "non-inferiority", "margin": 0.5}, 0.0, "higher", (-math.inf, -0.5)),
        ({"kind": "non-inferiority", "margin": 0.5}, 0.0, "lower", (0.5, math.inf)),
        ({"kind": "exact", "tolerance": 0.25}, 10.0, "higher", (8.0, 12.5)),
        ({"kind": "exact", "tolerance": 0.25}, 0.0, "higher", (-0.25, 0.25)),
    ],
)
def test_the_band_is_the_rules_own(
    rule: dict[str, object], published: float, direction: str, ends: tuple[float, float]
) -> None:
    band = reference_band(rule, published, direction)
    assert band is not None
    assert (band.low, band.high) == pytest.approx(ends)


def test_no_rule_no_band() -> None:
    assert reference_band(None, 1.0, "higher") is None
