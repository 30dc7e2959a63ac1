"""Whether levers multiply: the speedup of a combination over the product of the speedups of its parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from scrimp.claims.statistics import Interval, Speedup, geometric_interval
from scrimp.config import Axis, Workspace
from scrimp.errors import ScrimpError
from scrimp.metrics import better_side
from scrimp.runs import Runs
from scrimp.studies import probe

STUDY = "combined"
METRICS = ("test_accuracy", "test_loss")
AXES: tuple[Axis, ...] = ("flops", "cpu_seconds")
# What each combination is made of; shorter training is on the sweep, so that its own speedup is 1.
PARTS = {
    "prune-grow": ("prune", "grow"),
    "prune-sparse": ("prune", "sparse"),
    "grow-sparse": ("grow", "sparse"),
    "all": ("prune", "grow", "sparse"),
    "prune-half": ("prune",),
    "grow-half": ("grow",),
    "sparse-half": ("sparse",),
}


@probe("products")
def products(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """A row a combination, metric and cost: its speedup, the product of its parts', and the factor between the two.

    All three by seed, as geometric means with 95 % intervals of their logs. A seed in which a speedup is a bound (off the
    sweep's ends) gives no factor; where any is, `factor` is nan and `note` says which arm.
    """
    runs = Runs.of(workspace, workspace.study(STUDY), scale)
    trained = {name: parts for name, parts in PARTS.items() if {name, *parts} <= set(runs.runs)}
    if not trained:
        raise ScrimpError(f"no combination of {STUDY} and its parts have finished runs at scale {scale}")
    recorded = {metric for by_seed in runs.runs.values() for run in by_seed.values() for metric in run.metrics}
    return pd.DataFrame(
        {"combination": name, "metric": metric, "axis": axis, **row(runs, name, parts, metric, axis)}
        for name, parts in trained.items()
        for metric in METRICS
        if metric in recorded
        for axis in AXES
    )


def row(runs: Runs, combination: str, parts: Sequence[str], metric: str, axis: Axis) -> dict[str, Any]:
    """The numbers of one combination."""
    sweep = runs.sweep_arms()
    seeds, _ = runs.paired_seeds([combination, *parts, *sweep])
    found = {arm: runs.speedups(arm, seeds, metric, axis, sweep)[0] for arm in (combination, *parts)}
    bounds = [arm for arm, speedups in found.items() if any(speedup.censored for speedup in speedups)]
    multiplied = [Speedup(math.prod(found[part][place].value for part in parts)) for place in range(len(seeds))]
    together = found[combination]
    factors = [Speedup(one.value / other.value) for one, other in zip(together, multiplied, strict=True)]
    nothing = Interval(math.nan, math.nan, math.nan, len(seeds))
    return {
        **columns("speedup", geometric_interval(together)),
        **columns("product", nothing if set(bounds) & set(parts) else geometric_interval(multiplied)),
        **columns("factor", nothing if bounds else geometric_interval(factors)),
        "seeds": len(seeds),
        "note": f"the speedup of {', '.join(bounds)} is a bound: off the ends of the sweep" if bounds else "",
        "better": better_side(metric),
    }


def columns(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
