"""From run files to the number of a claim: per-seed values, paired, and their interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import PlainSerializer

from scrimp.claims.statistics import (
    CONFIDENCE,
    Better,
    Censored,
    Interval,
    Speedup,
    curve_speedup,
    geometric_interval,
    mean_interval,
    sweep_interval,
)
from scrimp.config import (
    MAIN_SEPARATOR,
    Axis,
    Claim,
    Closed,
    DifferenceRule,
    EstimateRule,
    ExactRule,
    NonInferiorityRule,
    OrderingRule,
    RatioRule,
    ReductionRule,
    Rule,
    SlopeRule,
    StudyConfig,
    Workspace,
    arm_id,
    unknown,
)
from scrimp.errors import ScrimpError
from scrimp.records import Summary, read_curves

# JSON knows no infinities: they are written as the strings "inf" and "-inf", which pydantic reads back as floats.
Number = Annotated[float, PlainSerializer(lambda v: v if math.isfinite(v) else str(v), when_used="json")]

CURVE_AXIS = {"updates": "step", "examples": "examples", "flops": "flops", "seconds": "seconds"}
AMORTISED = "-amortised"
LOWER_IS_BETTER = frozenset({"loss", "error", "perplexity", "bits"})


class NotRunError(Exception):
    """The inputs of a claim do not exist (yet): the reason, and the commands that would make them."""

    def __init__(self, reason: str, commands: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.commands = list(commands)


class Point(Closed):
    """One value of the sample behind an interval; `arm` is the arm it speaks of (for an exact rule: the probe)."""

    arm: str
    seed: int | None
    value: Number
    censored: Censored | None = None


@dataclass(frozen=True)
class Evidence:
    """A measured number: its interval, the points it came from, and where those came from."""

    interval: Interval
    points: list[Point]
    arms: list[str]
    commands: list[str]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """The finished runs of one study at one scale, as seen from one workload."""

    workspace: Workspace
    study: StudyConfig
    scale: str
    workload: str
    runs: dict[str, dict[int, Summary]]  # arm id -> seed -> summary

    def arm(self, name: str) -> str:
        """The id of an arm in this workload, or of `ARM@WORKLOAD`; raises NotRunError if the workload does not have it."""
        scale = self.study.scale(self.scale)
        name, _, named = name.partition(MAIN_SEPARATOR)
        workload = named or self.workload
        at = arm_id(name, None if workload == scale.main else workload)
        if workload not in scale.workloads or name not in scale.workloads[workload].arms:
            raise NotRunError(
                f"{name} is no arm of workload {workload} at scale {self.scale}: add it to scales.{self.scale}."
                f"workloads.{workload}.arms in {self.study.where}, then "
                f"`{self.run_command(at, scale.seeds[0])}`"
            )
        return at

    def rungs(self) -> list[str]:
        """Ids of the sweep's arms that this workload trains; raises NotRunError where they make no sweep."""
        has = self.study.scale(self.scale).workloads[self.workload].arms
        rungs = [self.arm(name) for name in self.study.baseline_sweep if name in has]
        if len(rungs) < 2:
            raise NotRunError(
                f"workload {self.workload} at scale {self.scale} trains {len(rungs)} of the sweep's arms "
                f"({', '.join(self.study.baseline_sweep)}); a sweep needs two or more"
            )
        return rungs

    def paired_seeds(self, arms: list[str]) -> tuple[list[int], list[str]]:
        """Seeds that every arm has finished, with notes on planned ones left out; raises NotRunError if none is."""
        shared = sorted(set.intersection(*(set(self.runs.get(arm, {})) for arm in arms)))
        planned = set.intersection(*(set(self.study.seeds(self.scale, arm)) for arm in arms))
        missing = [(arm, seed) for arm in arms for seed in sorted(planned) if seed not in self.runs.get(arm, {})]
        if not shared:
            absent = [arm for arm in arms if arm not in self.runs]
            what = f"no finished run of {', '.join(absent)}" if absent else f"no seed shared by {', '.join(arms)}"
            commands = [self.run_command(arm, seed) for arm, seed in missing]
            remedy = f"; make it with `{commands[0]}`" if commands else ""
            raise NotRunError(f"{what} at scale {self.scale}{remedy}", commands)
        left_out = sorted({seed for _, seed in missing})
        if not left_out:
            return shared, []
        lacking = ", ".join(sorted({arm for arm, _ in missing}))
        return shared, [f"without seed {', '.join(map(str, left_out))} (no finished run of {lacking})"]

    def quality(self, arm: str, seed: int, metric: str) -> float:
        """A run's final `metric`, in the metric's unit; raises NotRunError if the run does not record it."""
        metrics = self.runs[arm][seed].metrics
        if metric not in metrics:
            raise NotRunError(f"{arm} does not record {metric}; it records {', '.join(sorted(metrics)) or 'nothing'}")
        return metrics[metric]

    def cost(self, arm: str, seed: int, axis: Axis) -> float:
        """What a run spent on an axis; raises NotRunError if it was not measured (null, or nothing counted)."""
        cost: float | None = getattr(self.runs[arm][seed].meters, base_axis(axis))
        if cost is not None:
            cost -= self.left_out(arm, seed, axis)
        if cost is None or not cost > 0:
            raise NotRunError(f"{axis} of {arm} (seed {seed}) was not measured")
        return float(cost)

    def left_out(self, arm: str, seed: int, axis: Axis) -> float:
        """The part of a run's cost that an amortised axis leaves out: what went into reference models."""
        if not axis.endswith(AMORTISED):
            return 0.0
        return float(getattr(self.runs[arm][seed].meters, f"{base_axis(axis)}_reference"))

    def run_command(self, arm: str, seed: int) -> str:
        return f"scrimp run {self.study.study} {arm} --seed {seed} --scale {self.scale}"

    def run_commands(self, arms: list[str], seeds: list[int]) -> list[str]:
        return [self.run_command(arm, seed) for arm in arms for seed in seeds]


