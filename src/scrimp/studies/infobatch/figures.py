"""The figures and tables of the InfoBatch study, made from the files of its runs and probes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from scrimp.claims.statistics import mean_interval
from scrimp.config import MAIN_SEPARATOR, Workspace
from scrimp.records import read_curves, read_table
from scrimp.studies import figure, table
from scrimp.studies.comparison import Comparison, curves_figure, draw_differences, draw_sweep, speedups_figure
from scrimp.studies.plotting import PALETTE, PUBLISHED, canvas, error_bar

STUDY = "infobatch"
SPEEDUPS = (0.4, 2.5)  # shown
ACCURACY = "test_accuracy"


def _load(workspace: Workspace, scale: str) -> Comparison:
    return Comparison.of(workspace, STUDY, scale, ACCURACY)


def _is_plain(of: Comparison, arm: str) -> bool:
    """Whether an arm prunes by a ratio, in the way that its method was published, for as long as full data or adjusted."""
    spec, horizon = of.config.arms[arm].leading, of.config.arms[arm].horizon
    as_long = horizon.axis != "epochs" or horizon.amount == 1
    return as_long and "ratio" in spec and not set(spec) & {"rescale", "anneal", "delta", "threshold"}


@figure("accuracy-cost")
def accuracy_cost(workspace: Workspace, scale: str) -> Figure:
    """Accuracy against three costs: the sweep as a line, every method as one point with its interval."""
    of = _load(workspace, scale)
    drawn, axes = canvas(columns=3, width=12, height=5.6)
    markers = "osD^vP*Xh<>8pd"
    names = of.cost_names("selection and proxies", ", proxies included")
    for panel, (meter, name) in zip(axes, names.items(), strict=True):
        draw_sweep(panel, of, meter, "full data, each point fully decayed")
        for number, arm in enumerate(of.methods):
            cost = float(np.mean(of.costs(arm, meter)))
            marker = markers[number % len(markers)]
            error_bar(panel, cost, of.qualities(arm), of.color(arm), of.label(arm), marker)
        panel.set_xlabel(name)
    axes[0].set_ylabel("test accuracy, %")
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    return drawn


@figure("curves")
def curves(workspace: Workspace, scale: str) -> Figure:
    """The published way of reading: accuracy while training. The rates decay at different points: do not compare mid-way."""
    arms = ["full", "infobatch-50", "rs2-50", "ucb-50"]
    of = _load(workspace, scale)
    return curves_figure(of, arms, "test accuracy, %", {}, loc="lower right", fontsize=9)


@figure("accuracy-ratio")
def accuracy_ratio(workspace: Workspace, scale: str) -> Figure:
    """Accuracy lost against full data by pruning ratio: ours beside the paper's CIFAR-100 column."""
    of = _load(workspace, scale)
    drawn, axes = canvas(columns=2, width=9, height=4.4)
    shown = [arm for arm in of.methods if _is_plain(of, arm)]
    families = list(dict.fromkeys(of.family(arm) for arm in shown))
    for arm in shown:
        spec = of.config.arms[arm].leading
        lost = of.paired(arm, "full")
        adjusted = of.config.arms[arm].horizon.axis != "epochs"
        # Side by side, in the order of the study's file, so that no interval hides another.
        beside = families.index(spec["name"]) - (len(families) - 1) / 2 + (0.5 if adjusted else 0)
        error_bar(axes[0], 100 * spec["ratio"] + 0.9 * beside, lost, of.color(arm), marker="s" if adjusted else "o")
    published = pd.read_csv(workspace.root / "config" / "published" / "infobatch-table1.csv")
    published = published[published["dataset"] == "cifar100"]
    full = float(published.loc[published["method"] == "full", "accuracy"].iloc[0])
    for method, of_method in published[published["method"] != "full"].groupby("method", sort=False):
        family, name = str(method).removesuffix("-adjusted"), str(method)
        line = axes[1].plot(of_method["ratio"], of_method["accuracy"] - full, color=PALETTE[family], lw=1, ls=":")
        axes[1].scatter(
            of_method["ratio"],
            of_method["accuracy"] - full,
            **{**PUBLISHED, "edgecolors": line[0].get_color()},
            label=name,
        )
    axes[0].set_title(f"measured, scale {scale}", fontsize=11)
    axes[1].set_title("published, CIFAR-100, ResNet-18", fontsize=11)
    for panel in axes:
        panel.axhline(0, color="#000000", lw=1)
        panel.set_xlabel("pruning ratio, %")
        panel.set_xticks([30, 50, 70])
    axes[0].set_ylabel("accuracy minus full data, points")
    drawn.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return drawn


