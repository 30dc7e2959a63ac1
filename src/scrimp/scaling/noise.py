"""The noise of a training curve, read off the curve itself. Used through `scrimp.scaling.crossings`.

Neighbouring points of a curve share noise: losses are averaged over overlapping windows, and a run drifts. The model is
first-order: each point's noise is `correlation` times its neighbour's plus a fresh part, with a size that may change along
the curve. An exponential moving average of independent losses has just this noise; a plain one of k points has less of it
at long distances than the model says, so that errors come out too large rather than too small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.signal import lfilter

Array = NDArray[np.float64]

NOISE_OVER = 25  # neighbouring residuals that tell the size of the noise
STRONGEST = 0.95  # correlation of neighbours; a slower drift cannot be told from the curve itself
STEPS = 8  # halvings of the range of the correlation: to .004


@dataclass(frozen=True)
class Noise:
    """`size`: the standard deviation of each point, shape (points,); `correlation`: of neighbours, 0 or above."""

    size: Array
    correlation: float

    def draw(self, draws: int, rng: np.random.Generator) -> Array:
        """Independent noise of the whole curve, shape (draws, points)."""
        fresh = rng.standard_normal((draws, self.size.size))
        return self.size * _correlated(fresh, self.correlation)


def estimate(y: Array, smoother: Array) -> Noise:
    """The noise of `y` (points,), from its residuals about the smooth `smoother @ y`; `smoother` is (points, points).

    Residuals are smaller than the noise and less alike than it, because a smooth follows the noise that it is computed
    from: in each window they sum to about zero. So they are not taken at their word. The correlation is the one whose
    noise, sent through the same smoother, leaves residuals as alike as those found; sizes are scaled up by what that noise
    loses. Take a smoother wider than the one whose error is wanted: it follows less of the noise.
    """
    left = np.eye(y.size) - smoother  # what a smooth leaves of the data
    residual = left @ y
    local = np.sqrt(np.maximum(_nearby(residual**2), 1e-24))
    found = _alike(residual / local)
    low, high = 0.0, STRONGEST
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _expected(left, middle)[0] < found else (low, middle)
    correlation = 0.0 if found <= _expected(left, 0.0)[0] else (low + high) / 2
    free = max(1.0, float(np.trace(left)))  # points less those that the smooth uses up
    correlation = min(STRONGEST, correlation + float(np.sqrt((1 - correlation**2) / free)))
    kept = _nearby(_expected(left, correlation)[1])
    return Noise(local / np.sqrt(np.maximum(kept, 0.01)), correlation)


def _nearby(values: Array) -> Array:
    return np.asarray(uniform_filter1d(values, min(values.size, NOISE_OVER), mode="nearest"))


def _alike(residual: Array) -> float:
    return float(residual[1:] @ residual[:-1]) / max(float(residual @ residual), 1e-300)


def _expected(left: Array, correlation: float) -> tuple[float, Array]:
    """Of noise of size 1: how alike neighbouring residuals are, and the variance of each residual (points,)."""
    # A row of `left` times the recursion that makes the noise, which runs backwards over the row.
    spread = _correlated(left[:, ::-1], correlation, first=False)[:, ::-1]
    spread[:, 1:] *= np.sqrt(1 - correlation**2)
    variance = np.einsum("ij,ij->i", spread, spread)
    shared = np.einsum("ij,ij->i", spread[1:], spread[:-1])
    size = np.sqrt(np.maximum(variance, 1e-12))
    return float((shared / (size[1:] * size[:-1])).sum() / variance.size), variance


def _correlated(fresh: Array, correlation: float, first: bool = True) -> Array:
    """Noise of size 1 along the last axis from independent values of size 1; without `first` only their running sum."""
    if first:
        fresh = fresh.copy()
        fresh[:, 1:] *= np.sqrt(1 - correlation**2)
    return np.asarray(lfilter([1.0], [1.0, -correlation], fresh, axis=-1))
