"""Intervals and speedups: pure functions on numpy arrays, with no knowledge of studies or files (DESIGN, Statistics)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import isotonic_regression

from scrimp.metrics import Better

Array = NDArray[np.float64]
Censored = Literal["above", "below"]

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 8  # values; below, the bootstrap's coverage is worse than that of the t interval
RESAMPLES = 9999
GRID = 1001  # speedups tried along a sweep; a factor 16 in steps of 0.3 %


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval, in the unit of the values; both ends are nan where one value gives none."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Speedup:
    """Baseline's cost over method's cost (no unit; 2 = half the cost).

    `censored` says that the true speedup lies above (at least) or below (at most) `value`: the data end there, and
    nothing is extrapolated.
    """

    value: float
    censored: Censored | None = None


# ---------------------------------------------------------------------------------------------------------- intervals
def mean_interval(
    values: ArrayLike,
    confidence: float = CONFIDENCE,
    censored: Sequence[Censored | None] | None = None,
    rng: np.random.Generator | None = None,
) -> Interval:
    """Mean of per-seed values (paired differences, logs of speedups) with its two-sided confidence interval.

    Student's t for n < 8, the BCa bootstrap above; one value gives no interval (nan, nan). `rng` drives the bootstrap;
    by default a generator with a fixed seed, so that the same files always give the same verdict.

    An infinite value, or one marked `censored` (its value is then a bound), opens the interval on its side: "above"
    sets `high` to inf, "below" sets `low` to -inf. The other end stays honest: it is computed from the bounds (an
    infinity counts as the outermost finite value), and the mean of min(X, bound) never exceeds the mean of X.

    Raises ValueError on an empty array, on nan, and on anything that is not one-dimensional.
    """
    array = np.asarray(values, dtype=np.float64)  # (n,)
    if array.ndim != 1 or array.size == 0 or np.isnan(array).any():
        raise ValueError(f"need a non-empty one-dimensional array without nan, got {array!r}")
    marks = [None] * array.size if censored is None else list(censored)
    if len(marks) != array.size:
        raise ValueError(f"{array.size} values but {len(marks)} censoring marks")
    with np.errstate(invalid="ignore"):  # inf and -inf together have no mean
        mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, float("nan"), float("nan"), 1)
    finite = array[np.isfinite(array)]
    low, high = -np.inf, np.inf
    if finite.size:
        low, high = _finite_interval(np.clip(array, finite.min(), finite.max()), confidence, rng)
    if np.isneginf(array).any() or "below" in marks:
        low = -np.inf
    if np.isposinf(array).any() or "above" in marks:
        high = np.inf
    return Interval(mean, float(low), float(high), array.size)


def _finite_interval(values: Array, confidence: float, rng: np.random.Generator | None) -> tuple[float, float]:
    if np.ptp(values) == 0:  # a deterministic cost: neither method is defined without spread
        return float(values[0]), float(values[0])
    if values.size < BOOTSTRAP_FROM:
        low, high = stats.t.interval(confidence, values.size - 1, loc=values.mean(), scale=stats.sem(values))
        return float(low), float(high)
    rng = np.random.default_rng(0) if rng is None else rng
    ends = stats.bootstrap(
        (values,), np.mean, confidence_level=confidence, n_resamples=RESAMPLES, method="BCa", vectorized=True, rng=rng
    ).confidence_interval
    return float(ends.low), float(ends.high)


def geometric_interval(speedups: Sequence[Speedup], confidence: float = CONFIDENCE) -> Interval:
    """Geometric mean of speedups with an interval that was computed on their logs.

    So that 2 and 1/2 average to 1. A censored speedup opens the interval: above gives high = inf, below low = 0.
    """
    values = np.array([speedup.value for speedup in speedups], dtype=np.float64)
    if not (values > 0).all():
        raise ValueError(f"a speedup must be above 0, got {values.tolist()}")
    logs = mean_interval(np.log(values), confidence, [speedup.censored for speedup in speedups])
    return Interval(float(np.exp(logs.mean)), float(np.exp(logs.low)), float(np.exp(logs.high)), logs.n)


# ------------------------------------------------------------------------------------------------------------ speedups
def sweep_speedup(costs: ArrayLike, qualities: ArrayLike, cost: float, quality: float, better: Better = "higher") -> Speedup:
    """Horizontal distance from the method's point to the baseline sweep (DESIGN, The baseline sweep), for one seed.

    `costs`, `qualities`: shape (points,), one point per fully decayed run of the plain recipe, any order; `cost` and
    `quality` are the method's. An isotonic fit along cost makes the sweep monotone; between points it is interpolated
    linearly in log cost. Where the fit has a plateau at the wanted quality the *first* cost that reaches it counts: the
    smallest speedup, against the method. Below the first point and above the last one the speedup is censored there.

    `better`: whether a high quality (accuracy) or a low one (loss) is good.
    Raises ValueError with fewer than two points, or on costs that are not positive and finite.
    """
    sign = 1.0 if better == "higher" else -1.0
    log_costs, fitted = sweep_line(costs, sign * np.asarray(qualities, dtype=np.float64))
    if not (np.isfinite(cost) and cost > 0 and np.isfinite(quality)):
        raise ValueError(f"the method's point ({cost}, {quality}) needs a positive cost and a finite quality")
    target, log_cost = sign * quality, np.log(cost)
    if target > fitted[-1]:
        return Speedup(float(np.exp(log_costs[-1] - log_cost)), "above")
    if target < fitted[0]:
        return Speedup(float(np.exp(log_costs[0] - log_cost)), "below")
    first = int(np.searchsorted(fitted, target, side="left"))  # the first point at or above the target
    reached = log_costs[first]
    if first > 0:
        share = (target - fitted[first - 1]) / (fitted[first] - fitted[first - 1])
        reached = log_costs[first - 1] + share * (log_costs[first] - log_costs[first - 1])
    return Speedup(float(np.exp(reached - log_cost)))


def sweep_interval(
    sweeps: Sequence[tuple[ArrayLike, ArrayLike]], ends: Sequence[tuple[float, float]], better: Better = "higher"
) -> tuple[list[Speedup], Interval]:
    """Per-seed speedups on the sweep, and the interval of their geometric mean.

    `sweeps`: per seed (costs, qualities), shape (points,); `ends`: per seed the method's (cost, quality).

    The interval is the wider, end by end, of two: the t interval of the logs, and the speedups at which a paired t test
    of *quality* cannot tell the method from the sweep. The first alone is wrong on a saturated sweep: there all seeds
    may beat their sweep's top by a hair, which gives equal censored speedups, no spread, and with 3 seeds a false claim
    about every tenth time. The second is wide exactly there, because it asks by how much the qualities differ.
    """
    pairs = list(zip(sweeps, ends, strict=True))
    speedups = [sweep_speedup(*sweep, *end, better=better) for sweep, end in pairs]
    logs = geometric_interval(speedups)
    if logs.n == 1:
        return speedups, logs
    low, high = _quality_bounds(pairs, 1.0 if better == "higher" else -1.0)
    return speedups, Interval(logs.mean, min(logs.low, low), max(logs.high, high), logs.n)


def _quality_bounds(
    pairs: list[tuple[tuple[ArrayLike, ArrayLike], tuple[float, float]]], sign: float
) -> tuple[float, float]:
    """The speedups s that the qualities leave open: is the method's above the sweep's at s times the method's cost?

    From the sweep's cheap end, `low` is where the paired t interval of the lead first touches 0 (0 if at once); from
    the dear end, `high` likewise (inf). Each cost is tested by itself on the unsmoothed sweep: an isotonic fit
    would lean down at the cheap end and up at the dear one.
    """
    lines = []
    for (costs, qualities), (cost, quality) in pairs:
        order = np.argsort(np.asarray(costs), kind="stable")
        logs = np.log(np.asarray(costs, dtype=np.float64)[order]) - np.log(cost)  # log speedup at each point
        lines.append((logs, sign * (quality - np.asarray(qualities, dtype=np.float64)[order])))
    start, end = max(logs[0] for logs, _ in lines), min(logs[-1] for logs, _ in lines)
    if not start < end:  # costs so uneven that no speedup lies on every seed's sweep
        return 0.0, float("inf")
    grid = np.linspace(start, end, GRID)  # (GRID,) log speedups
    leads = np.array([np.interp(grid, logs, lead) for logs, lead in lines])  # (seeds, GRID)
    mean = leads.mean(axis=0)
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(leads) - 1) * stats.sem(leads, axis=0)
    low = _crossing(grid, mean - reach)
    high = _crossing(grid[::-1], (-mean - reach)[::-1])
    return 0.0 if low is None else float(np.exp(low)), float("inf") if high is None else float(np.exp(high))


def _crossing(grid: Array, lead: Array) -> float | None:
    """Where `lead` first stops being above 0, walking along the grid; None if at the start, the end if nowhere."""
    stops = np.flatnonzero(lead <= 0)
    if not stops.size:
        return float(grid[-1])
    at = int(stops[0])
    if at == 0:
        return None
    share = lead[at - 1] / (lead[at - 1] - lead[at])
    return float(grid[at - 1] + share * (grid[at] - grid[at - 1]))


def sweep_line(costs: ArrayLike, qualities: ArrayLike) -> tuple[Array, Array]:
    """The sweep as a never falling line: log costs (ascending, distinct) and the isotonic fit of the qualities there.

    Points of equal cost are averaged and weigh as many as they are. Higher quality is better here.
    """
    given, heights = np.asarray(costs, dtype=np.float64), np.asarray(qualities, dtype=np.float64)
    if given.ndim != 1 or given.shape != heights.shape or given.size < 2:
        raise ValueError(f"a sweep needs two points or more, got costs {given.shape} and qualities {heights.shape}")
    if not (np.isfinite(given).all() and (given > 0).all() and np.isfinite(heights).all()):
        raise ValueError(f"a sweep needs positive costs and finite qualities, got {given} and {heights}")
    distinct, place, counts = np.unique(given, return_inverse=True, return_counts=True)
    means = np.bincount(place, weights=heights) / counts
    return np.log(distinct), isotonic_regression(means, weights=counts.astype(np.float64)).x


def curve_speedup(
    baseline: tuple[ArrayLike, ArrayLike],
    method: tuple[ArrayLike, ArrayLike],
    target: float | None = None,
    better: Better = "higher",
) -> Speedup:
    """The published way: where each arm's *learning curve* first reaches a target, baseline's cost over method's.

    Each curve is (costs, qualities), shape (evaluations,), costs ascending. `target` defaults to the baseline's final
    quality. Curves are read as they are drawn, with straight lines between evaluations. It compares runs at different
    stages of their learning-rate decay and therefore favours whatever decays early: report it beside the sweep only.

    A target never reached has infinite cost, as far as the run can tell: the speedup is then censored at what the end of
    that run bounds it to. Raises ValueError where neither curve reaches the target.
    """
    sign = 1.0 if better == "higher" else -1.0
    plain, other = _as_curve(baseline, sign), _as_curve(method, sign)
    goal = plain[1][-1] if target is None else sign * target
    plain_cost, method_cost = _first_reach(*plain, goal), _first_reach(*other, goal)
    if plain_cost is None and method_cost is None:
        raise ValueError(f"neither curve reaches the target {target}: their costs cannot be compared")
    if method_cost is None:
        return Speedup(float(plain_cost / other[0][-1]), "below")
    if plain_cost is None:
        return Speedup(float(plain[0][-1] / method_cost), "above")
    return Speedup(float(plain_cost / method_cost))


def _as_curve(curve: tuple[ArrayLike, ArrayLike], sign: float) -> tuple[Array, Array]:
    costs, qualities = (np.asarray(part, dtype=np.float64) for part in curve)
    if costs.ndim != 1 or costs.shape != qualities.shape or costs.size == 0 or costs[-1] <= 0:
        raise ValueError(f"a curve needs as many costs as qualities and ends above cost 0, got {curve}")
    if (np.diff(costs) < 0).any() or not np.isfinite(costs).all() or np.isnan(qualities).any():
        raise ValueError(f"a curve needs ascending finite costs and no nan, got {curve}")
    return costs, sign * qualities


def _first_reach(costs: Array, qualities: Array, goal: float) -> float | None:
    """Cost at which a drawn curve first reaches `goal`; an untrained model (cost 0) has not reached anything."""
    reached = np.flatnonzero((qualities >= goal) & (costs > 0))
    if not reached.size:
        return None
    first = int(reached[0])
    if first == 0 or qualities[first - 1] >= goal:
        return float(costs[first])
    share = (goal - qualities[first - 1]) / (qualities[first] - qualities[first - 1])
    return float(costs[first - 1] + share * (costs[first] - costs[first - 1]))
