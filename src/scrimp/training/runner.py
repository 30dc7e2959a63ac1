"""The `run` stage for classification: an arm, a seed, a scale in; curve, summary and provenance out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from torch import nn

from scrimp.config import Arm, Workload, Workspace
from scrimp.data.loading import ImageSource, Normalisation, load_classification
from scrimp.data.streaming import open_classification
from scrimp.errors import ScrimpError
from scrimp.measure.clock import Clock
from scrimp.measure.flops import ExampleFlops, flops_per_example
from scrimp.measure.hardware import EnergyCounter, peak_memory
from scrimp.methods import build_selector, check_method
from scrimp.methods.base import EpochSelector
from scrimp.models import vision
from scrimp.records import Meters
from scrimp.training import parallel
from scrimp.training.budget import Budget
from scrimp.training.classify import evaluate, train
from scrimp.training.proxy import Scores, score_examples
from scrimp.training.stage import Place, Progress, Trace, alone, choose_device, no_progress, run_key, write_results


@dataclasses.dataclass(frozen=True)
class Task:
    """A loaded workload: images on the device, and how to make a model for them."""

    workload: Workload
    splits: Mapping[str, ImageSource]
    side: int
    classes: int
    normalise: Normalisation
    place: Place
    flops: ExampleFlops

    @property
    def epochs(self) -> float:
        """The length of the full recipe."""
        if self.workload.epochs is None:
            raise ScrimpError("a classification recipe counts epochs: give its workload `epochs`")
        return self.workload.epochs

    @property
    def train(self) -> ImageSource:
        return self.splits["train"]

    def model(self, seed: int) -> nn.Module:
        spec = self.workload.model
        built = vision.build(spec.name, self.classes, seed, spec.options)
        return built.to(self.place.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load_task(workspace: Workspace, workload: Workload, device: torch.device) -> Task:
    """Read a workload's data into memory (or open its shards, where it has an `image_size`), and count its FLOPs."""
    folder = workspace.shards(workload.dataset)
    splits: Mapping[str, ImageSource]
    if workload.image_size is None:
        in_memory, classes = load_classification(folder)
        _need_splits(workload.dataset, in_memory)
        normalise, side = Normalisation.of(in_memory["train"]), in_memory["train"].pixels.shape[1]
        splits = {name: split.to(device) for name, split in in_memory.items()}
    else:
        sharded, classes = open_classification(folder, workload.image_size, device)
        _need_splits(workload.dataset, sharded)
        normalise, side, splits = Normalisation.of(sharded["train"].sample()), workload.image_size, sharded
    place = Place.of(device, workload.recipe.precision)
    model = vision.build(workload.model.name, len(classes), 0, workload.model.options)
    flops = flops_per_example(model, (3, side, side))
    return Task(workload, splits, side, len(classes), normalise.to(device), place, flops)


def _need_splits(dataset: str, splits: Mapping[str, ImageSource]) -> None:
    for needed in ("train", "test"):
        if needed not in splits:
            raise ScrimpError(f"dataset {dataset} has no split {needed!r}; it has {', '.join(splits)}")


def run_arm(
    workspace: Workspace,
    study: str,
    arm_name: str,
    seed: int,
    scale: str,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    on_progress: Progress = no_progress,
) -> Path:
    """Train one arm with one seed and write its folder; returns it. A killed run goes on from its checkpoint."""
    config = workspace.study(study)
    arm, workload = config.resolve(scale, arm_name)
    check_method(arm.leading, f"{config.where}: arms.{arm_name.partition('@')[0]}.methods")
    torch.set_num_threads(config.scale(scale).threads)
    torch.set_flush_denormal(True)
    checkpoint = workspace.checkpoint(scale, study, arm_name, seed)
    with parallel.joined(), alone(checkpoint):
        place = choose_device(device, config.scale(scale).gpus)
        key = run_key(workspace, study, arm_name, seed, scale, __name__)
        energy = EnergyCounter(place)
        clock = Clock(place)
        with clock.span("setup"):
            task = load_task(workspace, workload, place)
        trace, scores, metrics = train_and_test(
            task, arm, seed, clock, checkpoint, key.checkpoint_key(place.type), on_progress
        )
        meters = _meters(trace, scores, clock, energy, place)
        write_results(workspace, key, task.place, pd.DataFrame(trace.rows), meters, metrics)
        if parallel.is_first():
            checkpoint.unlink(missing_ok=True)
        return workspace.run_folder(scale, study, arm_name, seed)


