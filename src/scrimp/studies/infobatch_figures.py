"""The figures and tables of the InfoBatch study, made from the files of its runs and probes."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from scrimp.claims.judge import index_runs
from scrimp.claims.statistics import curve_saving, geometric_interval, ladder_interval, mean_interval
from scrimp.config import MAIN_SEPARATOR, StudyConfig, Workspace
from scrimp.records import Summary, current_summaries, read_curves
from scrimp.studies.plotting import OTHER, PALETTE, PUBLISHED, error_bar, figure, log_axis

STUDY = "infobatch"
ACCURACY = "test_accuracy"
AXES_NAMES = {
    "examples": "examples trained on, proxies included",
    "flops": "FLOPs, proxies included",
    "seconds": "seconds, selection and proxies included",
}
Runs = dict[str, dict[int, Summary]]


def _load(workspace: Workspace, scale: str) -> tuple[StudyConfig, Runs]:
    config = workspace.study(STUDY)
    return config, index_runs(current_summaries(workspace, config, scale))


def _family(config: StudyConfig, arm: str) -> str:
    return str(config.arms[arm.partition(MAIN_SEPARATOR)[0]].selector["name"])


def _color(config: StudyConfig, arm: str) -> str:
    return PALETTE.get(_family(config, arm), OTHER)


def _values(runs: Runs, arm: str, meter: str | None = None) -> list[float]:
    """A meter, or the accuracy, of an arm's runs in the order of their seeds."""
    found = (runs[arm][seed] for seed in sorted(runs[arm]))
    return [run.metrics[ACCURACY] if meter is None else float(getattr(run.meters, meter)) for run in found]


def _is_plain(config: StudyConfig, arm: str) -> bool:
    """Whether an arm prunes by a ratio, in the way that its method was published."""
    spec = config.arms[arm].selector
    return "ratio" in spec and not set(spec) & {"rescale", "anneal", "delta", "threshold"}


def _methods(config: StudyConfig, runs: Runs) -> list[str]:
    """Arms of the main setting that are no rung of the ladder."""
    return [arm for arm in config.arms if arm in runs and arm not in config.ladder]


def _ladder_lines(config: StudyConfig, runs: Runs, meter: str, seeds: list[int]) -> list[tuple[list[float], list[float]]]:
    rungs = [rung for rung in config.ladder if rung in runs]
    return [
        (
            [float(getattr(runs[rung][seed].meters, meter)) for rung in rungs],
            [runs[rung][seed].metrics[ACCURACY] for rung in rungs],
        )
        for seed in seeds
    ]


def _draw_ladder(axes: Axes, config: StudyConfig, runs: Runs, meter: str) -> None:
    rungs = [rung for rung in config.ladder if rung in runs]
    costs = [float(np.mean(_values(runs, rung, meter))) for rung in rungs]
    intervals = [mean_interval(_values(runs, rung)) for rung in rungs]
    axes.plot(
        costs, [i.mean for i in intervals], color=PALETTE["full"], label="full data, each point fully decayed", zorder=2
    )
    axes.fill_between(
        costs, [i.low for i in intervals], [i.high for i in intervals], color="#000000", alpha=0.1, linewidth=0
    )
    for rung, cost in zip(rungs, costs, strict=True):
        axes.scatter([cost] * len(runs[rung]), _values(runs, rung), s=9, color=PALETTE["full"], alpha=0.5, linewidths=0)
    log_axis(axes)


def accuracy_cost(workspace: Workspace, scale: str) -> Figure:
    """Accuracy against three costs: the ladder as a line, every method as one point with its interval."""
    config, runs = _load(workspace, scale)
    drawn, axes = figure(columns=3, width=12, height=5.6)
    markers = "osD^vP*Xh<>8pd"
    for panel, (meter, name) in zip(axes, AXES_NAMES.items(), strict=True):
        _draw_ladder(panel, config, runs, meter)
        for number, arm in enumerate(_methods(config, runs)):
            cost = float(np.mean(_values(runs, arm, meter)))
            label, marker = config.arms[arm].label, markers[number % len(markers)]
            error_bar(panel, cost, _values(runs, arm), _color(config, arm), label, marker)
        panel.set_xlabel(name)
    axes[0].set_ylabel("test accuracy, %")
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    return drawn


