"""The `run` stage: an arm, a seed, a scale in; curve, summary and provenance out, whatever the task.

A constant-LR run that others are cooldowns of leaves its states in `results/SCALE/STUDY/cooldowns`. A cooldown starts from
one of them, and its meters count what that run spent until then as `_reference`: an amortised cost leaves it out.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import torch

from scrimp.config.study import StudyConfig
from scrimp.config.training import Arm, Workload
from scrimp.config.workspace import Workspace
from scrimp.cost import Cost
from scrimp.errors import ScrimpError
from scrimp.measure.clock import Clock
from scrimp.measure.hardware import EnergyCounter
from scrimp.methods.base import EpochSelector
from scrimp.methods.combined import Methods
from scrimp.records import Diverged, Meters, read_summary
from scrimp.stages.common import Progress, RunKey, alone, no_progress, run_key, write_results
from scrimp.stages.fit import budget_of, fit, meters_of, planned_flops
from scrimp.tasks import load_task
from scrimp.tasks.base import Task
from scrimp.training import parallel
from scrimp.training.checkpoint import load_checkpoint
from scrimp.training.place import choose_device
from scrimp.training.session import State


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
    torch.set_num_threads(config.scale(scale).threads)
    torch.set_flush_denormal(True)
    checkpoint = workspace.checkpoint(scale, study, arm_name, seed)
    folders = (workspace.run_folder(scale, study, arm_name, seed), workspace.cooldown_states(scale, study, arm_name, seed))
    facts: dict[str, Any] = {}  # for `scrimp status`
    with parallel.joined(), alone(checkpoint, on_progress, *folders, facts=facts) as told:
        on = choose_device(device, config.scale(scale).gpus)
        key = run_key(workspace, study, arm_name, seed, scale)
        energy, clock = EnergyCounter(on), Clock(on)
        with clock.span("setup"):
            task = load_task(config.task, workspace, workload, on, config.folder)
            methods = Methods.of(arm.methods, task.examples, workload.recipe.batch_size, seed, config.task)
            _check_processes(workload, methods)
            facts["flops"] = planned_flops(task, arm, methods)
            reference, reference_cost, digest = reference_of(workspace, config, scale, arm, task)
        checkpoint_key = key.checkpoint_key(digest, on.type)
        cooldowns = Cooldowns(workspace, config, key, task, on.type)
        if (end := cooldowns.diverged_before(arm)) is not None:
            write_results(workspace, key, task.place, [], Meters.nothing(), {}, {}, diverged=end)
            return workspace.run_folder(scale, study, arm_name, seed)
        cooldowns.make_again(checkpoint, checkpoint_key)
        fitted = fit(
            task,
            arm,
            seed,
            clock,
            methods=methods,
            reference=reference,
            reference_cost=reference_cost,
            start=cooldowns.start(arm),
            starts=cooldowns.starts,
            checkpoint=checkpoint,
            checkpoint_key=checkpoint_key,
            on_progress=told,
        )
        if fitted.diverged is None:
            cooldowns.must_be_there(checkpoint, checkpoint_key)
        else:
            cooldowns.make_folder()
        meters = meters_of(fitted, clock, energy, on)
        facts = task.facts(fitted.model, fitted.session.spent.examples)
        details = {"reference_digest": digest} if digest else {}
        write_results(
            workspace, key, task.place, fitted.rows, meters, fitted.metrics, facts, diverged=fitted.diverged, **details
        )
        if parallel.is_first():
            checkpoint.unlink(missing_ok=True)
        return workspace.run_folder(scale, study, arm_name, seed)


def _check_processes(workload: Workload, methods: Methods) -> None:
    """Where pairs are embedded in parts and gathered, every process has as many."""
    selector = methods.selector
    if selector is None or isinstance(selector, EpochSelector):
        return
    for count, what in ((workload.recipe.batch_size, "batch"), (selector.super_batch, "super-batch")):
        if count % parallel.world_size():
            raise ScrimpError(f"{parallel.world_size()} processes do not share a {what} of {count} evenly")


def reference_of(workspace: Workspace, config: StudyConfig, scale: str, arm: Arm, task: Task) -> tuple[Any, Cost, str]:
    """The reference that an arm's selector scores against, what it cost and its digest; nothing where it needs none."""
    if arm.reference is None:
        return None, Cost(), ""
    live = any(method.get("live") for method in arm.methods)
    return task.load_reference(workspace.reference_folder(scale, config.study, arm.reference), live)


