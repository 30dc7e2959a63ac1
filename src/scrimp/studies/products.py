"""Do levers multiply? The speedup of a combination over the product of its parts' speedups, for the studies that ask."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scrimp.claims.statistics import Interval, Speedup, geometric_interval
from scrimp.config import Axis, Workspace
from scrimp.errors import ScrimpError
from scrimp.metrics import better_side
from scrimp.runs import Runs
from scrimp.studies.comparison import METER_NAMES
from scrimp.studies.outputs import read_probe
from scrimp.studies.plotting import canvas, speedup_axis

AXES: tuple[Axis, ...] = ("flops", "cpu_seconds")
SHOWN = {"speedup": ("together", "#0072B2", "o", -0.12), "product": ("product of the parts", "#E69F00", "D", 0.12)}


def products(
    workspace: Workspace, study: str, scale: str, parts: Mapping[str, Sequence[str]], metrics: Sequence[str]
) -> pd.DataFrame:
    """A row a combination, metric and cost: its speedup, the product of its parts', and the factor between the two.

    `parts` names the arms that a combination is made of. Shorter training lies on the sweep, so that its own speedup is 1
    and it is no part. All three numbers are geometric means over the seeds with 95 % intervals of their logs. Where a
    speedup is a bound (off the sweep's ends) there is no factor: nan, and `note` says which arm.
    Raises ScrimpError where no combination has finished runs.
    """
    runs = Runs.of(workspace, workspace.study(study), scale)
    trained = {name: made_of for name, made_of in parts.items() if {name, *made_of} <= set(runs.runs)}
    if not trained:
        raise ScrimpError(f"no combination of {study} and its parts have finished runs at scale {scale}")
    recorded = {metric for by_seed in runs.runs.values() for run in by_seed.values() for metric in run.metrics}
    return pd.DataFrame(
        {"combination": name, "metric": metric, "axis": axis, **row(runs, name, made_of, metric, axis)}
        for name, made_of in trained.items()
        for metric in metrics
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


def products_figure(workspace: Workspace, study: str, scale: str, metric: str) -> Figure:
    """Speedups of combinations and the products of their parts', a panel a cost, by one metric."""
    rows = read_probe(workspace, study, "products", scale)
    rows = rows[rows["metric"] == metric]
    labels = {name: arm.label for name, arm in workspace.study(study).arms.items()}
    names = list(dict.fromkeys(rows["combination"]))
    drawn, panels = canvas(columns=len(AXES), width=11, height=0.5 * len(names) + 2)
    for panel, axis in zip(panels, AXES, strict=True):
        of = rows[rows["axis"] == axis].set_index("combination")
        for column, (label, color, marker, shift) in SHOWN.items():
            at = np.arange(len(names)) + shift
            panel.hlines(at, of.loc[names, f"{column}_low"], of.loc[names, f"{column}_high"], color=color, lw=1.5)
            panel.scatter(of.loc[names, column], at, color=color, marker=marker, s=40, zorder=3, label=label)
        ends = of.loc[names, [f"{column}_{end}" for column in SHOWN for end in ("low", "high")]].to_numpy()
        seen = ends[np.isfinite(ends) & (ends > 0)]
        speedup_axis(panel, (min(0.45, 0.9 * seen.min(initial=1)), max(2.2, 1.1 * seen.max(initial=1))))
        panel.set_xlabel(f"speedup in {METER_NAMES[axis]}, times")
        panel.set_yticks(range(len(names)), [labels[name] for name in names] if panel is panels[0] else [""] * len(names))
        panel.set_ylim(len(names) - 0.5, -0.5)
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    return drawn
