"""Every method that was run against a sweep of plain training, ranked by what it saves at equal quality."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from scrimp.report.tables import format_with_interval

COLUMNS = ["method", "study", "seeds", "speedup in FLOPs (95 % interval)", "speedup in CPU time (95 % interval)"]


@dataclass(frozen=True)
class Speedup:
    """A ratio of costs at equal quality with its 95 % interval; an end of 0 or infinity: the sweep sets no bound there."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return format_with_interval(self.value, self.low, self.high, "times")


def ranked(folder: Path, studies: list[str]) -> list[list[str]]:
    """A row (COLUMNS) an arm of those studies whose `tables/arms.csv` has speedups, the largest lower end first.

    The lower end of the interval in FLOPs decides: a mean without a bound says little. Where a table counts examples, each
    of which costs the same FLOPs, their speedup is that in FLOPs.
    """
    rows: list[tuple[float, list[str]]] = []
    for study in studies:
        path = folder / study / "tables" / "arms.csv"
        if not path.exists():
            continue
        table = pd.read_csv(path)
        for _, arm in table.iterrows():
            flops = _speedup(arm, "flops") or _speedup(arm, "examples")
            if flops is None:
                continue
            seconds = _speedup(arm, "cpu_seconds")
            cells = [str(arm["label"]), study, str(arm["seeds"]), str(flops), "" if seconds is None else str(seconds)]
            rows.append((flops.low, cells))
    return [cells for _, cells in sorted(rows, key=lambda row: (-row[0], row[1]))]


def _speedup(arm: pd.Series[float], cost: str) -> Speedup | None:
    names = [f"speedup_{cost}{end}" for end in ("", "_low", "_high")]
    values = [float(arm[name]) if name in arm.index else math.nan for name in names]
    return None if any(math.isnan(value) for value in values) else Speedup(*values)