def measure(claim: Claim, rule: Rule, bench: Bench) -> Evidence:
    """The number that a claim's `rule` speaks of.

    Raises NotRunError where runs, rows or meters are missing, ScrimpError where a probe's file lacks a named column.
    """
    match rule:
        case RatioRule():
            return _sweep(claim, rule, bench) if rule.way == "sweep" else _curves(claim, rule, bench)
        case OrderingRule():
            return _ordering(claim, rule, bench)
        case ReductionRule():
            return _reduction(rule, bench)
        case ExactRule() | EstimateRule():
            return _of_probe(rule, bench)
        case SlopeRule():
            falls = [(rule.baseline[0], 1), (rule.baseline[1], -1), (rule.method[0], -1), (rule.method[1], 1)]
            return _contrast(claim, falls, rule.method[1], bench)
        case DifferenceRule() | NonInferiorityRule():
            return _contrast(claim, [(rule.method, 1), (rule.baseline, -1)], rule.method, bench)


def base_axis(axis: Axis) -> str:
    """The meter that an axis reads: `flops` of `flops-amortised`."""
    return axis.removesuffix(AMORTISED)


def better_side(metric: str) -> Better:
    """Which side of a metric is good, told from its name: a loss, error, perplexity or bits are better when lower."""
    return "lower" if LOWER_IS_BETTER & set(metric.split("_")) else "higher"


# ------------------------------------------------------------------------------------------------------------- speedups
def _sweep(claim: Claim, rule: RatioRule, bench: Bench) -> Evidence:
    """Per seed: the distance from the method's point to the sweep of the same seed."""
    method, rungs = bench.arm(rule.method), bench.rungs()
    arms = [method, *(rung for rung in rungs if rung != method)]
    seeds, notes = bench.paired_seeds(arms)
    sweeps = [
        (
            [bench.cost(rung, seed, rule.axis) for rung in rungs],
            [bench.quality(rung, seed, claim.metric) for rung in rungs],
        )
        for seed in seeds
    ]
    ends = [(bench.cost(method, seed, rule.axis), bench.quality(method, seed, claim.metric)) for seed in seeds]
    speedups, interval = sweep_interval(sweeps, ends, better_side(claim.metric))
    points, censoring = _speedup_points(speedups, method, seeds)
    return Evidence(interval, points, arms, bench.run_commands(arms, seeds), notes + censoring)


