"""The figures of the cascade study: accuracy against cost, who answers, calibration, controls, seconds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scrimp.claims.statistics import mean_interval
from scrimp.config import Workspace
from scrimp.studies import figure
from scrimp.studies.outputs import read_probe
from scrimp.studies.plotting import canvas, error_bar, log_axis

from .probes import STUDY

COLORS = {"two": "#E69F00", "three": "#0072B2", "filtered": "#D55E00"}
NAMES = {"two": "two models", "three": "three models", "filtered": "a rule and three models"}
STAGES = {"rule": "#999999", "small": "#56B4E9", "medium": "#0072B2", "large": "#000000"}


def _rows(workspace: Workspace, scale: str, what: str) -> pd.DataFrame:
    table = read_probe(workspace, STUDY, "answers", scale)
    return table[table["what"] == what]


@figure("accuracy-cost")
def accuracy_cost(workspace: Workspace, scale: str) -> Figure:
    """Cascades at all thresholds, single models, the oracle."""
    drawn, (axes,) = canvas(width=7.5, height=5)
    single = _rows(workspace, scale, "single").groupby("name")[["cost", "accuracy"]].mean().sort_values("cost")
    axes.plot(single["cost"], single["accuracy"], "s--", color="#000000", label="single models")
    for name, row in single.iterrows():
        axes.annotate(str(name), (row["cost"], row["accuracy"]), xytext=(5, -13), textcoords="offset points", fontsize=9)
    fronts = _rows(workspace, scale, "front")
    equal = _rows(workspace, scale, "equal")
    for name, color in COLORS.items():
        of = fronts[fronts["name"] == name]
        ends = of.groupby("seed")["cost"].agg(["min", "max"])
        grid = np.geomspace(float(ends["min"].max()), float(ends["max"].min()), 60)
        lines = []
        for _, by_seed in of.groupby("seed"):
            ordered = by_seed.sort_values("cost")
            lines.append(np.interp(np.log(grid), np.log(ordered["cost"]), ordered["accuracy"]))
        axes.plot(grid, np.mean(lines, axis=0), color=color, label=NAMES[name])
        at = equal[equal["name"] == name]
        axes.scatter([at["cost"].mean()], [at["accuracy"].mean()], color=color, s=45, zorder=3)
    oracle = _rows(workspace, scale, "oracle")
    axes.scatter(
        [oracle["cost"].mean()], [oracle["accuracy"].mean()], marker="*", s=120, color="#009E73", label="oracle router"
    )
    axes.scatter([], [], color="#666666", s=45, label="matches the large model on validation")
    log_axis(axes)
    axes.set_xlabel("mean FLOPs of an answer")
    axes.set_ylabel("test accuracy, %")
    axes.legend(fontsize=9)
    return drawn


@figure("stages")
def stages(workspace: Workspace, scale: str) -> Figure:
    """Who answers how much."""
    of = _rows(workspace, scale, "equal").groupby("name").mean(numeric_only=True)
    names = [name for name in ("two", "three", "filtered") if name in of.index]
    drawn, (axes,) = canvas(width=7.5, height=2.8)
    left = np.zeros(len(names))
    for stage, color in STAGES.items():
        if f"share_{stage}" not in of.columns:
            continue
        shares = of.loc[names, f"share_{stage}"].fillna(0).to_numpy(float)
        axes.barh(range(len(names)), 100 * shares, left=left, color=color, label=stage)
        left += 100 * shares
    axes.set_yticks(range(len(names)), [NAMES[name] for name in names])
    axes.invert_yaxis()
    axes.set_xlabel("share of the test examples answered, %")
    drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return drawn


@figure("calibration")
def calibration(workspace: Workspace, scale: str) -> Figure:
    """Calibration errors before and after."""
    of = _rows(workspace, scale, "single")
    drawn, (axes,) = canvas(width=6.5, height=4)
    names = of.groupby("name")["cost"].mean().sort_values().index.tolist()
    for place, name in enumerate(names):
        rows = of[of["name"] == name]
        error_bar(axes, place - 0.1, rows["ece"].tolist(), "#D55E00", "as trained" if place == 0 else None)
        error_bar(axes, place + 0.1, rows["ece_tempered"].tolist(), "#0072B2", "tempered" if place == 0 else None)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("expected calibration error, points")
    axes.legend(fontsize=9)
    return drawn


@figure("gains")
def gains(workspace: Workspace, scale: str) -> Figure:
    """Points of accuracy against the controls."""
    equal = _rows(workspace, scale, "equal")
    two, three = (equal[equal["name"] == name] for name in ("two", "three"))
    shown = {
        "two models, minus the large one": two["gain"],
        "three models, minus the large one": three["gain"],
        "thresholds from seen designers, minus the large one": _rows(workspace, scale, "shift")["gain"],
        "two models, minus asking at random": two["over_random"],
        "three models, minus a single one of their cost": three["over_front"],
        "a tenth unanswered, minus all answered": _rows(workspace, scale, "abstain")["gain"],
        "oracle, minus the large one": _rows(workspace, scale, "oracle")["gain"],
    }
    drawn, (axes,) = canvas(width=8, height=0.45 * len(shown) + 1.3)
    for row, values in enumerate(shown.values()):
        interval = mean_interval(values.tolist())
        axes.scatter(values, [row] * len(values), s=14, color="#0072B2", alpha=0.4, linewidths=0)
        if np.isfinite(interval.low):
            axes.plot([interval.low, interval.high], [row, row], color="#0072B2", lw=1.5)
        axes.scatter([interval.mean], [row], color="#0072B2", s=40, zorder=3)
    axes.axvline(0, color="#000000", lw=1)
    axes.set_yticks(range(len(shown)), list(shown))
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("test accuracy, points\n(dots: seeds; bar: 95 % interval)")
    return drawn


@figure("latency")
def latency(workspace: Workspace, scale: str) -> Figure:
    """Seconds of single answers."""
    of = _rows(workspace, scale, "latency")
    shown = {"large model": "seconds_large", "cascade, mean": "seconds_cascade", "cascade, all stages": "seconds_worst"}
    drawn, (axes,) = canvas(width=6.5, height=4)
    for place, column in enumerate(shown.values()):
        error_bar(axes, place, (1000 * of[column]).tolist(), "#0072B2")
    axes.set_xticks(range(len(shown)), list(shown))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("milliseconds of one answer")
    return drawn
