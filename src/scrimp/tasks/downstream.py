"""A pre-trained encoder judged on labelled texts: fine-tuned on each alone, with one recipe, the median of several trials.

Trials differ in the head's weights and in the order of examples, and are the same for every model. Epochs, batch and recipe
are those of `workload.downstream`. Nothing of it counts as the run's cost: the budget is that of pre-training.
"""

from __future__ import annotations

import copy
import statistics
from contextlib import suppress

from scrimp.config.tasks import Downstream, FineTuningWorkload
from scrimp.config.workspace import Workspace
from scrimp.data.text import Text
from scrimp.measure.clock import Clock
from scrimp.measure.scores import average
from scrimp.methods.combined import Methods
from scrimp.models.language import Language
from scrimp.models.language_parts import Block
from scrimp.tasks.fine_tuning import FineTuning
from scrimp.training.budget import Budget
from scrimp.training.loop import train
from scrimp.training.place import Place
from scrimp.training.session import DivergedError


def fine_tuned(workspace: Workspace, model: Language, text: Text, wanted: Downstream, place: Place) -> dict[str, float]:
    """Each dataset's metrics on its test splits, `test_accuracy:DATASET`, and their average, `test_average:downstream`.

    The average is over the test splits' first metrics, in percent. The model is left as it is.
    """
    found: dict[str, float] = {}
    each: list[dict[str, float]] = []
    for name in wanted.datasets:
        task = _task(workspace, name, model, text, wanted, place)
        tests = [split for split in task.data if split.startswith("test")]
        trials = [_trial(task, tests, wanted.epochs, seed) for seed in range(wanted.trials)]
        for split in tests:
            medians = {metric: statistics.median(trial[split][metric] for trial in trials) for metric in task.metrics}
            each.append(medians)
            label = name if split == "test" else f"{name}-{split.removeprefix('test-')}"
            found |= {f"test_{metric}:{label}": value for metric, value in medians.items()}
    return {**found, "test_average:downstream": average(each)}


def _task(workspace: Workspace, name: str, model: Language, text: Text, wanted: Downstream, place: Place) -> FineTuning:
    workload = FineTuningWorkload(
        dataset=name,
        recipe=wanted.recipe,
        epochs=wanted.epochs,
        training_examples=wanted.training_examples,
        arms=[],
    )
    task = FineTuning(workload, place)
    task.use(workspace.shards(name), text, with_dropout(model, wanted.recipe.dropout))
    return task


def with_dropout(model: Language, dropout: float) -> Language:
    """A copy of a model that drops another share out."""
    copied = copy.deepcopy(model)
    for part in copied.modules():
        if isinstance(part, Language | Block):
            part.dropout = dropout
    return copied


def _trial(task: FineTuning, tests: list[str], epochs: float, seed: int) -> dict[str, dict[str, float]]:
    """What one trial reaches on each test split."""
    tuned = task.model(seed)
    recipe = task.workload.recipe
    budget = Budget("epochs", epochs)
    # A trial that diverges is one of several, and is measured as it is.
    with suppress(DivergedError):
        train(task, tuned, Methods({}), recipe, budget, seed, clock=Clock(task.place.device))
    return {split: task.evaluate(tuned, split) for split in tests}
