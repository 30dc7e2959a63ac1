"""Reading noisy training curves: smoothing, and where one curve overtakes another. Used through `scrimp.scaling`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import uniform_filter1d

from scrimp.scaling.noise import Noise, estimate

Array = NDArray[np.float64]
Curve = tuple[ArrayLike, ArrayLike] | tuple[ArrayLike, ArrayLike, ArrayLike]

FEWEST = 4  # points in a smoothing window; sparser stretches get a wider one
MOST = 2000  # points of a curve; of a longer one neighbours are averaged
GRID = 400  # log-spaced x at which two curves are compared
PILOT = 4.0  # spans: the half-width of the smooth whose residuals tell the noise


@dataclass(frozen=True)
class Crossing:
    """One curve overtakes the other at `x`, with the 95 % interval `low` to `high`; `leader` is who has the lower y after.

    `lead` is the largest lead until the next crossing, in units of y, and `significance` that lead in standard errors.
    """

    x: float
    low: float
    high: float
    leader: Literal["a", "b"]
    lead: float
    significance: float


def smooth(x: ArrayLike, y: ArrayLike, at: ArrayLike, *, span: float = 0.1) -> Array:
    """Local straight lines in log x (tricube weights, half-width `span` in log x), read at `at`; all x above 0.

    In log x, because a training curve bends most at its start: an even window there is narrow early and wide late. A window
    with fewer than four points is widened to hold four.
    """
    xs, ys = _curve((x, y))[:2]
    return _smoother(np.log(xs), np.log(np.asarray(at, dtype=np.float64)), span) @ ys


def crossings(
    curve_a: Curve,
    curve_b: Curve,
    *,
    span: float = 0.1,
    bootstrap: int = 400,
    significance: float = 3.5,
    seed: int = 0,
) -> list[Crossing]:
    """Where two noisy curves cross, in ascending x: lower y leads (a loss).

    A curve is (x, y) or (x, y, noise), `noise` being the standard error of each y, independent of its neighbours'. Both are
    smoothed (`smooth`) on common log-spaced x over the range that both cover. Noise is drawn `bootstrap` times: from
    `noise` where given; else with the size and the correlation of neighbours that the curve's residuals about a wider
    smooth tell (`scrimp.scaling.noise`). Of a curve of more than 2,000 points neighbours are averaged first.

    A lead counts only if somewhere it exceeds `significance` standard errors of the difference (more than 2, because a
    curve has some tens of places at which noise alone may lead). `scrimp scaling coverage` tells how often noise alone
    makes a crossing, and how often `low` to `high` hold a true one. The weakest that does not is merged into its neighbours
    (inside, two crossings vanish; at an end, one) until all count. A crossing lies between the largest leads on its two
    sides, where the stretches that each curve leads add up: for a clean crossing that is the sign change, in a thicket of
    them their balance; `low` and `high` are percentiles of it.

    Raises ValueError on unusable curves, or where they share no range.
    """
    (xa, ya, na), (xb, yb, nb) = (_thinned(*_curve(curve)) for curve in (curve_a, curve_b))
    start, end = max(xa.min(), xb.min()), min(xa.max(), xb.max())
    if not start < end:
        raise ValueError(
            f"the curves share no x: one covers {xa.min():g} to {xa.max():g}, the other {xb.min():g} to {xb.max():g}"
        )
    grid = np.linspace(np.log(start), np.log(end), GRID)
    rng = np.random.default_rng(seed)
    a, draws_a = _smoothed(np.log(xa), ya, na, grid, span, bootstrap, rng)
    b, draws_b = _smoothed(np.log(xb), yb, nb, grid, span, bootstrap, rng)
    difference, draws = a - b, draws_a - draws_b  # (GRID,), (bootstrap, GRID)
    # Averaged over neighbours: a few hundred draws leave the error at one place uncertain by some per cent.
    errors = np.sqrt(np.maximum(uniform_filter1d(draws.var(axis=0), GRID // 20, mode="nearest"), 1e-24))
    strength = difference / errors
    stretches = _stretches(strength, significance)
    peaks = [int(stretch[np.abs(difference[stretch]).argmax()]) for stretch in stretches]
    found = []
    for left, right in pairwise(peaks):
        sign = float(np.sign(difference[left]))  # below 0: a led before, so that b leads now
        between = slice(left, right + 1)
        x = float(_balance(grid[between], sign * difference[None, between])[0])
        low, high = np.percentile(_balance(grid[between], sign * draws[:, between]), [2.5, 97.5])
        found.append(
            Crossing(
                x=float(np.exp(x)),
                low=float(np.exp(min(low, x))),
                high=float(np.exp(max(high, x))),
                leader="b" if sign < 0 else "a",
                lead=float(abs(difference[right])),
                significance=float(abs(strength[right])),
            )
        )
    return found


def _stretches(strength: Array, significance: float) -> list[NDArray[np.intp]]:
    """Grid places by who leads there, weak stretches left to their neighbours: alternately one curve's and the other's.

    A merged stretch keeps only the places of the curve that leads it, so that its largest lead is its leader's.
    """
    changes = np.flatnonzero(np.sign(strength[1:]) != np.sign(strength[:-1])) + 1
    parts = np.split(np.arange(len(strength)), changes)
    while len(parts) > 1:
        strengths = [float(np.abs(strength[part]).max()) for part in parts]
        weakest = int(np.argmin(strengths))
        if strengths[weakest] >= significance:
            break
        beside = slice(max(0, weakest - 1), weakest + 2)
        parts[beside] = [np.concatenate(parts[max(0, weakest - 1) : weakest] + parts[weakest + 1 : weakest + 2])]
    return parts


def _balance(grid: Array, lead: Array) -> Array:
    """Per row of `lead` (k, places): the start of `grid` plus the length over which the lead is positive."""
    left, right = lead[:, :-1], lead[:, 1:]
    share = (np.maximum(left, 0) + np.maximum(right, 0)) / np.maximum(np.abs(left) + np.abs(right), 1e-300)
    return np.asarray(grid[0] + share @ np.diff(grid))


def _smoothed(
    log_x: Array, y: Array, noise: Array | None, grid: Array, span: float, bootstrap: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """The smooth on the grid (GRID,), and that smooth with noise drawn anew (bootstrap, GRID)."""
    to_grid = _smoother(log_x, grid, span)
    made = estimate(y, _smoother(log_x, log_x, PILOT * span, degree=2)) if noise is None else Noise(noise, 0.0)
    level = to_grid @ y
    return level, level + made.draw(bootstrap, rng) @ to_grid.T


def _smoother(log_x: Array, at: Array, span: float, degree: int = 1) -> Array:
    """The matrix (places, points) that turns y into its local lines (or parabolas: `degree` 2) in log x, read at `at`."""
    fewest = min(FEWEST + 2 * (degree - 1), log_x.size)
    distance = log_x - at[:, None]
    last = np.partition(np.abs(distance), fewest - 1, axis=1)[:, fewest - 1]
    width = np.maximum(span, 1.3 * last)[:, None]
    distance = distance / width
    weights = (1 - np.minimum(np.abs(distance), 1) ** 3) ** 3
    moments = np.stack([(weights * distance**k).sum(axis=1) for k in range(2 * degree + 1)], axis=1)
    powers = np.arange(degree + 1)
    system = moments[:, powers[:, None] + powers]  # (places, degree + 1, degree + 1), of the least squares
    system += 1e-10 * system[:, :1, :1] * np.eye(degree + 1)  # points on top of each other determine no slope
    shape = np.linalg.solve(system, np.eye(degree + 1)[:, :1])[..., 0]  # (places, degree + 1)
    return np.asarray(weights * sum(shape[:, k, None] * distance**k for k in range(degree + 1)))


def _curve(curve: Curve) -> tuple[Array, Array, Array | None]:
    """A curve's x, y and noise, sorted by x and checked."""
    parts = [np.asarray(part, dtype=np.float64) for part in curve]
    x = parts[0]
    if x.ndim != 1 or any(part.shape != x.shape for part in parts) or x.size < FEWEST:
        shapes = [part.shape for part in parts]
        raise ValueError(
            f"a curve needs one-dimensional x and y of one length, {FEWEST} points or more, got the shapes {shapes}"
        )
    if not (all(np.isfinite(part).all() for part in parts) and (x > 0).all()):
        raise ValueError("a curve needs finite values and x above 0: drop the points that have not")
    order = np.argsort(x, kind="stable")
    return x[order], parts[1][order], parts[2][order] if len(parts) > 2 else None


def _thinned(x: Array, y: Array, noise: Array | None) -> tuple[Array, Array, Array | None]:
    """Means over as many neighbours as it takes to have at most `MOST` points: a smooth needs a matrix of all pairs."""
    together = -(-x.size // MOST)
    if together == 1:
        return x, y, noise
    starts = np.arange(0, x.size, together)
    counts = np.diff(np.append(starts, x.size))
    x, y = (np.add.reduceat(values, starts) / counts for values in (x, y))
    return x, y, None if noise is None else np.sqrt(np.add.reduceat(noise**2, starts)) / counts
