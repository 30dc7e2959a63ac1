"""Runs of one study side by side, as its figures and tables need them: qualities, costs, sweeps, speedups, differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from scrimp.claims.judge import index_runs
from scrimp.claims.statistics import Interval, Speedup, curve_speedup, geometric_interval, mean_interval, sweep_interval
from scrimp.config import MAIN_SEPARATOR, StudyConfig, Workspace
from scrimp.records import Summary, current_summaries, read_curves
from scrimp.studies.plotting import OTHER, PALETTE, PUBLISHED, canvas, log_axis

CURVE_COLUMN = {"updates": "step", "examples": "examples", "flops": "flops", "seconds": "seconds"}
METER_NAMES = {"updates": "updates", "examples": "examples", "flops": "FLOPs", "seconds": "seconds"}
SPEEDUP_LIMITS = (0.2, 5.0)
Line = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Comparison:
    """A study's finished runs at a scale, compared by the final `metric`; `amortised` costs leave references out."""

    workspace: Workspace
    config: StudyConfig
    scale: str
    metric: str
    amortised: bool
    runs: dict[str, dict[int, Summary]]  # arm -> seed -> run

    @classmethod
    def of(cls, workspace: Workspace, study: str, scale: str, metric: str, amortised: bool = False) -> Comparison:
        config = workspace.study(study)
        return cls(workspace, config, scale, metric, amortised, index_runs(current_summaries(workspace, config, scale)))

    # ---------------------------------------------------------------------------------------------------------- arms
    def family(self, arm: str) -> str:
        """The name of an arm's selector."""
        return str(self.config.arms[arm.partition(MAIN_SEPARATOR)[0]].leading["name"])

    def color(self, arm: str) -> str:
        return PALETTE.get(self.family(arm), OTHER)

    def label(self, arm: str) -> str:
        return self.config.arms[arm].label

    @property
    def rungs(self) -> list[str]:
        return [rung for rung in self.config.baseline_sweep if rung in self.runs]

    @property
    def methods(self) -> list[str]:
        """Arms of the main workload that are no rung of the sweep."""
        return [arm for arm in self.config.arms if arm in self.runs and arm not in self.config.baseline_sweep]

    def quality(self, arm: str, seed: int) -> float:
        return self.runs[arm][seed].metrics[self.metric]

    def qualities(self, arm: str) -> list[float]:
        """In the order of the seeds, as `costs`."""
        return [self.quality(arm, seed) for seed in sorted(self.runs[arm])]

    def cost(self, arm: str, seed: int, meter: str) -> float:
        meters = self.runs[arm][seed].meters
        return float(getattr(meters, meter)) - (float(getattr(meters, f"{meter}_reference")) if self.amortised else 0.0)

    def costs(self, arm: str, meter: str) -> list[float]:
        return [self.cost(arm, seed, meter) for seed in sorted(self.runs[arm])]

    def paired(self, method: str, baseline: str) -> list[float]:
        """Differences in quality, method minus baseline, by seed."""
        seeds = sorted(self.runs[method].keys() & self.runs[baseline].keys())
        return [self.quality(method, seed) - self.quality(baseline, seed) for seed in seeds]

    # ------------------------------------------------------------------------------------------------------- speedups
    def speedups(self, arm: str, meter: str, rungs: list[str] | None = None) -> tuple[list[Speedup], Interval]:
        """The sweep's cost at the arm's quality over the arm's cost, by seed, and its interval."""
        rungs = rungs or self.rungs
        seeds = [seed for seed in sorted(self.runs[arm]) if all(seed in self.runs[rung] for rung in rungs)]
        lines: list[Line] = [
            ([self.cost(rung, seed, meter) for rung in rungs], [self.quality(rung, seed) for rung in rungs])
            for seed in seeds
        ]
        return sweep_interval(lines, [(self.cost(arm, seed, meter), self.quality(arm, seed)) for seed in seeds])

    def speedup_columns(self, arm: str, meters: tuple[str, ...] = ("flops", "seconds")) -> dict[str, float]:
        """Speedups along some costs with their intervals, where a sweep is trained in the arm's workload."""
        name, _, workload = arm.partition(MAIN_SEPARATOR)
        rungs = [f"{rung}{MAIN_SEPARATOR}{workload}" if workload else rung for rung in self.config.baseline_sweep]
        if name in self.config.baseline_sweep or not all(rung in self.runs for rung in rungs):
            return {}
        found: dict[str, float] = {}
        for meter in meters:
            _, interval = self.speedups(arm, meter, rungs)
            found |= {f"speedup_{meter}": interval.mean}
            found |= {f"speedup_{meter}_low": interval.low, f"speedup_{meter}_high": interval.high}
        return found

    def curves(self, arms: list[str]) -> pd.DataFrame:
        """The metric's curves of some arms, references left out of the costs where they are amortised."""
        table = read_curves(self.workspace, self.scale, self.config.study, arms)
        table = table[table["metric"] == self.metric].copy()
        if self.amortised:
            for (arm, seed), rows in table.groupby(["arm", "seed"]):
                meters = self.runs[str(arm)][int(str(seed))].meters
                for meter, column in CURVE_COLUMN.items():
                    table.loc[rows.index, column] -= getattr(meters, f"{meter}_reference")
        return table

    def read_two_curves(self, table: pd.DataFrame, arm: str, baseline: str, meter: str) -> list[Speedup]:
        """The published way, by seed: where each curve first reaches the baseline's end."""
        seeds = sorted(self.runs[arm].keys() & self.runs[baseline].keys())
        return [curve_speedup(_curve(table, baseline, seed, meter), _curve(table, arm, seed, meter)) for seed in seeds]