def curves(workspace: Workspace, scale: str) -> Figure:
    """The published way of reading: accuracy while training. The rates decay at different points: do not compare mid-way."""
    config, runs = _load(workspace, scale)
    shown: list[str] = [arm for arm in ("full", "infobatch-50", "rs2-50", "ucb-50") if arm in runs]
    table = read_curves(workspace, scale, STUDY, shown)
    table = table[table["metric"] == ACCURACY]
    drawn, axes = figure(columns=2, width=9, height=4)
    for panel, meter in zip(axes, ("examples", "seconds"), strict=True):
        for arm in shown:
            of_arm = table[table["arm"] == arm].copy()
            of_arm["visit"] = of_arm.groupby("seed").cumcount()
            mean = of_arm.groupby("visit")[[meter, "value"]].mean()
            spread = of_arm.groupby("visit")["value"].agg(["min", "max"])
            panel.plot(mean[meter], mean["value"], color=_color(config, arm), label=config.arms[arm].label, marker="o", ms=3)
            panel.fill_between(mean[meter], spread["min"], spread["max"], color=_color(config, arm), alpha=0.15, linewidth=0)
        panel.set_xlabel(AXES_NAMES[meter])
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes[0].set_ylabel("test accuracy, %")
    axes[0].legend(loc="lower right", fontsize=9)
    return drawn


def accuracy_ratio(workspace: Workspace, scale: str) -> Figure:
    """Accuracy lost against full data by pruning ratio: ours beside the paper's CIFAR-100 column."""
    config, runs = _load(workspace, scale)
    drawn, axes = figure(columns=2, width=9, height=4.4)
    shown = [arm for arm in _methods(config, runs) if _is_plain(config, arm)]
    families = list(dict.fromkeys(_family(config, arm) for arm in shown))
    for arm in shown:
        spec = config.arms[arm].selector
        seeds = sorted(runs[arm].keys() & runs["full"].keys())
        lost = [runs[arm][seed].metrics[ACCURACY] - runs["full"][seed].metrics[ACCURACY] for seed in seeds]
        adjusted = config.arms[arm].horizon.axis != "epochs"
        # Side by side, in the order of the study's file, so that no interval hides another.
        beside = families.index(spec["name"]) - (len(families) - 1) / 2 + (0.5 if adjusted else 0)
        error_bar(axes[0], 100 * spec["ratio"] + 0.9 * beside, lost, _color(config, arm), marker="s" if adjusted else "o")
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


def kept_and_losses(workspace: Workspace, scale: str) -> Figure:
    """What InfoBatch keeps of each epoch, and how its scores are spread over training."""
    config, runs = _load(workspace, scale)
    shown = [arm for arm in _methods(config, runs) if _family(config, arm) == "infobatch" and _is_plain(config, arm)]
    table = read_curves(workspace, scale, STUDY, shown)
    table = table[table["seed"] == table["seed"].min()].copy()
    table["epoch"] = table.groupby(["arm", "metric"]).cumcount()
    drawn, axes = figure(columns=2, width=9, height=4.2)
    kept = table[table["metric"] == "kept_fraction"]
    ratios = sorted({config.arms[arm].selector["ratio"] for arm in shown})
    shades = sns.light_palette(PALETTE["infobatch"], len(ratios) + 2)[2:]
    for arm in shown:
        of_arm, spec = kept[kept["arm"] == arm], config.arms[arm]
        style = "-" if spec.horizon.axis == "epochs" else "--"
        shade = shades[ratios.index(spec.selector["ratio"])]
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


def _differences(axes: Axes, config: StudyConfig, pairs: list[tuple[str, str, str]], runs: Runs) -> None:
    """A row per (method, baseline, name): their paired differences, with interval and points."""
    for row, (method, baseline, _) in enumerate(pairs):
        seeds = sorted(runs[method].keys() & runs[baseline].keys())
        values = [runs[method][s].metrics[ACCURACY] - runs[baseline][s].metrics[ACCURACY] for s in seeds]
        interval = mean_interval(values)
        color = _color(config, method)
        axes.scatter(values, [row] * len(values), s=14, color=color, alpha=0.4, linewidths=0)
        if np.isfinite(interval.low):
            axes.plot([interval.low, interval.high], [row, row], color=color, lw=1.5)
        axes.scatter([interval.mean], [row], color=color, s=40, zorder=3)
    axes.set_yticks(range(len(pairs)), [name for *_, name in pairs])
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.axvline(0, color="#000000", lw=1)


def ablation(workspace: Workspace, scale: str) -> Figure:
    """InfoBatch and its ablations, each against full data of the same number of epochs."""
    config, runs = _load(workspace, scale)
    shown = [arm for arm in _methods(config, runs) if _family(config, arm) == "infobatch"]
    drawn, (axes,) = figure(width=7, height=0.45 * len(shown) + 1.4)
    _differences(axes, config, [(arm, "full", config.arms[arm].label) for arm in shown], runs)
    axes.set_xlabel("test accuracy minus full data, points (points: seeds; bar: 95 % interval)")
    return drawn


