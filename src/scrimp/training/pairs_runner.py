"""The `run` stage for image-text studies: an arm, a seed, a scale in; curve, summary and provenance out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from torch import Tensor

from scrimp.config import Arm, Workspace
from scrimp.errors import ScrimpError
from scrimp.measure.clock import Clock
from scrimp.measure.hardware import EnergyCounter, peak_memory
from scrimp.methods.batch import BatchSelector, build_batch_selector
from scrimp.records import Meters
from scrimp.training import parallel
from scrimp.training.budget import Budget
from scrimp.training.contrast import Reference, train
from scrimp.training.pair_costs import scoring_flops
from scrimp.training.pair_task import PairTask, load_pair_task, test
from scrimp.training.reference import ReferenceCost, load_reference
from scrimp.training.stage import Progress, Trace, alone, choose_device, no_progress, run_key, write_results

SETS_SHOWN = 12  # of the pool's sets, the largest: how much of each is chosen is worth a curve


def run_pairs_arm(
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
    selector = build_batch_selector(arm.leading, workload.recipe.batch_size, seed)
    with parallel.joined(), alone(checkpoint):
        place = choose_device(device, config.scale(scale).gpus)
        for count, what in ((selector.batch_size, "batch"), (selector.super_batch, "super-batch")):
            if count % parallel.world_size():
                raise ScrimpError(f"{parallel.world_size()} processes do not share a {what} of {count} evenly")
        key = run_key(workspace, study, arm_name, seed, scale, __name__)
        energy, clock = EnergyCounter(place), Clock(place)
        with clock.span("setup"):
            task = load_pair_task(workspace, workload, place)
            reference, cost = reference_of(workspace, study, scale, selector, task)
        checkpoint_key = key.checkpoint_key(cost.digest, place.type)
        trace, metrics = train_and_test(task, arm, selector, seed, clock, reference, checkpoint, checkpoint_key, on_progress)
        meters = _meters(trace, task, selector, cost, clock, energy)
        write_results(workspace, key, task.place, _curve(trace, cost), meters, metrics, reference_digest=cost.digest)
        if parallel.is_first():
            checkpoint.unlink(missing_ok=True)
        return workspace.run_folder(scale, study, arm_name, seed)


def reference_of(
    workspace: Workspace, study: str, scale: str, selector: BatchSelector, task: PairTask
) -> tuple[Reference | None, ReferenceCost]:
    """The reference that a selector scores against and what it cost; none and nothing where it needs none."""
    if selector.reference is None:
        return None, ReferenceCost()
    folder = workspace.reference_folder(scale, study, selector.reference)
    return load_reference(folder, task.model(0), selector.live, task.place.device)


def train_and_test(
    task: PairTask,
    arm: Arm,
    selector: BatchSelector,
    seed: int,
    clock: Clock,
    reference: Reference | None = None,
    checkpoint: Path | None = None,
    checkpoint_key: str = "",
    on_progress: Progress = no_progress,
    held_out: tuple[str, ...] = ("test", "validation", "test-emoji"),
) -> tuple[Trace, dict[str, float]]:
    """Train on the pool and measure the final model on the held-out parts; curves follow the first of them."""
    recipe, patches = task.workload.recipe, task.patches
    if task.workload.steps is None:
        raise ScrimpError("an image-text recipe counts steps: give its workload `steps`")
    scoring = scoring_flops(task.flops, selector, patches)
    per_step = task.flops.training(recipe.batch_size, patches) + scoring
    budget = Budget.of_steps(arm.horizon, task.workload.steps, recipe.batch_size, per_step)
    model = task.model(seed)
    trace = train(
        model,
        task.data.splits["pool"],
        selector,
        recipe,
        budget,
        seed,
        flops=task.flops,
        scoring_flops=scoring,
        place=task.place,
        clock=clock,
        reference=reference,
        evaluate=lambda model: test(model, task, held_out[:1], zero_shot=False),
        evaluate_times=task.workload.evaluations,
        on_choice=SetShares(task.data.samples.loc[task.data.samples["split"] == "pool", "set"]),
        checkpoint=checkpoint,
        checkpoint_key=checkpoint_key,
        on_progress=lambda fraction: on_progress("training", fraction),
    )
    with clock.span("evaluation"):
        metrics = test(model, task, held_out, zero_shot="test" in held_out)
    return trace, {**metrics, "logit_scale": float(model.log_scale.detach().exp()), "logit_bias": float(model.bias.detach())}


class SetShares:
    """How much of what is chosen comes from each of the pool's largest sets, over each tenth of the budget."""

    def __init__(self, sets: pd.Series) -> None:
        shown = list(sets.value_counts().index[:SETS_SHOWN])
        self.names = [*shown, "other"]
        number = {name: place for place, name in enumerate(shown)}
        self.group = torch.tensor([number.get(name, len(shown)) for name in sets])
        self.counts = torch.zeros(len(self.names), dtype=torch.int64)
        self.noted = 0

    def __call__(self, indices: Tensor, fraction: float) -> dict[str, float]:
        self.counts += torch.bincount(self.group[indices], minlength=len(self.names))
        if int(fraction * 10 + 1e-9) <= self.noted:
            return {}
        self.noted = int(fraction * 10 + 1e-9)
        shares = (self.counts / self.counts.sum()).tolist()
        self.counts.zero_()
        return {f"chosen_share:{name}": share for name, share in zip(self.names, shares, strict=True)}


def _curve(trace: Trace, cost: ReferenceCost) -> pd.DataFrame:
    """The trace with the reference's cost in every row: it was spent before the first."""
    curve = pd.DataFrame(trace.rows)
    return curve.assign(
        step=curve["step"] + cost.updates,
        examples=curve["examples"] + cost.examples,
        flops=curve["flops"] + cost.flops,
        seconds=curve["seconds"] + cost.seconds,
    )


def _meters(
    trace: Trace,
    task: PairTask,
    selector: BatchSelector,
    cost: ReferenceCost,
    clock: Clock,
    energy: EnergyCounter,
) -> Meters:
    spent = trace.spent
    scored = spent.steps * scoring_flops(task.flops, selector, task.patches)
    return Meters(
        updates=spent.steps + cost.updates,
        updates_reference=cost.updates,
        examples=spent.examples + cost.examples,
        examples_reference=cost.examples,
        examples_scored=spent.steps * selector.super_batch if selector.needs_learner or selector.live else 0,
        flops_train=spent.flops - scored,
        flops_scoring=scored,
        flops_reference=cost.flops,
        flops=spent.flops + cost.flops,
        seconds_train=clock["train"],
        seconds_selection=clock["selection"],
        seconds_reference=cost.seconds,
        seconds=clock["train"] + clock["selection"] + cost.seconds,
        seconds_evaluation=clock["evaluation"],
        seconds_setup=clock["setup"],
        peak_memory_bytes=peak_memory(task.place.device),
        # The counter knows this process only: what a killed one drew is lost.
        energy_joules=None if trace.resumed else energy.joules(),
    )
