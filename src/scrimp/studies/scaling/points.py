"""The finished runs of the scaling study as points, for its probes and its figures.

An arm is called after its schedule and its share of the workload's FLOPs: `cool-x0.5`.
"""

from __future__ import annotations

import pandas as pd

from scrimp.config import MAIN_SEPARATOR, Workspace
from scrimp.errors import ScrimpError
from scrimp.records import current_summaries

STUDY = "scaling"
SAME_TOKENS = 1.25  # runs whose tokens differ by no more than this factor are a pair "trained on the same tokens"


def points(workspace: Workspace, scale: str) -> pd.DataFrame:
    """A row per finished run: arm, family (`cool`, `cosine`, ...), share of the FLOPs, size, seed, facts, costs, loss."""
    config = workspace.study(STUDY)
    rows = []
    for run in current_summaries(workspace, config, scale):
        name, _, workload = run.arm.partition(MAIN_SEPARATOR)
        rows.append(
            {
                "arm": run.arm,
                "family": name.partition("-x")[0],
                "share": config.arms[name].horizon.amount,
                "size": workload or config.scale(scale).main,
                "seed": run.seed,
                **run.facts,
                "flops": run.meters.flops,
                "flops_constant": run.meters.flops_reference,
                "seconds": run.meters.seconds,
                "test_loss": run.metrics["test_loss"],
            }
        )
    if not rows:
        raise ScrimpError(f"no finished run of {STUDY} at scale {scale}: `snakemake --cores all {STUDY}` makes them")
    return pd.DataFrame(rows).sort_values(["parameters_total", "family", "share", "seed"], ignore_index=True)


def sweep(table: pd.DataFrame, family: str, seed: int | None = None) -> pd.DataFrame:
    """The points of one schedule at its horizons, of one seed or of all."""
    chosen = table[table["family"] == family]
    return chosen if seed is None else chosen[chosen["seed"] == seed]
