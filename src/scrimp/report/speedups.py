"""Every method that was run against a sweep of plain training, ranked by what it saves at equal quality."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from scrimp.claims.loading import load_claims
from scrimp.claims.pilot import ROWS, read_published, rows_of
from scrimp.claims.rules.ratio import Ratio
from scrimp.config import MAIN_SEPARATOR, Axis, StudyConfig, Workspace
from scrimp.config.claims import AMORTISED
from scrimp.metrics import metric_of
from scrimp.report.tables import format_with_interval
from scrimp.runs import NotRunError, Runs, by_arm_and_seed

COLUMNS = [
    *("method", "study", "quality", "seeds"),
    *("speedup in FLOPs, all counted (95 % interval)", "in FLOPs, earlier models left out", "in CPU time, all counted"),
]
SHORT = {"unseen_average": "average over unseen designers"}  # for a cell, where a metric's label is a figure's
NOTHING_LEFT_OUT = "–"


@dataclass(frozen=True)
class Measured:
    """A ratio of costs at equal quality with its 95 % interval over `seeds`; an end of 0 or infinity is open.

    `bounds` are the sides on which the sweep ends before some seed's quality: the ratio is a bound there, no estimate.
    """

    value: float
    low: float
    high: float
    seeds: int
    bounds: frozenset[str]

    def __str__(self) -> str:
        if len(self.bounds) > 1:
            return "no bound"  # some seeds lie below the sweep and some above: their mean bounds nothing
        return format_with_interval(self.value, self.low, self.high, "times", next(iter(self.bounds), None))


def ranked(workspace: Workspace, folder: Path, studies: list[str]) -> list[list[str]]:
    """A row (COLUMNS) an arm and quality, from the published rows of runs in `folder`, the largest lower end first.

    The lower end of the interval in FLOPs decides, references and all other earlier models counted: a mean without a
    bound says little. Arms of a workload without a sweep of its own have no rows.
    """
    rows: list[tuple[float, list[str]]] = []
    for study in studies:
        if (folder / study / ROWS).exists():
            rows += _rows(workspace, folder / study, workspace.study(study))
    return [cells for _, cells in sorted(rows, key=lambda row: (-row[0], row[1]))]


def _rows(workspace: Workspace, folder: Path, study: StudyConfig) -> list[tuple[float, list[str]]]:
    """The rows of one study, each with what it is ranked by."""
    scale = str(read_published(folder)["scale"])
    finished = by_arm_and_seed(rows_of(folder, study.study, scale, diverged=True))
    rows = []
    for arm in study.arm_ids(scale):
        name, _, other = arm.partition(MAIN_SEPARATOR)
        if name in study.baseline_sweep or arm not in finished:
            continue
        runs = Runs(workspace, study, scale, other or study.scale(scale).main, finished)
        method = study.resolve(scale, arm)[0].label + (f", workload {other}" if other else "")
        for metric in _qualities(workspace, runs):
            flops = _measured(runs, arm, metric, "flops")
            if flops is None:
                continue
            named = [method, study.study, SHORT.get(metric, metric_of(metric).label), str(flops.seeds)]
            seconds = _cell(_measured(runs, arm, metric, "cpu_seconds"))
            rows.append((flops.low, [*named, str(flops), _left_out(runs, arm, metric), seconds]))
    return rows


def _qualities(workspace: Workspace, runs: Runs) -> list[str]:
    """The metrics that speedups are read at: the study's own, and those that its claims read along the sweep."""
    rules = [(claim.metric, claim.rule) for claim in load_claims(workspace, runs.study.study)]
    claimed = [metric for metric, rule in rules if isinstance(rule, Ratio) and rule.way == "sweep"]
    own = runs.study.metric
    return list(dict.fromkeys([own, *claimed] if own is not None else claimed)) or [runs.main_metric()]


def _left_out(runs: Runs, arm: str, metric: str) -> str:
    """The speedup in FLOPs without what went into earlier models; a dash where there are none."""
    if all(runs.left_out(arm, seed, f"flops{AMORTISED}") == 0 for seed in runs.runs[arm]):
        return NOTHING_LEFT_OUT
    return _cell(_measured(runs, arm, metric, f"flops{AMORTISED}"))


def _measured(runs: Runs, arm: str, metric: str, axis: Axis) -> Measured | None:
    """None where the sweep, a meter or the metric is missing, and where one seed gives no interval."""
    try:
        sweep = runs.sweep_arms()
        seeds, _ = runs.paired_seeds([arm, *sweep])
        by_seed, interval = runs.speedups(arm, seeds, metric, axis, sweep)
    except NotRunError:
        return None
    if math.isnan(interval.low) or math.isnan(interval.high):
        return None
    bounds = frozenset(speedup.censored for speedup in by_seed if speedup.censored is not None)
    return Measured(interval.mean, interval.low, interval.high, interval.n, bounds)


def _cell(measured: Measured | None) -> str:
    return "" if measured is None else str(measured)
