"""The figures of the prototypes study that are not standard ones."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from scrimp.claims.statistics import mean_interval
from scrimp.config import Workspace
from scrimp.studies import figure
from scrimp.studies.comparison import Comparison, draw_differences
from scrimp.studies.plotting import canvas, error_bar

from .points import ACCURACY, KEPT_BY_DISTANCE, STUDY, errors

COLORS = {0.2: "#E69F00", 0.5: "#D55E00", 0.75: "#CC79A7"}


@figure("sizes")
def sizes(workspace: Workspace, scale: str) -> Figure:
    """Error against what is kept; the panels keep the farthest and the nearest."""
    table = errors(workspace, scale)
    means = table.groupby(["keep", "ratio", "size"], as_index=False)["error"].mean()
    random = means[means["keep"] == "random"].sort_values("size")
    drawn, axes = canvas(columns=2, width=9.5, height=4.6)
    for panel, keep in zip(axes, KEPT_BY_DISTANCE, strict=True):
        panel.plot(random["size"], random["error"], "o-", color="#999999", label="random")
        if len(random) > 1:
            law = np.polyfit(np.log(random["size"]), np.log(random["error"]), 1)
            panel.plot(
                random["size"], np.exp(np.polyval(law, np.log(random["size"]))), ":", color="#000000", label="power law"
            )
        for ratio, color in COLORS.items():
            of = means[(means["keep"] == keep) & (means["ratio"] == ratio)].sort_values("size")
            panel.plot(of["size"], of["error"], "o-", color=color, label=f"{100 * (1 - ratio):g} % kept")
        shown = means[means["keep"].isin(["random", keep])]
        least = shown.groupby("size")["error"].min()
        panel.scatter(least.index, least, s=90, facecolors="none", edgecolors="#000000", label="Pareto envelope")
        panel.set(xscale="log", yscale="log", xlabel=f"share of all examples, {keep} kept")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_formatter(NullFormatter())
        ticks = sorted(random["size"])
        panel.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
        low, high = float(means["error"].min()), float(means["error"].max())
        marks = [mark for mark in (1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90) if low <= mark <= high]
        panel.set_yticks(marks, [str(mark) for mark in marks])
    for panel in axes:
        panel.set_ylim(0.95 * float(means["error"].min()), 1.05 * float(means["error"].max()))
    axes[0].set_ylabel("test error, %")
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return drawn


@figure("crossover")
def crossover(workspace: Workspace, scale: str) -> Figure:
    """Farthest minus nearest by the pool, a line a share."""
    table = errors(workspace, scale)
    drawn, (axes,) = canvas(width=6.5, height=4.4)
    for ratio, color in COLORS.items():
        of = table[table["ratio"] == ratio]
        by_run = {keep: rows.set_index(["pool", "seed"])["error"] for keep, rows in of.groupby("keep")}
        if not set(KEPT_BY_DISTANCE) <= set(by_run):
            continue
        worth = (by_run["nearest"] - by_run["farthest"]).dropna()
        pools = sorted({pool for pool, _ in worth.index})
        for number, pool in enumerate(pools):
            label = f"{100 * (1 - ratio):g} % kept" if number == 0 else None
            error_bar(axes, pool, worth.loc[pool].tolist(), color, label)
        axes.plot(pools, [mean_interval(worth.loc[pool].tolist()).mean for pool in pools], color=color, lw=1)
    axes.axhline(0, color="#000000", lw=1)
    axes.set(xscale="log", xlabel="share of all examples that there are to choose from")
    ticks = sorted(table.loc[table["keep"] != "random", "pool"].unique())
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("test accuracy, farthest minus nearest, points")
    axes.legend(fontsize=9)
    return drawn


@figure("metrics")
def metrics(workspace: Workspace, scale: str) -> Figure:
    """Every way to choose half of the data, against a random half."""
    of = Comparison.of(workspace, STUDY, scale, ACCURACY)
    halves = [arm for arm in of.methods if "50" in arm.split("-")[1] and "-of-" not in arm and arm != "random-50"]
    drawn, (axes,) = canvas(width=7.5, height=0.42 * len(halves) + 1.4)
    draw_differences(axes, of, [(arm, "random-50", of.label(arm)) for arm in halves])
    axes.set_xlabel("test accuracy minus that of a random half, points\n(dots: seeds; bar: 95 % interval)")
    return drawn
