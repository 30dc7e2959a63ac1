"""The figures and tables of the JEST study, made from the files of its runs, references and probes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scrimp.claims.statistics import mean_interval
from scrimp.config import Workspace
from scrimp.files import read_json
from scrimp.records import read_curves
from scrimp.studies import figure, table
from scrimp.studies.comparison import Comparison, curves_figure, draw_differences, draw_sweep, speedups_figure
from scrimp.studies.plotting import PUBLISHED, canvas, error_bar

STUDY = "jest"
RECALL = "test_r5"
AVERAGE = "unseen_average"
PARTS = {  # of the average, which is of designers whom nothing was trained on
    "zero_shot_accuracy": "zero-shot accuracy",
    "few_shot_accuracy": "10-shot accuracy",
    "test_unseen_i2t_r5": "recall at 5, image to text",
    "test_unseen_t2i_r5": "recall at 5, text to image",
}
COMPARED = ("jest-80-plus", "jest-80", "independent-80", "rho-80", "easy-reference-80", "flexi-jest-80")
LIMITS = (0.08, 40.0)  # of speedups: the report's reach to 13
COLORS = {
    "uniform": "#666666",
    "jest": "#D55E00",
    "independent": "#0072B2",
    "top-k": "#E69F00",
    "easy-reference": "#009E73",
    "hard-learner": "#CC79A7",
    "flexi": "#6A3D9A",
}


class Colored(Comparison):
    """All of JEST's arms share one selector: they are told apart by how they score, choose and train."""

    def color(self, arm: str) -> str:
        spec = self.config.arms[arm].leading
        if "patches" in self.config.arms[arm].recipe or "scoring_patch" in spec:
            return COLORS["flexi"]
        if spec["name"] == "uniform":
            return COLORS["uniform"]
        return COLORS.get(spec.get("choice", ""), COLORS.get(spec.get("method", ""), COLORS["jest"]))


def _load(workspace: Workspace, scale: str, amortised: bool = True) -> Comparison:
    return Colored.of(workspace, STUDY, scale, RECALL, amortised)


# ----------------------------------------------------------------------------------------------------------------- runs
@figure("accuracy-cost")
def accuracy_cost(workspace: Workspace, scale: str) -> Figure:
    """Recall against three costs: the sweep as a line, the main methods as points; JEST++'s speedup is marked."""
    of, full = _load(workspace, scale), _load(workspace, scale, amortised=False)
    drawn, axes = canvas(columns=3, width=12, height=6.2)
    markers = "osD^vP*Xh<>8pd"
    for panel, (meter, name) in zip(axes, of.cost_names("scoring").items(), strict=True):
        draw_sweep(panel, of, meter, "uniform, each point fully decayed")
        for number, arm in enumerate(arm for arm in COMPARED if arm in of.runs):
            cost = float(np.mean(of.costs(arm, meter)))
            marker = markers[number % len(markers)]
            error_bar(panel, cost, of.qualities(arm), of.color(arm), of.label(arm), marker)
            paid = float(np.mean(full.costs(arm, meter)))
            if paid > cost:
                panel.scatter([paid], [np.mean(of.qualities(arm))], marker="x", s=22, color=of.color(arm), alpha=0.7)
        _mark_speedup(panel, of, "jest-80-plus", meter)
        panel.set_xlabel(name)
    axes[0].set_ylabel("recall at 5, %")
    axes[0].scatter([], [], marker="x", s=22, color="#444444", label="with the reference's cost")
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return drawn


def _mark_speedup(axes: Axes, of: Comparison, arm: str, meter: str) -> None:
    """An arrow from a method to the sweep's cost at its quality, with the factor between them."""
    if arm not in of.runs or len(of.sweep) < 2:
        return
    by_seed, interval = of.speedups(arm, meter)
    cost, quality = float(np.mean(of.costs(arm, meter))), float(np.mean(of.qualities(arm)))
    axes.annotate("", (cost * interval.mean, quality), (cost, quality), arrowprops={"arrowstyle": "->", "color": "#333333"})
    bound = "at least " if any(s.censored == "above" for s in by_seed) else ""
    bound = "at most " if any(s.censored == "below" for s in by_seed) else bound
    axes.text(cost * interval.mean**0.5, quality, f"{bound}{interval.mean:.1f}x", va="bottom", ha="center", fontsize=9)


