"""The `run` stage for language studies: an arm, a seed, a scale in; curve, summary and provenance out.

A run that others branch off leaves its states in `results/SCALE/STUDY/branches`; a branch starts from one of them, and its
meters count what the trunk spent until then as `_reference`: an amortised cost leaves it out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd
import torch

from scrimp.config import Arm, Workload, Workspace
from scrimp.data.text import Text, load_text
from scrimp.errors import ScrimpError
from scrimp.measure.clock import Clock
from scrimp.measure.hardware import EnergyCounter, peak_memory
from scrimp.models.language import Language, build
from scrimp.records import Meters
from scrimp.training import parallel
from scrimp.training.budget import Budget
from scrimp.training.checkpoint import load_checkpoint
from scrimp.training.language import mean_loss, train
from scrimp.training.stage import (
    Place,
    Progress,
    Trace,
    alone,
    choose_device,
    no_progress,
    run_key,
    write_results,
)

CONTEXT = 128  # tokens, where the model's options name none


@dataclass(frozen=True)
class LanguageTask:
    """A loaded workload: tokens by split, and how to make a model for them."""

    workload: Workload
    text: Text
    place: Place

    def model(self, seed: int) -> Language:
        options = dict(self.workload.model.options)
        context = options.pop("context", CONTEXT)
        return build(self.text.vocabulary, context, seed, options).to(self.place.device)

    @property
    def flops(self) -> float:
        """The length of the full recipe."""
        if self.workload.flops is None:
            raise ScrimpError("a language recipe counts FLOPs: give its workload `flops`")
        return self.workload.flops

    def steps_before_tail(self, branch: Arm, model: Language) -> int:
        """After how many steps of its trunk a branch begins: the last one that ends before its rate falls."""
        budget = Budget.of_flops(branch.horizon, self.flops)
        if budget.axis != "flops":
            raise ScrimpError(f"{branch.label}: a branch needs a horizon in FLOPs, which tells where it begins")
        schedule = self.workload.with_recipe(branch.recipe, f"branch {branch.label}").recipe.schedule
        per_step = self.workload.recipe.batch_size * model.context * model.flops_per_token()
        return math.floor((1 - schedule.cooldown) * budget.amount / per_step)


def load_language_task(workspace: Workspace, workload: Workload, device: torch.device) -> LanguageTask:
    """Read a workload's tokens."""
    text = load_text(workspace.shards(workload.dataset))
    for needed in ("train", "validation", "test"):
        if needed not in text.splits:
            raise ScrimpError(f"dataset {workload.dataset} has no split {needed!r}; it has {', '.join(text.splits)}")
    return LanguageTask(workload, text, Place.of(device, workload.recipe.precision))


