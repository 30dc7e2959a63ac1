"""Runs of one study side by side as its figures show them: arms with colours and labels, and what is drawn of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from scrimp.claims.statistics import Interval, Speedup, geometric_interval, mean_interval
from scrimp.config import MAIN_SEPARATOR, Axis, StudyConfig, Workspace
from scrimp.config.claims import AMORTISED
from scrimp.errors import ScrimpError
from scrimp.records import Summary
from scrimp.runs import CURVE_AXIS, Runs
from scrimp.studies.plotting import GREYS, OTHER, PALETTE, PUBLISHED, canvas, log_axis, speedup_axis

METER_NAMES = {
    "updates": "updates",
    "examples": "examples",
    "flops": "FLOPs",
    "seconds": "seconds",
    "cpu_seconds": "CPU seconds",
}
SPEEDUP_LIMITS = (0.2, 5.0)


@dataclass(frozen=True)
class Comparison:
    """A study's finished runs at a scale as its figures show them: by one `metric`; `amortised` leaves references out."""

    read: Runs
    metric: str
    amortised: bool

    @classmethod
    def of(cls, workspace: Workspace, study: str, scale: str, metric: str, amortised: bool = False) -> Comparison:
        return cls(Runs.of(workspace, workspace.study(study), scale), metric, amortised)

    @property
    def runs(self) -> dict[str, dict[int, Summary]]:
        """Runs by arm and seed."""
        return self.read.runs

    @property
    def config(self) -> StudyConfig:
        return self.read.study

    def axis(self, meter: str) -> Axis:
        """The axis of a meter, without what references cost where that is amortised."""
        return meter + AMORTISED if self.amortised else meter

    @property
    def time(self) -> str:
        """The meter that time is read on: what a CPU computed, where runs are on one and all of them counted it."""
        on_cpu = not self.config.scale(self.read.scale).gpus
        counted = all(run.meters.cpu_seconds for by_seed in self.runs.values() for run in by_seed.values())
        return "cpu_seconds" if on_cpu and counted else "seconds"

    def cost_names(self, choosing: str = "selection", examples: str = "") -> dict[str, str]:
        """Three costs by meter, as axes name them; what choosing takes is part of them."""
        return {
            "examples": f"examples trained on{examples}",
            "flops": f"FLOPs, {choosing} included",
            self.time: f"{METER_NAMES[self.time]}, {choosing} included",
        }

    def measured_by(self, metric: str) -> Comparison:
        """The same runs by another metric."""
        return replace(self, metric=metric)

    # --- arms ---
    def family(self, arm: str) -> str:
        """The name of an arm's first method that the plain recipe does not have; after it the arm is coloured."""
        arms, sweep = self.config.arms, self.config.baseline_sweep
        name = arm.partition(MAIN_SEPARATOR)[0]
        own = arms[name].method_names
        if name in sweep or not own:
            return "full"
        plain = arms[sweep[0]].method_names if sweep else []
        return next((method for method in own if method not in plain), own[0])

    def color(self, arm: str) -> str:
        """Of the arm's family: its own, or the next that no family of the study has."""
        families = list(dict.fromkeys(map(self.family, self.config.arms)))
        free = [color for name, color in PALETTE.items() if name not in families and name not in GREYS]
        unnamed = [family for family in families if family not in PALETTE]
        own = {**PALETTE, **dict(zip(unnamed, free, strict=False))}
        return own.get(self.family(arm), OTHER)

    def label(self, arm: str) -> str:
        return self.config.arms[arm].label

    @property
    def sweep(self) -> list[str]:
        """The arms of the baseline sweep that have runs."""
        return [arm for arm in self.config.baseline_sweep if arm in self.runs]

    @property
    def methods(self) -> list[str]:
        """Arms of the main workload that are no part of the sweep."""
        return [arm for arm in self.config.arms if arm in self.runs and arm not in self.config.baseline_sweep]

    def qualities(self, arm: str) -> list[float]:
        """In the order of the seeds, as `costs`."""
        return [self.read.quality(arm, seed, self.metric) for seed in sorted(self.runs[arm])]

    def costs(self, arm: str, meter: str) -> list[float]:
        return [self.read.cost(arm, seed, self.axis(meter)) for seed in sorted(self.runs[arm])]

    def paired(self, method: str, baseline: str) -> list[float]:
        """Differences in quality, method minus baseline, by seed."""
        seeds = sorted(self.runs[method].keys() & self.runs[baseline].keys())
        return self.read.differences(method, baseline, seeds, self.metric)

    # --- speedups ---
    def speedups(self, arm: str, meter: str, sweep: list[str] | None = None) -> tuple[list[Speedup], Interval]:
        """The sweep's cost at the arm's quality over the arm's cost, by seed, and its interval."""
        sweep = sweep or self.sweep
        seeds = [seed for seed in sorted(self.runs[arm]) if all(seed in self.runs[other] for other in sweep)]
        return self.read.speedups(arm, seeds, self.metric, self.axis(meter), sweep)

    def speedup_columns(self, arm: str, meters: tuple[str, ...] = ("flops",)) -> dict[str, float]:
        """Speedups along some costs and in time with their intervals, where a sweep is trained in the arm's workload."""
        name, _, workload = arm.partition(MAIN_SEPARATOR)
        sweep = [f"{other}{MAIN_SEPARATOR}{workload}" if workload else other for other in self.config.baseline_sweep]
        if name in self.config.baseline_sweep or not all(other in self.runs for other in sweep):
            return {}
        columns: dict[str, float] = {}
        for meter in (*meters, self.time):
            _, interval = self.speedups(arm, meter, sweep)
            columns |= {f"speedup_{meter}": interval.mean}
            columns |= {f"speedup_{meter}_low": interval.low, f"speedup_{meter}_high": interval.high}
        return columns

    def curves(self, arms: list[str]) -> pd.DataFrame:
        """The metric's curves of some arms, references left out of the costs where they are amortised."""
        table = self.read.curves(arms)
        table = table[table["metric"] == self.metric].copy()
        for (arm, seed), rows in table.groupby(["arm", "seed"]):
            for meter, column in CURVE_AXIS.items():
                table.loc[rows.index, column] -= self.read.left_out(str(arm), int(str(seed)), self.axis(meter))
        return table

    def read_two_curves(self, arm: str, baseline: str, meter: str) -> list[Speedup]:
        """The published way, by seed: where each curve first reaches the baseline's end."""
        seeds = sorted(self.runs[arm].keys() & self.runs[baseline].keys())
        return self.read.speedups_by_curves(arm, baseline, seeds, self.metric, self.axis(meter))