@figure("speedups")
def speedups(workspace: Workspace, scale: str) -> Figure:
    """The speedup of every method against the sweep, beside the number that reading two curves would give."""
    return speedups_figure(_load(workspace, scale), "uniform", LIMITS, ("examples", "flops"))


@figure("curves")
def curves(workspace: Workspace, scale: str) -> Figure:
    """The published way of reading: recall while training."""
    arms = ["uniform", "uniform-x4", "jest-80", "jest-80-plus", "flexi-jest-80"]
    of = _load(workspace, scale)
    return curves_figure(of, arms, "recall at 5, %", {"uniform-x4": "--", "jest-80-plus": ":"}, fontsize=8)


@figure("quality-parts")
def quality_parts(workspace: Workspace, scale: str) -> Figure:
    """Speedups in iterations by what is measured: recall on known designers, the average on unseen ones, its parts."""
    arms = ["jest-80-plus", "jest-80", "flexi-jest-80", "easy-reference-80"]
    rows = {RECALL: "recall at 5, designers known", AVERAGE: "average, designers unseen", **PARTS}
    colors = ("#D55E00", "#7A3000", COLORS["flexi"], COLORS["easy-reference"])
    of = _load(workspace, scale)
    drawn, (axes,) = canvas(width=8, height=5)
    shown = [(arm, color) for arm, color in zip(arms, colors, strict=True) if arm in of.runs]
    for place, (arm, color) in enumerate(shown):
        for row, metric in enumerate(rows):
            measured = of.measured_by(metric)
            _draw_speedup(
                axes, measured, arm, "updates", row + 0.15 * (place - 1.5), color, of.label(arm) if row == 0 else None
            )
    axes.set_yticks(range(len(rows)), list(rows.values()))
    axes.invert_yaxis()
    _speedup_axis(axes, "speedup in iterations, the reference left out (95 % interval)")
    axes.legend(fontsize=9, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)
    return drawn


@figure("horizons")
def horizons(workspace: Workspace, scale: str) -> Figure:
    """The speedup of JEST++ trained for half, once and twice the steps, by two qualities and two costs."""
    of = _load(workspace, scale)
    arms = [arm for arm in ("jest-80-plus-x0.5", "jest-80-plus", "jest-80-plus-x2") if arm in of.runs]
    drawn, panels = canvas(columns=2, width=10, height=3.6)
    for axes, meter, name in ((panels[0], "updates", "iterations"), (panels[1], "flops", "FLOPs")):
        for shift, (metric, color, label) in enumerate(
            [(RECALL, COLORS["jest"], "recall at 5, designers known"), (AVERAGE, "#0072B2", "average, designers unseen")]
        ):
            for row, arm in enumerate(arms):
                measured = of.measured_by(metric)
                _draw_speedup(axes, measured, arm, meter, row + 0.2 * (shift - 0.5), color, label if row == 0 else None)
        steps = [f"{np.mean(of.costs(arm, 'updates')):,.0f} steps" for arm in arms]
        axes.set_yticks(range(len(arms)), steps)
        axes.invert_yaxis()
        _speedup_axis(axes, f"speedup in {name}, the reference left out")
    panels[0].legend(fontsize=9, loc="lower left", bbox_to_anchor=(0.0, 1.0))
    return drawn


def _draw_speedup(axes: Axes, of: Comparison, arm: str, meter: str, at: float, color: str, label: str | None) -> None:
    """An arm's speedup with its interval at a height; a triangle where it is only bounded."""
    by_seed, interval = of.speedups(arm, meter)
    if not np.isfinite(interval.mean) or interval.mean <= 0:
        return
    bounds = {one.censored for one in by_seed}
    marker = "o" if bounds == {None} else (">" if "at least" in bounds else "<")
    low, high = (
        np.clip(end, *LIMITS) if np.isfinite(end) else limit
        for end, limit in zip((interval.low, interval.high), LIMITS, strict=True)
    )
    mean = float(np.clip(interval.mean, *LIMITS))
    axes.errorbar(
        [mean], [at], xerr=[[max(0, mean - low)], [max(0, high - mean)]], fmt=marker, color=color, capsize=2, label=label
    )


def _speedup_axis(axes: Axes, name: str) -> None:
    axes.axvline(1, color="#555555", lw=1)
    axes.set_xscale("log")
    axes.set_xlim(0.2, 20)
    axes.set_xticks([0.25, 0.5, 1, 2, 4, 8, 16], ["1/4", "1/2", "1", "2", "4", "8", "16"])
    axes.minorticks_off()
    axes.set_xlabel(name)


