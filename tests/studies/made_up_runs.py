"""Runs of a shipped study that nobody trained: a workspace in which every arm has its files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from scrimp.config import MAIN_SEPARATOR, Arm, Workspace
from scrimp.measure.code import package_root
from scrimp.records import CURVE_COLUMNS, Meters, Summary, write_run

NOTHING: dict[str, Any] = {
    name: None if name in ("peak_memory_bytes", "energy_joules") else 0 for name in Meters.model_fields
}
# (arm, its name, seed) -> meters that are not nothing, the final accuracy, and the curve's columns but for the key's
Make = Callable[[Arm, str, int], tuple[dict[str, Any], float, pd.DataFrame]]


def made_up(
    root: Path, study: str, make: Make, scale: str = "mini", metrics: tuple[str, ...] = ("test_accuracy",)
) -> Workspace:
    """A workspace in `root` with a run of every arm and seed of a study at a scale.

    The final number is that of all `metrics`; curves are of the first.
    """
    shutil.copytree(package_root().parents[1] / "config", root / "config")
    workspace = Workspace(root)
    config = workspace.study(study)
    for arm_id in config.arm_ids(scale):
        arm, _ = config.resolve(scale, arm_id)
        for seed in config.seeds(scale, arm_id):
            meters, accuracy, curve = make(arm, arm_id.partition(MAIN_SEPARATOR)[0], seed)
            summary = Summary(
                study=study,
                arm=arm_id,
                seed=seed,
                scale=scale,
                config=config.run_spec(scale, arm_id),
                config_digest="c",
                command="none",
                meters=Meters(**{**NOTHING, **meters}),
                metrics=dict.fromkeys(metrics, accuracy),
            )
            curve = curve.assign(study=study, arm=arm_id, seed=seed, scale=scale, metric=metrics[0])[CURVE_COLUMNS]
            write_run(workspace.run_folder(scale, study, arm_id, seed), curve, summary, {})
    return workspace
