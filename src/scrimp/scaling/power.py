"""Power laws, with and without a floor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import least_squares

from scrimp.scaling.checks import CONFIDENCE, Array, Interval, positive


@dataclass(frozen=True)
class PowerLaw:
    """y = offset + coefficient x^exponent; `intervals` has the keys coefficient, exponent and, where fitted, offset."""

    coefficient: float
    exponent: float
    offset: float
    intervals: dict[str, Interval]
    points: int

    def predict(self, x: ArrayLike) -> Array:
        return np.asarray(self.offset + self.coefficient * np.asarray(x, dtype=np.float64) ** self.exponent)


def fit_power_law(x: ArrayLike, y: ArrayLike, *, offset: bool = False) -> PowerLaw:
    """Fit y = k x^p, or with `offset` y = c + k x^p with k > 0 and 0 <= c (a loss has a floor, and none is negative).

    Without an offset: a straight line in logs, with intervals by Student's t. With one: least squares in y from several
    starts, with intervals from the curvature at the optimum; where the offset rests on 0, or another trade-off leaves it
    open, they are wide or infinite, which is to be read as "the data do not say". Two points give no intervals (nan).
    """
    xs, ys = positive(x=x, y=y)
    least = 4 if offset else 2
    if len(np.unique(xs)) < least:
        raise ValueError(f"a power law {'with an offset ' * offset}needs {least} different x or more: add points")
    return _offset_power_law(xs, ys) if offset else _plain_power_law(xs, ys)


def _plain_power_law(x: Array, y: Array) -> PowerLaw:
    line = stats.linregress(np.log(x), np.log(y))
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 2) if len(x) > 2 else np.nan
    low, high = (line.intercept + sign * reach * line.intercept_stderr for sign in (-1, 1))
    about = {
        "coefficient": (float(np.exp(low)), float(np.exp(high))),
        "exponent": (float(line.slope - reach * line.stderr), float(line.slope + reach * line.stderr)),
    }
    return PowerLaw(float(np.exp(line.intercept)), float(line.slope), 0.0, about, len(x))


def _offset_power_law(x: Array, y: Array) -> PowerLaw:
    middle = float(np.exp(np.log(x).mean()))
    ratio = np.log(x / middle)

    def residual(point: Array) -> Array:
        return np.asarray(point[0] + np.exp(point[1] + point[2] * ratio) - y)

    bounds = ([0.0, -np.inf, -20.0], [np.inf, np.inf, 20.0])
    floor = 0.9 * y.min()
    fits = [
        least_squares(residual, [floor, np.log(y.mean() - floor), exponent], bounds=bounds, x_scale=[1, 1, 0.1])
        for exponent in (-2.0, -0.5, -0.1, 0.5)
    ]
    best = min(fits, key=lambda fit: fit.cost)
    offset, level, exponent = map(float, best.x)
    spread = 2 * best.cost / max(1, len(x) - 3)
    errors = np.sqrt(np.maximum(np.diag(np.linalg.pinv(best.jac.T @ best.jac)), 0) * spread)
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, max(1, len(x) - 3)) * errors
    shift = level - exponent * np.log(middle)
    # The coefficient belongs to x = 1, far outside the data: its error is that of the level and of the slope out there.
    far = float(np.hypot(reach[1], reach[2] * np.log(middle)))
    about = {
        "coefficient": (float(np.exp(shift - far)), float(np.exp(min(shift + far, 700.0)))),
        "exponent": (exponent - float(reach[2]), exponent + float(reach[2])),
        "offset": (max(0.0, offset - float(reach[0])), offset + float(reach[0])),
    }
    return PowerLaw(float(np.exp(shift)), exponent, offset, about, len(x))
