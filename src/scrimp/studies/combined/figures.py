"""The figure and the table of the study that are not standard ones."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from scrimp.config import Workspace
from scrimp.studies import figure, table
from scrimp.studies.outputs import read_probe
from scrimp.studies.products import products_figure

from .probes import STUDY


@figure("products")
def products(workspace: Workspace, scale: str) -> Figure:
    """Speedups of combinations and the products of their parts'."""
    return products_figure(workspace, STUDY, scale, "test_accuracy")


@table("products")
def products_table(workspace: Workspace, scale: str) -> pd.DataFrame:
    """The probe's rows."""
    return read_probe(workspace, STUDY, "products", scale)
