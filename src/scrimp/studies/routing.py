"""The figures of the cascade studies: accuracy against cost, who answers, calibration, controls, milliseconds.

Each draws into given axes, from rows of the probe `answers` (`cascade/probes.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from scrimp.claims.statistics import mean_interval
from scrimp.config import Workspace
from scrimp.studies.plotting import PUBLISHED, error_bar, log_axis

COLORS = {"two": "#E69F00", "three": "#0072B2", "filtered": "#D55E00"}
NAMES = {"two": "two models", "three": "three models", "filtered": "a rule and three models"}
STAGES = {"rule": "#999999", "small": "#56B4E9", "medium": "#0072B2", "large": "#000000"}
TIMES = {"large model": "seconds_large", "cascade, mean": "seconds_cascade", "cascade, all stages": "seconds_worst"}


def of(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """The rows of one kind."""
    return rows[rows["what"] == what]


def draw_accuracy_cost(axes: Axes, rows: pd.DataFrame) -> None:
    """Cascades at all thresholds, single models, the oracle."""
    single = of(rows, "single").groupby("name")[["cost", "accuracy"]].mean().sort_values("cost")
    axes.plot(single["cost"], single["accuracy"], "s--", color="#000000", label="single models")
    for name, row in single.iterrows():
        axes.annotate(str(name), (row["cost"], row["accuracy"]), xytext=(5, -13), textcoords="offset points", fontsize=9)
    fronts, equal = of(rows, "front"), of(rows, "equal")
    for name, color in COLORS.items():
        front = fronts[fronts["name"] == name]
        ends = front.groupby("seed")["cost"].agg(["min", "max"])
        grid = np.geomspace(float(ends["min"].max()), float(ends["max"].min()), 60)
        lines = []
        for _, by_seed in front.groupby("seed"):
            ordered = by_seed.sort_values("cost")
            lines.append(np.interp(np.log(grid), np.log(ordered["cost"]), ordered["accuracy"]))
        axes.plot(grid, np.mean(lines, axis=0), color=color, label=NAMES[name])
        at = equal[equal["name"] == name]
        axes.scatter([at["cost"].mean()], [at["accuracy"].mean()], color=color, s=45, zorder=3)
    oracle = of(rows, "oracle")
    axes.scatter(
        [oracle["cost"].mean()], [oracle["accuracy"].mean()], marker="*", s=120, color="#009E73", label="oracle router"
    )
    axes.scatter([], [], color="#666666", s=45, label="matches the large model on validation")
    log_axis(axes)
    # A rule alone is cheaper than any model by orders of magnitude, and right by chance.
    axes.set_xlim(0.5 * single["cost"].min(), 1.6 * single["cost"].max())
    least, most = single["accuracy"].min(), max(single["accuracy"].max(), oracle["accuracy"].mean())
    axes.set_ylim(least - 0.25 * (most - least), most + 0.1 * (most - least))
    axes.set_xlabel("mean FLOPs of an answer")


def published(workspace: Workspace, study: str) -> pd.DataFrame:
    """What reports say that cascades save, by claim, as times cheaper: the columns `least` and `most`."""
    table = pd.read_csv(workspace.study_folder(study) / "published" / "savings.csv").set_index("claim")
    shares = table["unit"] == "share"
    for end in ("least", "most"):
        table[end] = np.where(shares, 1 / (1 - table[end]), table[end])
    return table.assign(unit="times")


def draw_savings(axes: Axes, rows: pd.DataFrame, known: pd.DataFrame, claims: Mapping[str, str]) -> None:
    """Times that cascades are cheaper at the large model's validation accuracy; `claims`: cascade -> the published row."""
    equal = of(rows, "equal")
    for place, (name, claim) in enumerate(claims.items()):
        error_bar(axes, place, equal.loc[equal["name"] == name, "speedup"].tolist(), COLORS[name])
        ends = known.loc[[claim], ["least", "most"]].to_numpy(float).ravel()
        ends = ends[np.isfinite(ends)]
        axes.scatter([place + 0.2] * len(ends), ends, **PUBLISHED, s=40, label="published" if place == 0 else None)
    axes.axhline(1, color="#000000", lw=1)
    axes.set_xticks(range(len(claims)), [NAMES[name] for name in claims])
    axes.set_xlim(-0.5, len(claims) - 0.5)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    marks = [mark for mark in (0.5, 1, 2, 5, 10, 20, 50, 100, 1000, 10_000, 100_000) if low <= mark <= high]
    axes.set_yticks(marks, [f"{mark:,g}" for mark in marks])
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_stages(axes: Axes, rows: pd.DataFrame, examples: str) -> None:
    """Who answers how much; `examples` is what is answered."""
    means = of(rows, "equal").groupby("name").mean(numeric_only=True)
    names = [name for name in NAMES if name in means.index]
    left = np.zeros(len(names))
    for stage, color in STAGES.items():
        if f"share_{stage}" not in means.columns:
            continue
        shares = means.loc[names, f"share_{stage}"].fillna(0).to_numpy(float)
        axes.barh(range(len(names)), 100 * shares, left=left, color=color, label=stage)
        left += 100 * shares
    axes.set_yticks(range(len(names)), [NAMES[name] for name in names])
    axes.invert_yaxis()
    axes.set_xlabel(f"share of the test {examples} answered, %")


def draw_calibration(axes: Axes, rows: pd.DataFrame) -> None:
    """Calibration errors before and after."""
    single = of(rows, "single")
    names = single.groupby("name")["cost"].mean().sort_values().index.tolist()
    for place, name in enumerate(names):
        shown = single[single["name"] == name]
        error_bar(axes, place - 0.1, shown["ece"].tolist(), "#D55E00", "as trained" if place == 0 else None)
        error_bar(axes, place + 0.1, shown["ece_tempered"].tolist(), "#0072B2", "tempered" if place == 0 else None)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(bottom=0)


def controls(rows: pd.DataFrame) -> dict[str, pd.Series[float]]:
    """Points of accuracy against the controls that all cascade studies have, by name."""
    equal = of(rows, "equal")
    two, three = (equal[equal["name"] == name] for name in ("two", "three"))
    return {
        "two models, minus the large one": two["gain"],
        "three models, minus the large one": three["gain"],
        "two models, minus asking at random": two["over_random"],
        "three models, minus a single one of their cost": three["over_front"],
        "a tenth unanswered, minus all answered": of(rows, "abstain")["gain"],
        "oracle, minus the large one": of(rows, "oracle")["gain"],
    }


def draw_gains(axes: Axes, shown: Mapping[str, pd.Series[float]]) -> None:
    """Each by seed, with its mean and interval."""
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


def draw_latency(axes: Axes, rows: pd.DataFrame) -> None:
    """Milliseconds of single answers."""
    found = of(rows, "latency")
    for place, column in enumerate(TIMES.values()):
        error_bar(axes, place, (1000 * found[column]).tolist(), "#0072B2")
    axes.set_xticks(range(len(TIMES)), list(TIMES))
    axes.set_ylim(bottom=0)