HORIZONS = {"infobatch-50-x0.5": "full-x0.5", "infobatch-50": "full", "infobatch-50-x2": "full-x2"}


@figure("horizons")
def horizons(workspace: Workspace, scale: str) -> Figure:
    """What InfoBatch prunes and loses, and its speedup, by length of training, with smoothed labels and without."""
    of = _load(workspace, scale)
    drawn, axes = canvas(columns=4, width=14, height=4)
    workloads = {"": "labels smoothed", f"{MAIN_SEPARATOR}no-smoothing": "not smoothed"}
    for shift, (suffix, label) in enumerate(workloads.items()):
        color = (PALETTE["infobatch"], "#0072B2")[shift]
        pairs = [(f"{arm}{suffix}", f"{full}{suffix}") for arm, full in HORIZONS.items()]
        pairs = [(arm, full) for arm, full in pairs if arm in of.runs and full in of.runs]
        sweep = [f"{arm}{suffix}" for arm in of.config.baseline_sweep if f"{arm}{suffix}" in of.runs]
        for place, (arm, full) in enumerate(pairs):
            at, name = place + 0.16 * (shift - 0.5), label if place == 0 else None
            whole = float(np.mean(of.costs(full, "examples")))
            pruned = [100 * (1 - seen / whole) for seen in of.costs(arm, "examples")]
            error_bar(axes[0], at, pruned, color, name)
            error_bar(axes[1], at, of.paired(arm, full), color)
            error_bar(axes[2], at, of.measured_by("test_loss").paired(arm, full), color)
            if len(sweep) > 1:
                _, interval = of.speedups(arm, "examples", sweep)
                low, high = max(interval.low, SPEEDUPS[0]), min(interval.high, SPEEDUPS[1])
                spread = [[max(0.0, interval.mean - low)], [max(0.0, high - interval.mean)]]
                axes[3].errorbar([at], [interval.mean], yerr=spread, fmt="o", color=color, capsize=3)
    names = (
        "examples pruned, %",
        "accuracy minus full data, points",
        "test loss minus full data, nats",
        "speedup in examples, by accuracy",
    )
    for panel, name in zip(axes, names, strict=True):
        panel.set_xticks(range(len(HORIZONS)), ["half", "once", "twice"])
        panel.set(xlabel="length of training", ylabel=name)
    for panel in axes[1:3]:
        panel.axhline(0, color="#000000", lw=1)
    axes[3].axhline(1, color="#000000", lw=1)
    axes[3].set_yscale("log")
    axes[3].set_yticks([0.5, 0.67, 1, 1.5, 2], ["0.5", "0.67", "1", "1.5", "2"])
    axes[3].minorticks_off()
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    return drawn


