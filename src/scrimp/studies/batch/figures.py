"""The figures and tables of the batch study, made from the files of its runs and probes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from scrimp.claims.statistics import mean_interval
from scrimp.config import MAIN_SEPARATOR, Workspace
from scrimp.measure.critical_batch import Hyperbola
from scrimp.studies import figure, table
from scrimp.studies.comparison import Comparison, draw_differences, speedups_figure
from scrimp.studies.outputs import read_probe
from scrimp.studies.plotting import PUBLISHED, canvas, error_bar, log_axis

from .points import ACCURACY, REMEDIES, STUDY, accuracy_curves, published

# Arms whose curves are drawn share their first method: they have colours and markers of their own. Okabe & Ito's.
CURVES = {
    "decay": ("#000000", "o"),
    "hybrid": ("#56B4E9", "s"),
    "grow": ("#D55E00", "D"),
    "grow-initial": ("#009E73", "^"),
    "grow-momentum": ("#CC79A7", "v"),
    "large": ("#0072B2", "P"),
}
# The published steps from a large batch to a small one's accuracy, by remedy; both of one paper's own baseline.
PUBLISHED_GAP = {
    "large": ("large batch", "small batch"),
    "large-sqrt": ("and a scaled rate", "small batch"),
    "large-ghost": ("and ghost batch norm", "small batch"),
    "large-longer": ("and regime adaptation", "small batch"),
    "large-linear": ("batch 8k without warm-up", "batch 256"),
    "large-warmup": ("batch 8k with warm-up", "batch 256"),
}


def _load(workspace: Workspace, scale: str) -> Comparison:
    return Comparison.of(workspace, STUDY, scale, ACCURACY)


@figure("curves")
def curves(workspace: Workspace, scale: str) -> Figure:
    """Accuracy over examples and over updates, of decay, hybrid and growth; bands reach over the seeds."""
    of = _load(workspace, scale)
    shown = [arm for arm in CURVES if arm in of.runs]
    rows = accuracy_curves(workspace, scale, shown)
    drawn, axes = canvas(columns=2, width=10, height=4.6)
    for arm in shown:
        of_arm = rows[rows["arm"] == arm].sort_values(["seed", "step"]).copy()
        of_arm["visit"] = of_arm.groupby("seed").cumcount()
        mean = of_arm.groupby("visit")[["examples", "step", "value"]].mean()
        spread = of_arm.groupby("visit")["value"].agg(["min", "max"])
        color, marker = CURVES[arm]
        for panel, column in zip(axes, ("examples", "step"), strict=True):
            panel.plot(mean[column], mean["value"], color=color, marker=marker, ms=4, lw=1.4, label=of.label(arm))
            panel.fill_between(mean[column], spread["min"], spread["max"], color=color, alpha=0.12, linewidth=0)
    axes[0].set(xlabel="examples trained on", ylabel="test accuracy, %")
    axes[0].xaxis.set_major_formatter(EngFormatter(sep=""))
    axes[1].set_xlabel("updates")
    log_axis(axes[1])
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return drawn


@figure("optimizers")
def optimizers(workspace: Workspace, scale: str) -> Figure:
    """Growth minus decay in every workload that trains both."""
    of = _load(workspace, scale)
    sizes, pairs = of.config.scale(scale), []
    for name, workload in sizes.workloads.items():
        suffix = "" if name == sizes.main else f"{MAIN_SEPARATOR}{name}"
        if f"grow{suffix}" in of.runs and f"decay{suffix}" in of.runs:
            recipe = workload.recipe
            momentum = {True: "Nesterov", False: "momentum"}[recipe.nesterov] if recipe.momentum else "plain"
            about = f"SGD, {momentum}" if recipe.optimizer == "sgd" else recipe.optimizer.replace("adamw", "AdamW")
            pairs.append((f"grow{suffix}", f"decay{suffix}", about))
    runs = published(workspace, "runs").set_index("run")["accuracy"]
    drawn, (axes,) = canvas(width=7, height=0.55 * len(pairs) + 1.6)
    draw_differences(axes, of, pairs)
    axes.scatter([runs["growth"] - runs["decay"]], [0], **PUBLISHED, s=40, zorder=4, label="published, CIFAR-10, WRN-16-4")
    axes.set_xlabel("growth minus decay, points of accuracy\n(dots: seeds; bar: 95 % interval)")
    drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", fontsize=9)
    return drawn


@figure("gap")
def gap(workspace: Workspace, scale: str) -> Figure:
    """Larger batches and their remedies, each minus the small batch."""
    of = _load(workspace, scale)
    shown = [arm for arm in ("large-4", "large", *REMEDIES) if arm in of.runs]
    drawn, (axes,) = canvas(width=7.5, height=0.45 * len(shown) + 1.6)
    draw_differences(axes, of, [(arm, "decay", of.label(arm)) for arm in shown])
    table = published(workspace, "gap").set_index("run")["accuracy"]
    rows = [row for row, arm in enumerate(shown) if arm in PUBLISHED_GAP]
    apart = [table[of_arm] - table[small] for of_arm, small in (PUBLISHED_GAP[shown[row]] for row in rows)]
    axes.scatter(apart, rows, **PUBLISHED, s=40, zorder=4, label="published, each of its paper's small batch")
    axes.set_xlabel("test accuracy minus the small batch's, points\n(dots: seeds; bar: 95 % interval)")
    drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", fontsize=9)
    return drawn


@figure("speedups")
def speedups(workspace: Workspace, scale: str) -> Figure:
    """Speedups against the sweep along updates and examples."""
    return speedups_figure(_load(workspace, scale), "decay", (0.1, 20.0), ("updates", "examples"))


@figure("cost")
def cost(workspace: Workspace, scale: str) -> Figure:
    """CPU seconds for a thousand examples against the mean batch, a point an arm, coloured by what the arm does."""
    of = _load(workspace, scale)
    drawn, (axes,) = canvas(width=7.5, height=4.8)
    for arm in [*of.sweep, *of.methods]:
        if MAIN_SEPARATOR in arm:
            continue
        examples, updates = np.mean(of.costs(arm, "examples")), np.mean(of.costs(arm, "updates"))
        seconds = [1000 * s / e for s, e in zip(of.costs(arm, "cpu_seconds"), of.costs(arm, "examples"), strict=True)]
        kind, color, marker = _kind(arm)
        error_bar(axes, float(examples / updates), seconds, color, kind, marker)
    log_axis(axes)
    axes.set(xlabel="examples an update, on average", ylabel="CPU seconds for 1,000 examples")
    axes.set_ylim(bottom=0)
    kinds = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    drawn.legend(kinds.values(), kinds.keys(), loc="outside lower center", ncols=2, fontsize=9)
    return drawn


def _kind(arm: str) -> tuple[str, str, str]:
    """What an arm does to the batch, with a colour and a marker."""
    if arm.startswith("decay"):
        return "small batch", "#000000", "o"
    if arm.startswith(("grow", "hybrid")):
        return "growing batch", "#D55E00", "D"
    if arm in ("large-ghost", "large-longer", "own-ghost"):
        return "large batch, ghost batch norm", "#CC79A7", "P"
    return "large batch", "#0072B2", "X"


def _mark_falls(axes: Axes, rows: pd.DataFrame, column: str) -> None:
    """Dashed lines where the rate has fallen since the point before."""
    first = rows[rows["seed"] == rows["seed"].min()].sort_values(column)
    fell = first["rate"].to_numpy()[1:] < first["rate"].to_numpy()[:-1] * (1 - 1e-9)
    for at in first[column].to_numpy()[1:][fell]:
        axes.axvline(at, color="#999999", lw=1, ls="--")


@figure("noise")
def noise(workspace: Workspace, scale: str) -> Figure:
    """The simple noise scale over training, beside the batch that growth has there."""
    rows = read_probe(workspace, STUDY, "along", scale)
    drawn, (axes,) = canvas(width=7, height=4.4)
    for number, (_, of_seed) in enumerate(rows.groupby("seed")):
        ends = [np.clip(of_seed[f"noise_scale_{end}"], 1e-2, 1e7) for end in ("low", "high")]
        axes.fill_between(of_seed["step"], *ends, color="#0072B2", alpha=0.12, linewidth=0)
        label = "noise scale, a line a seed" if number == 0 else None
        finite = of_seed[np.isfinite(of_seed["noise_scale"])]
        axes.plot(finite["step"], finite["noise_scale"], color="#0072B2", marker="o", ms=4, label=label)
        if number == 0:
            axes.step(of_seed["step"], of_seed["growths_batch"], color="#D55E00", where="post", lw=2, label="growth's batch")
    _mark_falls(axes, rows, "step")
    log_axis(axes)
    axes.set(yscale="log", xlabel="updates of the plain recipe", ylabel="examples")
    axes.legend(fontsize=9)
    return drawn


@figure("distance")
def distance(workspace: Workspace, scale: str) -> Figure:
    """Distance from the start over log t and over the root of t."""
    rows = read_probe(workspace, STUDY, "along", scale)
    before = rows[rows["rate"] == rows["rate"].max()]
    drawn, axes = canvas(columns=2, width=9, height=4)
    for panel, name, of in ((axes[0], "log t", np.log), (axes[1], "root of t", np.sqrt)):
        for _, of_seed in before.groupby("seed"):
            x, y = of(of_seed["step"].to_numpy(float)), of_seed["distance"].to_numpy()
            panel.plot(x, y, color="#0072B2", marker="o", ms=4, lw=1)
            panel.plot(x, np.polyval(np.polyfit(x, y, 1), x), color="#999999", lw=1, ls="--")
        panel.set_xlabel(f"{name}, t in updates (dashed: straight lines)")
    axes[0].set_ylabel("distance of the weights from the start")
    return drawn


@figure("hyperbola")
def hyperbola(workspace: Workspace, scale: str) -> Figure:
    """Steps against examples to the target, with the fit."""
    rows = read_probe(workspace, STUDY, "hyperbola", scale)
    fit = rows[rows["last"]].iloc[0]
    reached = rows.dropna(subset="steps")
    drawn, (axes,) = canvas(width=6.5, height=4.4)
    colors = dict(
        zip(sorted(reached["batch"].unique()), ("#000000", "#0072B2", "#009E73", "#E69F00", "#D55E00"), strict=False)
    )
    for batch, of_batch in reached.groupby("batch"):
        axes.scatter(of_batch["examples"], of_batch["steps"], color=colors[batch], s=36, label=f"batch {batch}", zorder=3)
    if np.isfinite(fit["critical"]):
        law = Hyperbola(*(float(fit[c]) for c in ("least_steps", "critical", "critical_low", "critical_high", "r_squared")))
        sizes = np.geomspace(reached["batch"].min() / 2, reached["batch"].max() * 2, 100)
        axes.plot(
            [law.examples(b) for b in sizes], [law.steps(b) for b in sizes], color="#666666", lw=1.2, label="hyperbola"
        )
        known = f"{law.critical:,.0f} [{law.low:,.0f}, {law.high:,.0f}]"
        axes.scatter(
            [law.examples(law.critical)], [law.steps(law.critical)], **PUBLISHED, s=60, label=f"critical batch {known}"
        )
    log_axis(axes)
    axes.set(yscale="log", xlabel="examples to the target loss", ylabel="updates to the target loss")
    axes.legend(fontsize=9)
    return drawn


@figure("serving")
def serving(workspace: Workspace, scale: str) -> Figure:
    """Latency and CPU time a request by largest batch, a line a wait, a column a load."""
    rows = read_probe(workspace, STUDY, "serving", scale)
    loads, waits = sorted(rows["load"].unique()), sorted(rows["wait_ms"].unique())
    colors = dict(zip(waits, ("#000000", "#0072B2", "#E69F00", "#D55E00"), strict=False))
    drawn, axes = canvas(columns=len(loads), rows=2, width=3.6 * len(loads) + 1, height=6.4)
    panels = np.array(axes, dtype=object).reshape(2, len(loads))
    for column, load in enumerate(loads):
        for wait in waits:
            of_wait = rows[(rows["load"] == load) & (rows["wait_ms"] == wait)].sort_values("largest")
            for panel, name in zip(panels[:, column], ("latency_ms", "cpu_ms"), strict=True):
                panel.plot(
                    of_wait["largest"], of_wait[name], color=colors[wait], marker="o", ms=4, label=f"waits {wait:g} ms"
                )
        panels[0, column].set_title(f"load {load:g}")
        log_axis(panels[0, column], which="y")
        for panel in panels[:, column]:
            log_axis(panel)
        panels[1, column].set_xlabel("largest batch")
        panels[1, column].set_ylim(bottom=0)
    panels[0, 0].set_ylabel("mean latency, ms")
    panels[1, 0].set_ylabel("CPU ms a request")
    drawn.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(waits), fontsize=9)
    return drawn


@table("arms")
def arms_table(workspace: Workspace, scale: str) -> pd.DataFrame:
    """Every arm: accuracy with its interval, updates, costs, and speedups against the sweep of its workload."""
    of = _load(workspace, scale)
    rows = []
    for arm, by_seed in of.runs.items():
        accuracy = mean_interval(of.qualities(arm))
        row = {"arm": arm, "label": of.config.resolve(scale, arm)[0].label, "seeds": len(by_seed)}
        row |= {"accuracy_%": accuracy.mean, "low": accuracy.low, "high": accuracy.high}
        row |= {meter: float(np.mean(of.costs(arm, meter))) for meter in ("updates", "examples", "seconds", "cpu_seconds")}
        rows.append({**row, **of.speedup_columns(arm, ("updates", "examples", "cpu_seconds"))})
    return pd.DataFrame(rows)
