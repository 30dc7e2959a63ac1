"""Learning rates by grid, on the validation split, with the same grid and seeds for the baseline and the methods."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from scrimp.config.training import Arm, Workload
from scrimp.config.workspace import Workspace
from scrimp.errors import ScrimpError
from scrimp.files import digest_of, replacing
from scrimp.measure.clock import Clock
from scrimp.stages.fit import fit
from scrimp.stages.run import reference_of
from scrimp.tasks import load_task
from scrimp.training.place import choose_device


@dataclasses.dataclass(frozen=True)
class Trial:
    """One point of a grid."""

    study: str
    scale: str
    workload: str
    arm: str
    learning_rate: float
    seed: int
    flops: float | None = None  # the budget, where it is not the workload's


def configured(workspace: Workspace, trial: Trial) -> tuple[Arm, Workload]:
    """The arm and the workload of a trial, with its learning rate put in."""
    config = workspace.study(trial.study)
    workload = config.scale(trial.scale).workloads[trial.workload]
    if trial.flops is not None:
        if workload.flops is None:
            raise ScrimpError(f"{config.where}: tuning.{trial.scale}: {trial.workload} has no budget of FLOPs to change")
        workload = workload.model_copy(update={"flops": trial.flops})
    arm = config.arm_in(trial.arm, workload)
    return arm, workload.with_recipe({**arm.recipe, "learning_rate": trial.learning_rate}, f"arm {trial.arm}")


def config_digest(workspace: Workspace, trial: Trial) -> str:
    """What a trial's result depends on, beside the code."""
    arm, workload = configured(workspace, trial)
    return digest_of([arm.spec(), workload.spec(), trial.seed])


def run_trial(workspace: Workspace, trial: Trial) -> dict[str, Any]:
    """Train one trial and measure it on the validation split alone.

    Learners are scored against the references as they are: theirs is the recipe of the study's file. A cooldown is trained
    from the start with its schedule, which gives the same numbers.
    """
    config = workspace.study(trial.study)
    sizes = config.scale(trial.scale)
    torch.set_num_threads(sizes.threads)
    torch.set_flush_denormal(True)
    arm, workload = configured(workspace, trial)
    task = load_task(config.task, workspace, workload, choose_device("auto", sizes.gpus), config.folder)
    if "validation" not in task.data:
        raise ScrimpError(f"dataset {workload.dataset} has no validation split to tune on")
    # Test splits are dropped before anything could look at them.
    task.data = {name: split for name, split in task.data.items() if not name.startswith("test")}
    reference, _, _ = reference_of(workspace, config, trial.scale, arm, task)
    fitted = fit(task, arm, trial.seed, Clock(task.place.device), reference=reference, held_out=("validation",))
    return {**dataclasses.asdict(trial), **fitted.metrics, "config_digest": config_digest(workspace, trial)}


def tune_study(workspace: Workspace, study: str, scale: str, on_progress: Callable[[str, float], None]) -> Path:
    """Walk every grid of the study at a scale and write `results/S/STUDY/tuning.csv`, a row a trial.

    Trials that the file already holds, of the same configuration, are kept: a grid can grow. After a change of the
    training code delete the file first.
    """
    config = workspace.study(study)
    if scale not in config.tuning:
        raise ScrimpError(f"{config.where} has no `tuning` for scale {scale}")
    trials = [
        Trial(study, scale, grid.workload, arm, learning_rate, seed, grid.flops)
        for grid in config.tuning[scale]
        for arm, learning_rate, seed in itertools.product(grid.arms, grid.learning_rates, grid.seeds)
    ]
    sizes = config.scale(scale)
    processes = 1 if sizes.gpus else max(1, (os.cpu_count() or 1) // sizes.threads)
    path = workspace.results(scale, study) / "tuning.csv"
    try:
        known = pd.read_csv(path).to_dict("records") if path.exists() else []
    except ValueError as error:  # pandas' own errors of empty and torn files
        raise ScrimpError(f"{path} is damaged ({error}); delete it and run the same command again") from error
    wanted = {config_digest(workspace, trial): trial for trial in trials}
    rows: list[dict[Any, Any]] = [row for row in known if row["config_digest"] in wanted]
    missing = [trial for digest, trial in wanted.items() if digest not in {row["config_digest"] for row in rows}]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for row in pool.imap(functools.partial(run_trial, workspace), missing):
            rows.append(row)
            _write(path, rows, list(wanted))  # after every trial, so that a killed grid goes on where it was
            on_progress(f"{len(rows)} of {len(trials)}", len(rows) / len(trials))
    _write(path, rows, list(wanted))
    return path


def _write(path: Path, rows: list[dict[Any, Any]], order: list[str]) -> None:
    """The trials in the order of the grid."""
    ordered = sorted(rows, key=lambda row: order.index(row["config_digest"]))
    with replacing(path) as temporary:
        pd.DataFrame(ordered).to_csv(temporary, index=False)
