"""Intervals and speedups: pure functions on numpy arrays, with no knowledge of studies or files (DESIGN, Statistics)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from scrimp.metrics import Better

Array = NDArray[np.float64]
Censored = Literal["above", "below"]

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 8  # values; below, the bootstrap's coverage is worse than that of the t interval
RESAMPLES: ContextVar[int] = ContextVar("resamples", default=9999)
OCTAVE = 2.0  # a sweep has a slope at a speedup if it rises within this factor around it
SAME = 1e-9  # of the largest value: a difference below is one of rounding
GRID = 1001  # speedups tried along a sweep; a factor 16 in steps of 0.3 %


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval, in the unit of the values.

    Both ends are nan where there is none: one value, or values without spread on no known grid. They are equal for a
    number that was counted or derived. `sized` is false where the ends hold but the mean is no size to go by.
    """

    mean: float
    low: float
    high: float
    n: int
    sized: bool = True


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
    step: float = 0.0,
) -> Interval:
    """Mean of per-seed values (paired differences, logs of speedups) with its two-sided confidence interval.

    Student's t for n < 8, the BCa bootstrap above; one value gives no interval (nan, nan). `rng` drives the bootstrap;
    by default a generator with a fixed seed, so that the same files always give the same verdict.

    `step` is what the values resolve, one test example for instance (`resolution`): their standard deviation is taken to
    be no smaller, so that values that happen to be equal do not look exact. Equal values without a step have no interval.

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
        low, high = _finite_interval(np.clip(array, finite.min(), finite.max()), confidence, rng, step)
    if np.isneginf(array).any() or "below" in marks:
        low = -np.inf
    if np.isposinf(array).any() or "above" in marks:
        high = np.inf
    return Interval(mean, float(low), float(high), array.size)


def _finite_interval(values: Array, confidence: float, rng: np.random.Generator | None, step: float) -> tuple[float, float]:
    spread = float(values.std(ddof=1))
    if spread <= step or spread <= SAME * np.abs(values).max():
        if step == 0:
            return float("nan"), float("nan")
        reach = step / np.sqrt(values.size) * _t_point(values.size, confidence)
        return float(values.mean() - reach), float(values.mean() + reach)
    if values.size < BOOTSTRAP_FROM:
        reach = spread / np.sqrt(values.size) * _t_point(values.size, confidence)
        return float(values.mean() - reach), float(values.mean() + reach)
    rng = np.random.default_rng(0) if rng is None else rng
    ends = stats.bootstrap(
        (values,), np.mean, confidence_level=confidence, n_resamples=RESAMPLES.get(), method="BCa", vectorized=True, rng=rng
    ).confidence_interval
    return float(ends.low), float(ends.high)


@contextmanager
def fewer_resamples(count: int) -> Iterator[None]:
    """Bootstraps by `count` samples within: for simulations that judge thousands of times."""
    token = RESAMPLES.set(count)
    try:
        yield
    finally:
        RESAMPLES.reset(token)


@cache
def _t_point(n: int, confidence: float = CONFIDENCE) -> float:
    """The point of Student's t that a two-sided interval of n values reaches to, in standard errors."""
    return float(special.stdtrit(n - 1, (1 + confidence) / 2))


def resolution(values: ArrayLike) -> float:
    """The step of the grid that values lie on, in their unit: accuracies are whole numbers of test examples.

    It is the largest number that all their differences are multiples of, to nine digits; 0 where all are equal.
    """
    array = np.unique(np.asarray(values, dtype=np.float64))
    nothing = SAME * float(np.abs(array).max())
    step = 0.0
    for gap in np.diff(array).tolist():
        rest = gap
        while rest > nothing:  # Euclid's algorithm
            step, rest = rest, abs(step - round(step / rest) * rest)
    return step


def geometric_interval(speedups: Sequence[Speedup], confidence: float = CONFIDENCE) -> Interval:
    """Geometric mean of speedups with an interval that was computed on their logs.

    So that 2 and 1/2 average to 1. A censored speedup opens the interval: above gives high = inf, below low = 0. So does
    one of 0 or infinity: the method, or what it is held against, never arrived.
    """
    values = np.array([speedup.value for speedup in speedups], dtype=np.float64)
    if not (values >= 0).all():
        raise ValueError(f"a speedup is no negative number, got {values.tolist()}")
    if values.size > 1 and np.ptp(values) == 0 and values[0] == 0:
        return Interval(0.0, 0.0, 0.0, values.size)
    with np.errstate(divide="ignore"):
        logs = mean_interval(np.log(values), confidence, [speedup.censored for speedup in speedups])
    return Interval(float(np.exp(logs.mean)), float(np.exp(logs.low)), float(np.exp(logs.high)), logs.n)


