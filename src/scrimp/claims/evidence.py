"""From run files to the number of a claim: per-seed values, paired, and their interval."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import PlainSerializer

from scrimp.claims.statistics import (
    CONFIDENCE,
    Censored,
    Interval,
    Speedup,
    geometric_interval,
    mean_interval,
)
from scrimp.config import (
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
    unknown,
)
from scrimp.errors import ScrimpError
from scrimp.runs import NotRunError, Runs

# JSON knows no infinities: they are written as the strings "inf" and "-inf", which pydantic reads back as floats.
Number = Annotated[float, PlainSerializer(lambda v: v if math.isfinite(v) else str(v), when_used="json")]


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


def measure(claim: Claim, rule: Rule, runs: Runs) -> Evidence:
    """The number that a claim's `rule` speaks of.

    Raises NotRunError where runs, rows or meters are missing, ScrimpError where a probe's file lacks a named column.
    """
    match rule:
        case RatioRule():
            return _sweep(claim, rule, runs) if rule.way == "sweep" else _curves(claim, rule, runs)
        case OrderingRule():
            return _ordering(claim, rule, runs)
        case ReductionRule():
            return _reduction(rule, runs)
        case ExactRule() | EstimateRule():
            return _of_probe(rule, runs)
        case SlopeRule():
            falls = [(rule.baseline[0], 1), (rule.baseline[1], -1), (rule.method[0], -1), (rule.method[1], 1)]
            return _contrast(claim, falls, rule.method[1], runs)
        case DifferenceRule() | NonInferiorityRule():
            return _contrast(claim, [(rule.method, 1), (rule.baseline, -1)], rule.method, runs)


# ------------------------------------------------------------------------------------------------------------- speedups
def _sweep(claim: Claim, rule: RatioRule, runs: Runs) -> Evidence:
    """Per seed: the distance from the method's point to the sweep of the same seed."""
    method, sweep = runs.arm(rule.method), runs.sweep_arms()
    arms = [method, *(arm for arm in sweep if arm != method)]
    seeds, notes = runs.paired_seeds(arms)
    speedups, interval = runs.speedups(method, seeds, claim.metric, rule.axis, sweep)
    points, censoring = _speedup_points(speedups, method, seeds)
    return Evidence(interval, points, arms, runs.run_commands(arms, seeds), notes + censoring)


def _curves(claim: Claim, rule: RatioRule, runs: Runs) -> Evidence:
    """Per seed: the published way, on the two learning curves."""
    assert rule.baseline is not None  # check_claim
    arms = [runs.arm(rule.method), runs.arm(rule.baseline)]
    seeds, notes = runs.paired_seeds(arms)
    speedups = runs.speedups_by_curves(arms[0], arms[1], seeds, claim.metric, rule.axis)
    points, censoring = _speedup_points(speedups, arms[0], seeds)
    return Evidence(geometric_interval(speedups), points, arms, runs.run_commands(arms, seeds), notes + censoring)


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
def _contrast(claim: Claim, terms: list[tuple[str, int]], speaks_of: str, runs: Runs) -> Evidence:
    """Per seed: a signed sum of final metrics."""
    signed = [(runs.arm(name), sign) for name, sign in terms]
    arms = list(dict.fromkeys(arm for arm, _ in signed))
    seeds, notes = runs.paired_seeds(arms)
    values = [sum(sign * runs.quality(arm, seed, claim.metric) for arm, sign in signed) for seed in seeds]
    points = _points(runs.arm(speaks_of), seeds, values)
    return Evidence(mean_interval(values), points, arms, runs.run_commands(arms, seeds), notes)


def _ordering(claim: Claim, rule: OrderingRule, runs: Runs) -> Evidence:
    """The first arm against its closest rival; the points are the differences to every rival, named by the rival.

    The worse end is the worst of the rivals' ends at 95 %, which needs no correction: all must agree. At the better
    end any one rival can pull it down by chance, so there the error is shared out among them (Bonferroni). Directions:
    with `lower` the first arm is to lie below, and everything is mirrored.
    """
    arms = [runs.arm(name) for name in rule.arms]
    seeds, notes = runs.paired_seeds(arms)
    sign = 1.0 if claim.direction == "higher" else -1.0
    first = np.array([runs.quality(arms[0], seed, claim.metric) for seed in seeds])  # (seeds,)
    leads = [first - np.array([runs.quality(arm, seed, claim.metric) for seed in seeds]) for arm in arms[1:]]
    plain = [mean_interval(sign * lead) for lead in leads]
    shared = [mean_interval(sign * lead, 1 - (1 - CONFIDENCE) / len(leads)) for lead in leads]
    worse = sign * min(interval.low for interval in plain)
    better = sign * min(interval.high for interval in shared)
    mean = sign * min(interval.mean for interval in plain)
    low, high = (worse, better) if sign > 0 else (better, worse)
    points = [point for arm, lead in zip(arms[1:], leads, strict=True) for point in _points(arm, seeds, lead.tolist())]
    return Evidence(Interval(mean, low, high, len(seeds)), points, arms, runs.run_commands(arms, seeds), notes)


def _reduction(rule: ReductionRule, runs: Runs) -> Evidence:
    """Per seed: the share of the baseline's cost that the method does not spend."""
    arms = [runs.arm(rule.method), runs.arm(rule.baseline)]
    seeds, notes = runs.paired_seeds(arms)
    values = [1 - runs.cost(arms[0], seed, rule.axis) / runs.cost(arms[1], seed, rule.axis) for seed in seeds]
    points = _points(arms[0], seeds, values)
    return Evidence(mean_interval(values), points, arms, runs.run_commands(arms, seeds), notes)


def _points(arm: str, seeds: list[int], values: list[float]) -> list[Point]:
    return [Point(arm=arm, seed=seed, value=value) for seed, value in zip(seeds, values, strict=True)]


# -------------------------------------------------------------------------------------------------------------- probes
def _of_probe(rule: ExactRule | EstimateRule, runs: Runs) -> Evidence:
    """The rows of a probe's table that match `where`: one is a derived number, several are repeats of a measurement."""
    study = runs.study.study
    command = f"scrimp probe {study} {rule.probe} --scale {runs.scale}"
    if rule.probe not in runs.study.scale(runs.scale).probes:
        raise NotRunError(f"the probe {rule.probe} is not part of scale {runs.scale}")
    path = runs.workspace.results(runs.scale, study) / "probes" / f"{rule.probe}.parquet"
    if not path.exists():
        raise NotRunError(f"no table of the probe {rule.probe} at scale {runs.scale}; make it with `{command}`", [command])
    table = pd.read_parquet(path)
    for column in [rule.column, *rule.where]:
        if column not in table.columns:
            raise ScrimpError(unknown("column", column, map(str, table.columns), str(path)))
    for column, wanted in rule.where.items():
        table = table[table[column] == wanted]
    if table.empty:
        raise NotRunError(f"the probe {rule.probe} has no row where {rule.where} at scale {runs.scale}")
    values = table[rule.column].to_numpy(dtype=np.float64, na_value=np.nan)
    if not np.isfinite(values).all():
        raise NotRunError(f"{rule.column} of the probe {rule.probe} was not measured")
    seeds = table["seed"].tolist() if "seed" in table.columns else [None] * len(values)
    points = [Point(arm=rule.probe, seed=seed, value=value) for seed, value in zip(seeds, values.tolist(), strict=True)]
    only = float(values[0])
    interval = Interval(only, only, only, 1) if len(values) == 1 else mean_interval(values)
    notes = list(dict.fromkeys(note for note in table.get("note", []) if note))
    return Evidence(interval, points, [], [command], notes)
