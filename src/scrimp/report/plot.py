"""A claim's result as a small inline SVG: estimate, interval, every seed, the published value, the no-effect band.

Colours come from the page's style sheet through classes, so that one drawing serves light, dark and paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from scrimp.claims.verdicts import Band
from scrimp.report.tables import format_interval, format_number, format_value

_WIDTH = 420.0  # user units; about one CSS pixel on a phone, so that 11-unit text stays readable there
_EDGE = 14.0
_GUTTER = 118.0  # room for arm names where seeds of several arms are drawn
_ROW = 17.0


@dataclass(frozen=True)
class Point:
    """One seed's value; `censored` where the truth lies beyond it (+1 above, -1 below, 0 measured)."""

    arm: str
    seed: int | None
    value: float
    censored: int = 0


@dataclass(frozen=True)
class Plot:
    """What is drawn for one claim. All values share one axis and one unit."""

    measured: float | None
    low: float | None
    high: float | None
    published: float | None
    unit: str
    points: tuple[Point, ...] = ()
    band: Band | None = None
    logarithmic: bool = False
    decimals: int | None = None

    def values(self) -> list[float]:
        """Every finite value that the axis must show."""
        candidates = [self.measured, self.low, self.high, self.published, *(point.value for point in self.points)]
        if self.band is not None:
            candidates += [self.band.low, self.band.high]
        finite = [value for value in candidates if value is not None and math.isfinite(value)]
        return [value for value in finite if value > 0] if self.logarithmic else finite


@dataclass(frozen=True)
class _Axis:
    """Maps values to horizontal positions, on a linear or a logarithmic scale; infinities land on the edges."""

    start: float
    end: float
    left: float
    right: float
    logarithmic: bool

    @classmethod
    def around(cls, plot: Plot, left: float, right: float) -> _Axis:
        values = [math.log(v) if plot.logarithmic else v for v in plot.values()]
        low, high = min(values), max(values)
        pad = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
        ends = [end for end in (plot.low, plot.high, plot.measured) if end is not None]
        # An arrow needs room beyond the last finite value, or it would look like an end.
        start, end = low - pad * (2 if -math.inf in ends else 1), high + pad * (2 if math.inf in ends else 1)
        return cls(start, end, left, right, plot.logarithmic)

    def at(self, value: float) -> float:
        if math.isinf(value) or (self.logarithmic and value <= 0):
            return self.right if value > 0 else self.left
        place = math.log(value) if self.logarithmic else value
        share = (place - self.start) / (self.end - self.start)
        return round(self.left + min(1.0, max(0.0, share)) * (self.right - self.left), 1)

    def ticks(self) -> list[float]:
        low, high = (math.exp(self.start), math.exp(self.end)) if self.logarithmic else (self.start, self.end)
        if self.logarithmic and high / low > 8:
            decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            steps = (1, 2, 5) if high / low < 200 else (1,)
            return [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        return nice_ticks(low, high)


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values (steps of 1, 2 or 5 times a power of ten) between `low` and `high`."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def describe(plot: Plot) -> str:
    """The drawing in words, for those who do not see it."""
    parts = [f"measured {format_value(plot.measured, plot.unit, plot.decimals)}"]
    if plot.low is not None and plot.high is not None:
        parts.append(f"95 % interval {format_interval(plot.low, plot.high, plot.unit, plot.decimals)}")
    if plot.published is not None:
        parts.append(f"published {format_value(plot.published, plot.unit)}")
    if plot.points:
        parts.append(f"{len(plot.points)} {'point' if len(plot.points) == 1 else 'points'}")
    return ", ".join(parts)


def interval_plot(plot: Plot) -> Markup:
    """The full drawing: labelled references, estimate with interval, one row of seeds per arm, an axis."""
    if not plot.values():
        return Markup("")
    arms = list(dict.fromkeys(point.arm for point in plot.points))
    left = _GUTTER if len(arms) > 1 else _EDGE
    axis = _Axis.around(plot, left, _WIDTH - _EDGE)
    top, estimate_y = 20.0, 38.0
    floor = estimate_y + _ROW * max(1, len(arms)) + (22 if plot.band else 10)
    parts = [
        _references(plot, axis, top, floor, labelled=True),
        _estimate(plot, axis, estimate_y, radius=5),
    ]
    for row, arm in enumerate(arms, start=1):
        y = estimate_y + _ROW * row
        if len(arms) > 1:
            parts.append(
                Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(left - 8, y + 4, _shortened(arm, 18))
            )
        parts += [_point(point, plot, axis, y) for point in plot.points if point.arm == arm]
    parts.append(_axis_line(axis, floor, plot.unit))
    return Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        int(_WIDTH), int(floor + 20), describe(plot), Markup("").join(parts)
    )


