"""The probes of the scaling study's published half: tables of `published.py`, which trains nothing and reads no run."""

from __future__ import annotations

from typing import Any

import pandas as pd

from scrimp.config import Workspace
from scrimp.studies import probe
from scrimp.studies.scaling import published


def _resamplings(options: dict[str, Any]) -> int:
    return int(options.get("bootstrap", 400))


@probe("published-crossings")
def crossings(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Pairs of LLaMA sizes: where the larger overtakes, and where the smaller leads again."""
    return published.crossing_table(workspace)


@probe("published-thresholds")
def thresholds(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """How many pairs re-overtake, by how clear a lead must be."""
    return published.reovertaking_counts(workspace)


@probe("published-losses")
def losses(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Single readings of LLaMA's curves."""
    return published.losses_at(workspace)


@probe("published-same-token")
def same_token(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """LLaMA-1 7B and LLaMA-2 7B after the same tokens."""
    return published.same_token(workspace)


@probe("published-extrapolations")
def extrapolations(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """What LLaMA-2 7B would reach with the 70B's GPU-hours."""
    return published.extrapolations(workspace)


@probe("published-refit")
def refit(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Our fit of Chinchilla's runs beside those in print. Options: `bootstrap`, the number of resamplings."""
    return published.parametric_refit(workspace, _resamplings(options))


@probe("published-frontier")
def frontier(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Compute-optimal sizes and tokens by three laws. Options: `bootstrap`."""
    return published.frontier(workspace, _resamplings(options))


@probe("published-exponents")
def exponents(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """The exponent of the compute-optimal size, as published and by our code. Options: `bootstrap`."""
    return published.exponents(workspace, _resamplings(options))


@probe("published-typos")
def typos(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Printed FLOPs against six times parameters times tokens."""
    return published.typos(workspace)


@probe("published-stretch")
def stretch(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Chinchilla's figure A1, read by eye."""
    return published.stretch(workspace)
