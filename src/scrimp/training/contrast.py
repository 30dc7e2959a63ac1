"""Training two towers on image-text pairs under a batch selector: one visible loop.

A step is: take the next candidates of the pool, let the selector choose among them (the learner's embeddings and the
reference's are its evidence), train on what was chosen. Candidates follow from (seed, step) alone, so a run that is killed
goes on from its last checkpoint and ends with the same numbers. Under torchrun every process embeds a part of the
candidates, all see all embeddings, and all choose alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from scrimp.config import Recipe
from scrimp.data.loading import Normalisation, augmented
from scrimp.data.order import candidates_of
from scrimp.data.pairs import PairSource
from scrimp.measure.clock import Clock
from scrimp.methods.base import derived_generator
from scrimp.methods.batch import BatchSelector
from scrimp.methods.pairs import Embedded
from scrimp.models.contrastive import TwoTowers
from scrimp.training import parallel
from scrimp.training.budget import Budget
from scrimp.training.checkpoint import load_checkpoint, save_checkpoint
from scrimp.training.losses import sigmoid_loss
from scrimp.training.optimizers import build_optimizer, optimizer_tensors, restore_optimizer, set_learning_rate
from scrimp.training.pair_costs import TowerFlops
from scrimp.training.schedules import learning_rate_factor
from scrimp.training.stage import Place, Trace

# Fewer pictures at a time pay more for every call, more than these no longer fit a core's cache; a GPU wants large batches.
EMBEDDING_BATCH = {"cpu": 320}
LARGE_EMBEDDING_BATCH = 1024
# Pictures are mostly white: to [-1, 1], as SigLIP does, whatever the data.
NORMALISATION = Normalisation(torch.full((3,), 0.5), torch.full((3,), 0.5))


@dataclass(frozen=True)
class Reference:
    """A trained model that selectors score against: its embeddings of the pool ([N, d] each), scale and bias, or itself."""

    cached: Embedded | None = None
    model: TwoTowers | None = None


def train(
    model: TwoTowers,
    pool: PairSource,
    selector: BatchSelector,
    recipe: Recipe,
    budget: Budget,
    seed: int,
    *,
    flops: TowerFlops,
    scoring_flops: float = 0.0,
    place: Place,
    clock: Clock,
    reference: Reference | None = None,
    evaluate: Callable[[TwoTowers], dict[str, float]] | None = None,
    evaluate_times: int = 1,
    on_choice: Callable[[Tensor, float], dict[str, float]] | None = None,
    checkpoint: Path | None = None,
    checkpoint_key: str = "",
    checkpoint_every: float = 20.0,
    on_progress: Callable[[float], None] | None = None,
) -> Trace:
    """Train `model` in place until `budget` is spent; returns its trace.

    `scoring_flops` is what one choice costs (`pair_costs.scoring_flops`). `evaluate(model)` is asked `evaluate_times`
    times, evenly over the budget. `on_choice(indices, fraction)` sees the pool's indices of every sub-batch and may give
    metrics to note. `checkpoint_every` is in seconds.
    """
    patches = recipe.patches or [model.patch]
    optimizer = build_optimizer(model, recipe)
    trace, evaluated = Trace(), 0
    resumed = load_checkpoint(checkpoint, checkpoint_key) if checkpoint is not None else None
    if resumed is not None:
        tensors, progress = resumed
        model.load_state_dict(tensors["model"])
        restore_optimizer(optimizer, tensors.get("optimizer", {}))
        trace.rows, trace.resumed, evaluated = progress["rows"], True, progress["evaluated"]
        trace.spent.__dict__.update(progress["spent"])
        clock.seconds = dict(progress["seconds"])
    saved_at = time.monotonic()

    model.train()
    while budget.fraction(trace.spent) < 1:
        step = trace.spent.steps
        with clock.span("selection"):
            drawn = candidates_of(len(pool), selector.super_batch, seed, step)
            chosen = drawn
            if selector.super_batch > selector.batch_size:
                scored = _score(model, pool, drawn, selector, reference, patches[0], place)
                chosen = drawn[selector.choose(step, *scored).cpu()]
        with clock.span("train", synchronise=False):
            rate = learning_rate_factor(recipe.schedule, budget.fraction(trace.spent))
            set_learning_rate(optimizer, recipe.learning_rate * rate)
            draws = derived_generator(seed, step, "augmentation")
            image, text = _embed(model, pool, chosen, patches, recipe, draws, place)
            if recipe.loss == "sigmoid":
                loss = sigmoid_loss(image, text, model.log_scale.exp(), model.bias)
            else:
                loss = softmax_loss(image, text, model.log_scale.exp())
            loss.backward()
            parallel.average_gradients(model)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        trace.spent.steps += 1
        trace.spent.epochs = trace.spent.steps
        trace.spent.examples += len(chosen)
        trace.spent.flops += flops.training(len(chosen), patches) + scoring_flops
        trace.spent.seconds = clock["train"] + clock["selection"]
        fraction = budget.fraction(trace.spent)
        if on_choice is not None:
            trace.note(**on_choice(chosen, fraction))
        due = math.floor(fraction * evaluate_times + 1e-9)
        if due > evaluated and evaluate is not None:
            evaluated = due
            with clock.span("evaluation"):
                trace.note(**evaluate(model), train_loss=float(loss.detach()))
        if on_progress is not None:
            on_progress(fraction)
        if checkpoint is not None and parallel.is_first() and time.monotonic() - saved_at >= checkpoint_every:
            groups = {"model": model.state_dict(), "optimizer": optimizer_tensors(optimizer)}
            progress = {"key": checkpoint_key, "rows": trace.rows, "spent": vars(trace.spent)}
            save_checkpoint(checkpoint, groups, {**progress, "evaluated": evaluated, "seconds": clock.seconds})
            saved_at = time.monotonic()
    return trace


def softmax_loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """The contrastive loss of CLIP, both ways averaged, over unit embeddings [B, d]: a scalar (arXiv 2103.00020, 2.3)."""
    logits = scale * image @ text.T
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


@torch.no_grad()
def embed(model: TwoTowers, pool: PairSource, at: Tensor, patch: int | None, place: Place) -> Embedded:
    """Unit embeddings of the pairs `at` (int64 [n]), [n, d] each, without gradients and without augmentation."""
    normalise = NORMALISATION.to(place.device)
    with place.autocast():
        images = [
            model.embed_images(normalise(pool.images(part).to(place.device)), patch) for part in at.split(_at_a_time(place))
        ]
    text = embed_captions(model, pool.tokens[at], place)
    return Embedded(torch.cat(images), text, float(model.log_scale.exp()), float(model.bias))


@torch.no_grad()
def embed_captions(model: TwoTowers, tokens: Tensor, place: Place) -> Tensor:
    """Unit embeddings [n, d] of token ids [n, L]; captions of like length go together, so little padding is computed."""
    order = (tokens != 0).sum(dim=1).argsort(stable=True)
    with place.autocast():
        text = torch.cat(
            [model.embed_texts(trimmed(tokens[part]).to(place.device)) for part in order.split(_at_a_time(place))]
        )
    return torch.empty_like(text).index_copy_(0, order.to(place.device), text)


def _at_a_time(place: Place) -> int:
    return EMBEDDING_BATCH.get(place.device.type, LARGE_EMBEDDING_BATCH)


def trimmed(tokens: Tensor) -> Tensor:
    """Token ids [n, L] without the columns in which every caption is over."""
    longest = int((tokens != 0).sum(dim=1).max())
    return tokens[:, : max(1, longest)]


def _score(
    model: TwoTowers,
    pool: PairSource,
    drawn: Tensor,
    selector: BatchSelector,
    reference: Reference | None,
    finest: int,
    place: Place,
) -> tuple[Embedded | None, Embedded | None]:
    """The candidates as the learner and as the reference see them; None for whom the selector does not ask."""
    mine, _ = parallel.part_of(len(drawn))
    learner = known = None
    if selector.needs_learner:
        learner = _shared(embed(model, pool, drawn[mine], selector.scoring_patch or finest, place))
    if selector.reference is not None:
        assert reference is not None  # the run stage reads it
        if selector.live:
            assert reference.model is not None
            known = _shared(embed(reference.model, pool, drawn[mine], None, place))
        else:
            assert reference.cached is not None
            known = reference.cached.rows(drawn)
    return learner, known


def _shared(mine: Embedded) -> Embedded:
    return mine._replace(image=parallel.gathered_rows(mine.image), text=parallel.gathered_rows(mine.text))


def _embed(
    model: TwoTowers,
    pool: PairSource,
    chosen: Tensor,
    patches: list[int],
    recipe: Recipe,
    draws: torch.Generator,
    place: Place,
) -> tuple[Tensor, Tensor]:
    """The sub-batch embedded to be trained on: [b, d] each, every patch side taking its even share of the pairs.

    Under torchrun each process embeds its part and gets the others' with gradients, so that all compute the whole loss.
    """
    pixels = pool.images(chosen)
    if recipe.augmentation.shift or recipe.augmentation.flip:
        pixels = augmented(pixels, recipe.augmentation, draws)
    mine, _ = parallel.part_of(len(chosen))
    pixels, tokens = pixels[mine].to(place.device), pool.tokens[chosen[mine]].to(place.device)
    normalise = NORMALISATION.to(place.device)
    with place.autocast():
        # Interleaved, since a choice is ordered: the best would else all be seen at one patch side.
        parts = [model.embed_images(normalise(pixels[n :: len(patches)]), patch) for n, patch in enumerate(patches)]
        texts = [model.embed_texts(trimmed(tokens[n :: len(patches)])) for n in range(len(patches))]
    return parallel.gathered_with_gradients(torch.cat(parts)), parallel.gathered_with_gradients(torch.cat(texts))