@figure("methods")
def methods(workspace: Workspace, scale: str) -> Figure:
    """How a sub-batch is scored and chosen, each against uniform training for as many steps."""
    of = _load(workspace, scale)
    wanted = ["jest-50", "jest-80", "jest-90", "independent-80", "rho-80", "easy-reference-80", "hard-learner-80"]
    shown = [arm for arm in [*wanted, "uniform-softmax", "flexi-uniform"] if arm in of.runs]
    drawn, (axes,) = canvas(width=7, height=0.45 * len(shown) + 1.4)
    draw_differences(axes, of, [(arm, "uniform", of.label(arm)) for arm in shown])
    axes.set_xlabel("recall at 5 minus uniform training, points (95 % interval)")
    return drawn


@figure("references")
def references(workspace: Workspace, scale: str) -> Figure:
    """JEST by the pairs that its reference was trained on, and what the references themselves reach."""
    of = _load(workspace, scale)
    arms = {"raw": "jest-80-raw", "text-filtered": "jest-80-filtered", "curated": "jest-80", "curated++": "jest-80-plus"}
    table = references_table(workspace, scale)
    drawn, (axes,) = canvas(width=7, height=4)
    for place, (name, arm) in enumerate(arms.items()):
        if arm in of.runs:
            error_bar(axes, place, of.qualities(arm), COLORS["jest"], "JEST 80 % with it" if place == 0 else None)
        reached = table.loc[table["reference"] == name, RECALL]
        label = "the reference itself" if place == 0 else None
        axes.scatter([place] * len(reached), reached, marker="_", s=500, color="#000000", label=label)
    uniform = mean_interval(of.qualities("uniform"))
    axes.axhline(uniform.mean, color=COLORS["uniform"], lw=1, label="uniform for as many steps")
    axes.set_xticks(range(len(arms)), list(arms))
    axes.set(xlabel="pairs the reference was trained on", ylabel="recall at 5, %", xlim=(-0.5, len(arms) - 0.5))
    axes.legend(fontsize=9, loc="upper left")
    return drawn


@figure("flexi")
def flexi(workspace: Workspace, scale: str) -> Figure:
    """One and two resolutions on the plane of FLOPs and quality; beside it the published models on theirs."""
    of = _load(workspace, scale)
    drawn, axes = canvas(columns=2, width=10, height=4.6)
    draw_sweep(axes[0], of, "flops", "uniform, each point fully decayed")
    for arm, marker in (
        ("flexi-uniform", "s"),
        ("jest-80-plus", "o"),
        ("flexi-jest-80-single", "^"),
        ("flexi-jest-80", "D"),
    ):
        if arm in of.runs:
            color = COLORS["jest"] if arm == "jest-80-plus" else COLORS["flexi"]
            error_bar(axes[0], float(np.mean(of.costs(arm, "flops"))), of.qualities(arm), color, of.label(arm), marker)
    axes[0].set(xlabel=of.cost_names("scoring")["flops"], ylabel="recall at 5, %")
    axes[0].set_title(f"measured, scale {scale}", fontsize=11)
    axes[0].legend(fontsize=8)
    table = pd.read_csv(workspace.root / "config" / "published" / "jest-table1.csv").dropna(subset=["coco_t2i_r1"])
    axes[1].scatter(table["examples_billions"], table["coco_t2i_r1"], **PUBLISHED, s=40)
    for _, row in table.iterrows():
        axes[1].annotate(
            row["model"],
            (row["examples_billions"], row["coco_t2i_r1"]),
            xytext=(5, 5),
            textcoords="offset points",
            fontsize=9,
        )
    axes[1].set(xlabel="examples trained on, billions", ylabel="COCO text-to-image R@1, %", xscale="log", xlim=(2.5, 70))
    axes[1].set_xticks([4, 10, 20, 40], ["4", "10", "20", "40"])
    axes[1].minorticks_off()
    axes[1].set_title("published, ViT-B", fontsize=11)
    return drawn


