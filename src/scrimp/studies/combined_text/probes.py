"""Whether the levers of masked language modelling multiply."""

from __future__ import annotations

from typing import Any

import pandas as pd

from scrimp.config import Workspace
from scrimp.studies import probe
from scrimp.studies.products import products

STUDY = "combined-text"
METRICS = ("test_loss",)
PARTS = {  # what each combination is made of
    "muon-ramp": ("muon", "ramp"),
    "muon-fresh": ("muon", "fresh"),
    "ramp-fresh": ("ramp", "fresh"),
    "all": ("muon", "ramp", "fresh"),
    "muon-half": ("muon",),
    "ramp-half": ("ramp",),
    "fresh-half": ("fresh",),
}


@probe("products")
def combinations(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Speedups of the combinations, the products of their parts', and the factors (`studies/products.py`)."""
    return products(workspace, STUDY, scale, PARTS, METRICS)