# ---------------------------------------------------------------------------------------------------------------- drawing
def draw_sweep(axes: Axes, of: Comparison, meter: str, label: str) -> None:
    """The baseline sweep: means joined by a line, their intervals as a band, every run as a point."""
    costs = [float(np.mean(of.costs(arm, meter))) for arm in of.sweep]
    intervals = [mean_interval(of.qualities(arm)) for arm in of.sweep]
    color = PALETTE["full"]
    axes.plot(costs, [i.mean for i in intervals], color=color, label=label, zorder=2)
    axes.fill_between(costs, [i.low for i in intervals], [i.high for i in intervals], color=color, alpha=0.1, linewidth=0)
    for arm, cost in zip(of.sweep, costs, strict=True):
        axes.scatter([cost] * len(of.runs[arm]), of.qualities(arm), s=9, color=color, alpha=0.5, linewidths=0)
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


def curves_figure(of: Comparison, arms: list[str], quality: str, styles: dict[str, str], **legend: Any) -> Figure:
    """The published way of reading: the metric while training, over examples and wall seconds; bands reach over the seeds.

    `quality` is the metric's name, `styles` lines of arms that are not drawn solid.
    """
    shown = [arm for arm in arms if arm in of.runs]
    table = of.curves(shown)
    drawn, axes = canvas(columns=2, width=9, height=4)
    names = {"examples": "examples trained on", "seconds": "wall seconds, selection included"}
    for panel, (meter, name) in zip(axes, names.items(), strict=True):
        for arm in shown:
            of_arm = table[table["arm"] == arm].copy()
            of_arm["visit"] = of_arm.groupby("seed").cumcount()
            mean = of_arm.groupby("visit")[[meter, "value"]].mean()
            spread = of_arm.groupby("visit")["value"].agg(["min", "max"])
            color, style = of.color(arm), styles.get(arm, "-")
            panel.plot(mean[meter], mean["value"], ls=style, color=color, label=of.label(arm), marker="o", ms=3)
            panel.fill_between(mean[meter], spread["min"], spread["max"], color=color, alpha=0.15, linewidth=0)
        panel.set_xlabel(name)
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes[0].set_ylabel(quality)
    axes[0].legend(**legend)
    return drawn


def speedups_figure(
    of: Comparison,
    baseline: str,
    limits: tuple[float, float] = SPEEDUP_LIMITS,
    meters: tuple[str, ...] = ("flops",),
) -> Figure:
    """The speedup of every method against the sweep, on some costs and in time.

    Beside it stands the number that reading two curves would give, where the curves have the cost (CPU time they have not).
    """
    shown, meters = of.methods, (*meters, of.time)
    if len(of.sweep) < 2:
        raise ScrimpError(
            f"{of.config.where}: speedups need runs of two arms of the baseline sweep, but {of.read.scale} has "
            f"{', '.join(of.sweep) or 'none'}: train more of {', '.join(of.config.baseline_sweep) or 'it'}"
        )
    drawn, axes = canvas(columns=len(meters), width=3 + 4 * len(meters), height=0.36 * len(shown) + 1.6)
    for panel, meter in zip(axes, meters, strict=True):
        for row, arm in enumerate(shown):
            by_seed, interval = of.speedups(arm, meter)
            _draw_speedup(panel, row, [s.value for s in by_seed], (interval.low, interval.high), of.color(arm), limits)
            if meter not in CURVE_AXIS:
                continue
            read = of.read_two_curves(arm, baseline, meter)
            # A curve that never reaches the baseline's end gives a bound, not a speedup.
            style = {**PUBLISHED, "marker": "<"} if any(s.censored == "below" for s in read) else PUBLISHED
            panel.scatter([geometric_interval(read).mean], [row], **style, s=36, zorder=4)
        speedup_axis(panel, limits)
        panel.set_xlabel(f"speedup in {METER_NAMES[meter]}, times")
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
