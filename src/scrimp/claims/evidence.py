"""A measured number with the values behind it, and the ways to one that several rules share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import PlainSerializer

from scrimp.claims.statistics import Censored, Interval, mean_interval
from scrimp.config.base import Closed, unknown
from scrimp.errors import ScrimpError
from scrimp.runs import NotRunError, Runs

# JSON knows no infinities: they are written as the strings "inf" and "-inf", which pydantic reads back as floats.
Number = Annotated[float, PlainSerializer(lambda v: v if math.isfinite(v) else str(v), when_used="json")]


class Observation(Closed):
    """One value of the sample behind an interval; `arm` is the arm it speaks of (for a probe's number: the probe)."""

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


def signed_sum(metric: str, terms: list[tuple[str, int]], speaks_of: str, runs: Runs) -> Evidence:
    """Per seed: the final `metric` of some arms, each times its sign, added up; `speaks_of` is the arm it is drawn under."""
    signed = [(runs.arm(name), sign) for name, sign in terms]
    arms = list(dict.fromkeys(arm for arm, _ in signed))
    seeds, notes = runs.paired_seeds(arms)
    values = [sum(sign * runs.quality(arm, seed, metric) for arm, sign in signed) for seed in seeds]
    points = observations(runs.arm(speaks_of), seeds, values)
    return Evidence(mean_interval(values), points, arms, runs.run_commands(arms, seeds), notes)


def probed(probe: str, column: str, where: Mapping[str, object], runs: Runs) -> Evidence:
    """The rows of a probe's table that match `where`: one is a derived number, several are repeats of a measurement."""
    study = runs.study.study
    command = f"scrimp probe {study} {probe} --scale {runs.scale}"
    if probe not in runs.study.scale(runs.scale).probes:
        raise NotRunError(f"the probe {probe} is not part of scale {runs.scale}")
    path = runs.workspace.results(runs.scale, study) / "probes" / f"{probe}.parquet"
    if not path.exists():
        raise NotRunError(f"no table of the probe {probe} at scale {runs.scale}; make it with `{command}`", [command])
    table = pd.read_parquet(path)
    for name in [column, *where]:
        if name not in table.columns:
            raise ScrimpError(unknown("column", name, map(str, table.columns), str(path)))
    for name, wanted in where.items():
        table = table[table[name] == wanted]
    if table.empty:
        raise NotRunError(f"the probe {probe} has no row where {where} at scale {runs.scale}")
    values = table[column].to_numpy(dtype=np.float64, na_value=np.nan)
    if not np.isfinite(values).all():
        raise NotRunError(f"{column} of the probe {probe} was not measured")
    seeds = table["seed"].tolist() if "seed" in table.columns else [None] * len(values)
    only = float(values[0])
    interval = Interval(only, only, only, 1) if len(values) == 1 else mean_interval(values)
    notes = list(dict.fromkeys(note for note in table.get("note", []) if note))
    return Evidence(interval, observations(probe, seeds, values.tolist()), [], [command], notes)
