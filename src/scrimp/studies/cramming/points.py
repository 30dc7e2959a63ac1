"""The finished runs of the cramming study as points, for its probes and figures; and the published tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from scrimp.config import MAIN_SEPARATOR, Workspace
from scrimp.errors import ScrimpError
from scrimp.records import current_summaries

STUDY = "cramming"
AVERAGE = "test_average:downstream"
ARCHITECTURE = "arch-"  # workloads that change one thing about the main one's shape
SIZE = "size-"  # workloads that change its size alone
SAME = "as crammed"
NUMBERS = ["MNLI-m", "MNLI-mm", "SST-2", "STS-B", "RTE", "QNLI", "QQP", "MRPC", "CoLA"]  # those that the paper averages


def points(workspace: Workspace, scale: str) -> pd.DataFrame:
    """A row per finished run: arm, workload, seed, label, share of the budget, facts, costs, and all that was measured."""
    config = workspace.study(STUDY)
    rows: list[dict[str, Any]] = []
    for run in current_summaries(workspace, config, scale):
        name, _, workload = run.arm.partition(MAIN_SEPARATOR)
        rows.append(
            {
                "id": run.arm,
                "arm": name,
                "workload": workload or config.scale(scale).main,
                "seed": run.seed,
                "label": config.arms[name].label,
                "dataset": config.scale(scale).workloads[workload or config.scale(scale).main].dataset,
                "share": config.arms[name].horizon.amount,
                **run.facts,
                "flops": run.meters.flops,
                "seconds": run.meters.seconds,
                **run.metrics,
            }
        )
    if not rows:
        raise ScrimpError(f"no finished run of {STUDY} at scale {scale}: `snakemake --cores all {STUDY}` makes them")
    return pd.DataFrame(rows)


def base_workloads(workspace: Workspace, scale: str) -> list[str]:
    """The workloads of the crammed shape itself: `loss`, where a scale has it, and the main one."""
    sizes = workspace.study(STUDY).scale(scale)
    return [name for name in ("loss", sizes.main) if name in sizes.workloads]


def variants(workspace: Workspace, scale: str, arm: str, prefix: str) -> pd.DataFrame:
    """Test losses of one arm in the workloads whose names begin with `prefix`, and of the crammed shape: seed by name."""
    table, base = points(workspace, scale), base_workloads(workspace, scale)
    of_arm = table[(table["arm"] == arm) & (table["workload"].str.startswith(prefix) | table["workload"].isin(base))]
    named = of_arm.assign(name=of_arm["workload"].where(~of_arm["workload"].isin(base), SAME).str.removeprefix(prefix))
    return named.pivot(index="seed", columns="name", values="test_loss").dropna()


def published(workspace: Workspace, name: str) -> pd.DataFrame:
    """One of the study's published tables."""
    return pd.read_csv(workspace.study_folder(STUDY) / "published" / f"{name}.csv")


def published_cost(workspace: Workspace, model: str, quantity: str) -> float:
    """One published quantity of a model."""
    table = published(workspace, "costs")
    found = table[(table["model"] == model) & (table["quantity"] == quantity)]["value"]
    if len(found) != 1:
        raise ScrimpError(f"published/costs.csv has {len(found)} values of {quantity} for {model}, not one")
    return float(found.iloc[0])


def spread(losses: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """By seed, the largest loss among the columns less the smallest."""
    table = losses.to_numpy(np.float64)
    result: np.ndarray[Any, np.dtype[np.float64]] = table.max(axis=1) - table.min(axis=1)
    return result
