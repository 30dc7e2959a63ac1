"""The figures and tables of the cramming study."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scrimp.claims.statistics import mean_interval
from scrimp.config import MAIN_SEPARATOR, Workspace
from scrimp.data.shards import read_manifest
from scrimp.measure.scores import in_percent
from scrimp.records import read_curves
from scrimp.studies import figure, table
from scrimp.studies.outputs import read_probe
from scrimp.studies.plotting import PUBLISHED, canvas, error_bar, log_axis
from scrimp.training.schedules import learning_rate_factor

from .points import ARCHITECTURE, AVERAGE, SAME, SIZE, STUDY, base_workloads, points, published, variants

# Okabe & Ito's colours.
COLORS = {
    "none": "#999999",
    "crammed": "#D55E00",
    "crammed-v1": "#E69F00",
    "crammed-x16": "#CC79A7",
    "original": "#56B4E9",
    "izsak": "#009E73",
    "fitted": "#000000",
}
RECIPES = ["none", "original", "izsak", "fitted-x1", "crammed-v1", "crammed", "fitted-x16", "crammed-x16"]
# Which of our arms stands where a published model does; BERT and RoBERTa are finished checkpoints there.
COUNTERPARTS = {
    "BERT-base": "fitted-x16@bert",
    "no pre-training": "none",
    "crammed v1 (A6000)": "crammed-v1@v1",
    "crammed v2 (A6000)": "crammed",
}
LOSS = "masked loss, nats a token"
SHAPES = "shape-"
NAME_HEIGHT = 0.07  # nats that a name in the figure of architectures takes


def _color(arm: str) -> str:
    return COLORS.get(arm, COLORS["fitted"] if arm.startswith("fitted") else "#0072B2")


def _judged(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of whole recipes that were fine-tuned."""
    recipes = runs["arm"].isin(RECIPES) | runs["arm"].str.startswith("fitted-")
    return runs[recipes & runs[AVERAGE].notna()]


def _sets(runs: pd.DataFrame) -> list[str]:
    """The metrics that the average is over: the first one of each labelled set's, in the order of the sets."""
    found: dict[str, str] = {}
    for column in runs.columns:
        if column.startswith("test_") and ":" in column and column != AVERAGE:
            found.setdefault(column.partition(":")[2], column)
    return list(found.values())


# ----------------------------------------------------------------------------------------------------------- downstream
@figure("downstream-flops")
def downstream_flops(workspace: Workspace, scale: str) -> Figure:
    """The mean over labelled sets against FLOPs, with the baseline sweep; the published points beside (claims 1, 7, 8)."""
    runs = _judged(points(workspace, scale))
    drawn, (left, right) = canvas(columns=2, width=11, height=4.6)
    sweep = runs[runs["arm"].str.startswith("fitted-")].groupby("share")[["flops", AVERAGE]].mean()
    left.plot(sweep["flops"], sweep[AVERAGE], color=COLORS["fitted"], lw=1.4, label="BERT, fitted to each budget")
    nothing = runs[runs["arm"] == "none"][AVERAGE].mean()
    left.axhline(nothing, color=COLORS["none"], lw=1, ls="--", label="no pre-training")
    for arm, of_arm in runs[runs["arm"] != "none"].groupby("arm", sort=False):
        fitted = str(arm).startswith("fitted")
        label = None if fitted else str(of_arm["label"].iloc[0])
        error_bar(left, float(of_arm["flops"].mean()), list(of_arm[AVERAGE]), _color(str(arm)), label)
    log_axis(left)
    left.set(xlabel="pre-training FLOPs", ylabel="mean over the labelled sets, %")
    _published_points(workspace, right)
    drawn.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return drawn