@figure("chosen-sets")
def chosen_sets(workspace: Workspace, scale: str) -> Figure:
    """Which icon sets the chosen pairs come from, over training."""
    shown = [("uniform", "uniform"), ("jest-80", "JEST 80 %"), ("hard-learner-80", "hard learner 80 %")]
    table = read_curves(workspace, scale, STUDY, [arm for arm, _ in shown])
    table = table[table["metric"].str.startswith("chosen_share:") & (table["seed"] == table["seed"].min())].copy()
    table["set"] = table["metric"].str.removeprefix("chosen_share:")
    present = [(arm, name) for arm, name in shown if arm in set(table["arm"])]
    names = sorted(table["set"].unique(), key=lambda name: name == "other")
    drawn, axes = canvas(columns=max(1, len(present)), width=11, height=4.8)
    palette = [*sns.color_palette("husl", max(1, len(names) - 1)).as_hex(), "#dddddd"]
    for panel, (arm, title) in zip(axes, present, strict=False):
        shares = table[table["arm"] == arm].pivot_table(index="step", columns="set", values="value").reindex(columns=names)
        fractions = np.linspace(0, 1, len(shares) + 1)[1:]
        panel.stackplot(fractions, 100 * shares.to_numpy().T, colors=palette, labels=names, linewidth=0)
        panel.set(xlabel="share of the training", title=title, ylim=(0, 100), xlim=(fractions[0], 1))
    axes[0].set_ylabel("chosen pairs, %")
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return drawn


# --------------------------------------------------------------------------------------------------------------- tables
@table("arms")
def arms_table(workspace: Workspace, scale: str) -> pd.DataFrame:
    """Every arm: what it reaches, its costs (the reference left out; time a step), and speedups with intervals."""
    of = _load(workspace, scale)
    rows = []
    for arm, by_seed in of.runs.items():
        recall = mean_interval(of.qualities(arm))
        row: dict[str, Any] = {"arm": arm, "label": of.label(arm), "seeds": len(by_seed)}
        row |= {"r5_%": recall.mean, "low": recall.low, "high": recall.high}
        for metric in (AVERAGE, "test_r1", "test_r10", "test_mrr", "test_emoji_r5"):
            row[metric] = float(np.mean([run.metrics.get(metric, np.nan) for run in by_seed.values()]))
        for axis, unit, name in (("updates", 1, "updates"), ("flops", 1e12, "tflop"), (of.time, 1, of.time)):
            row[name] = float(np.mean(of.costs(arm, axis))) / unit
        row[f"{of.time}_a_step"] = row[of.time] / row["updates"]
        row |= of.speedup_columns(arm, ("examples", "flops"))
        rows.append(row)
    return pd.DataFrame(rows)


@table("parts")
def parts_table(workspace: Workspace, scale: str) -> pd.DataFrame:
    """Every arm by what is measured: recall on known designers, the average on unseen ones and its four parts, percent."""
    of = _load(workspace, scale)
    return pd.DataFrame(
        [
            {
                "arm": arm,
                "label": of.label(arm),
                "seeds": len(by_seed),
                **{m: float(np.mean([run.metrics[m] for run in by_seed.values()])) for m in (RECALL, AVERAGE, *PARTS)},
            }
            for arm, by_seed in of.runs.items()
            if all(AVERAGE in run.metrics for run in by_seed.values())
        ]
    )


@table("references")
def references_table(workspace: Workspace, scale: str) -> pd.DataFrame:
    """Every reference: what it reaches on the held-out parts, and what it cost."""
    folder = workspace.results(scale, STUDY) / "references"
    summaries = [read_json(path) for path in sorted(folder.glob("*/summary.json"))]
    kept = ("updates", "examples", "flops", "seconds")
    return pd.DataFrame(
        [
            {"reference": s["reference"], **s["metrics"], **{name: s["cost"][name] for name in kept}}
            for s in summaries
            if s["reference"] in workspace.study(STUDY).scale(scale).references
        ]
    )


@table("published")
def published_table(workspace: Workspace, scale: str) -> pd.DataFrame:
    """The report's models beside this scale's arms: speed-ups in iterations and FLOPs, read off the sweep."""
    of = _load(workspace, scale)
    table = pd.read_csv(workspace.root / "config" / "published" / "jest-table1.csv")
    found = []
    for arm in table["arm"]:
        row: dict[str, float] = {}
        if arm in of.runs and arm not in of.config.baseline_sweep:
            for meter in ("updates", "flops", "seconds"):
                _, interval = of.speedups(arm, meter)
                row |= {f"measured_{meter}": interval.mean}
                row |= {f"measured_{meter}_low": interval.low, f"measured_{meter}_high": interval.high}
        found.append(row)
    return pd.concat([table, pd.DataFrame(found)], axis=1)