def transfer(workspace: Workspace, scale: str) -> Figure:
    """InfoBatch 50 % against full data in every setting: other data, architectures, optimisers."""
    config, runs = _load(workspace, scale)
    sizes = config.scale(scale)
    pairs = []
    for name, setting in sizes.settings.items():
        suffix = "" if name == sizes.main else f"{MAIN_SEPARATOR}{name}"
        if f"infobatch-50{suffix}" in runs and f"full{suffix}" in runs:
            about = f"{setting.dataset}, {setting.model.name}, {setting.recipe.optimizer}"
            pairs.append((f"infobatch-50{suffix}", f"full{suffix}", about))
    drawn, (axes,) = figure(width=7, height=0.5 * len(pairs) + 1.4)
    _differences(axes, config, pairs, runs)
    axes.set_xlabel("InfoBatch 50 % minus full data, accuracy points")
    return drawn


def overhead(workspace: Workspace, scale: str) -> Figure:
    """Seconds of selection per epoch against the size of the data, with the published overhead."""
    table = pd.read_parquet(workspace.results(scale, STUDY) / "probes" / "overhead.parquet")
    drawn, (axes,) = figure(width=6, height=4)
    mean = table.groupby("size")[["prune", "shuffle", "upkeep", "seconds"]].median()
    for part, color in (("prune", "#D55E00"), ("shuffle", "#0072B2"), ("upkeep", "#009E73"), ("seconds", "#000000")):
        name = "total" if part == "seconds" else part
        axes.plot(mean.index, mean[part], color=color, marker="o", ms=4, lw=2 if name == "total" else 1, label=name)
    axes.scatter([1_281_167], [10 / 90], **PUBLISHED, s=60, label="published: 10 s for 90 epochs", zorder=4)
    axes.set(xscale="log", yscale="log", xlabel="examples N", ylabel="seconds an epoch")
    axes.legend(fontsize=9)
    return drawn


def gradient_bias(workspace: Workspace, scale: str) -> Figure:
    """Distance of the mean pruned gradient from the full one against the number of prunings averaged."""
    table = pd.read_parquet(workspace.results(scale, STUDY) / "probes" / "gradient-bias.parquet")
    drawn, (axes,) = figure(width=6, height=4)
    for rescale, color, name in ((True, "#D55E00", "with rescaling"), (False, "#999999", "without rescaling")):
        rows = table[table["rescale"] == rescale]
        axes.plot(rows["prunings"], 100 * rows["relative_error"], color=color, marker="o", ms=4, label=name)
    first = table[table["rescale"]]["relative_error"].iloc[0]
    counts = np.sort(table["prunings"].unique())
    axes.plot(counts, 100 * first / np.sqrt(counts), color="#D55E00", lw=1, ls=":", label="1 / square root: unbiased noise")
    axes.set(xscale="log", yscale="log", xlabel="prunings averaged", ylabel="distance from the full gradient, %")
    axes.legend(fontsize=9)
    return drawn


def savings(workspace: Workspace, scale: str) -> Figure:
    """The saving of every method against the ladder, beside the number that reading two curves would give."""
    config, runs = _load(workspace, scale)
    shown = _methods(config, runs)
    table = read_curves(workspace, scale, STUDY, [*shown, "full"])
    table = table[table["metric"] == ACCURACY]
    drawn, axes = figure(columns=2, width=11, height=0.36 * len(shown) + 1.6)
    for panel, meter in zip(axes, ("flops", "seconds"), strict=True):
        for row, arm in enumerate(shown):
            seeds = [s for s in sorted(runs[arm]) if all(s in runs[rung] for rung in config.ladder if rung in runs)]
            lines = _ladder_lines(config, runs, meter, seeds)
            points = [(float(getattr(runs[arm][s].meters, meter)), runs[arm][s].metrics[ACCURACY]) for s in seeds]
            found, interval = ladder_interval(lines, points)
            _draw_saving(panel, row, [s.value for s in found], (interval.low, interval.high), _color(config, arm))
            read = [curve_saving(_curve(table, "full", s, meter), _curve(table, arm, s, meter)) for s in seeds]
            # A curve that never reaches full data's accuracy gives a bound, not a saving.
            style = {**PUBLISHED, "marker": "<"} if any(s.censored == "below" for s in read) else PUBLISHED
            panel.scatter([geometric_interval(read).mean], [row], **style, s=36, zorder=4)
        panel.axvline(1, color="#000000", lw=1)
        panel.set(xscale="log", xlabel=f"saving in {meter}, times", xlim=(0.2, 5))
        panel.set_xticks([0.25, 0.5, 1, 2, 4], ["1/4", "1/2", "1", "2", "4"])
        panel.minorticks_off()
        panel.set_yticks(range(len(shown)), [config.arms[arm].label for arm in shown] if panel is axes[0] else [])
        panel.set_ylim(len(shown) - 0.5, -0.5)
    axes[0].scatter([], [], **PUBLISHED, s=36, label="reading two curves, the published way (a triangle: at most)")
    axes[0].scatter([], [], s=40, color="#666666", label="against the ladder, 95 % interval")
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    return drawn