# ------------------------------------------------------------------------------------------------------------ speedups
def sweep_speedup(costs: ArrayLike, qualities: ArrayLike, cost: float, quality: float, better: Better = "higher") -> Speedup:
    """Horizontal distance from the method's point to the baseline sweep (DESIGN, The baseline sweep), for one seed.

    `costs`, `qualities`: shape (points,), one point per fully decayed run of the plain recipe, any order; `cost` and
    `quality` are the method's. The sweep's line is its running best (`sweep_line`), interpolated linearly in log cost.
    The *first* cost that reaches the wanted quality counts: the smallest speedup, against the method. Below the first
    point and above the line's end the speedup is censored there.

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
    sweeps: Sequence[tuple[ArrayLike, ArrayLike]],
    ends: Sequence[tuple[float, float]],
    better: Better = "higher",
    step: float = 0.0,
) -> tuple[list[Speedup], Interval]:
    """Per-seed speedups on the sweep, and the interval of their geometric mean.

    `sweeps`: per seed (costs, qualities), shape (points,); `ends`: per seed the method's (cost, quality); `step`: what a
    quality resolves.

    The interval is the wider, end by end, of two: the t interval of the logs, and the speedups at which a paired t test
    of *quality* cannot tell the method from the sweep. The first alone is wrong on a saturated sweep: there all seeds
    may beat their sweep's top by a hair, which gives equal censored speedups, no spread, and with 3 seeds a false claim
    about every tenth time. The second is wide exactly there, because it asks by how much the qualities differ.

    The mean is a size (`sized`) only where the sweep rises around it: on a flat sweep noise decides which of its costs
    reaches the method's quality first.
    """
    pairs = list(zip(sweeps, ends, strict=True))
    speedups = [sweep_speedup(*sweep, *end, better=better) for sweep, end in pairs]
    logs = geometric_interval(speedups)
    if logs.n == 1:
        return speedups, logs
    tests = _Tests.of(pairs, 1.0 if better == "higher" else -1.0, step)
    low, high = (0.0, float("inf")) if tests is None else tests.bounds()
    low, high = float(np.fmin(logs.low, low)), float(np.fmax(logs.high, high))  # logs without spread have no ends
    rises = tests is not None and tests.rises(logs.mean)
    return speedups, Interval(logs.mean, min(low, logs.mean), max(high, logs.mean), logs.n, sized=rises)


@dataclass(frozen=True)
class _Tests:
    """Paired t tests of quality along the costs that every seed's sweep has; a high quality is good here."""

    grid: Array  # (GRID,) log speedups: log cost on the sweep less the method's
    sweep: Array  # (seeds, GRID) the sweep's quality, unsmoothed: a running best leans up the more points it has behind it
    method: Array  # (seeds, 1)
    step: float

    @classmethod
    def of(
        cls, pairs: list[tuple[tuple[ArrayLike, ArrayLike], tuple[float, float]]], sign: float, step: float
    ) -> _Tests | None:
        """None where costs are so uneven that no speedup lies on every seed's sweep."""
        lines = []
        for (costs, qualities), (cost, _) in pairs:
            order = np.argsort(np.asarray(costs), kind="stable")
            logs = np.log(np.asarray(costs, dtype=np.float64)[order]) - np.log(cost)
            lines.append((logs, sign * np.asarray(qualities, dtype=np.float64)[order]))
        start, end = max(logs[0] for logs, _ in lines), min(logs[-1] for logs, _ in lines)
        if not start < end:
            return None
        grid = np.linspace(start, end, GRID)
        sweep = np.array([np.interp(grid, logs, qualities) for logs, qualities in lines])
        return cls(grid, sweep, sign * np.array([[quality] for _, (_, quality) in pairs]), step)

    def lower(self, differences: Array) -> Array:
        """Lower ends (columns,) of the paired t intervals of differences (seeds, columns)."""
        n = len(differences)
        spread = np.maximum(differences.std(axis=0, ddof=1), self.step)
        lower: Array = differences.mean(axis=0) - _t_point(n) * spread / np.sqrt(n)
        return lower

    def bounds(self) -> tuple[float, float]:
        """The speedups that the qualities leave open.

        From the sweep's cheap end, `low` is where the method stops being above it for certain (0 if at once); from the
        dear end, `high` is where it stops being below (inf if at once). Costs at the dear end at which the sweep has
        fallen for certain from its best before are passed over: its running best is no lower there.
        """
        running = np.maximum.accumulate(self.sweep.mean(axis=0))
        best = np.maximum.accumulate(np.where(np.diff(running, prepend=-np.inf) > 0, np.arange(GRID), 0))  # where it was set
        fallen = self.lower(self.sweep[:, best] - self.sweep) > 0
        last = int(np.flatnonzero(~fallen)[-1]) + 1
        low = _crossing(self.grid, self.lower(self.method - self.sweep))
        high = _crossing(self.grid[:last][::-1], self.lower(self.sweep[:, :last] - self.method)[::-1])
        return 0.0 if low is None else float(np.exp(low)), float("inf") if high is None else float(np.exp(high))

    def rises(self, speedup: float) -> bool:
        """Whether the sweep gains quality for certain within a factor OCTAVE around a speedup, or up to its best there."""
        centre = np.clip(np.log(speedup), self.grid[0], self.grid[-1])
        inside = np.flatnonzero(np.abs(self.grid - centre) <= np.log(OCTAVE) + SAME)
        top = inside[int(self.sweep[:, inside].mean(axis=0).argmax())]
        return bool(self.lower(self.sweep[:, [top]] - self.sweep[:, [inside[0]]])[0] > 0)


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
    """The sweep's running best: log costs (ascending, distinct), and the best quality of any point up to each.

    More plain training that makes the plain recipe worse does not make a method cheap. Points of equal cost are averaged.
    Higher quality is better here.
    """
    given, heights = np.asarray(costs, dtype=np.float64), np.asarray(qualities, dtype=np.float64)
    if given.ndim != 1 or given.shape != heights.shape or given.size < 2:
        raise ValueError(f"a sweep needs two points or more, got costs {given.shape} and qualities {heights.shape}")
    if not (np.isfinite(given).all() and (given > 0).all() and np.isfinite(heights).all()):
        raise ValueError(f"a sweep needs positive costs and finite qualities, got {given} and {heights}")
    distinct, place, counts = np.unique(given, return_inverse=True, return_counts=True)
    return np.log(distinct), np.maximum.accumulate(np.bincount(place, weights=heights) / counts)


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
