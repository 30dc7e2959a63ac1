"""How the report writes numbers: significant digits, units, intervals, censored ends; and the order of verdicts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

NOT_AVAILABLE = "n/a"
VERDICTS = ("supported", "partly supported", "not supported", "contradicted", "inconclusive", "not run")

_SPACE = "\u00a0"  # a number never parts from its unit at a line's end
_MINUS = "\u2212"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_TIMES_UNITS = frozenset({"x", "×", "times", "fold"})
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def verdict_rank(verdict: str) -> int:
    """Where a verdict stands in the page's order; an unknown word is a `ValueError`, not a silent last place."""
    return VERDICTS.index(verdict)


def verdict_slug(verdict: str) -> str:
    """A verdict as a CSS class and element id: `partly-supported`."""
    return verdict.replace(" ", "-")


def format_number(value: float | None, decimals: int | None = None) -> str:
    """A number with a true minus and thousands commas; null and NaN are `n/a`.

    Without `decimals`: whole numbers in full, others to four significant digits without trailing zeros, and powers of
    ten where neither would be read at a glance.
    """
    if value is None or math.isnan(value):
        return NOT_AVAILABLE
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    if value == 0:
        return "0"
    if abs(value) >= 1e9 or (decimals is None and abs(value) < 1e-4):
        mantissa, exponent = f"{value:.2e}".split("e")
        text = f"{mantissa}{_SPACE}×{_SPACE}10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    elif decimals is not None:
        text = f"{value:,.{decimals}f}"
        text = text.removeprefix("-") if float(text.replace(",", "")) == 0 else text
    elif float(value).is_integer():
        text = f"{value:,.0f}"
    else:
        places = max(0, 3 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{places}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", _MINUS)


def attach_unit(text: str, unit: str) -> str:
    """`1.4` and `x` make `1.4×`; `40` and `%` make `40 %`, unbreakable; `n/a` takes no unit."""
    if text == NOT_AVAILABLE or not unit:
        return text
    return f"{text}×" if unit in _TIMES_UNITS else f"{text}{_SPACE}{unit}"


def format_value(value: float | None, unit: str = "", decimals: int | None = None) -> str:
    """A number and its unit."""
    return attach_unit(format_number(value, decimals), unit)


def format_published(value: float | None, unit: str = "", origin: str = "report") -> str:
    """A published number; one that no report states as it is says what it is instead: `5× (derived)`."""
    told = {"report": "", "derived": " (derived)", "ours": " (ours)", "remembered": " (as remembered)"}[origin]
    return format_value(value, unit) + (told if value is not None else "")


def format_interval(low: float | None, high: float | None, unit: str = "", decimals: int | None = None) -> str:
    """`1.2 to 1.5×`; an infinite end is censored: `> 1.2×`, `< 1.5×`; both: `unbounded`; null: `n/a`."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return NOT_AVAILABLE
    if math.isinf(low) and math.isinf(high):
        return "unbounded"
    if math.isinf(high):
        return f">{_SPACE}{format_value(low, unit, decimals)}"
    if math.isinf(low):
        return f"<{_SPACE}{format_value(high, unit, decimals)}"
    return f"{format_number(low, decimals)} to {format_value(high, unit, decimals)}"


def format_estimate(value: float | None, censored: str | None, unit: str = "", decimals: int | None = None) -> str:
    """An estimate; where it is only a bound (`censored` above or below) it is written `> 2.9×` or `< 0.5×`."""
    sign = {"above": f">{_SPACE}", "below": f"<{_SPACE}"}.get(censored or "", "")
    return f"{sign}{format_value(value, unit, decimals)}"


def shared_decimals(measured: float | None, low: float | None, high: float | None) -> int | None:
    """Decimals that resolve an interval: two digits of its half-width where that begins with 1 or 2, else one.

    An estimate and its interval share them, so that they compare at a glance. Null where there is no finite width.
    """
    finite = [end for end in (low, measured, high) if end is not None and math.isfinite(end)]
    width = (max(finite) - min(finite)) / 2 if len(finite) > 1 else 0.0
    if width <= 0:
        return None
    return min(5, max(0, -math.floor(math.log10(width / 3))))


def format_with_interval(
    measured: float | None, low: float | None, high: float | None, unit: str = "", censored: str | None = None
) -> str:
    """An estimate, its interval in brackets, equally fine: `1.9× (0.8 to 3.1)`; an interval without a width is left out."""
    places = shared_decimals(measured, low, high)
    text = format_estimate(measured, censored, unit, places)
    if low is None or high is None or low == high:
        return text
    return f"{text} ({format_interval(low, high, '', places)})"


def scaled_column(values: Sequence[float | None], unit: str) -> tuple[str, list[str]]:
    """A column's common unit and its texts: (`TFLOP`, [`10.2`, `5.13`, `n/a`]).

    One prefix for the whole column (the largest value's), so that rows compare without reading units.
    """
    known = [abs(value) for value in values if value is not None and math.isfinite(value)]
    largest = max(known, default=1.0)
    factor, prefix = next(((f, p) for f, p in _PREFIXES if largest >= f), _PREFIXES[-1])
    return f"{prefix}{unit}", [
        NOT_AVAILABLE if value is None or math.isnan(value) else significant(value / factor) for value in values
    ]


def significant(value: float | None, digits: int = 3) -> str:
    """A number to `digits` significant digits, trailing zeros kept: measured columns show what was resolved."""
    if value is None or math.isnan(value):
        return NOT_AVAILABLE
    if value == 0 or math.isinf(value):
        return format_number(value)
    return format_number(value, max(0, digits - 1 - math.floor(math.log10(abs(value)))))


def prose(text: str) -> str:
    """Somebody's sentence with a true minus before numbers and no line break between a number and `%`."""
    return re.sub(r"(?<=\d) (?=%)", _SPACE, re.sub(r"(?<![\w.)])-(?=\d)", _MINUS, text))


def plain_text(value: Any) -> str:
    """A config or provenance value as a person would write it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(plain_text(item) for item in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain_text(item)}" for key, item in value.items()) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