def _draw_saving(axes: Axes, row: int, values: list[float], ends: tuple[float, float], color: str) -> None:
    """One row of the forest plot; open ends run to the border with an arrow."""
    left, right = 0.2, 5.0
    low, high = max(ends[0], left), min(ends[1], right)
    axes.plot([low, high], [row, row], color=color, lw=1.5)
    for end, border, marker in ((ends[0], left, "<"), (ends[1], right, ">")):
        if np.isfinite(end) and (end - border) * (1 if marker == "<" else -1) >= 0:
            continue
        axes.scatter([border], [row], marker=marker, color=color, s=24, clip_on=False)
    axes.scatter(values, [row] * len(values), s=12, color=color, alpha=0.4, linewidths=0)
    axes.scatter([float(np.exp(np.mean(np.log(values))))], [row], s=40, color=color, zorder=3)


def _curve(table: pd.DataFrame, arm: str, seed: int, meter: str) -> tuple[np.ndarray, np.ndarray]:
    rows = table[(table["arm"] == arm) & (table["seed"] == seed)].sort_values("step")
    return cast(tuple[np.ndarray, np.ndarray], (rows[meter].to_numpy(float), rows["value"].to_numpy(float)))


FIGURES: dict[str, Callable[[Workspace, str], Figure]] = {
    "savings": savings,
    "accuracy-cost": accuracy_cost,
    "accuracy-ratio": accuracy_ratio,
    "curves": curves,
    "ablation": ablation,
    "transfer": transfer,
    "kept-and-losses": kept_and_losses,
    "gradient-bias": gradient_bias,
    "overhead": overhead,
}


def arms_table(workspace: Workspace, scale: str) -> pd.DataFrame:
    """Every arm: accuracy with its interval, cost, and the saving against the ladder of its own setting."""
    study, runs = _load(workspace, scale)
    rows = []
    for arm, by_seed in runs.items():
        accuracy = mean_interval([run.metrics["test_accuracy"] for run in by_seed.values()])
        row = {"arm": arm, "label": study.resolve(scale, arm)[0].label, "seeds": len(by_seed)}
        row |= {"accuracy_%": accuracy.mean, "low": accuracy.low, "high": accuracy.high}
        for axis, unit in (("examples", 1), ("flops", 1e12), ("seconds", 1)):
            values = [getattr(run.meters, axis) / unit for run in by_seed.values()]
            row[axis if unit == 1 else "tflop"] = float(np.mean(values))
        row |= _savings(runs, arm, study.ladder)
        rows.append(row)
    return pd.DataFrame(rows)


def _savings(runs: Runs, arm: str, ladder: list[str]) -> dict[str, float]:
    """Saving in FLOPs and seconds, proxies included, with its interval, where a ladder is trained in the arm's setting."""
    name, _, setting = arm.partition(MAIN_SEPARATOR)
    rungs = [f"{rung}{MAIN_SEPARATOR}{setting}" if setting else rung for rung in ladder]
    if name in ladder or not all(rung in runs for rung in rungs):
        return {}
    seeds = [seed for seed in runs[arm] if all(seed in runs[rung] for rung in rungs)]
    found: dict[str, float] = {}
    for axis in ("flops", "seconds"):

        def point(run: Summary, axis: str = axis) -> tuple[float, float]:
            return float(getattr(run.meters, axis)), run.metrics["test_accuracy"]

        lines = [tuple(zip(*(point(runs[rung][seed]) for rung in rungs), strict=True)) for seed in seeds]
        _, interval = ladder_interval(lines, [point(runs[arm][seed]) for seed in seeds])  # type: ignore[arg-type]
        found |= {
            f"saving_{axis}": interval.mean,
            f"saving_{axis}_low": interval.low,
            f"saving_{axis}_high": interval.high,
        }
    return found


def table1(workspace: Workspace, scale: str) -> pd.DataFrame:
    """InfoBatch's Table 1 cell by cell: the published accuracy beside ours, where this scale trains that cell."""
    published = pd.read_csv(workspace.root / "config" / "published" / "infobatch-table1.csv")
    study, runs = _load(workspace, scale)
    settings = study.scale(scale).settings
    measured = []
    for _, cell in published.iterrows():
        name = f"{cell['method'].removesuffix('-adjusted')}-{cell['ratio']}" if cell["ratio"] else cell["method"]
        name += "-adjusted" if cell["method"].endswith("-adjusted") else ""
        setting = f"{cell['dataset']}-resnet-18"
        arm = name if settings and setting == study.scale(scale).main else f"{name}{MAIN_SEPARATOR}{setting}"
        values = [run.metrics["test_accuracy"] for run in runs.get(arm, {}).values()]
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


TABLES: dict[str, Callable[[Workspace, str], pd.DataFrame]] = {"arms": arms_table, "table1": table1}