def run_language_arm(
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
    torch.set_num_threads(config.scale(scale).threads)
    torch.set_flush_denormal(True)
    checkpoint = workspace.checkpoint(scale, study, arm_name, seed)
    with parallel.joined(), alone(checkpoint):
        place = choose_device(device, config.scale(scale).gpus)
        key = run_key(workspace, study, arm_name, seed, scale, __name__)
        energy, clock = EnergyCounter(place), Clock(place)
        with clock.span("setup"):
            task = load_language_task(workspace, workload, place)
            model = task.model(seed)
        states = workspace.branch_states(scale, study, arm_name, seed)
        starts = [task.steps_before_tail(branch, model) for branch in config.branches(scale, arm_name).values()]
        if checkpoint_without_states(checkpoint, key.checkpoint_key(place.type), states, starts):
            checkpoint.unlink()  # Snakemake takes a killed trunk's states away, and going on would not make them again
        start = None
        trunk = config.trunk(scale, arm_name)
        if trunk is not None:
            at = state_file(workspace.branch_states(scale, study, trunk, seed), task.steps_before_tail(arm, model))
            of_trunk = replace(key, arm=trunk, config=config.run_spec(scale, trunk))
            start = (at, of_trunk.checkpoint_key(place.type))
            if load_checkpoint(*start) is None:
                raise ScrimpError(f"{arm_name} goes on from {at}, which is missing or out of date: `{of_trunk.command}`")
        trace, metrics = train_and_test(
            task,
            arm,
            model,
            seed,
            clock,
            start=start,
            branches={steps: state_file(states, steps) for steps in starts},
            checkpoint=checkpoint,
            checkpoint_key=key.checkpoint_key(place.type),
            on_progress=on_progress,
        )
        meters = _meters(trace, clock, energy, place)
        facts = facts_of(model, trace.spent.examples * model.context)
        write_results(workspace, key, task.place, pd.DataFrame(trace.rows), meters, metrics, facts)
        if parallel.is_first():
            checkpoint.unlink(missing_ok=True)
        return workspace.run_folder(scale, study, arm_name, seed)


def state_file(folder: Path, steps: int) -> Path:
    """Where a trunk leaves its state after so many steps."""
    return folder / f"step-{steps:07d}.safetensors"


def checkpoint_without_states(checkpoint: Path, key: str, states: Path, starts: list[int]) -> bool:
    """Whether a run would go on beyond a point whose state, after so many steps of `starts`, is not there (any more)."""
    resumed = load_checkpoint(checkpoint, key)
    if resumed is None:
        return False
    done = resumed[1]["spent"]["steps"]
    return any(steps <= done and not state_file(states, steps).exists() for steps in starts)


def train_and_test(
    task: LanguageTask,
    arm: Arm,
    model: Language,
    seed: int,
    clock: Clock,
    start: tuple[Path, str] | None = None,
    branches: dict[int, Path] | None = None,
    checkpoint: Path | None = None,
    checkpoint_key: str = "",
    on_progress: Progress = no_progress,
    held_out: tuple[str, ...] = ("test",),
) -> tuple[Trace, dict[str, float]]:
    """Train, and measure the final model on the held-out splits (nats a token, bits a byte); curves follow the first."""
    limit = task.workload.evaluation_tokens

    def losses(model: Language, splits: tuple[str, ...]) -> dict[str, float]:
        return {f"{name}_loss": mean_loss(model, task.text.splits[name], limit, task.place) for name in splits}

    trace = train(
        model,
        task.text.splits["train"],
        task.workload.recipe,
        Budget.of_flops(arm.horizon, task.flops),
        seed,
        place=task.place,
        clock=clock,
        start=start,
        branches=branches,
        evaluate=lambda model: losses(model, held_out[:1]),
        evaluate_times=task.workload.evaluations,
        checkpoint=checkpoint,
        checkpoint_key=checkpoint_key,
        on_progress=lambda fraction: on_progress("training", fraction),
    )
    with clock.span("evaluation"):
        metrics = losses(model, held_out)
    trace.note(**{f"{held_out[0]}_loss": metrics[f"{held_out[0]}_loss"]})
    for name in held_out:
        metrics[f"{name}_bits_per_byte"] = metrics[f"{name}_loss"] / math.log(2) / task.text.bytes_per_token[name]
    return trace, metrics


def facts_of(model: Language, tokens: int) -> dict[str, float]:
    """Sizes by the conventions that scaling laws are stated in."""
    return {
        "tokens": float(tokens),
        "parameters_total": float(model.count_parameters("total")),
        "parameters_non_embedding": float(model.count_parameters("non-embedding")),
        "flops_matmul": tokens * model.flops_per_token("matmul"),
        "flops_6n_total": tokens * model.flops_per_token("6n-total"),
        "flops_6n_non_embedding": tokens * model.flops_per_token("6n-non-embedding"),
    }


def _meters(trace: Trace, clock: Clock, energy: EnergyCounter, place: torch.device) -> Meters:
    spent, trunk = trace.spent, trace.inherited
    return Meters(
        updates=spent.steps,
        updates_reference=trunk.steps,
        examples=spent.examples,
        examples_reference=trunk.examples,
        examples_scored=0,
        flops_train=spent.flops - trunk.flops,
        flops_scoring=0.0,
        flops_reference=trunk.flops,
        flops=spent.flops,
        seconds_train=clock["train"] - trunk.seconds,
        seconds_selection=0.0,
        seconds_reference=trunk.seconds,
        seconds=clock["train"],
        seconds_evaluation=clock["evaluation"],
        seconds_setup=clock["setup"],
        peak_memory_bytes=peak_memory(place),
        # The counter knows this process only: what a killed one or the trunk drew is not in it.
        energy_joules=None if trace.resumed or trunk.steps else energy.joules(),
    )
