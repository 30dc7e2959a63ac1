"""Training one model of a task with an arm's methods, measured and accounted for: what a run and a trial of a grid share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scrimp.config.training import Arm, Horizon
from scrimp.cost import Cost, RunCost
from scrimp.measure.clock import Clock
from scrimp.measure.hardware import EnergyCounter, peak_memory
from scrimp.methods.base import EpochSelector
from scrimp.methods.batch import BatchSelector
from scrimp.methods.combined import Methods
from scrimp.records import Diverged, Meters
from scrimp.stages.common import Progress, no_progress
from scrimp.tasks.base import Task
from scrimp.training import parallel
from scrimp.training.budget import Budget
from scrimp.training.loop import train
from scrimp.training.proxy import Scores, score_examples
from scrimp.training.session import DivergedError, Session, State, cost_of


@dataclass(frozen=True)
class Fit:
    """A finished training: its curve, what the model reached (nothing where it diverged), what it cost."""

    model: nn.Module
    session: Session
    metrics: dict[str, float]
    cost: RunCost
    rows: list[dict[str, Any]] = field(default_factory=list)
    diverged: Diverged | None = None


def budget_of(task: Task, arm: Arm, methods: Methods) -> Budget:
    """An arm's horizon in absolute terms."""
    return _budget(task, arm.horizon, methods)


def planned_flops(task: Task, arm: Arm, methods: Methods) -> float | None:
    """What an arm's horizon comes to in FLOPs, before a selector leaves any of them out; None for one in seconds."""
    horizon = arm.horizon
    return None if horizon.axis == "seconds" else _budget(task, Horizon(flops=horizon.amount), methods).amount


def _budget(task: Task, horizon: Horizon, methods: Methods) -> Budget:
    selector = methods.selector
    by_epochs = isinstance(selector, EpochSelector) or (selector is None and task.by_epochs)
    scoring = task.scoring_flops(selector) if isinstance(selector, BatchSelector) else 0.0
    per_example = task.step_flops(task.workload.recipe.batch_size) / task.workload.recipe.batch_size
    return Budget.of(horizon, task.workload, task.examples, per_example, by_epochs=by_epochs, scoring=scoring)


def fit(
    task: Task,
    arm: Arm,
    seed: int,
    clock: Clock,
    *,
    methods: Methods | None = None,
    reference: Any = None,
    reference_cost: Cost | None = None,
    start: State | None = None,
    starts: Mapping[int, Path] | None = None,
    checkpoint: Path | None = None,
    checkpoint_key: str = "",
    on_progress: Progress = no_progress,
    held_out: tuple[str, ...] | None = None,
) -> Fit:
    """Score the data if the selector asks for it, train, and measure the final model on the held-out splits.

    `held_out` are the splits that may be looked at, of which the first is followed along the way; None: the task's. What
    `reference` and proxies cost is in every row of the curve: it was spent before the first. A training that diverges, its
    own or a proxy's, is one that ended there.
    """
    recipe = task.workload.recipe
    splits = task.held_out if held_out is None else held_out
    if methods is None:
        methods = Methods.of(arm.methods, task.examples, recipe.batch_size, seed)
    at, done = ["training"], [0.0]  # what is told of it, with the metric that was measured last; and the share done

    def tell(fraction: float) -> None:
        done[0] = fraction
        on_progress(at[0], fraction)

    def followed(learner: nn.Module) -> dict[str, float]:
        if done[0]:  # the first step of a run that goes on has not told where it is
            on_progress("evaluating", done[0])
        found = task.measure(learner, splits[:1])
        at[0] = "training" + "".join(f", {name} {value:.4g}" for name, value in list(found.items())[:1])
        return found

    metrics: dict[str, float] = {}
    scores: Scores | None = None
    end: Diverged | None = None
    try:
        scores = _accept_scores(task, methods.selector, seed, clock, on_progress)
        model = task.model(seed)
        session = train(
            task,
            model,
            methods,
            recipe,
            budget_of(task, arm, methods),
            seed,
            clock=clock,
            reference=reference,
            start=start,
            starts=starts,
            evaluate=followed,
            evaluate_times=task.workload.evaluations,
            checkpoint=checkpoint,
            checkpoint_key=checkpoint_key,
            on_progress=tell,
        )
        on_progress("evaluating", 1.0)
        with clock.span("evaluation"):
            metrics = _measured(task, model, session, splits)
    except DivergedError as error:
        if error.session is None:
            raise
        session, model, end = error.session, error.session.model, error.end
        session.settle()
    cost = _cost(session, scores, reference_cost or Cost(), clock)
    return Fit(model, session, metrics, cost, _shifted(session, cost), end)