def _published_points(workspace: Workspace, axes: Axes) -> None:
    averages = published(workspace, "glue").set_index("model")["average"]
    costs = published(workspace, "costs")
    peaks = costs[costs["quantity"] == "peak"].set_index("model")["value"]
    shown = {"BERT-base": peaks["BERT-base"]}
    shown |= dict.fromkeys(("crammed v1 (A6000)", "crammed v2 (A6000)"), peaks["crammed (A6000)"])
    for (name, cost), below in zip(shown.items(), (False, True, False), strict=True):
        axes.scatter([cost], [averages[name]], s=40, **PUBLISHED)
        at = (0, -14) if below else (0, 7)
        axes.annotate(name, (cost, averages[name]), at, textcoords="offset points", fontsize=9, ha="center")
    axes.axhline(averages["no pre-training"], color=COLORS["none"], lw=1, ls="--")
    axes.annotate("no pre-training", (0.98, averages["no pre-training"]), (0, 4), xycoords=("axes fraction", "data"),
                  textcoords="offset points", fontsize=9, ha="right")  # fmt: skip
    axes.set(xscale="log", xlabel="peak of the hardware x time, FLOPs", ylabel="GLUE, mean of nine numbers")
    axes.set(xlim=(4e18, 2e21), ylim=(40, 88))
    axes.set_title("published", fontsize=11)


