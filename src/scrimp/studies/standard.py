"""Figures and tables that every study has without code of its own; a study's own of the same name stand in for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scrimp.claims.loading import arms_of, load_claims
from scrimp.claims.statistics import mean_interval
from scrimp.config import Workspace
from scrimp.config.claims import Claim
from scrimp.errors import ScrimpError
from scrimp.metrics import axis_label
from scrimp.runs import Runs
from scrimp.studies.comparison import Comparison, curves_figure, draw_sweep, speedups_figure
from scrimp.studies.plotting import canvas, error_bar

MARKERS = "osD^v"  # beside the sweep's line: more than six series at once cannot be told apart
OTHERS = "#CCCCCC"


def compared(workspace: Workspace, study: str, scale: str) -> Comparison:
    """The study's finished runs, by the metric that its file names, or by the first that is taken on the test split."""
    config = workspace.study(study)
    runs = Runs.of(workspace, config, scale)
    if not runs.runs:
        raise ScrimpError(f"no finished run of {study} at scale {scale}: `snakemake --cores all {study}` makes them")
    return Comparison.of(workspace, study, scale, runs.main_metric())


def baseline_of(of: Comparison) -> str:
    """The point of the sweep that is the full recipe, or the longest one; of no sweep, the first arm."""
    points = of.sweep or list(of.runs)
    return next((arm for arm in points if of.config.arms[arm.partition("@")[0]].horizon.amount == 1), points[-1])


def speedups(workspace: Workspace, study: str, scale: str) -> Figure:
    """The speedup of every method against the sweep, beside the number that reading two curves would give."""
    of = compared(workspace, study, scale)
    return speedups_figure(of, baseline_of(of))


def quality_cost(workspace: Workspace, study: str, scale: str) -> Figure:
    """Quality against three costs: the sweep as a line, methods as points with their intervals.

    Five are told apart, those of headline claims first, then one of each kind of method; others are grey.
    """
    of = compared(workspace, study, scale)
    told = _told_apart(of, load_claims(workspace, study))
    others = [arm for arm in of.methods if arm not in told]
    drawn, axes = canvas(columns=3, width=12, height=5.6)
    for panel, (meter, name) in zip(axes, of.cost_names().items(), strict=True):
        draw_sweep(panel, of, meter, "the plain recipe, each point fully decayed")
        if others:
            costs = [float(np.mean(of.costs(arm, meter))) for arm in others]
            qualities = [float(np.mean(of.qualities(arm))) for arm in others]
            panel.scatter(costs, qualities, s=24, color=OTHERS, linewidths=0, label=f"{len(others)} others")
        for arm, marker in zip(told, MARKERS, strict=False):
            error_bar(panel, float(np.mean(of.costs(arm, meter))), of.qualities(arm), of.color(arm), of.label(arm), marker)
        panel.set_xlabel(name)
    axes[0].set_ylabel(axis_label(of.metric))
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return drawn


def _told_apart(of: Comparison, claims: list[Claim]) -> list[str]:
    headlines = [arm.partition("@")[0] for claim in claims if claim.headline for arm in arms_of(claim.rule)]
    first = {of.family(arm): arm for arm in reversed(of.methods)}
    return sorted(of.methods, key=lambda arm: (arm not in headlines, arm not in first.values()))[: len(MARKERS)]


def curves(workspace: Workspace, study: str, scale: str) -> Figure:
    """The metric while training, of the full recipe and of every method."""
    of = compared(workspace, study, scale)
    shown = list(dict.fromkeys([baseline_of(of), *of.methods]))
    return curves_figure(of, shown, axis_label(of.metric), {}, fontsize=9)


def arms(workspace: Workspace, study: str, scale: str) -> pd.DataFrame:
    """Every arm: its quality with a 95 % interval over the seeds, its mean costs, and its speedups against the sweep."""
    of = compared(workspace, study, scale)
    rows = []
    for arm in of.runs:
        quality = mean_interval(of.qualities(arm))
        row = {"arm": arm, "label": of.config.resolve(scale, arm)[0].label, "seeds": len(of.runs[arm])}
        row |= {of.metric: quality.mean, "low": quality.low, "high": quality.high}
        row |= {meter: float(np.mean(of.costs(arm, meter))) for meter in ("updates", *of.cost_names())}
        rows.append({**row, **of.speedup_columns(arm)})
    return pd.DataFrame(rows)


FIGURES: dict[str, Callable[[Workspace, str, str], Figure]] = {
    "speedups": speedups,
    "quality-cost": quality_cost,
    "curves": curves,
}
TABLES: dict[str, Callable[[Workspace, str, str], pd.DataFrame]] = {"arms": arms}