class Cooldowns:
    """The states that pass between a constant-LR run and the cooldowns that go on from it."""

    def __init__(self, workspace: Workspace, config: StudyConfig, key: RunKey, task: Task, device: str) -> None:
        self.workspace, self.config, self.key, self.task, self.device = workspace, config, key, task, device
        folder = self.folder = workspace.cooldown_states(key.scale, key.study, key.arm, key.seed)
        cooldowns = config.cooldowns(key.scale, key.arm).values()
        self.starts = {steps: state_file(folder, steps) for steps in map(self.steps_before, cooldowns)}

    def steps_before(self, cooldown: Arm) -> int:
        """After how many steps of its constant-LR run a cooldown begins: the last one that ends before its rate falls."""
        recipe = self.task.workload.with_recipe(cooldown.recipe, f"cooldown {cooldown.label}").recipe
        methods = Methods.of(cooldown.methods, self.task.examples, recipe.batch_size, self.key.seed)
        if isinstance(methods.selector, EpochSelector) or (methods.selector is None and self.task.by_epochs):
            raise ScrimpError(f"{cooldown.label}: a cooldown starts between steps, but its examples come by whole epochs")
        size = self.task.workload.recipe.batch_size
        budget = budget_of(self.task, cooldown, methods)
        return budget.steps_before(1 - recipe.schedule.cooldown, size, self.task.step_flops(size))

    def start(self, arm: Arm) -> State | None:
        """The state that an arm goes on from, if it is a cooldown; raises ScrimpError where it is missing or out of date."""
        of = self.config.constant_run(self.key.scale, self.key.arm)
        if of is None:
            return None
        folder = self.workspace.cooldown_states(self.key.scale, self.key.study, of, self.key.seed)
        made_by = run_key(self.workspace, self.key.study, of, self.key.seed, self.key.scale)
        state = (state_file(folder, self.steps_before(arm)), made_by.checkpoint_key("", self.device))
        if load_checkpoint(*state) is None:
            raise ScrimpError(
                f"{self.key.arm} goes on from {state[0]}, which is missing, damaged or out of date: `{made_by.command}`"
            )
        return state

    def diverged_before(self, arm: Arm) -> Diverged | None:
        """The end of the constant-LR run that a cooldown would go on from, where that one diverged before the cooldown."""
        of = self.config.constant_run(self.key.scale, self.key.arm)
        folder = self.workspace.run_folder(self.key.scale, self.key.study, of or "", self.key.seed)
        if of is None or not (folder / "summary.json").exists():
            return None
        summary, made_by = read_summary(folder), run_key(self.workspace, self.key.study, of, self.key.seed, self.key.scale)
        end = summary.diverged
        if end is None or summary.config != made_by.config or end.step > self.steps_before(arm):
            return None
        return end.model_copy(update={"what": f"{of}, which it goes on from, did: {end.what}"})

    def make_folder(self) -> None:
        """The folder of the states, of a run that diverged before the first: the workflow waits for it."""
        if self.starts and parallel.is_first():
            self.folder.mkdir(parents=True, exist_ok=True)

    def must_be_there(self, checkpoint: Path, key: str) -> None:
        """A constant-LR run ends only when all of its states are there: ScrimpError otherwise, and the run begins anew."""
        if not parallel.is_first():
            return
        missing = [path for path in self.starts.values() if load_checkpoint(path, key) is None]
        if missing:
            checkpoint.unlink(missing_ok=True)
            raise ScrimpError(
                f"{self.key.arm} has left no whole {', '.join(map(str, missing))}: something took states away or changed "
                f"them while it ran; `{self.key.command}` again, alone in this folder"
            )

    def make_again(self, checkpoint: Path, key: str) -> None:
        """Drop a checkpoint beyond a point whose state is not there (any more): going on would not make it again.

        Snakemake takes a killed run's states away with its other outputs.
        """
        resumed = load_checkpoint(checkpoint, key)
        if resumed is None:
            return
        done = resumed[1]["spent"]["steps"]
        if any(steps <= done and not path.exists() for steps, path in self.starts.items()):
            print(f"not gone on from {checkpoint}: states for cooldowns are gone, and are made again", file=sys.stderr)
            checkpoint.unlink()


def state_file(folder: Path, steps: int) -> Path:
    """Where a constant-LR run leaves its state after so many steps."""
    return folder / f"step-{steps:07d}.safetensors"
