"""Whether the levers of classification multiply."""

from __future__ import annotations

from typing import Any

import pandas as pd

from scrimp.config import Workspace
from scrimp.studies import probe
from scrimp.studies.products import products

STUDY = "combined"
METRICS = ("test_accuracy", "test_loss")
PARTS = {  # what each combination is made of
    "prune-grow": ("prune", "grow"),
    "prune-sparse": ("prune", "sparse"),
    "grow-sparse": ("grow", "sparse"),
    "all": ("prune", "grow", "sparse"),
    "prune-half": ("prune",),
    "grow-half": ("grow",),
    "sparse-half": ("sparse",),
}


@probe("products")
def combinations(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Speedups of the combinations, the products of their parts', and the factors (`studies/products.py`)."""
    return products(workspace, STUDY, scale, PARTS, METRICS)
