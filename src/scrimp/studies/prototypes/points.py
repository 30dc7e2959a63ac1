"""What probes and figures of the prototypes study both read: test errors by what was kept, and of how much."""

from __future__ import annotations

import pandas as pd

from scrimp.config import MAIN_SEPARATOR, Workspace
from scrimp.runs import Runs

STUDY = "prototypes"
ACCURACY = "test_accuracy"
KEPT_BY_DISTANCE = ("farthest", "nearest")


def errors(workspace: Workspace, scale: str) -> pd.DataFrame:
    """Test errors in percent of the arms that differ in size alone, a row a run.

    `keep` (random, farthest, nearest), `pool` and `size` as shares of all examples, `ratio` the share pruned. All of the
    data is a random choice, too.
    """
    config = workspace.study(STUDY)
    rows = []
    for arm, by_seed in Runs.of(workspace, config, scale).runs.items():
        name = arm.partition(MAIN_SEPARATOR)[0]
        method = config.arms[name].leading
        keep, pool, ratio = name.partition("-")[0], method.get("pool", 1.0), method.get("ratio", 0.0)
        plain = f"{keep}-{100 * ratio:.10g}" + (f"-of-{100 * pool:.10g}" if pool < 1 else "")
        if name == "full":
            keep = "random"
        elif keep not in (*KEPT_BY_DISTANCE, "random") or name != plain:
            continue
        # A random choice has no pool but itself.
        size = pool * (1 - ratio)
        of = {"arm": name, "keep": keep, "pool": size if keep == "random" else pool, "ratio": ratio, "size": size}
        rows += [{**of, "seed": seed, "error": 100 - run.metrics[ACCURACY]} for seed, run in by_seed.items()]
    return pd.DataFrame(rows, columns=["arm", "keep", "pool", "ratio", "size", "seed", "error"])


def sizes_of(table: pd.DataFrame) -> list[float]:
    """The sizes in a table, each once."""
    return sorted(table["size"].unique().tolist())
