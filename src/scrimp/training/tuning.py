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

from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.files import replacing
from scrimp.measure.clock import Clock
from scrimp.training.runner import choose_device, load_task, train_and_test


@dataclasses.dataclass(frozen=True)
class Trial:
    """One point of a grid."""

    study: str
    scale: str
    setting: str
    arm: str
    learning_rate: float
    seed: int


def run_trial(workspace: Workspace, trial: Trial) -> dict[str, Any]:
    """Train one trial; the test split is dropped before anything could look at it."""
    config = workspace.study(trial.study)
    sizes = config.scale(trial.scale)
    torch.set_num_threads(sizes.threads)
    torch.set_flush_denormal(True)
    setting = sizes.settings[trial.setting]
    recipe = setting.recipe.model_copy(update={"learning_rate": trial.learning_rate})
    task = load_task(workspace, setting.model_copy(update={"recipe": recipe}), choose_device("auto", sizes.gpus))
    if "validation" not in task.splits:
        raise ScrimpError(f"dataset {setting.dataset} has no validation split to tune on")
    blind = dataclasses.replace(task, splits={name: s for name, s in task.splits.items() if name != "test"})
    clock = Clock(task.place.device)
    _, _, metrics = train_and_test(blind, config.arms[trial.arm], trial.seed, clock)
    return {**dataclasses.asdict(trial), **metrics}


def tune_study(workspace: Workspace, study: str, scale: str, on_progress: Callable[[str, float], None]) -> Path:
    """Walk every grid of the study at a scale and write `results/S/STUDY/tuning.csv`, a row a trial."""
    config = workspace.study(study)
    if scale not in config.tuning:
        raise ScrimpError(f"config/studies/{study}.yaml has no `tuning` for scale {scale}")
    trials = [
        Trial(study, scale, grid.setting, arm, learning_rate, seed)
        for grid in config.tuning[scale]
        for arm, learning_rate, seed in itertools.product(grid.arms, grid.learning_rates, grid.seeds)
    ]
    sizes = config.scale(scale)
    processes = 1 if sizes.gpus else max(1, (os.cpu_count() or 1) // sizes.threads)
    rows = []
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for row in pool.imap(functools.partial(run_trial, workspace), trials):
            rows.append(row)
            on_progress(f"{len(rows)} of {len(trials)}", len(rows) / len(trials))
    path = workspace.results(scale, study) / "tuning.csv"
    with replacing(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
    return path