def _curve(table: pd.DataFrame, arm: str, seed: int, meter: str) -> tuple[np.ndarray, np.ndarray]:
    rows = table[(table["arm"] == arm) & (table["seed"] == seed)].sort_values("step")
    found = (rows[CURVE_COLUMN[meter]].to_numpy(float), rows["value"].to_numpy(float))
    return cast(tuple[np.ndarray, np.ndarray], found)


# ---------------------------------------------------------------------------------------------------------------- drawing
def draw_sweep(axes: Axes, of: Comparison, meter: str, label: str) -> None:
    """The baseline sweep: means joined by a line, their intervals as a band, every run as a point."""
    costs = [float(np.mean(of.costs(rung, meter))) for rung in of.rungs]
    intervals = [mean_interval(of.qualities(rung)) for rung in of.rungs]
    color = PALETTE["full"]
    axes.plot(costs, [i.mean for i in intervals], color=color, label=label, zorder=2)
    axes.fill_between(costs, [i.low for i in intervals], [i.high for i in intervals], color=color, alpha=0.1, linewidth=0)
    for rung, cost in zip(of.rungs, costs, strict=True):
        axes.scatter([cost] * len(of.runs[rung]), of.qualities(rung), s=9, color=color, alpha=0.5, linewidths=0)
    log_axis(axes)


def draw_differences(axes: Axes, of: Comparison, pairs: list[tuple[str, str, str]]) -> None:
    """A row per (method, baseline, name): their paired differences, with interval and points."""
    for row, (method, baseline, _) in enumerate(pairs):
        values = of.paired(method, baseline)
        interval = mean_interval(values)
        color = of.color(method)
        axes.scatter(values, [row] * len(values), s=14, color=color, alpha=0.4, linewidths=0)
        if np.isfinite(interval.low):
            axes.plot([interval.low, interval.high], [row, row], color=color, lw=1.5)
        axes.scatter([interval.mean], [row], color=color, s=40, zorder=3)
    axes.set_yticks(range(len(pairs)), [name for *_, name in pairs])
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.axvline(0, color="#000000", lw=1)


