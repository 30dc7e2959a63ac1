"""Per-example statistics from proxy models, for the selectors that need scores before training starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scrimp.config import Horizon, Recipe
from scrimp.data.loading import ImageSource, Normalisation
from scrimp.errors import ScrimpError
from scrimp.measure.clock import Clock
from scrimp.measure.flops import ExampleFlops
from scrimp.methods.base import EpochSelector, Scoring
from scrimp.training import parallel
from scrimp.training.budget import Budget, Spent
from scrimp.training.classify import EVALUATION_BATCH, train
from scrimp.training.stage import Place

PROXY_SEEDS = 1_000_000  # proxies of seed k are seeded from here on, away from every learner's seed


@dataclass(frozen=True)
class Scores:
    """Statistics float32 [N] and what they cost: training the proxies, and scoring with them."""

    values: Tensor
    updates_reference: int
    examples_reference: int
    examples_scored: int
    flops_scoring: float
    flops_reference: float


def score_examples(
    scoring: Scoring,
    build_model: Callable[[int], nn.Module],
    images: ImageSource,
    recipe: Recipe,
    epochs: float,
    seed: int,
    *,
    normalise: Normalisation,
    flops: ExampleFlops,
    place: Place,
    on_progress: Callable[[float], None] | None = None,
) -> Scores:
    """Train `scoring.models` proxies on all of `images`, each for `scoring.horizon` of `epochs`, and average a statistic.

    `build_model(seed)` gives a fresh proxy on the right device. The caller keeps the time.
    """
    if scoring.of_history is not None and parallel.world_size() > 1:
        raise ScrimpError("scores from the history of visits (forgetting) are for one process: start it without torchrun")
    total = torch.zeros(len(images))
    spent = Spent()
    scored = 0
    horizon = Horizon(epochs=scoring.horizon)
    budget = Budget.of(horizon, epochs, len(images), recipe.batch_size, flops.training)
    for number in range(scoring.models):
        proxy_seed = PROXY_SEEDS + 1000 * seed + number
        model = build_model(proxy_seed)
        history: list[tuple[Tensor, Tensor]] = []

        def remember(indices: Tensor, logits: Tensor, labels: Tensor, into: list[tuple[Tensor, Tensor]] = history) -> None:
            into.append((indices.cpu(), (logits.argmax(dim=1) == labels).cpu()))

        trace = train(
            model,
            images,
            EpochSelector(len(images), proxy_seed),
            recipe,
            budget,
            proxy_seed,
            normalise=normalise,
            flops=flops,
            place=place,
            clock=Clock(place.device),
            on_visit=remember if scoring.of_history is not None else None,
            on_progress=on_progress,
        )
        spent.steps += trace.spent.steps
        spent.examples += trace.spent.examples
        spent.flops += trace.spent.flops
        if scoring.of_history is not None:
            total += scoring.of_history(_by_visit(history, len(images)))
        if scoring.of_logits is not None:
            total += _of_final_logits(scoring.of_logits, model, images, normalise, place)
            scored += len(images)
    return Scores(
        values=total / scoring.models,
        updates_reference=spent.steps,
        examples_reference=spent.examples,
        examples_scored=scored,
        flops_scoring=scored * flops.forward,
        flops_reference=spent.flops,
    )


def _of_final_logits(
    statistic: Callable[[Tensor, Tensor], Tensor],
    model: nn.Module,
    images: ImageSource,
    normalise: Normalisation,
    place: Place,
) -> Tensor:
    model.eval()
    with torch.no_grad(), place.autocast():
        parts = [
            statistic(model(normalise(pixels)).float(), labels).cpu() for pixels, labels in images.plain(EVALUATION_BATCH)
        ]
    return torch.cat(parts)


def _by_visit(history: list[tuple[Tensor, Tensor]], size: int) -> Tensor:
    """Histories as a table: bool [whole epochs, N]. Visits of an unfinished last epoch are left out."""
    indices = torch.cat([at for at, _ in history])
    right = torch.cat([hit for _, hit in history])
    epochs = len(indices) // size
    table = torch.zeros(epochs, size, dtype=torch.bool)
    for epoch in range(epochs):
        span = slice(epoch * size, (epoch + 1) * size)
        table[epoch, indices[span]] = right[span]
    return table
