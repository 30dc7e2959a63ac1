"""A measured number with the values behind it, and the ways to one that several rules share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import ConfigDict, PlainSerializer

from scrimp.claims.statistics import CONFIDENCE, Censored, Interval, mean_interval
from scrimp.config.base import Closed, unknown
from scrimp.errors import ScrimpError
from scrimp.records import read_table
from scrimp.runs import NotRunError, Runs

# JSON knows no infinities: they are written as the strings "inf" and "-inf", which pydantic reads back as floats.
Number = Annotated[float, PlainSerializer(lambda v: v if math.isfinite(v) else str(v), when_used="json")]


class Observation(Closed):
    """One value of the sample behind an interval; `arm` is the arm it speaks of (for a probe's number: the probe)."""

    model_config = ConfigDict(allow_inf_nan=True)

    arm: str
    seed: int | None
    value: Number
    censored: Censored | None = None


@dataclass(frozen=True)
class Evidence:
    """A measured number: its interval, the values it came from, and where those came from."""

    interval: Interval
    points: list[Observation]
    arms: list[str]
    commands: list[str]
    notes: list[str] = field(default_factory=list)


def observations(arm: str, seeds: Sequence[int | None], values: Sequence[float]) -> list[Observation]:
    """One arm's values, a seed each."""
    return [Observation(arm=arm, seed=seed, value=value) for seed, value in zip(seeds, values, strict=True)]


def comparable(seeds: Sequence[int], rows: Sequence[Sequence[float]]) -> tuple[list[int], list[list[float]], list[str]]:
    """Seeds, and rows of a value a seed, without the seeds of which both sides diverged: neither is better; and a note.

    Raises NotRunError where no seed is left.
    """
    kept = [place for place in range(len(seeds)) if not any(math.isnan(row[place]) for row in rows)]
    if not kept:
        raise NotRunError("both sides diverged with every seed: there is nothing to compare")
    dropped = [str(seed) for place, seed in enumerate(seeds) if place not in kept]
    notes = [f"without seed {', '.join(dropped)} (both sides diverged)"] if dropped else []
    return [seeds[place] for place in kept], [[row[place] for place in kept] for row in rows], notes


def interval_of(values: Sequence[float], confidence: float = CONFIDENCE, step: float = 0.0) -> Interval:
    """`mean_interval`; of several values that are all the same infinity, that: every run of one side diverged."""
    if len(values) > 1 and math.isinf(values[0]) and set(values) == {values[0]}:
        return Interval(values[0], values[0], values[0], len(values))
    return mean_interval(values, confidence, step=step)


def signed_sum(metric: str, terms: list[tuple[str, int]], speaks_of: str, runs: Runs) -> Evidence:
    """Per seed: the final `metric` of some arms, each times its sign, added up; `speaks_of` is the arm it is drawn under."""
    signed = [(runs.arm(name), sign) for name, sign in terms]
    arms = list(dict.fromkeys(arm for arm, _ in signed))
    seeds, notes = runs.paired_seeds(arms)
    sums = [sum(sign * runs.quality(arm, seed, metric) for arm, sign in signed) for seed in seeds]
    seeds, (values,), more = comparable(seeds, [sums])
    points = observations(runs.arm(speaks_of), seeds, values)
    interval = interval_of(values, step=runs.resolution(arms, seeds, metric))
    notes = [*notes, *more]
    return Evidence(interval, points, arms, runs.run_commands(arms, seeds), notes)


def probed(probe: str, column: str, where: Mapping[str, object], runs: Runs, cases: str | None = None) -> Evidence:
    """The rows of a probe's table that match `where`.

    One row is a derived number, with the interval of the columns `COLUMN_low` and `COLUMN_high` (or `low` and `high`) if
    the table has them. Several are repeats of a measurement. `cases`: the column that says of how many cases `column` is
    a share: it resolves one of them, and lies between 0 and 1.
    """
    study = runs.study.study
    command = f"scrimp probe {study} {probe} --scale {runs.scale}"
    if probe not in runs.study.scale(runs.scale).probes:
        raise NotRunError(f"the probe {probe} is not part of scale {runs.scale}")
    path = runs.workspace.results(runs.scale, study) / "probes" / f"{probe}.parquet"
    if not path.exists():
        raise NotRunError(f"no table of the probe {probe} at scale {runs.scale}; make it with `{command}`", [command])
    table = read_table(path)
    for name in [column, *where, *([cases] if cases else [])]:
        if name not in table.columns:
            raise ScrimpError(unknown("column", name, map(str, table.columns), str(path)))
    for name, wanted in where.items():
        table = table[table[name] == wanted]
    if table.empty:
        raise NotRunError(f"the probe {probe} has no row where {where} at scale {runs.scale}")
    notes = list(dict.fromkeys(note for note in table.get("note", []) if note))
    values = table[column].to_numpy(dtype=np.float64, na_value=np.nan)
    if not np.isfinite(values).all():
        raise NotRunError("; ".join([f"{column} of the probe {probe} was not measured", *notes]))
    seeds = table["seed"].tolist() if "seed" in table.columns else [None] * len(values)
    if len(values) == 1:
        interval = _derived(table, column, float(values[0]))
    elif np.ptp(values) == 0 and "seed" not in table.columns:
        interval = Interval(float(values[0]), float(values[0]), float(values[0]), len(values))
        notes = [f"the same in all {len(values)} rows: a counted number", *notes]
    else:
        step = 0.0 if cases is None else 1 / float(table[cases].min())
        interval = mean_interval(values, step=step)
        if cases is not None:
            low, high = np.clip([interval.low, interval.high], 0, 1).tolist()
            interval = Interval(interval.mean, low, high, interval.n)
    return Evidence(interval, observations(probe, seeds, values.tolist()), [], [command], notes)


def _derived(row: pd.DataFrame, column: str, value: float) -> Interval:
    """One derived number, its own interval where the table has one, and the `seeds` it rests on where they are counted."""
    count = int(row["seeds"].iloc[0]) if "seeds" in row.columns else 1
    for low, high in ((f"{column}_low", f"{column}_high"), ("low", "high")):
        if low in row.columns and high in row.columns and np.isfinite(ends := row[[low, high]].to_numpy(float)[0]).all():
            return Interval(value, float(ends[0]), float(ends[1]), count)
    return Interval(value, value, value, count)