def curves_figure(
    of: Comparison, arms: list[str], names: dict[str, str], quality: str, styles: dict[str, str], **legend: Any
) -> Figure:
    """The published way of reading: the metric while training, over examples and seconds; bands reach over the seeds.

    `names` are the axes' by meter, `quality` the metric's, `styles` lines of arms that are not drawn solid.
    """
    shown = [arm for arm in arms if arm in of.runs]
    table = of.curves(shown)
    drawn, axes = canvas(columns=2, width=9, height=4)
    for panel, meter in zip(axes, ("examples", "seconds"), strict=True):
        for arm in shown:
            of_arm = table[table["arm"] == arm].copy()
            of_arm["visit"] = of_arm.groupby("seed").cumcount()
            mean = of_arm.groupby("visit")[[meter, "value"]].mean()
            spread = of_arm.groupby("visit")["value"].agg(["min", "max"])
            color, style = of.color(arm), styles.get(arm, "-")
            panel.plot(mean[meter], mean["value"], ls=style, color=color, label=of.label(arm), marker="o", ms=3)
            panel.fill_between(mean[meter], spread["min"], spread["max"], color=color, alpha=0.15, linewidth=0)
        panel.set_xlabel(names[meter])
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes[0].set_ylabel(quality)
    axes[0].legend(**legend)
    return drawn


def speedups_figure(
    of: Comparison,
    baseline: str,
    limits: tuple[float, float] = SPEEDUP_LIMITS,
    meters: tuple[str, ...] = ("flops", "seconds"),
) -> Figure:
    """The speedup of every method against the sweep, beside the number that reading two curves would give."""
    shown = of.methods
    table = of.curves([*shown, baseline])
    drawn, axes = canvas(columns=len(meters), width=3 + 4 * len(meters), height=0.36 * len(shown) + 1.6)
    ticks = [2.0**power for power in range(-8, 9) if limits[0] < 2.0**power < limits[1]]
    for panel, meter in zip(axes, meters, strict=True):
        for row, arm in enumerate(shown):
            found, interval = of.speedups(arm, meter)
            _draw_speedup(panel, row, [s.value for s in found], (interval.low, interval.high), of.color(arm), limits)
            read = of.read_two_curves(table, arm, baseline, meter)
            # A curve that never reaches the baseline's end gives a bound, not a speedup.
            style = {**PUBLISHED, "marker": "<"} if any(s.censored == "below" for s in read) else PUBLISHED
            panel.scatter([geometric_interval(read).mean], [row], **style, s=36, zorder=4)
        panel.axvline(1, color="#000000", lw=1)
        panel.set(xscale="log", xlabel=f"speedup in {METER_NAMES[meter]}, times", xlim=limits)
        panel.set_xticks(ticks, [f"1/{1 / tick:g}" if tick < 1 else f"{tick:g}" for tick in ticks])
        panel.minorticks_off()
        panel.set_yticks(range(len(shown)), [of.label(arm) for arm in shown] if panel is axes[0] else [])
        panel.set_ylim(len(shown) - 0.5, -0.5)
    axes[0].scatter([], [], **PUBLISHED, s=36, label="reading two curves, the published way (a triangle: at most)")
    axes[0].scatter([], [], s=40, color="#666666", label="against the sweep, 95 % interval")
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    return drawn


def _draw_speedup(
    axes: Axes, row: int, values: list[float], ends: tuple[float, float], color: str, limits: tuple[float, float]
) -> None:
    """One row of the forest plot; open ends run to the border with an arrow."""
    left, right = limits
    low, high = max(ends[0], left), min(ends[1], right)
    axes.plot([low, high], [row, row], color=color, lw=1.5)
    for end, border, marker in ((ends[0], left, "<"), (ends[1], right, ">")):
        if np.isfinite(end) and (end - border) * (1 if marker == "<" else -1) >= 0:
            continue
        axes.scatter([border], [row], marker=marker, color=color, s=24, clip_on=False)
    axes.scatter(values, [row] * len(values), s=12, color=color, alpha=0.4, linewidths=0)
    axes.scatter([float(np.exp(np.mean(np.log(values))))], [row], s=40, color=color, zorder=3)