def _curves(claim: Claim, rule: RatioRule, bench: Bench) -> Evidence:
    """Per seed: the published way, on the two learning curves."""
    assert rule.baseline is not None  # check_claim
    arms = [bench.arm(rule.method), bench.arm(rule.baseline)]
    seeds, notes = bench.paired_seeds(arms)
    curves = read_curves(bench.workspace, bench.scale, bench.study.study, arms)
    speedups = [
        curve_speedup(
            _curve(curves, arms[1], seed, claim.metric, rule.axis, bench),
            _curve(curves, arms[0], seed, claim.metric, rule.axis, bench),
            better=better_side(claim.metric),
        )
        for seed in seeds
    ]
    points, censoring = _speedup_points(speedups, arms[0], seeds)
    return Evidence(geometric_interval(speedups), points, arms, bench.run_commands(arms, seeds), notes + censoring)


def _curve(
    curves: pd.DataFrame, arm: str, seed: int, metric: str, axis: Axis, bench: Bench
) -> tuple[np.ndarray, np.ndarray]:
    """One run's curve as (costs, qualities), shape (evaluations,), ascending in cost."""
    mine = curves[(curves["arm"] == arm) & (curves["seed"] == seed)]
    rows = mine[mine["metric"] == metric].sort_values("step")
    if rows.empty:
        records = ", ".join(sorted(mine["metric"].unique())) or "nothing"
        raise NotRunError(f"{arm} (seed {seed}) records no curve of {metric}; it records {records}")
    # A curve carries the references' cost from its first row on.
    costs = rows[CURVE_AXIS[base_axis(axis)]].to_numpy(dtype=np.float64) - bench.left_out(arm, seed, axis)
    if np.isnan(costs).any() or not costs[-1] > 0:
        raise NotRunError(f"{axis} of {arm} (seed {seed}) was not measured along its curve")
    return costs, rows["value"].to_numpy(dtype=np.float64)


def _speedup_points(speedups: list[Speedup], method: str, seeds: list[int]) -> tuple[list[Point], list[str]]:
    """Speedups as points of the method, and a note for each side on which some are censored."""
    points = [
        Point(arm=method, seed=seed, value=speedup.value, censored=speedup.censored)
        for seed, speedup in zip(seeds, speedups, strict=True)
    ]
    notes = []
    sides: tuple[tuple[Censored, str], ...] = (("above", "at least"), ("below", "at most"))
    for side, words in sides:
        count = sum(speedup.censored == side for speedup in speedups)
        if count:
            notes.append(f"{count} of {len(speedups)} speedups known only as {words} the value shown: the data end there")
    return points, notes


# --------------------------------------------------------------------------------------------------------- differences
def _contrast(claim: Claim, terms: list[tuple[str, int]], speaks_of: str, bench: Bench) -> Evidence:
    """Per seed: a signed sum of final metrics."""
    signed = [(bench.arm(name), sign) for name, sign in terms]
    arms = list(dict.fromkeys(arm for arm, _ in signed))
    seeds, notes = bench.paired_seeds(arms)
    values = [sum(sign * bench.quality(arm, seed, claim.metric) for arm, sign in signed) for seed in seeds]
    points = _points(bench.arm(speaks_of), seeds, values)
    return Evidence(mean_interval(values), points, arms, bench.run_commands(arms, seeds), notes)