@figure("kept-and-losses")
def kept_and_losses(workspace: Workspace, scale: str) -> Figure:
    """What InfoBatch keeps of each epoch, and how its scores are spread over training."""
    of = _load(workspace, scale)
    shown = [arm for arm in of.methods if of.family(arm) == "infobatch" and _is_plain(of, arm)]
    table = read_curves(workspace, scale, STUDY, shown)
    table = table[table["seed"] == table["seed"].min()].copy()
    table["epoch"] = table.groupby(["arm", "metric"]).cumcount()
    drawn, axes = canvas(columns=2, width=9, height=4.2)
    kept = table[table["metric"] == "kept_fraction"]
    ratios = sorted({of.config.arms[arm].leading["ratio"] for arm in shown})
    shades = sns.light_palette(PALETTE["infobatch"], len(ratios) + 2)[2:]
    for arm in shown:
        of_arm, spec = kept[kept["arm"] == arm], of.config.arms[arm]
        style = "-" if spec.horizon.axis == "epochs" else "--"
        shade = shades[ratios.index(spec.leading["ratio"])]
        axes[0].plot(of_arm["epoch"], 100 * of_arm["value"], ls=style, color=shade, lw=2, label=spec.label)
    axes[0].set(xlabel="epoch", ylabel="examples kept, %", ylim=(0, 103))
    axes[0].legend(fontsize=8, loc="lower left")
    of_arm = table[table["arm"] == "infobatch-50"].pivot_table(index="epoch", columns="metric", values="value")
    if "score_p50" in of_arm:
        for low, high, alpha in (("score_p10", "score_p90", 0.2), ("score_p25", "score_p75", 0.4)):
            name = f"{low[-2:]}th to {high[-2:]}th percentile"
            axes[1].fill_between(
                of_arm.index, of_arm[low], of_arm[high], color=PALETTE["infobatch"], alpha=alpha, label=name, lw=0
            )
        axes[1].plot(of_arm.index, of_arm["score_p50"], color=PALETTE["infobatch"], label="median")
        axes[1].plot(of_arm.index, of_arm["score_mean"], color="#000000", ls="--", label="mean: the threshold")
    axes[1].set(xlabel="epoch", ylabel="last loss of each example, nats", title="InfoBatch 50 %")
    axes[1].legend(fontsize=8)
    return drawn


@figure("ablation")
def ablation(workspace: Workspace, scale: str) -> Figure:
    """InfoBatch and its ablations, each against full data of the same number of epochs."""
    of = _load(workspace, scale)
    shown = [arm for arm in of.methods if of.family(arm) == "infobatch"]
    drawn, (axes,) = canvas(width=7, height=0.45 * len(shown) + 1.6)
    longer = {arm: f"full-x{arm.rpartition('-x')[2]}" for arm in shown if "-x" in arm}
    draw_differences(axes, of, [(arm, longer.get(arm, "full"), of.label(arm)) for arm in shown])
    axes.set_xlabel("test accuracy minus full data, points\n(dots: seeds; bar: 95 % interval)")
    return drawn


@figure("transfer")
def transfer(workspace: Workspace, scale: str) -> Figure:
    """InfoBatch 50 % against full data in every workload: other data, architectures, optimisers."""
    of = _load(workspace, scale)
    sizes = of.config.scale(scale)
    pairs = []
    for name, workload in sizes.workloads.items():
        suffix = "" if name == sizes.main else f"{MAIN_SEPARATOR}{name}"
        if f"infobatch-50{suffix}" in of.runs and f"full{suffix}" in of.runs:
            model = "no model" if workload.model is None else workload.model.name
            smoothed = "" if getattr(workload.recipe, "label_smoothing", 0) else ", no smoothing"
            about = f"{workload.dataset}, {model}, {workload.recipe.optimizer}{smoothed}"
            pairs.append((f"infobatch-50{suffix}", f"full{suffix}", about))
    drawn, (axes,) = canvas(width=7, height=0.5 * len(pairs) + 1.4)
    draw_differences(axes, of, pairs)
    axes.set_xlabel("InfoBatch 50 % minus full data,\naccuracy points")
    return drawn


@figure("overhead")
def overhead(workspace: Workspace, scale: str) -> Figure:
    """Seconds of selection per epoch against the size of the data, with the published overhead."""
    table = read_table(workspace.results(scale, STUDY) / "probes" / "overhead.parquet")
    drawn, (axes,) = canvas(width=6, height=4)
    mean = table.groupby("size")[["prune", "shuffle", "upkeep", "seconds"]].median()
    for part, color in (("prune", "#D55E00"), ("shuffle", "#0072B2"), ("upkeep", "#009E73"), ("seconds", "#000000")):
        name = "total" if part == "seconds" else part
        axes.plot(mean.index, mean[part], color=color, marker="o", ms=4, lw=2 if name == "total" else 1, label=name)
    axes.scatter([1_281_167], [10 / 90], **PUBLISHED, s=60, label="published: 10 s for 90 epochs", zorder=4)
    axes.set(xscale="log", yscale="log", xlabel="examples N", ylabel="CPU seconds an epoch")
    axes.legend(fontsize=9)
    return drawn


