"""What probes and figures of the batch study both read: published tables, accuracies and curves of its runs."""

from __future__ import annotations

import pandas as pd

from scrimp.config import Workspace
from scrimp.records import read_curves
from scrimp.runs import Runs

STUDY = "batch"
ACCURACY = "test_accuracy"
# What gives back some of what a large batch loses, in the order in which the papers add it.
# By rules from the small batch's rate, then each at the best rate of a grid of its own.
REMEDIES = ["large-linear", "large-warmup", "large-sqrt", "large-ghost", "large-longer"]
REMEDIES += ["own", "own-ghost", "own-warmup", "large-lars", "large-lamb"]


def published(workspace: Workspace, name: str) -> pd.DataFrame:
    """A table of the study's folder `published`."""
    return pd.read_csv(workspace.study_folder(STUDY) / "published" / f"{name}.csv")


def accuracies(workspace: Workspace, scale: str, arms: list[str]) -> dict[str, dict[int, float]]:
    """Final test accuracies by arm and seed, of the arms of the main workload that have runs."""
    runs = Runs.of(workspace, workspace.study(STUDY), scale).runs
    return {arm: {seed: run.metrics[ACCURACY] for seed, run in runs[arm].items()} for arm in arms if arm in runs}


def accuracy_curves(workspace: Workspace, scale: str, arms: list[str]) -> pd.DataFrame:
    """Curves of test accuracy of some arms of the main workload."""
    table = read_curves(workspace, scale, STUDY, arms)
    return table[table["metric"] == ACCURACY]
