"""What the cascade study measures, on texts: the same cascades over readers of three sizes and a rule of key tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from scrimp.config import Workspace
from scrimp.config.study import StudyConfig
from scrimp.methods.combined import Methods
from scrimp.stages.fit import budget_of, trained
from scrimp.studies import probe
from scrimp.studies.cascade.probes import Seed
from scrimp.tasks import load_task
from scrimp.tasks.fine_tuning import FineTuning

from .stages import KeyTokens, Reader, texts_of

STUDY = "cascade-text"
ARM = "model"


@probe("answers")
def answers(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """The rows of the cascade study's probe of that name, for each of several labelled sets, named in the column `set`.

    `sets`: name -> the workloads of its single models, the smallest first. `elsewhere`: name -> another labelled set of
    the same classes, on whose test split the row `shift` holds thresholds that were chosen on the set's own validation
    split; `gain` is over the large model there. A set without one has no such row.
    """
    torch.set_flush_denormal(True)
    study = workspace.study(STUDY)
    rows: list[dict[str, Any]] = []
    for seed in study.scale(scale).seeds:
        for name, workloads in options["sets"].items():
            models = {size: reader(workspace, study, scale, at, seed) for size, at in workloads.items()}
            away = options.get("elsewhere", {}).get(name)
            held = None if away is None else elsewhere(workspace, models["large"].task, away)
            rows += [{"seed": seed, "set": name, **row} for row in SeedOfTexts(models, held).rows(options["latency"])]
    return pd.DataFrame(rows)


def reader(workspace: Workspace, study: StudyConfig, scale: str, workload: str, seed: int) -> Reader:
    """The model of a workload's run with a seed: on a CPU the same to the last bit."""
    of = study.scale(scale).workloads[workload]
    task = load_task(study.task, workspace, of, torch.device("cpu"))
    assert isinstance(task, FineTuning)
    return Reader(task, trained(task, budget_of(task, study.arm_in(ARM, of), Methods({})), seed))


def elsewhere(workspace: Workspace, task: FineTuning, dataset: str) -> FineTuning:
    """Another labelled set, read as a task's own is."""
    other = load_task("fine-tuning", workspace, task.workload.model_copy(update={"dataset": dataset}), torch.device("cpu"))
    assert isinstance(other, FineTuning)
    return other


class SeedOfTexts(Seed):
    """The readers of one seed, from `small` to `large`, and what they say of every text."""

    def __init__(self, models: dict[str, Reader], other: FineTuning | None) -> None:
        self.names = list(models)
        self.large = self.names[-1]
        task = models[self.large].task
        assert task.classes is not None  # grades have no cascade
        self.splits = {split: texts_of(task, split) for split in ("validation", "test")}
        if other is not None:
            self.splits["elsewhere"] = texts_of(other, "test")
        texts = self.splits["validation"][0]
        known, labels = texts_of(task, task.train_split)
        rule = KeyTokens(known, labels, len(task.classes), task.text.vocabulary + 1)
        self.callables = {"rule": rule, **models}
        self.costs = {"rule": rule.flops(texts)} | {name: model.flops(texts) for name, model in models.items()}
        self.said = {
            (name, split): np.asarray(ask(inputs), dtype=np.float64)
            for name, ask in self.callables.items()
            for split, (inputs, _) in self.splits.items()
        }

    def rows(self, latency: int) -> list[dict[str, Any]]:
        return [row for row in super().rows(latency) if row]

    def shift(self) -> dict[str, Any]:
        """Thresholds of the validation split on texts from elsewhere; nothing where there are none."""
        if "elsewhere" not in self.splits:
            return {}
        chosen = self._chosen(self.names, "validation")
        made = self._over(self.names, "elsewhere", thresholds=chosen.thresholds, temperatures=chosen.temperatures)
        rows, labels = self._examples("elsewhere")
        given = made(rows)
        accuracy, cost = 100 * float((given.labels == labels).mean()), float(given.cost.mean())
        return {
            "what": "shift",
            "name": "three",
            "accuracy": accuracy,
            "gain": accuracy - self._accuracy(self.large, "elsewhere"),
            "cost": cost,
            "speedup": self.costs[self.large] / cost,
        }
