"""The figures of the cascade study: accuracy against cost, who answers, calibration, controls, milliseconds."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from scrimp.config import Workspace
from scrimp.studies import figure, routing
from scrimp.studies.outputs import read_probe
from scrimp.studies.plotting import canvas

from .probes import STUDY


def _rows(workspace: Workspace, scale: str) -> pd.DataFrame:
    return read_probe(workspace, STUDY, "answers", scale)


@figure("accuracy-cost")
def accuracy_cost(workspace: Workspace, scale: str) -> Figure:
    """Cascades at all thresholds, single models, the oracle."""
    drawn, (axes,) = canvas(width=7.5, height=5)
    routing.draw_accuracy_cost(axes, _rows(workspace, scale))
    axes.set_ylabel("test accuracy, %")
    axes.legend(fontsize=9)
    return drawn


@figure("stages")
def stages(workspace: Workspace, scale: str) -> Figure:
    """Who answers how much."""
    drawn, (axes,) = canvas(width=7.5, height=2.8)
    routing.draw_stages(axes, _rows(workspace, scale), "examples")
    drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return drawn


@figure("calibration")
def calibration(workspace: Workspace, scale: str) -> Figure:
    """Calibration errors before and after."""
    drawn, (axes,) = canvas(width=6.5, height=4)
    routing.draw_calibration(axes, _rows(workspace, scale))
    axes.set_ylabel("expected calibration error, points")
    axes.legend(fontsize=9)
    return drawn


@figure("gains")
def gains(workspace: Workspace, scale: str) -> Figure:
    """Points of accuracy against the controls."""
    rows = _rows(workspace, scale)
    shift = {"thresholds from seen designers, minus the large one": routing.of(rows, "shift")["gain"]}
    shown = {**routing.controls(rows), **shift}
    drawn, (axes,) = canvas(width=8, height=0.45 * len(shown) + 1.3)
    routing.draw_gains(axes, shown)
    return drawn


@figure("latency")
def latency(workspace: Workspace, scale: str) -> Figure:
    """Milliseconds of single answers."""
    drawn, (axes,) = canvas(width=6.5, height=4)
    routing.draw_latency(axes, _rows(workspace, scale))
    axes.set_ylabel("CPU milliseconds of one answer")
    return drawn


@figure("savings")
def savings(workspace: Workspace, scale: str) -> Figure:
    """Times that cascades are cheaper, beside what reports say."""
    drawn, (axes,) = canvas(width=7, height=4)
    known, claims = routing.published(workspace, STUDY), {"two": "two-models", "three": "committees", "filtered": "frugal"}
    routing.draw_savings(axes, _rows(workspace, scale), known, claims)
    axes.set_ylabel("large model's cost / cascade's")
    drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", fontsize=9)
    return drawn
