"""Per-example statistics from proxy models, for the selectors that need scores before training starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from scrimp.config.training import Horizon
from scrimp.cost import Cost
from scrimp.errors import ScrimpError
from scrimp.measure.clock import Clock
from scrimp.methods.base import EpochSelector, Scoring
from scrimp.methods.combined import Methods
from scrimp.methods.embeddings import AT_A_TIME, centred
from scrimp.methods.kept_by_scores import KeptByScores
from scrimp.training import parallel
from scrimp.training.budget import Budget
from scrimp.training.loop import train
from scrimp.training.session import cost_of

if TYPE_CHECKING:
    from scrimp.tasks.base import Task

PROXY_SEEDS = 1_000_000  # proxies of seed k are seeded from here on, away from every learner's seed


@dataclass(frozen=True)
class Scores:
    """Statistics float32 [N] of the training examples, and what they cost: training the proxies, and scoring with them.

    Time is the caller's to keep.
    """

    values: Tensor
    proxies: Cost
    scoring: Cost


def score_examples(scoring: Scoring, task: Task, seed: int, on_progress: Callable[[float], None] | None = None) -> Scores:
    """Train `scoring.models` proxies on all examples, each for `scoring.horizon` of the full recipe; average a statistic."""
    if scoring.of_history is not None and parallel.world_size() > 1:
        raise ScrimpError("scores from the history of visits (forgetting) are for one process: start it without torchrun")
    if scoring.of_task is not None:
        return Scores(*scoring.of_task(task, seed, on_progress))
    if scoring.of_features is not None:
        return _by_features(scoring, scoring.of_features, task, seed, on_progress)
    size = task.examples
    total, spent, scored = torch.zeros(size), Cost(), 0
    budget = _budget(scoring, task)
    for number in range(scoring.models):
        proxy_seed = PROXY_SEEDS + 1000 * seed + number
        model = task.model(proxy_seed)
        visited: list[Tensor] = []
        right: list[Tensor] = []
        if scoring.of_history is not None:
            task.on_outputs = lambda logits, labels, right=right: right.append((logits.argmax(dim=1) == labels).cpu())
        session = train(
            task,
            model,
            Methods({"full": EpochSelector(size, proxy_seed)}),
            task.workload.recipe,
            budget,
            proxy_seed,
            clock=Clock(task.place.device),
            on_batch=visited.append if scoring.of_history is not None else None,
            on_progress=on_progress,
        )
        task.on_outputs = None
        spent += cost_of(session.spent)
        if scoring.of_history is not None:
            total += scoring.of_history(_by_visit(visited, right, size))
        if scoring.of_logits is not None:
            total += _of_final_logits(scoring.of_logits, model, task)
            scored += size
    return Scores(total / scoring.models, _untimed(spent), Cost(scored=scored, flops=scored * task.flops.forward))


def _budget(scoring: Scoring, task: Task) -> Budget:
    horizon = Horizon(epochs=scoring.horizon)
    return Budget.of(horizon, task.workload, task.examples, task.flops.training, by_epochs=True)


def _untimed(spent: Cost) -> Cost:
    return Cost(spent.updates, spent.examples, 0, spent.flops)


def _by_features(
    scoring: Scoring,
    statistic: Callable[[Tensor, Tensor | None, int], tuple[Tensor, float]],
    task: Task,
    seed: int,
    on_progress: Callable[[float], None] | None,
) -> Scores:
    """Train one proxy on `scoring.examples`, and score these by what it makes of them."""
    examples = torch.arange(task.examples) if scoring.examples is None else scoring.examples
    proxy_seed = PROXY_SEEDS + 1000 * seed
    model, chosen = task.model(proxy_seed), KeptByScores(task.examples, proxy_seed)
    chosen.kept = examples
    session = train(
        task,
        model,
        Methods({"proxy": chosen}),
        task.workload.recipe,
        _budget(scoring, task),
        proxy_seed,
        clock=Clock(task.place.device),
        on_progress=on_progress,
    )
    model.eval()
    with torch.no_grad(), task.place.autocast():
        batches = (task.batch(task.train_split, part) for part in examples.split(AT_A_TIME))
        points = torch.cat([task.features(model, batch).float().cpu() for batch in batches])
    if not points.isfinite().all():
        raise ScrimpError(f"{type(task).__name__}.features gave numbers that are not finite")
    labels = task.labels.cpu()[examples] if scoring.labelled else None
    values = torch.full((task.examples,), torch.nan)
    values[examples], flops = statistic(centred(points), labels, seed)
    scored = Cost(scored=len(examples), flops=len(examples) * task.flops.forward + flops)
    return Scores(values, _untimed(cost_of(session.spent)), scored)


def _of_final_logits(statistic: Callable[[Tensor, Tensor], Tensor], model: nn.Module, task: Task) -> Tensor:
    model.eval()
    with torch.no_grad(), task.place.autocast():
        parts = [statistic(*task.outputs(model, batch)).cpu() for batch in task.batches(task.train_split)]
    return torch.cat(parts)


def _by_visit(indices: list[Tensor], right: list[Tensor], size: int) -> Tensor:
    """Histories as a table: bool [whole epochs, N]. Visits of an unfinished last epoch are left out."""
    at, hits = torch.cat(indices), torch.cat(right)
    epochs = len(at) // size
    table = torch.zeros(epochs, size, dtype=torch.bool)
    for epoch in range(epochs):
        span = slice(epoch * size, (epoch + 1) * size)
        table[epoch, at[span]] = hits[span]
    return table