def sparkline(plot: Plot) -> Markup:
    """The drawing for a table cell: no text, hidden from screen readers, for the cell's numbers say the same."""
    if plot.measured is None or not plot.values():
        return Markup("")
    axis = _Axis.around(plot, 3, 117)
    dots = [Markup('<circle class="seed" cx="{}" cy="15.5" r="1.8"/>').format(axis.at(point.value)) for point in plot.points]
    return Markup('<svg class="spark" viewBox="0 0 120 20" aria-hidden="true">{}</svg>').format(
        Markup("").join(
            [
                _references(plot, axis, 0, 20, labelled=False),
                *dots,
                _estimate(plot, axis, 8, radius=3.2),
            ]
        )
    )


def _references(plot: Plot, axis: _Axis, top: float, floor: float, labelled: bool) -> Markup:
    """The shaded band, the published value, and then their labels, so that no line crosses a word."""
    shapes, labels = [], []
    if plot.band is not None:
        left, right = axis.at(plot.band.low), axis.at(plot.band.high)
        shapes.append(
            Markup('<rect class="band" x="{}" y="{}" width="{}" height="{}"/>').format(
                left, top, round(max(1.0, right - left), 1), floor - top
            )
        )
        labels.append(_label(plot.band.label, (left + right) / 2, floor - 5, axis, "band-label"))
    if plot.published is not None and (plot.published > 0 or not plot.logarithmic):
        x = axis.at(plot.published)
        shapes.append(
            Markup('<line class="published" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(x, max(0, top - 4), floor)
        )
        labels.append(_label(f"published {format_value(plot.published, plot.unit)}", x, top - 8, axis, "reference"))
    return Markup("").join([*shapes, *labels] if labelled else shapes)


def _estimate(plot: Plot, axis: _Axis, y: float, radius: float) -> Markup:
    parts = []
    cap = radius * 0.9
    if plot.low is not None and plot.high is not None:
        parts.append(
            Markup('<line class="interval" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(
                axis.at(plot.low), axis.at(plot.high), y=y
            )
        )
        for end in (plot.low, plot.high):
            x = axis.at(end)
            if math.isinf(end):
                parts.append(_arrow("arrow", x, y, 1 if end > 0 else -1, radius))
            else:
                parts.append(
                    Markup('<line class="interval" x1="{x}" x2="{x}" y1="{}" y2="{}"/>').format(y - cap, y + cap, x=x)
                )
    if plot.measured is not None and math.isfinite(plot.measured):
        parts.append(Markup('<circle class="estimate" cx="{}" cy="{}" r="{}"/>').format(axis.at(plot.measured), y, radius))
    elif plot.measured is not None:
        parts.append(_arrow("estimate", axis.at(plot.measured), y, 1 if plot.measured > 0 else -1, radius * 1.4))
    return Markup("").join(parts)


def _point(point: Point, plot: Plot, axis: _Axis, y: float) -> Markup:
    x = axis.at(point.value)
    where = point.censored or (0 if math.isfinite(point.value) else int(math.copysign(1, point.value)))
    bound = {1: "beyond ", 0: "", -1: "below "}[where]
    seed = "" if point.seed is None else f", seed {point.seed}"
    title = f"{point.arm}{seed}: {bound}{format_value(point.value, plot.unit, plot.decimals)}"
    if where:
        shape = _arrow("seed", x, y, where, 4.5)
    else:
        shape = Markup('<circle class="seed" cx="{}" cy="{}" r="3.6"/>').format(x, y)
    return Markup("<g><title>{}</title>{}</g>").format(title, shape)


def _arrow(css_class: str, x: float, y: float, towards: int, size: float) -> Markup:
    """A triangle whose tip says on which side the truth lies."""
    back = round(x - towards * size * 1.5, 1)
    return Markup('<path class="{}" d="M{} {}L{} {}L{} {}Z"/>').format(
        css_class, x, y, back, round(y - size, 1), back, round(y + size, 1)
    )


def _axis_line(axis: _Axis, y: float, unit: str) -> Markup:
    parts = [
        Markup('<line class="axis" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(axis.left, axis.right, y=y),
    ]
    for tick in axis.ticks():
        # A word would push the number off its tick; the figures above the drawing name the unit.
        text = format_number(tick) if unit.isalpha() and unit != "x" else format_value(tick, unit)
        x = axis.at(tick)
        parts.append(Markup('<line class="axis" x1="{x}" x2="{x}" y1="{}" y2="{}"/>').format(y, y + 4, x=x))
        parts.append(_label(text, x, y + 16, axis, "tick"))
    return Markup("").join(parts)


def _label(text: str, x: float, y: float, axis: _Axis, css_class: str) -> Markup:
    """Text centred on `x`, but held inside the drawing."""
    half = 3.1 * len(text)  # about half the width of 11-unit text
    x = round(min(max(x, axis.left - _EDGE + 2 + half), _WIDTH - 2 - half), 1)
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="middle">{}</text>').format(css_class, x, y, text)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
