"""The figures of the study of cascades on texts: those of the cascade study, a panel a labelled set."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from scrimp.config import Workspace
from scrimp.studies import figure, routing
from scrimp.studies.outputs import read_probe
from scrimp.studies.plotting import canvas

from .probes import STUDY


def _sets(workspace: Workspace, scale: str) -> dict[str, pd.DataFrame]:
    """The probe's rows by labelled set, in its order."""
    rows = read_probe(workspace, STUDY, "answers", scale)
    return {str(name): of_set for name, of_set in rows.groupby("set", sort=False)}


@figure("accuracy-cost")
def accuracy_cost(workspace: Workspace, scale: str) -> Figure:
    """Cascades at all thresholds, single models, the oracle."""
    sets = _sets(workspace, scale)
    drawn, axes = canvas(columns=len(sets), width=5.5 * len(sets) + 1, height=5)
    for panel, (name, rows) in zip(axes, sets.items(), strict=True):
        routing.draw_accuracy_cost(panel, rows)
        panel.set_title(name)
    axes[0].set_ylabel("test accuracy, %")
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return drawn


@figure("stages")
def stages(workspace: Workspace, scale: str) -> Figure:
    """Who answers how much."""
    sets = _sets(workspace, scale)
    drawn, axes = canvas(rows=len(sets), width=7.5, height=2 * len(sets) + 0.8)
    for panel, (name, rows) in zip(axes, sets.items(), strict=True):
        routing.draw_stages(panel, rows, "texts")
        panel.set_title(name)
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return drawn


@figure("calibration")
def calibration(workspace: Workspace, scale: str) -> Figure:
    """Calibration errors before and after."""
    sets = _sets(workspace, scale)
    drawn, axes = canvas(columns=len(sets), width=4 * len(sets) + 2, height=4)
    for panel, (name, rows) in zip(axes, sets.items(), strict=True):
        routing.draw_calibration(panel, rows)
        panel.set_title(name)
    axes[0].set_ylabel("expected calibration error, points")
    axes[0].legend(fontsize=9)
    return drawn


@figure("gains")
def gains(workspace: Workspace, scale: str) -> Figure:
    """Points of accuracy against the controls."""
    shown: dict[str, pd.Series] = {}
    for name, rows in _sets(workspace, scale).items():
        of_set = routing.controls(rows)
        if len(shift := routing.of(rows, "shift")):
            of_set["thresholds held elsewhere, minus the large one there"] = shift["gain"]
        shown |= {f"{name}: {what}": values for what, values in of_set.items()}
    drawn, (axes,) = canvas(width=8.5, height=0.45 * len(shown) + 1.3)
    routing.draw_gains(axes, shown)
    return drawn


@figure("latency")
def latency(workspace: Workspace, scale: str) -> Figure:
    """Milliseconds of single answers."""
    sets = _sets(workspace, scale)
    drawn, axes = canvas(columns=len(sets), width=5 * len(sets) + 1, height=4)
    for panel, (name, rows) in zip(axes, sets.items(), strict=True):
        routing.draw_latency(panel, rows)
        panel.set_title(name)
    axes[0].set_ylabel("CPU milliseconds of one answer")
    return drawn


@figure("savings")
def savings(workspace: Workspace, scale: str) -> Figure:
    """Times that cascades are cheaper, beside what reports say."""
    sets, known = _sets(workspace, scale), routing.published(workspace, STUDY)
    drawn, axes = canvas(columns=len(sets), width=4.5 * len(sets) + 1, height=4)
    for panel, (name, rows) in zip(axes, sets.items(), strict=True):
        routing.draw_savings(panel, rows, known, {"two": "two-models", "filtered": "frugal"})
        panel.set_title(name)
    axes[0].set_ylabel("large model's cost / cascade's")
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", fontsize=9)
    return drawn
