"""What all figures share: one style, one colour an arm's family everywhere, files written whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from scrimp.claims.statistics import mean_interval
from scrimp.files import replacing

# Okabe & Ito's colours: told apart with every common colour blindness.
PALETTE = {
    "full": "#000000",
    "infobatch": "#D55E00",
    "random-static": "#999999",
    "rs2": "#0072B2",
    "epsilon-greedy": "#E69F00",
    "ucb": "#CC79A7",
    "el2n": "#009E73",
    "forgetting": "#56B4E9",
    "ccs": "#6A3D9A",
}
GREYS = ("full", "random-static")  # no other family is given these
OTHER = "#8B5A2B"  # families for which no colour is left
PUBLISHED: dict[str, Any] = {"marker": "D", "facecolors": "none", "edgecolors": "#555555", "linewidths": 1.2}


def canvas(columns: int = 1, rows: int = 1, width: float = 7.0, height: float = 4.0) -> tuple[Figure, list[Axes]]:
    """An empty figure with its axes in reading order; sizes in inches, readable at 700 pixels."""
    style = {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "svg.fonttype": "path",
    }
    sns.set_theme(context="notebook", style="white", rc={**style, "svg.hashsalt": "scrimp", "legend.frameon": False})
    drawn = Figure(figsize=(width, height), layout="constrained")
    axes = drawn.subplots(rows, columns, squeeze=False)
    return drawn, list(np.ravel(axes))


def error_bar(axes: Axes, x: float, values: list[float], color: str, label: str | None = None, marker: str = "o") -> None:
    """A mean with its 95 % interval, and every single value as a faint point."""
    interval = mean_interval(np.asarray(values, dtype=float))
    axes.scatter([x] * len(values), values, s=12, color=color, alpha=0.4, linewidths=0, zorder=2)
    low, high = interval.mean - interval.low, interval.high - interval.mean
    spread = [[low], [high]] if np.isfinite([low, high]).all() else None
    axes.errorbar([x], [interval.mean], yerr=spread, fmt=marker, color=color, markersize=6, capsize=3, label=label, zorder=3)


def log_axis(axes: Axes, ticks: tuple[int, ...] = (1, 2, 5), which: Literal["x", "y"] = "x") -> None:
    """A logarithmic axis with `ticks` at these times powers of ten, written with engineering prefixes."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=ticks))
    axis.set_major_formatter(EngFormatter(sep=""))
    axis.set_minor_formatter(NullFormatter())


def speedup_axis(axes: Axes, limits: tuple[float, float]) -> None:
    """A logarithmic x axis of factors between `limits`, with a tick at each power of two and a line at 1."""
    ticks = [2.0**power for power in range(-8, 9) if limits[0] < 2.0**power < limits[1]]
    axes.axvline(1, color="#000000", lw=1)
    axes.set(xscale="log", xlim=limits)
    axes.set_xticks(ticks, [f"1/{1 / tick:g}" if tick < 1 else f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def save(drawn: Figure, folder: Path, name: str) -> None:
    """Write `NAME.svg` and `NAME.png`; the same figure gives the same bytes."""
    with replacing(folder / f"{name}.svg") as temporary:
        drawn.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
    with replacing(folder / f"{name}.png") as temporary:
        drawn.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
