"""The figures of the sparse study that are not standard ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scrimp.config import Workspace
from scrimp.studies import figure
from scrimp.studies.comparison import Comparison, draw_differences, speedups_figure
from scrimp.studies.outputs import read_probe
from scrimp.studies.plotting import PUBLISHED, canvas

from .probes import STUDY

PUBLISHED_SPEEDUP = 3.3
DENSE_PUBLISHED = 75.2 + 1.63  # SWAT's dense ResNet-50: its uniform 80 % and what that lost


@figure("speedups")
def speedups(workspace: Workspace, scale: str) -> Figure:
    """Speedups against the dense sweep in FLOPs as needed and in seconds."""
    return speedups_figure(Comparison.of(workspace, STUDY, scale, "test_accuracy"), "dense")


@figure("budgets")
def budgets(workspace: Workspace, scale: str) -> Figure:
    """Every method minus the dense recipe, with the published differences on ImageNet."""
    of = Comparison.of(workspace, STUDY, scale, "test_accuracy")
    shown = of.methods
    drawn, (axes,) = canvas(width=7.5, height=0.42 * len(shown) + 1.6)
    draw_differences(axes, of, [(arm, "dense", of.label(arm)) for arm in shown])
    table = pd.read_csv(workspace.study_folder(STUDY) / "published" / "accuracy.csv")
    table = table[table["dataset"] == "imagenet"]
    arms = ["rigl-80" if row.method == "rigl" else f"{row.method}-{row.budget}-{row.share}" for row in table.itertuples()]
    known = dict(zip(arms, table["accuracy"] - DENSE_PUBLISHED, strict=True))
    rows = [row for row, arm in enumerate(shown) if arm in known]
    axes.scatter([known[shown[row]] for row in rows], rows, **PUBLISHED, s=40, zorder=4, label="published, ImageNet")
    axes.set_xlabel("test accuracy minus dense, points\n(dots: seeds; bar: 95 % interval)")
    drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", fontsize=9)
    return drawn


@figure("memory")
def memory(workspace: Workspace, scale: str) -> Figure:
    """Bytes kept for a backward pass, inputs and weights stacked."""
    rows = read_probe(workspace, STUDY, "memory", scale)
    drawn, (axes,) = canvas(width=7, height=0.4 * len(rows) + 1.5)
    at = np.arange(len(rows))
    axes.barh(at, rows["inputs"] / 1e6, color="#0072B2", label="inputs and the rest")
    axes.barh(at, rows["weights"] / 1e6, left=rows["inputs"] / 1e6, color="#E69F00", label="weights of thinned layers")
    arms = workspace.study(STUDY).arms
    axes.set_yticks(at, [arms[name].label for name in rows["arm"]])
    axes.invert_yaxis()
    axes.set_xlabel("MB kept for the backward pass of a step")
    drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    return drawn


@figure("accelerator")
def accelerator(workspace: Workspace, scale: str) -> Figure:
    """The modelled speedup, and its range over each assumption."""
    rows = read_probe(workspace, STUDY, "accelerator", scale)
    base = float(rows.loc[rows["assumption"] == "none", "speedup"].iloc[0])
    names = [name for name in dict.fromkeys(rows["assumption"]) if name != "none"]
    drawn, (axes,) = canvas(width=7.5, height=0.45 * len(names) + 1.8)
    for row, name in enumerate(names):
        of = rows[rows["assumption"] == name].set_index("factor")["speedup"]
        axes.plot([of[0.25], of[4.0]], [row, row], color="#666666", lw=1.5)
        for factor, marker, color in ((0.25, "v", "#0072B2"), (4.0, "^", "#D55E00")):
            label = f"{'a quarter' if factor < 1 else 'four times'} of it" if row == 0 else None
            axes.scatter([of[factor]], [row], marker=marker, color=color, s=40, zorder=3, label=label)
    axes.axvline(base, color="#000000", lw=1, label="all as assumed")
    axes.axvline(PUBLISHED_SPEEDUP, color="#555555", lw=1, ls="--", label="published")
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("speedup over the dense model, times")
    drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return drawn
