"""JEST: joint example selection. Of a super-batch of image-text pairs, choose a sub-batch that is learnable as a whole.

A learner and a reference (trained on curated data) score every combination of images and texts; *learnability* is the
learner's loss minus the reference's. The sub-batch is drawn in chunks, each conditioned on what was chosen before, since a
pair's worth depends on the negatives beside it.

Use it for contrastive training from a large noisy pool. Cost of a step beside training: the learner's forward pass over the
super-batch, the reference's embeddings (cacheable: they do not change), and 2 b (1 - 1/N) (B - b/2) pairs of products a
model for N chunks of b/N out of B; memory O(B d), as no B x B matrix is made.
Source: Evans, Parthasarathy, Merzic, Henaff 2024 (arXiv 2406.17711), section 3 and Algorithm 1. What the pseudo-code leaves
open are options here: the weights of the first chunk, draws with or without replacement inside a chunk, and a gain on the
logits, which are sums that grow with the sub-batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Literal, get_args

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from pydantic import model_validator as validate_model
from torch import Tensor

from scrimp.config.base import Closed
from scrimp.errors import ScrimpError
from scrimp.methods.base import derived_generator
from scrimp.methods.batch import BatchSelector
from scrimp.methods.drawing import First, Options, check_known, check_size, draw, first_logits, gumbel, noise_of
from scrimp.methods.pairs import (
    Embedded,
    Method,
    Model,
    Signed,
    batch_score,
    chunk_scores,
    diagonal_scores,
    pairwise_scores,
    require_unit,
    sigmoid_diagonal,
    sigmoid_losses,
    signed_models,
    softmax_losses,
    stacked,
)

__all__ = [
    "Embedded",
    "JointSelection",
    "Options",
    "batch_score",
    "chunk_scores",
    "dense",
    "diagonal_scores",
    "first_logits",
    "gibbs",
    "incremental",
    "independent",
    "pairwise_scores",
    "product_flops",
    "select",
    "sigmoid_diagonal",
    "sigmoid_losses",
    "signed_models",
    "softmax_losses",
    "stacked",
    "sub_batch_size",
    "super_batch_size",
    "top_k",
]

Choice = Literal["joint", "independent", "top-k"]
COMPACTED_SHARE = 8  # drawn rows are compacted away when they reach this part of all


# -------------------------------------------------------------------------------------------------------------- in a loop
@torch.no_grad()
def select(
    learner: Model | None,
    reference: Model | None,
    size: int = 256,
    chunks: int = 16,
    method: Method = "learnability",
    *,
    generator: torch.Generator,
    choice: Choice = "joint",
    loss: Literal["sigmoid", "softmax"] = "sigmoid",
    first: First = "exponential",
    gain: float = 1.0,
    replacement: bool = False,
    form: Literal["incremental", "dense"] = "incremental",
    dtype: torch.dtype | None = None,
    unit: bool = True,
) -> Tensor:
    """Positions in the super-batch (int64 [size]) of the sub-batch to train on, in the order in which they were drawn.

    `learner` and `reference` are (image, text, scale, bias): unit embeddings [B, d] and each model's own scale and bias,
    None for a model without one (CLIP), which goes by the softmax loss. `unit=False` takes embeddings of other lengths.
    `easy-reference` takes None for the learner, `hard-learner` None for the reference. `choice` "independent" draws all
    of the sub-batch at once by the pairs' own scores, "top-k" takes the highest (RHO-LOSS, Mindermann et al. 2022); only
    these two can go by the softmax loss. `dtype` is that of the products in the incremental form (None: the embeddings').
    `generator` lives on the CPU, so that every device and both forms draw alike.
    Under torch.distributed each process may choose among its own candidates, with a generator seeded by its rank too; for
    one choice over all of them gather the embeddings first, and let every process draw with the same seed.
    Raises ValueError for sizes that do not fit, embeddings that are not finite or not of length 1, unknown options.
    """
    check_known("choice", choice, get_args(Choice))
    check_known("form", form, ("incremental", "dense"))
    check_known("loss", loss, ("sigmoid", "softmax"))
    models = signed_models(method, learner, reference, loss)
    _check_embeddings(models, unit)
    options = Options(size, chunks if choice == "joint" else 1, first, gain, replacement)
    options.check(len(models[0][0].image), generator)
    if choice == "top-k":
        return top_k(diagonal_scores(models, loss), size)
    if choice == "independent":
        return independent(diagonal_scores(models, loss), options, generator)
    if loss != "sigmoid":
        raise ValueError("joint choice needs a loss of every combination: take the sigmoid loss")
    if form == "dense":
        return dense(pairwise_scores(models), options, generator)
    return incremental(models, options, generator, dtype)


def sub_batch_size(super_batch: int, ratio: float, chunks: int = 1) -> int:
    """How many of a super-batch a filter ratio leaves, rounded down to a multiple of `chunks`.

    In whole numbers: of 163,840 at a ratio of .8 in 16 chunks 32,768 are left, where binary fractions would lose some,
    and a ratio that was computed as 1 - 2048 / 6144 leaves 2,048. Raises ValueError if the ratio is outside (0, 1) or
    nothing is left.
    """
    if not 0 < ratio < 1:
        raise ValueError(f"a filter ratio lies in (0, 1), got {ratio}")
    if chunks < 1:
        raise ValueError(f"there is at least 1 chunk, got {chunks}")
    kept = int(super_batch * (1 - Fraction(ratio).limit_denominator(10**9))) // chunks * chunks
    if kept < 1:
        raise ValueError(f"a ratio of {ratio} leaves less than {chunks} of {super_batch} pairs, one for each chunk")
    return kept


def super_batch_size(size: int, ratio: float) -> int:
    """How many candidates a filter ratio asks for, for a sub-batch of `size`: the smallest that leaves as many."""
    if not 0 < ratio < 1:
        raise ValueError(f"a filter ratio lies in (0, 1), got {ratio}")
    return math.ceil(size / (1 - Fraction(ratio).limit_denominator(10**9)))


def product_flops(super_batch: int, size: int, chunks: int, width: int, models: int) -> float:
    """FLOPs of a joint choice's products: every chunk but the last against what is left, both ways, for each model."""
    part = size // chunks
    pairs = sum(part * (super_batch - part * number) for number in range(1, chunks))
    return models * (2 * pairs + super_batch) * 2.0 * width


# --------------------------------------------------------------------------------------------------------- joint, two forms
@torch.no_grad()
def dense(scores: Tensor, options: Options, generator: torch.Generator) -> Tensor:
    """Algorithm 1 on a score matrix [B, B], in float64: the specification that `incremental` is held against."""
    scores = _finite(scores).double()
    options.check(len(scores), generator)
    own = scores.diagonal()
    noise = noise_of(len(own), options, generator).to(own.device)
    times = torch.zeros_like(own)  # how often each pair was drawn
    drawn: list[Tensor] = []
    for number in range(options.chunks):
        logits = options.gain * (own + times @ scores + scores @ times)
        if number == 0:
            logits = first_logits(own, options.first, options.gain)
        drawn.append(draw(logits.masked_fill(times > 0, -torch.inf), noise[number], options))
        times.index_add_(0, drawn[-1], torch.ones_like(own[: len(drawn[-1])]))
    return torch.cat(drawn)


@torch.no_grad()
def incremental(
    models: Iterable[Signed], options: Options, generator: torch.Generator, dtype: torch.dtype | None = None
) -> Tensor:
    """The same choice without the matrix: a chunk's rows and columns are added once, when it is drawn, and forgotten.

    What was drawn is masked, and compacted away whenever it makes up an eighth of the rows, as moving the rows costs what
    a small chunk's products do; the last chunk's sums, which nobody reads, are left out. Sums, and the pairs' own scores,
    are kept in float64; products between pairs are computed in `dtype`.
    """
    models = list(models)
    own = diagonal_scores(models)
    candidates = stacked(models, dtype)
    count = len(own)
    options.check(count, generator)
    noise = noise_of(count, options, generator).to(own.device)
    left = torch.arange(count, device=own.device)
    sums = torch.zeros_like(own)
    drawn: list[Tensor] = []
    for number in range(options.chunks):
        logits = options.gain * (own + sums) if number else first_logits(own, options.first, options.gain)
        at = draw(logits, noise[number] if options.replacement else noise[number, left], options)
        drawn.append(left[at])
        if number == options.chunks - 1:
            break
        chunk = candidates.at(at)
        own = own.index_fill(0, at, -torch.inf)  # drawn
        waiting = (number + 1) * len(at) - (count - len(left))
        if waiting * COMPACTED_SHARE >= len(left):
            stays = own.isfinite().nonzero()[:, 0]
            left, own, sums = left[stays], own[stays], sums[stays]
            candidates = candidates.at(stays)
        sums += chunk_scores(candidates, chunk)
    return torch.cat(drawn)


# ---------------------------------------------------------------------------------------------------- other ways to choose
@torch.no_grad()
def independent(own: Tensor, options: Options, generator: torch.Generator) -> Tensor:
    """Draw all of the sub-batch by the pairs' own scores [B] alone: one chunk of Algorithm 1, however many are asked for."""
    at_once = options._replace(chunks=1)
    at_once.check(len(own), generator)
    logits = first_logits(_finite(own).double(), options.first, options.gain)
    return draw(logits, noise_of(len(own), at_once, generator)[0].to(own.device), at_once)


def top_k(own: Tensor, size: int) -> Tensor:
    """The `size` pairs of highest score [B], best first; of equals the earlier (RHO-LOSS, arXiv 2206.07137)."""
    check_size(len(own), size)
    return _finite(own).argsort(descending=True, stable=True)[:size]


@torch.no_grad()
def gibbs(
    scores: Tensor, size: int, iterations: int, generator: torch.Generator, gain: float = 1.0, every: int = 100
) -> tuple[Tensor, list[tuple[int, float]]]:
    """The yardstick: brute-force Gibbs sampling of a sub-batch under a matrix [B, B], one pair re-drawn an iteration.

    Starts from a uniform sub-batch; a random member leaves, and a pair from outside takes its place, drawn by its
    conditional score given the other members. Returns the sub-batch and (iteration, `batch_score`) at the start, `every`
    so many iterations, and at the end.
    """
    scores = _finite(scores).double().cpu()
    Options(size, 1, gain=gain).check(len(scores), generator)
    if every < 1:
        raise ValueError(f"every is at least 1, got {every}")
    own = scores.diagonal()
    members = torch.randperm(len(own), generator=generator)[:size]
    conditional = own + scores[members].sum(dim=0) + scores[:, members].sum(dim=1)
    is_member = torch.zeros(len(own), dtype=torch.bool).index_fill_(0, members, True)
    trace = [(0, batch_score(scores, members))]
    for iteration in range(1, iterations + 1):
        place = int(torch.randint(size, (), generator=generator))
        leaving = int(members[place])
        is_member[leaving] = False
        conditional -= scores[leaving] + scores[:, leaving]
        logits = (gain * conditional).masked_fill(is_member, -torch.inf)
        entering = int((logits + gumbel(len(own), generator)).argmax())
        members[place] = entering
        is_member[entering] = True
        conditional += scores[entering] + scores[:, entering]
        if iteration % every == 0 or iteration == iterations:
            trace.append((iteration, batch_score(scores, members)))
    return members, trace


# ---------------------------------------------------------------------------------------------------------------- checking
def _finite(scores: Tensor) -> Tensor:
    if not scores.isfinite().all():
        raise ValueError("the scores hold a number that is not finite")
    return scores


def _check_embeddings(models: list[Signed], unit: bool) -> None:
    """One number of pairs, one device, finite numbers and length 1 for all; what is wrong is named."""
    first = models[0][0].image
    count = len(first) if first.ndim else 0
    for model, sign in models:
        name = "learner" if sign > 0 else "reference"
        if not model.image.is_floating_point() or model.image.dtype != model.text.dtype:
            raise ValueError(f"the {name}'s embeddings are {model.image.dtype} and {model.text.dtype}, not one float type")
        devices = {str(value.device) for value in model if isinstance(value, Tensor) and value.ndim} | {str(first.device)}
        if len(devices) > 1:
            raise ValueError(f"the {name}'s embeddings lie on another device: {', '.join(sorted(devices))}; move them")
        if any(torch.as_tensor(value).numel() != 1 for value in (model.scale, model.bias)):
            raise ValueError(f"the {name}'s scale and bias are one number each")
        if model.image.ndim != 2 or model.image.shape != model.text.shape or len(model.image) != count:
            raise ValueError(
                f"the {name}'s embeddings must be two matrices [{count}, d], got image {tuple(model.image.shape)} and "
                f"text {tuple(model.text.shape)}"
            )
        for part in ("image", "text", "scale", "bias"):
            value = torch.as_tensor(getattr(model, part))
            # A sum that is finite has only finite terms, and is far cheaper than looking at each.
            if not (value.sum().isfinite() or value.isfinite().all()):
                raise ValueError(f"the {name}'s {part} holds a number that is not finite")
        if unit:
            require_unit(name, model.image, model.text)


# -------------------------------------------------------------------------------------------------------- in a study
class Params(Closed):
    """`ratio` is the share of the super-batch that is not trained on; the rest as in `select`."""

    ratio: float = Field(gt=0, lt=1)
    reference: str | None = None
    method: Method = "learnability"
    choice: Choice = "joint"
    loss: Literal["sigmoid", "softmax"] = "sigmoid"
    chunks: PositiveInt = 16
    first: First = "exponential"
    gain: PositiveFloat = 1.0
    replacement: bool = False
    scoring_patch: PositiveInt | None = None
    live: bool = False

    @validate_model(mode="after")
    def _reference_where_needed(self) -> Params:
        if (self.reference is None) != (self.method == "hard-learner"):
            raise ValueError(f"{self.method} needs {'no' if self.method == 'hard-learner' else 'a'} `reference`")
        return self


class JointSelection(BatchSelector):
    """`select` at every step, with noise that is a function of (seed, step)."""

    Params = Params

    def __init__(self, batch_size: int, seed: int, **params: Any) -> None:
        super().__init__(batch_size, seed, **params)
        chunks = self.params.chunks
        if self.params.choice == "joint" and batch_size % chunks:
            raise ScrimpError(f"{chunks} chunks do not divide a batch of {batch_size}: choose sizes that do")
        self.super_batch = super_batch_size(batch_size, self.params.ratio)
        self.needs_learner = self.params.method != "easy-reference"
        self.reference = self.params.reference
        self.scoring_patch = self.params.scoring_patch
        self.live = self.params.live

    def choose(self, step: int, learner: Embedded | None, reference: Embedded | None) -> Tensor:
        wanted = self.params
        return select(
            learner,
            reference,
            self.size,
            wanted.chunks,
            wanted.method,
            generator=derived_generator(self.seed, step, "jest"),
            choice=wanted.choice,
            loss=wanted.loss,
            first=wanted.first,
            gain=wanted.gain,
            replacement=wanted.replacement,
            unit=False,  # the towers' are, and a check would be timed
        )

    def pair_flops(self, width: int) -> float:
        models = int(self.needs_learner) + int(self.reference is not None)
        chunks = self.params.chunks if self.params.choice == "joint" else 1
        return product_flops(self.super_batch, self.size, chunks, width, models)


METHOD = JointSelection
