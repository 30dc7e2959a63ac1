"""What a run leaves behind: one long table of curves, one summary, one provenance file. All that follows reads these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from scrimp.config import Closed, StudyConfig, Workspace
from scrimp.files import read_json, replacing, write_json

CURVE_COLUMNS = ["study", "arm", "seed", "scale", "step", "examples", "flops", "seconds", "metric", "value"]


class Meters(Closed):
    """What a run spent. Null means not measured, never zero.

    `updates`, `examples`, `flops` and `seconds` are the four costs that runs are compared on: learner, selection and
    proxies together. Times are wall seconds on the machine named in the provenance; `seconds` is what a user waits for,
    training plus selection plus reference. Of a cooldown, `_reference` is its constant-LR run's part. Evaluation and
    set-up (loading, warm-up, compilation) are kept apart.
    """

    updates: int
    updates_reference: int  # of them, those of proxy models that a selector needs
    examples: int  # trained on: forward and backward
    examples_reference: int  # of them, those that proxy models were trained on
    examples_scored: int  # forward only, for the sake of selection
    flops_train: float
    flops_scoring: float
    flops_reference: float  # training proxy models that a selector needs
    flops: float
    seconds_train: float
    seconds_selection: float
    seconds_reference: float
    seconds: float
    seconds_evaluation: float
    seconds_setup: float
    # What the process's threads computed, training, selection and reference together: repeats on a busy machine.
    cpu_seconds: float | None = None
    cpu_seconds_reference: float | None = None
    peak_memory_bytes: int | None
    energy_joules: float | None


class Summary(Closed):
    """One run: its key, what it was told, what it spent, what it reached (`metrics`, accuracies in percent).

    `facts` are sizes that follow from the configuration, counted by named conventions: parameters, tokens.
    """

    study: str
    arm: str
    seed: int
    scale: str
    config: dict[str, Any]
    config_digest: str
    command: str
    meters: Meters
    metrics: dict[str, float]
    facts: dict[str, float] = {}  # noqa: RUF012 - pydantic copies it

    @property
    def key(self) -> str:
        return f"{self.scale}/{self.study}/{self.arm}/seed{self.seed}"


def write_run(folder: Path, curve: pd.DataFrame, summary: Summary, provenance: dict[str, Any]) -> None:
    """Write a run's three files, the summary last: its presence says the run is whole."""
    if list(curve.columns) != CURVE_COLUMNS:
        raise ValueError(f"a curve has the columns {CURVE_COLUMNS}, not {list(curve.columns)}")
    with replacing(folder / "curve.parquet") as temporary:
        curve.to_parquet(temporary, index=False)
    write_json(folder / "provenance.json", provenance)
    write_json(folder / "summary.json", summary.model_dump(mode="json"))


def read_summary(folder: Path) -> Summary:
    return Summary.model_validate(read_json(folder / "summary.json"))


def run_folders(workspace: Workspace, scale: str, study: str) -> list[Path]:
    """Folders of the finished runs of a study at a scale, in a stable order."""
    root = workspace.results(scale, study) / "runs"
    return sorted(path.parent for path in root.glob("*/seed*/summary.json"))


def read_summaries(workspace: Workspace, scale: str, study: str) -> list[Summary]:
    """Summaries of the finished runs, those of arms that the study no longer has among them."""
    return [read_summary(folder) for folder in run_folders(workspace, scale, study)]


def current_summaries(workspace: Workspace, config: StudyConfig, scale: str) -> list[Summary]:
    """Summaries of the finished runs of the arms that a study has at a scale, trained as its file says now.

    A run of an earlier configuration is left out: it is as good as missing until it is run again.
    """
    specs = {arm: config.run_spec(scale, arm) for arm in config.arm_ids(scale)}
    return [run for run in read_summaries(workspace, scale, config.study) if specs.get(run.arm) == run.config]


def read_curves(workspace: Workspace, scale: str, study: str, arms: list[str] | None = None) -> pd.DataFrame:
    """All curves of a study as one long table (columns: CURVE_COLUMNS)."""
    frames = [
        pd.read_parquet(folder / "curve.parquet")
        for folder in run_folders(workspace, scale, study)
        if arms is None or folder.parent.name in arms
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=CURVE_COLUMNS)