def _measured(task: Task, model: nn.Module, session: Session, splits: tuple[str, ...]) -> dict[str, float]:
    """What the finished model reaches; the first split ends its curve."""
    metrics = task.measure(model, splits[:1])
    session.must_be_finite(metrics)
    session.trace.note(**metrics, **session.last_loss())
    metrics |= task.measure(model, [split for split in splits[1:] if split in task.data])
    if "test" in splits:
        metrics |= task.extras(model)
    session.must_be_finite(metrics)
    return metrics


def trained(task: Task, budget: Budget, seed: int) -> nn.Module:
    """A model of the plain recipe when `budget` is spent, in evaluation mode: what probes look at."""
    model = task.model(seed)
    train(task, model, Methods({}), task.workload.recipe, budget, seed, clock=Clock(task.place.device))
    return model.eval()


def _accept_scores(task: Task, selector: Any, seed: int, clock: Clock, on_progress: Progress) -> Scores | None:
    scoring = selector.scoring() if isinstance(selector, EpochSelector) else None
    if scoring is None:
        return None
    with clock.span("reference"):
        scores = score_examples(scoring, task, seed, lambda fraction: on_progress("scoring", fraction))
        labels = task.labels if scoring.labelled else torch.zeros(task.examples, dtype=torch.int64)
        selector.accept_scores(parallel.from_first(scores.values), labels)
    return scores


def _cost(session: Session, scores: Scores | None, reference: Cost, clock: Clock) -> RunCost:
    """The run's cost in its three parts; the session's own is what it did not inherit."""
    spent, inherited = session.spent, session.trace.inherited
    learner = Cost(
        updates=spent.steps - inherited.updates,
        examples=spent.examples - inherited.examples,
        flops=spent.flops - spent.flops_scoring - inherited.flops,
        seconds=clock["train"],
        cpu_seconds=clock.cpu("train"),
    )
    scoring = Cost(
        scored=spent.scored - inherited.scored,
        flops=spent.flops_scoring,
        seconds=clock["selection"],
        cpu_seconds=clock.cpu("selection"),
    )
    earlier = reference + inherited
    if scores is not None:
        earlier += scores.proxies + Cost(seconds=clock["reference"], cpu_seconds=clock.cpu("reference"))
        scoring += scores.scoring
    return RunCost(learner, scoring, earlier)


def _shifted(session: Session, cost: RunCost) -> list[dict[str, Any]]:
    """The curve with what was spent before its first row, and is not in the session's own count, in every row."""
    before = cost.total - cost_of(session.spent)
    return [
        {
            **row,
            "step": row["step"] + before.updates,
            "examples": row["examples"] + before.examples,
            "flops": row["flops"] + before.flops,
            "seconds": row["seconds"] + before.seconds,
        }
        for row in session.trace.rows
    ]


def meters_of(fitted: Fit, clock: Clock, energy: EnergyCounter, device: torch.device) -> Meters:
    """What a run's summary says of its costs."""
    learner, scoring, earlier, total = fitted.cost.learner, fitted.cost.scoring, fitted.cost.earlier, fitted.cost.total
    trace = fitted.session.trace
    return Meters(
        updates=total.updates,
        updates_reference=earlier.updates,
        examples=total.examples,
        examples_reference=earlier.examples,
        examples_scored=scoring.scored,
        flops_train=learner.flops,
        flops_scoring=scoring.flops,
        flops_reference=earlier.flops,
        flops=total.flops,
        seconds_train=learner.seconds,
        seconds_selection=scoring.seconds,
        seconds_reference=earlier.seconds,
        seconds=total.seconds,
        seconds_evaluation=clock["evaluation"],
        seconds_setup=clock["setup"],
        cpu_seconds_reference=earlier.cpu_seconds,
        cpu_seconds=total.cpu_seconds,
        peak_memory_bytes=peak_memory(device),
        # The counter knows this process only: what a killed one or an earlier run drew is not in it.
        energy_joules=None if trace.resumed or trace.inherited.updates else energy.joules(),
    )