def _ordering(claim: Claim, rule: OrderingRule, bench: Bench) -> Evidence:
    """The first arm against its closest rival; the points are the differences to every rival, named by the rival.

    The worse end is the worst of the rivals' ends at 95 %, which needs no correction: all must agree. At the better
    end any one rival can pull it down by chance, so there the error is shared out among them (Bonferroni). Directions:
    with `lower` the first arm is to lie below, and everything is mirrored.
    """
    arms = [bench.arm(name) for name in rule.arms]
    seeds, notes = bench.paired_seeds(arms)
    sign = 1.0 if claim.direction == "higher" else -1.0
    first = np.array([bench.quality(arms[0], seed, claim.metric) for seed in seeds])  # (seeds,)
    leads = [first - np.array([bench.quality(arm, seed, claim.metric) for seed in seeds]) for arm in arms[1:]]
    plain = [mean_interval(sign * lead) for lead in leads]
    shared = [mean_interval(sign * lead, 1 - (1 - CONFIDENCE) / len(leads)) for lead in leads]
    worse = sign * min(interval.low for interval in plain)
    better = sign * min(interval.high for interval in shared)
    mean = sign * min(interval.mean for interval in plain)
    low, high = (worse, better) if sign > 0 else (better, worse)
    points = [point for arm, lead in zip(arms[1:], leads, strict=True) for point in _points(arm, seeds, lead.tolist())]
    return Evidence(Interval(mean, low, high, len(seeds)), points, arms, bench.run_commands(arms, seeds), notes)


def _reduction(rule: ReductionRule, bench: Bench) -> Evidence:
    """Per seed: the share of the baseline's cost that the method does not spend."""
    arms = [bench.arm(rule.method), bench.arm(rule.baseline)]
    seeds, notes = bench.paired_seeds(arms)
    values = [1 - bench.cost(arms[0], seed, rule.axis) / bench.cost(arms[1], seed, rule.axis) for seed in seeds]
    points = _points(arms[0], seeds, values)
    return Evidence(mean_interval(values), points, arms, bench.run_commands(arms, seeds), notes)


def _points(arm: str, seeds: list[int], values: list[float]) -> list[Point]:
    return [Point(arm=arm, seed=seed, value=value) for seed, value in zip(seeds, values, strict=True)]


# -------------------------------------------------------------------------------------------------------------- probes
def _of_probe(rule: ExactRule | EstimateRule, bench: Bench) -> Evidence:
    """The rows of a probe's table that match `where`: one is a derived number, several are repeats of a measurement."""
    study = bench.study.study
    command = f"scrimp probe {study} {rule.probe} --scale {bench.scale}"
    if rule.probe not in bench.study.scale(bench.scale).probes:
        raise NotRunError(f"the probe {rule.probe} is not part of scale {bench.scale}")
    path = bench.workspace.results(bench.scale, study) / "probes" / f"{rule.probe}.parquet"
    if not path.exists():
        raise NotRunError(f"no table of the probe {rule.probe} at scale {bench.scale}; make it with `{command}`", [command])
    table = pd.read_parquet(path)
    for column in [rule.column, *rule.where]:
        if column not in table.columns:
            raise ScrimpError(unknown("column", column, map(str, table.columns), str(path)))
    for column, wanted in rule.where.items():
        table = table[table[column] == wanted]
    if table.empty:
        raise NotRunError(f"the probe {rule.probe} has no row where {rule.where} at scale {bench.scale}")
    values = table[rule.column].to_numpy(dtype=np.float64, na_value=np.nan)
    if not np.isfinite(values).all():
        raise NotRunError(f"{rule.column} of the probe {rule.probe} was not measured")
    seeds = table["seed"].tolist() if "seed" in table.columns else [None] * len(values)
    points = [Point(arm=rule.probe, seed=seed, value=value) for seed, value in zip(seeds, values.tolist(), strict=True)]
    only = float(values[0])
    interval = Interval(only, only, only, 1) if len(values) == 1 else mean_interval(values)
    notes = list(dict.fromkeys(note for note in table.get("note", []) if note))
    return Evidence(interval, points, [], [command], notes)