@figure("gradient-bias")
def gradient_bias(workspace: Workspace, scale: str) -> Figure:
    """Distance of the mean pruned gradient from the full one against the number of prunings averaged."""
    table = read_table(workspace.results(scale, STUDY) / "probes" / "gradient-bias.parquet")
    drawn, (axes,) = canvas(width=6, height=4)
    for rescale, color, name in ((True, "#D55E00", "with rescaling"), (False, "#999999", "without rescaling")):
        rows = table[table["rescale"] == rescale]
        axes.plot(rows["prunings"], 100 * rows["relative_error"], color=color, marker="o", ms=4, label=name)
    first = table[table["rescale"]]["relative_error"].iloc[0]
    counts = np.sort(table["prunings"].unique())
    axes.plot(counts, 100 * first / np.sqrt(counts), color="#D55E00", lw=1, ls=":", label="1 / square root: unbiased noise")
    axes.set(xscale="log", yscale="log", xlabel="prunings averaged", ylabel="distance from the full gradient, %")
    axes.legend(fontsize=9)
    return drawn


@figure("speedups")
def speedups(workspace: Workspace, scale: str) -> Figure:
    """The speedup of every method against the sweep, beside the number that reading two curves would give."""
    return speedups_figure(_load(workspace, scale), "full")


@table("arms")
def arms_table(workspace: Workspace, scale: str) -> pd.DataFrame:
    """Every arm: accuracy with its interval, cost, and the speedup against the sweep of its own workload."""
    of = _load(workspace, scale)
    rows = []
    for arm, by_seed in of.runs.items():
        accuracy = mean_interval([run.metrics["test_accuracy"] for run in by_seed.values()])
        row = {"arm": arm, "label": of.config.resolve(scale, arm)[0].label, "seeds": len(by_seed)}
        row |= {"accuracy_%": accuracy.mean, "low": accuracy.low, "high": accuracy.high}
        for axis, unit in (("examples", 1), ("flops", 1e12), (of.time, 1)):
            values = [getattr(run.meters, axis) / unit for run in by_seed.values()]
            row[axis if unit == 1 else "tflop"] = float(np.mean(values))
        row |= of.speedup_columns(arm)
        rows.append(row)
    return pd.DataFrame(rows)


@table("table1")
def table1(workspace: Workspace, scale: str) -> pd.DataFrame:
    """InfoBatch's Table 1 cell by cell: the published accuracy beside ours, where this scale trains that cell."""
    published = pd.read_csv(workspace.root / "config" / "published" / "infobatch-table1.csv")
    of = _load(workspace, scale)
    workloads = of.config.scale(scale).workloads
    measured = []
    for _, cell in published.iterrows():
        name = f"{cell['method'].removesuffix('-adjusted')}-{cell['ratio']}" if cell["ratio"] else cell["method"]
        name += "-adjusted" if cell["method"].endswith("-adjusted") else ""
        workload = f"{cell['dataset']}-resnet-18"
        arm = name if workloads and workload == of.config.scale(scale).main else f"{name}{MAIN_SEPARATOR}{workload}"
        values = [run.metrics["test_accuracy"] for run in of.runs.get(arm, {}).values()]
        interval = mean_interval(values) if values else None
        measured.append(
            {
                "measured": None if interval is None else interval.mean,
                "low": None if interval is None else interval.low,
                "high": None if interval is None else interval.high,
                "seeds": len(values),
            }
        )
    return pd.concat([published, pd.DataFrame(measured)], axis=1)