@figure("downstream-tasks")
def downstream_tasks(workspace: Workspace, scale: str) -> Figure:
    """Every labelled set by recipe, with intervals over the seeds (claims 1 and 7)."""
    runs = _judged(points(workspace, scale))
    sets = [*_sets(runs), AVERAGE]
    columns = min(4, len(sets))
    rows = -(-len(sets) // columns)
    drawn, panels = canvas(columns=columns, rows=rows, width=3.1 * columns, height=2.9 * rows + 0.6)
    arms = [arm for arm in RECIPES if (runs["arm"] == arm).any()]
    for panel, metric in zip(panels, sets, strict=False):
        name, of = metric.removeprefix("test_").split(":")
        for place, arm in enumerate(arms):
            mine = runs[runs["arm"] == arm]
            values = [in_percent(name, value) if name != "average" else value for value in mine[metric]]
            error_bar(panel, place, values, _color(arm), str(mine["label"].iloc[0]))
        if name != "average" and (guess := _majority(workspace, of, name)) is not None:
            panel.axhline(guess, color=COLORS["none"], lw=1, ls=":")
        panel.set_title(f"{of}, {name}" if name != "average" else "mean", fontsize=10)
        panel.set_xticks([])
    for panel in panels[len(sets) :]:
        panel.set_visible(False)
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return drawn


def _majority(workspace: Workspace, dataset: str, metric: str) -> float | None:
    """What a guess reaches, in percent; None where the data are not there any more."""
    if not (workspace.shards(dataset) / "manifest.json").exists():
        return None
    return in_percent(metric, float(read_manifest(workspace.shards(dataset))["majority"]["test"][metric]))


# ---------------------------------------------------------------------------------------------------- masked loss alone
@figure("architecture")
def architecture(workspace: Workspace, scale: str) -> Figure:
    """Masked loss against tokens by architecture, and its ends as differences from the crammed shape (claims 2 and 3)."""
    runs = points(workspace, scale)
    base = base_workloads(workspace, scale)
    mine = runs[
        (runs["arm"] == "short") & (runs["workload"].str.startswith((ARCHITECTURE, SIZE)) | runs["workload"].isin(base))
    ]
    first = mine[mine["seed"] == mine["seed"].min()]
    drawn, (left, right) = canvas(columns=2, width=11, height=0.28 * len(first) + 2.6)
    curves = read_curves(workspace, scale, STUDY, list(first["id"]))
    curves = curves[(curves["metric"] == "train_loss") & (curves["seed"] == mine["seed"].min())]
    sizes = sorted(
        (name for name in first["workload"] if str(name).startswith(SIZE)), key=lambda name: int(name.removeprefix(SIZE))
    )
    shades = dict(zip(sizes, mpl.colormaps["plasma"](np.linspace(0.2, 0.8, len(sizes))), strict=True))
    ends: list[tuple[float, float, str, Any]] = []
    types = "other types of that size"  # one series: the right panel tells them apart
    for _, run in first.iterrows():
        curve = curves[curves["arm"] == run["id"]].sort_values("step")
        tokens, level = curve["examples"] * run["tokens"] / max(curve["examples"].max(), 1), _level(curve["value"])
        if run["workload"] in shades:
            color = shades[run["workload"]]
            left.plot(tokens, level, color=color, lw=1.4, ls="--")
            ends.append((float(level.iloc[-1]), float(tokens.iloc[-1]), _name(run["workload"], base), color))
        elif run["workload"] in base:
            left.plot(tokens, level, color="black", lw=1.6, label=SAME, zorder=3)
        else:
            left.plot(tokens, level, color="#BBBBBB", lw=1, label=types)
            types = "_"  # a label that no legend shows
    below = -math.inf
    for lowest, last, name, color in sorted(ends):  # a name lies above the one below it
        below = max(lowest, below + NAME_HEIGHT)
        left.annotate(name, (last, below), color=color, fontsize=8)
    left.set(xlabel="tokens", ylabel=f"training {LOSS}")
    log_axis(left, ticks=(1,))
    left.legend(fontsize=8)
    kinds = ((ARCHITECTURE, "#0072B2", "o"), (SIZE, "#D55E00", "D"))
    rows: list[tuple[str, list[float], str, str]] = []
    for prefix, color, marker in kinds:
        losses = variants(workspace, scale, "short", prefix)
        others = sorted(
            (name for name in losses.columns if name != SAME), key=lambda name: (int(name) if name.isdigit() else 0, name)
        )
        word = "width " if prefix == SIZE else ""
        rows += [(f"{word}{name}", list(losses[name] - losses[SAME]), color, marker) for name in others]
    _rows(right, rows)
    right.set(xlabel="above the crammed shape, nats (95 %)")
    return drawn


def _level(losses: pd.Series) -> pd.Series:
    """Training losses as their means over a tenth of the run."""
    return losses.rolling(max(1, len(losses) // 10), center=True, min_periods=1).mean()


def _name(workload: Any, base: list[str]) -> str:
    return SAME if workload in base else str(workload).removeprefix(ARCHITECTURE).replace("size-", "width ")


def _rows(axes: Axes, rows: list[tuple[str, list[float], str, str]]) -> None:
    """A row a name: single values, their mean and its 95 % interval around a line at 0."""
    for place, (_, values, color, marker) in enumerate(rows):
        interval = mean_interval(np.asarray(values, dtype=float))
        axes.scatter(values, [place] * len(values), s=12, color=color, alpha=0.4, linewidths=0)
        if np.isfinite(interval.low):
            axes.plot([interval.low, interval.high], [place, place], color=color, lw=1.5)
        axes.scatter([interval.mean], [place], s=36, color=color, marker=marker, zorder=3)
    axes.axvline(0, color="#000000", lw=1)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)


@figure("schedules")
def schedules(workspace: Workspace, scale: str) -> Figure:
    """Shapes of the learning rate, the loss along them, and the ends above the triangle's (claim 4)."""
    config, runs = workspace.study(STUDY), points(workspace, scale)
    base = base_workloads(workspace, scale)[0]
    mine = runs[(runs["workload"] == base) & (runs["arm"].str.startswith(SHAPES) | (runs["arm"] == "short"))]
    first = mine[mine["seed"] == mine["seed"].min()].sort_values("arm")
    curves = read_curves(workspace, scale, STUDY, list(first["id"]))
    curves = curves[(curves["metric"] == "train_loss") & (curves["seed"] == mine["seed"].min())]
    drawn, (left, middle, right) = canvas(columns=3, width=13, height=4.4)
    fractions = np.linspace(0, 1, 201)
    triangle = mine[mine["arm"] == "short"].set_index("seed")["test_loss"]
    rows: list[tuple[str, list[float], str, str]] = []
    shades = mpl.colormaps["turbo"](np.linspace(0.05, 0.95, len(first)))
    for (_, run), shade in zip(first.iterrows(), shades, strict=True):
        color = mpl.colors.to_hex(shade)
        _, workload = config.resolve(scale, run["id"])
        schedule = workload.recipe.schedule
        label = "triangle (crammed)" if run["arm"] == "short" else str(run["label"])
        left.plot(fractions, [learning_rate_factor(schedule, at, 10**9) for at in fractions], color=color, label=label)
        curve = curves[curves["arm"] == run["id"]].sort_values("step")
        level = _level(curve["value"])
        middle.plot(curve["flops"] / curve["flops"].max(), level, color=color, lw=1.2)
        if run["arm"] != "short":
            above = (mine[mine["arm"] == run["arm"]].set_index("seed")["test_loss"] - triangle).dropna()
            rows.append((label, list(above), color, "o"))
    left.set(xlabel="share of the budget", ylabel="learning rate over its peak")
    middle.set(xlabel="share of the budget", ylabel=f"training {LOSS}")
    _rows(right, rows)
    right.set(xlabel="above the triangle, nats (95 %)")
    drawn.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return drawn


@figure("vocabulary")
def vocabulary(workspace: Workspace, scale: str) -> Figure:
    """The vocabulary's size against the mean over labelled sets, and against bits a byte (claim 5)."""
    runs = points(workspace, scale)
    main = workspace.study(STUDY).scale(scale).main
    mine = runs[(runs["arm"] == "vocabulary") | ((runs["arm"] == "crammed") & (runs["workload"] == main))]
    sizes = {name: int(read_manifest(workspace.shards(name))["vocabulary"]) for name in mine["dataset"].unique()}
    drawn, panels = canvas(columns=2, width=10, height=4)
    for panel, metric, label in zip(
        panels, (AVERAGE, "test_bits_per_byte"), ("mean over the labelled sets, %", "masked loss, bits a byte"), strict=True
    ):
        for name, of_size in mine.groupby("dataset"):
            error_bar(panel, sizes[str(name)], list(of_size[metric]), COLORS["crammed"])
        means = mine.groupby(mine["dataset"].map(sizes))[metric].mean()
        panel.plot(means.index, means, color=COLORS["crammed"], lw=1)
        panel.set_xscale("log", base=2)
        panel.set_xticks(sorted(sizes.values()), [f"{size:,}" for size in sorted(sizes.values())], rotation=45)
        panel.minorticks_off()
        panel.set(xlabel="tokens in the vocabulary (257: bytes)", ylabel=label)
    return drawn


def _differences(workspace: Workspace, scale: str, pairs: list[tuple[str, str, str]], title: str) -> Figure:
    """A row a pair of ids: the first's masked loss less the second's, by seed."""
    losses = points(workspace, scale).set_index(["id", "seed"])["test_loss"]
    known = set(losses.index.get_level_values("id"))
    rows = [
        (name, list((losses.loc[method] - losses.loc[baseline]).dropna()), COLORS["crammed"], "o")
        for method, baseline, name in pairs
        if {method, baseline} <= known
    ]
    drawn, (axes,) = canvas(width=7.5, height=0.42 * len(rows) + 1.6)
    if not rows:
        axes.set_title("not trained at this scale", fontsize=11)
        return drawn
    _rows(axes, rows)
    axes.set(xlabel=title)
    return drawn


@figure("data")
def data(workspace: Workspace, scale: str) -> Figure:
    """Filtering, selection and order, each apart (claim 6)."""
    pairs = [
        ("short@data-filtered", "short@data-plain", "filtered"),
        ("short@data-prevalent", "short@data-ninth", "selected by prevalence"),
        ("short@data-stops", "short@data-ninth", "selected by full stops"),
        ("short-stored@data-ninth", "short@data-ninth", "ordered by prevalence"),
        ("short-stored@data-prevalent", "short@data-ninth", "selected and ordered by prevalence"),
        ("short-stored@data-stops", "short@data-ninth", "selected and ordered by full stops"),
        ("short-stored@data-filtered-prevalent", "short@data-ninth", "filtered, selected and ordered"),
    ]
    return _differences(workspace, scale, pairs, "masked loss less that of random text,\nsame budget, nats (95 %)")


@figure("levers")
def levers(workspace: Workspace, scale: str) -> Figure:
    """Levers of other studies at equal FLOPs, on a text that is seen several times."""
    config = workspace.study(STUDY)
    workloads = config.scale(scale).workloads
    arms = [arm for arm in workloads["few"].arms if arm != "plain"] if "few" in workloads else []
    pairs = [(f"{arm}@few", "plain@few", config.arms[arm].label) for arm in arms]
    return _differences(workspace, scale, pairs, "masked loss less that without a lever, nats (95 %)")


# -------------------------------------------------------------------------------------------------------------- tables
@table("runs")
def runs_table(workspace: Workspace, scale: str) -> pd.DataFrame:
    """Every arm in every workload: seeds, size, tokens, costs, masked loss and mean over labelled sets with intervals."""
    rows = []
    for (workload, arm), of_arm in points(workspace, scale).groupby(["workload", "arm"], sort=False):
        loss = mean_interval(of_arm["test_loss"].to_numpy(float))
        first = of_arm.iloc[0]
        row: dict[str, Any] = {
            "workload": workload,
            "arm": arm,
            "seeds": len(of_arm),
            "parameters": int(first["parameters_total"]),
        }
        row |= {"tokens": int(first["tokens"]), "flops": first["flops"], "flops_6n": first["flops_6n_total"]}
        row |= {
            "seconds": of_arm["seconds"].mean(),
            "test_loss": loss.mean,
            "test_loss_low": loss.low,
            "test_loss_high": loss.high,
        }
        row["test_bits_per_byte"] = of_arm["test_bits_per_byte"].mean()
        if AVERAGE in of_arm and of_arm[AVERAGE].notna().all():
            average = mean_interval(of_arm[AVERAGE].to_numpy(float))
            row |= {"average": average.mean, "average_low": average.low, "average_high": average.high}
        rows.append(row)
    return pd.DataFrame(rows)


@table("tasks")
def tasks_table(workspace: Workspace, scale: str) -> pd.DataFrame:
    """Every metric of every labelled set by recipe: means over the seeds, 95 % intervals, and what a guess reaches."""
    runs = _judged(points(workspace, scale))
    rows = []
    for metric in [column for column in runs.columns if column.startswith("test_") and ":" in column]:
        name, of = metric.removeprefix("test_").split(":")
        for arm, mine in runs.groupby("id", sort=False):
            interval = mean_interval(mine[metric].to_numpy(float))
            row = {"set": of, "metric": name, "arm": str(arm).partition(MAIN_SEPARATOR)[0], "seeds": len(mine)}
            row |= {"value": interval.mean, "low": interval.low, "high": interval.high}
            row["majority"] = None if name == "average" else _guess(workspace, of, name)
            rows.append(row)
    return pd.DataFrame(rows)


def _guess(workspace: Workspace, dataset: str, metric: str) -> float | None:
    """As `_majority`, in the metric's own unit."""
    if not (workspace.shards(dataset) / "manifest.json").exists():
        return None
    return float(read_manifest(workspace.shards(dataset))["majority"]["test"][metric])


@table("published-glue")
def published_glue(workspace: Workspace, scale: str) -> pd.DataFrame:
    """The report's tables 3 and 4, with the means of the nine numbers computed again, beside ours.

    `our_average` is the mean over this scale's labelled sets with its 95 % interval, `our_share` what it is of BERT's recipe
    with sixteen budgets; a checkpoint that was not trained here has none.
    """
    told = published(workspace, "glue")
    found = told.merge(read_probe(workspace, STUDY, "published-averages", scale), on="model")
    runs = _judged(points(workspace, scale))
    means = {str(arm): mean_interval(of_arm[AVERAGE].to_numpy(float)) for arm, of_arm in runs.groupby("id")}
    bert = means.get(COUNTERPARTS["BERT-base"])
    rows = []
    for model in found["model"]:
        arm, mean = COUNTERPARTS.get(model, ""), math.nan
        row: dict[str, Any] = {"our_arm": None}
        if arm in means:
            mean = means[arm].mean
            row = {"our_arm": arm, "our_average": mean, "our_low": means[arm].low, "our_high": means[arm].high}
        rows.append(row | {"our_share": math.nan if bert is None else mean / bert.mean})
    return pd.concat([found, pd.DataFrame(rows)], axis=1)
