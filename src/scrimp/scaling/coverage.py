"""How often the fits' intervals hold the truth, and how often noise makes a crossing: simulated, by seed.

Planted: the law of Hoffmann et al. 2022 with rounded exponents and .2 % of noise a run; curves that fall as x^-.5 with
noise of .01, independent or each point's half its neighbour's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from scrimp.scaling.checks import Interval
from scrimp.scaling.curves import crossings
from scrimp.scaling.isoflop import fit_isoflop
from scrimp.scaling.parametric import Law, fit_parametric, optimal_allocation

PLANTED = Law(1.69, 406.4, 410.7, 0.34, 0.28)
RUN_NOISE = 0.002  # of log loss
CURVE_NOISE = 0.01
CROSSING = 10.0  # where the planted curves cross, of x from 1 to 100
SLOPE = 0.05  # of their difference in log x there
KINDS = ("crossings", "parametric", "isoflop")
RESAMPLINGS = 100  # of a fit; percentiles of so few are a little rough, which counts against the intervals
QUICK_RESAMPLINGS = 10
STARTS = 5


@dataclass(frozen=True)
class Coverage:
    """Of `trials` of a `setting`: `given` had an interval, `held` of those held the truth; `false`: crossings of noise."""

    what: str
    setting: str
    trials: int
    given: int
    held: int
    false: int | None = None


def simulate(trials: int, *, kinds: Sequence[str] = KINDS, quick: bool = False, seed: int = 0) -> Iterator[Coverage]:
    """A row a setting, as they are done; `quick`: one small setting of each of the `kinds`, with few resamplings."""
    resamplings = QUICK_RESAMPLINGS if quick else RESAMPLINGS
    if "crossings" in kinds:
        for points in (100,) if quick else (100, 300, 1000):
            for correlation in (0.5,) if quick else (0.0, 0.5):
                yield _crossing_row(points, correlation, trials, resamplings, seed)
    if "isoflop" in kinds:
        for drift in (4.0,) if quick else (1.0, 2.0, 4.0):
            found = [_isoflop(drift, seed, at) for at in range(trials)]
            yield _row("fit_isoflop, a", f"9 budgets of 9 sizes, middle from 1/{drift:g} to {drift:g} of the best", found)
    if "parametric" in kinds:
        for runs in (8,) if quick else (6, 8, 12, 20, 40):
            yield _row(
                "fit_parametric, a", f"{runs} runs", [_parametric(runs, resamplings, seed, at) for at in range(trials)]
            )
        for way in ("whole runs",) if quick else ("every row a run", "whole runs", "last points"):
            found = [_curves(way, resamplings, seed, at) for at in range(trials)]
            yield _row("fit_parametric, a", f"12 curves of 10 checkpoints, {way}", found)


def _row(what: str, setting: str, intervals: list[Interval | None]) -> Coverage:
    given = [interval for interval in intervals if interval is not None]
    held = sum(low <= PLANTED.a <= high for low, high in given)
    return Coverage(what, setting, len(intervals), len(given), held)


def _crossing_row(points: int, correlation: float, trials: int, resamplings: int, seed: int) -> Coverage:
    x = np.geomspace(1, 100, points)
    false = given = held = 0
    for at in range(trials):
        rng = np.random.default_rng([seed, at])
        fresh = rng.normal(0, CURVE_NOISE, (2, points))
        fresh[:, 1:] *= np.sqrt(1 - correlation**2)
        first, second = 2 + x**-0.5 + lfilter([1.0], [1.0, -correlation], fresh, axis=1)
        false += bool(crossings((x, first), (x, second), bootstrap=resamplings))
        found = crossings((x, first), (x, second + SLOPE * np.log(x / CROSSING)), bootstrap=resamplings)
        given += len(found) == 1
        held += len(found) == 1 and found[0].low <= CROSSING <= found[0].high
    noise = "white noise" if correlation == 0 else f"noise of correlation {correlation:g}"
    return Coverage("crossings", f"{points} points, {noise}", trials, given, held, false)


def _parametric(runs: int, resamplings: int, seed: int, at: int) -> Interval | None:
    """Runs of sizes about the optimum (a fifth to five times) of budgets of 1e18 to 1e20 FLOPs."""
    rng = np.random.default_rng([seed, at])
    flops = 10 ** rng.uniform(18, 20, runs)
    params = optimal_allocation(PLANTED, flops)[0] * np.exp(rng.uniform(-1.6, 1.6, runs))
    tokens = flops / (6 * params)
    loss = PLANTED.predict(params, tokens) * np.exp(rng.normal(0, RUN_NOISE, runs))
    fit = fit_parametric(params, tokens, loss, bootstrap=resamplings, polished=STARTS, seed=at)
    return fit.intervals.get("a")


def _curves(way: str, resamplings: int, seed: int, at: int) -> Interval | None:
    """Training curves of 5 to 160 tokens a parameter in the end; a run's rows share its noise."""
    rng = np.random.default_rng([seed, at])
    params = np.repeat(10 ** rng.uniform(7, 9, 12), 10)
    tokens = params * np.repeat(10 ** rng.uniform(0.7, 2.2, 12), 10) * np.tile(np.linspace(0.1, 1, 10), 12)
    loss = PLANTED.predict(params, tokens) * np.exp(np.repeat(rng.normal(0, RUN_NOISE, 12), 10))
    rows = slice(9, None, 10) if way == "last points" else slice(None)
    names = np.repeat(np.arange(12.0), 10) if way == "whole runs" else None
    fit = fit_parametric(params[rows], tokens[rows], loss[rows], runs=names, bootstrap=resamplings, polished=STARTS, seed=at)
    return fit.intervals.get("a")


def _isoflop(drift: float, seed: int, at: int) -> Interval | None:
    """Sizes from a tenth to ten times a middle that drifts from a `drift`-th of the optimum to `drift` times it."""
    rng = np.random.default_rng([seed, at])
    flops = np.repeat(np.geomspace(6e18, 3e21, 9), 9)
    middle = np.repeat(drift ** np.linspace(-1, 1, 9), 9)
    params = optimal_allocation(PLANTED, flops)[0] * middle * np.tile(np.geomspace(0.1, 10, 9), 9)
    loss = PLANTED.predict(params, flops / (6 * params)) * np.exp(rng.normal(0, RUN_NOISE, params.size))
    try:
        return fit_isoflop(params, flops, loss).interval
    except ValueError:
        return None