def train_and_test(
    task: Task,
    arm: Arm,
    seed: int,
    clock: Clock,
    checkpoint: Path | None = None,
    checkpoint_key: str = "",
    on_progress: Progress = no_progress,
) -> tuple[Trace, Scores | None, dict[str, float]]:
    """Score the data if the selector asks for it, train, and measure the final model on every held-out split."""
    recipe, images = task.workload.recipe, task.train
    selector = build_selector(arm.leading, len(images), seed)
    scores = _accept_scores(task, selector, seed, clock, on_progress)
    budget = Budget.of(arm.horizon, task.epochs, len(images), recipe.batch_size, task.flops.training)
    model = task.model(seed)
    trace = train(
        model,
        images,
        selector,
        recipe,
        budget,
        seed,
        normalise=task.normalise,
        flops=task.flops,
        place=task.place,
        clock=clock,
        evaluations={name: split for name, split in task.splits.items() if name == "test"},
        evaluate_times=task.workload.evaluations,
        checkpoint=checkpoint,
        checkpoint_key=checkpoint_key,
        on_progress=lambda fraction: on_progress("training", fraction),
    )
    if scores is not None:
        # What scoring the data cost is part of the method's curves; the budget is that of the learner alone.
        for row in trace.rows:
            row["step"] += scores.updates_reference
            row["examples"] += scores.examples_reference
            row["flops"] += scores.flops_scoring + scores.flops_reference
            row["seconds"] += clock["reference"]
    metrics: dict[str, float] = {}
    with clock.span("evaluation"):
        for name, split in task.splits.items():
            if name != "train":
                accuracy, loss = evaluate(model, split, task.normalise, task.place)
                metrics |= {f"{name}_accuracy": accuracy, f"{name}_loss": loss}
    return trace, scores, metrics


def _accept_scores(task: Task, selector: EpochSelector, seed: int, clock: Clock, on_progress: Progress) -> Scores | None:
    scoring = selector.scoring()
    if scoring is None:
        return None
    with clock.span("reference"):
        scores = score_examples(
            scoring,
            task.model,
            task.train,
            task.workload.recipe,
            task.epochs,
            seed,
            normalise=task.normalise,
            flops=task.flops,
            place=task.place,
            on_progress=lambda fraction: on_progress("scoring", fraction),
        )
        selector.accept_scores(parallel.from_first(scores.values), task.train.labels.cpu())
    return scores


def _meters(trace: Trace, scores: Scores | None, clock: Clock, energy: EnergyCounter, device: torch.device) -> Meters:
    proxies = scores or Scores(torch.empty(0), 0, 0, 0, 0.0, 0.0)
    return Meters(
        updates=trace.spent.steps + proxies.updates_reference,
        updates_reference=proxies.updates_reference,
        examples=trace.spent.examples + proxies.examples_reference,
        examples_reference=proxies.examples_reference,
        examples_scored=proxies.examples_scored,
        flops_train=trace.spent.flops,
        flops_scoring=proxies.flops_scoring,
        flops_reference=proxies.flops_reference,
        flops=trace.spent.flops + proxies.flops_scoring + proxies.flops_reference,
        seconds_train=clock["train"],
        seconds_selection=clock["selection"],
        seconds_reference=clock["reference"],
        seconds=clock["train"] + clock["selection"] + clock["reference"],
        seconds_evaluation=clock["evaluation"],
        seconds_setup=clock["setup"],
        peak_memory_bytes=peak_memory(device),
        # The counter knows this process only: what a killed one drew is lost.
        energy_joules=None if trace.resumed else energy.joules(),
    )
