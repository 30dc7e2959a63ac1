"""The figures and tables of the combined study that are not standard ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scrimp.config import Workspace
from scrimp.studies import figure, table
from scrimp.studies.comparison import METER_NAMES
from scrimp.studies.outputs import read_probe
from scrimp.studies.plotting import canvas

from .probes import AXES, STUDY

SHOWN = {"speedup": ("together", "#0072B2", "o", -0.12), "product": ("product of the parts", "#E69F00", "D", 0.12)}


@figure("products")
def products(workspace: Workspace, scale: str) -> Figure:
    """Speedups of combinations and the products of their parts', a panel a cost, by accuracy."""
    rows = read_probe(workspace, STUDY, "products", scale)
    rows = rows[rows["metric"] == "test_accuracy"]
    labels = {name: arm.label for name, arm in workspace.study(STUDY).arms.items()}
    names = list(dict.fromkeys(rows["combination"]))
    drawn, panels = canvas(columns=len(AXES), width=11, height=0.5 * len(names) + 2)
    for panel, axis in zip(panels, AXES, strict=True):
        of = rows[rows["axis"] == axis].set_index("combination")
        for column, (label, color, marker, shift) in SHOWN.items():
            at = np.arange(len(names)) + shift
            panel.hlines(at, of.loc[names, f"{column}_low"], of.loc[names, f"{column}_high"], color=color, lw=1.5)
            panel.scatter(of.loc[names, column], at, color=color, marker=marker, s=40, zorder=3, label=label)
        panel.axvline(1, color="#000000", lw=1)
        panel.set_xscale("log")
        panel.set_xlabel(f"speedup in {METER_NAMES[axis]}, times")
        panel.set_yticks(range(len(names)), [labels[name] for name in names] if panel is panels[0] else [""] * len(names))
        panel.set_ylim(len(names) - 0.5, -0.5)
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    return drawn


@table("products")
def products_table(workspace: Workspace, scale: str) -> pd.DataFrame:
    """The probe's rows."""
    return read_probe(workspace, STUDY, "products", scale)
