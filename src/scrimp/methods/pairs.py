"""Losses of image-text pairs under contrastive models, and the scores that JEST makes of them.

Of a super-batch of B pairs, with unit embeddings z (images) and t (texts), the sigmoid loss gives every combination (i, j)
a loss of its own, softplus(-y (scale z_i . t_j + bias)) with y = 1 on the diagonal and -1 off it (Zhai et al. 2023, arXiv
2303.15343). The softmax loss has one value a pair, since its normaliser runs over the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from scrimp.kernels import pairwise_learnability_update
from scrimp.kernels.blocks import block_rows, exact_type
from scrimp.methods.unit_rows import require_unit_rows

Method = Literal["learnability", "easy-reference", "hard-learner"]


class Embedded(NamedTuple):
    """A super-batch as one model sees it: unit embeddings [B, d] each, and the model's own scale and bias.

    The bias is *added* to the scaled products (it is negative in practice); the JEST paper's beta is minus it.
    """

    image: Tensor
    text: Tensor
    scale: float | Tensor
    bias: float | Tensor

    def to(self, dtype: torch.dtype) -> Embedded:
        return Embedded(self.image.to(dtype), self.text.to(dtype), self.scale, self.bias)

    def rows(self, at: Tensor) -> Embedded:
        """The pairs at some positions (int64 [n], or bool [B])."""
        if at.dtype == torch.bool:
            at = at.nonzero()[:, 0]
        return Embedded(self.image.index_select(0, at), self.text.index_select(0, at), self.scale, self.bias)


Model = Embedded | tuple[Tensor, Tensor, float | Tensor, float | Tensor | None]  # None: no bias, as in CLIP
Signed = tuple[Embedded, float]


def signed_models(
    method: Method, learner: Model | None, reference: Model | None, loss: Literal["sigmoid", "softmax"] = "sigmoid"
) -> list[Signed]:
    """The models whose losses a method adds up, each with its sign: learnability is learner minus reference.

    A bias of None is 0 for the softmax loss, where it cancels. Source: Evans et al. 2024 (arXiv 2406.17711), section 3.1.
    Raises ValueError for an unknown method, for a model that the method needs and that is None, and for a bias of None
    under the sigmoid loss.
    """
    signs: dict[str, tuple[float, float]] = {
        "learnability": (1.0, -1.0),
        "easy-reference": (0.0, -1.0),
        "hard-learner": (1.0, 0.0),
    }
    if method not in signs:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(signs)}")
    chosen: list[Signed] = []
    for name, model, sign in zip(("learner", "reference"), (learner, reference), signs[method], strict=True):
        if sign == 0:
            continue
        if model is None:
            raise ValueError(f"{method} needs the {name}'s embeddings")
        image, text, scale, bias = model
        if bias is None:
            bias = 0.0 if loss == "softmax" else no_bias(name)
        chosen.append((Embedded(image, text, scale, bias), sign))
    return chosen


def no_bias(name: str) -> float:
    """ValueError: the sigmoid loss of a model without a bias, which was trained by another loss."""
    raise ValueError(
        f"the {name}'s bias is None, as a CLIP model's is: it was trained by the softmax loss, so take loss=\"softmax\"; to "
        "score it by the sigmoid loss all the same, give a bias of 0.0"
    )


def require_unit(name: str, image: Tensor, text: Tensor) -> None:
    """ValueError for embeddings [B, d] whose lengths are not 1, within the rounding of half precision."""
    for part, rows in (("image", image), ("text", text)):
        require_unit_rows(f"{name}'s {part} embeddings", rows, ", or say unit=False if the model means other lengths")


# --------------------------------------------------------------------------------------------------------------- losses
def sigmoid_losses(model: Embedded) -> Tensor:
    """The loss of every combination of image i and text j: [B, B], in the embeddings' type."""
    logits = model.scale * (model.image @ model.text.T) + model.bias
    signs = 2 * torch.eye(len(logits), dtype=logits.dtype, device=logits.device) - 1
    return F.softplus(-signs * logits)


def sigmoid_diagonal(model: Embedded) -> Tensor:
    """The losses of the pairs themselves, the diagonal of `sigmoid_losses`: float64 [B]."""
    products = torch.empty(len(model.image), dtype=torch.float64, device=model.image.device)
    exact = exact_type(model.image)
    size = block_rows(model.image.device, model.image.shape[1])
    for begin in range(0, len(products), size):  # no copy of a whole super-batch in a wider type
        image, text = (part[begin : begin + size].to(exact) for part in (model.image, model.text))
        products[begin : begin + size] = (image * text).sum(dim=1, dtype=torch.float64)
    return F.softplus(-(model.scale * products + model.bias))


def softmax_losses(model: Embedded, block: int | None = None) -> Tensor:
    """The contrastive loss of every pair with the whole super-batch as negatives, both ways averaged: [B].

    Source: Radford et al. 2021 (arXiv 2103.00020), section 2.3. Rows are taken in blocks, so that no B x B matrix is made.
    """
    matching = model.scale * (model.image * model.text).sum(dim=1) + model.bias
    size = block or block_rows(model.image.device, len(matching))

    def normaliser(queries: Tensor, keys: Tensor) -> Tensor:
        return torch.cat([torch.logsumexp(model.scale * (q @ keys.T) + model.bias, dim=1) for q in queries.split(size)])

    return (normaliser(model.image, model.text) + normaliser(model.text, model.image)) / 2 - matching


# --------------------------------------------------------------------------------------------------------------- scores
def pairwise_scores(models: Iterable[Signed]) -> Tensor:
    """The score matrix of a super-batch in float64 [B, B]: the specification, for small B."""
    parts = [sign * sigmoid_losses(model.to(torch.float64)) for model, sign in models]
    return torch.stack(parts).sum(dim=0)


def diagonal_scores(models: Iterable[Signed], loss: Literal["sigmoid", "softmax"] = "sigmoid") -> Tensor:
    """The score of every pair by itself in float64 [B]."""
    if loss == "sigmoid":
        parts = [sign * sigmoid_diagonal(model) for model, sign in models]
    else:
        parts = [sign * softmax_losses(model.to(torch.float64)) for model, sign in models]
    return torch.stack(parts).sum(dim=0)


class Stacked(NamedTuple):
    """A super-batch as M models see it, for one product to serve all: each model's images, then its texts.

    `rows` [2 M, n, d], of models of different widths padded with zeros, which change no product; `scale`, `bias` and
    `sign` [2 M] are those of the model that a layer of `rows` belongs to, in float32 or float64.
    """

    rows: Tensor
    scale: Tensor
    bias: Tensor
    sign: Tensor

    def at(self, positions: Tensor) -> Stacked:
        """The pairs at some positions (int64 [m])."""
        return self._replace(rows=self.rows.index_select(1, positions))


def stacked(models: Iterable[Signed], dtype: torch.dtype | None = None) -> Stacked:
    """Models side by side; `dtype` is that of the embeddings (None: the widest of theirs)."""
    models = list(models)
    dtype = dtype or functools.reduce(torch.promote_types, (model.image.dtype for model, _ in models))
    first = models[0][0].image
    width = max(model.image.shape[1] for model, _ in models)
    rows = torch.zeros(2 * len(models), len(first), width, dtype=dtype, device=first.device)
    for number, (model, _) in enumerate(models):
        rows[2 * number, :, : model.image.shape[1]] = model.image
        rows[2 * number + 1, :, : model.text.shape[1]] = model.text
    exact = torch.float64 if dtype == torch.float64 else torch.float32

    def of_layers(values: Iterable[float | Tensor]) -> Tensor:
        each = [torch.as_tensor(value, dtype=exact, device=first.device).reshape(()) for value in values]
        return torch.stack(each).repeat_interleave(2)

    return Stacked(
        rows,
        of_layers(model.scale for model, _ in models),
        of_layers(model.bias for model, _ in models),
        of_layers(sign for _, sign in models),
    )


def chunk_scores(candidates: Stacked, chunk: Stacked, block: int | None = None) -> Tensor:
    """What a newly chosen chunk adds to each candidate's score: float32 or float64 [n].

    For candidate j the sum over k in the chunk of the losses of (image k, text j) and (image j, text k), none of which
    is a matching pair, over the models by their signs (`scrimp.kernels.pairwise_learnability_update`).
    """
    sums: Tensor = pairwise_learnability_update(
        candidates.rows, chunk.rows, candidates.scale, candidates.bias, candidates.sign, block or 0
    )
    return sums


def batch_score(scores: Tensor, indices: Tensor) -> float:
    """The score of a sub-batch (int64 [b]) under a matrix [B, B]: the sum over its combinations, a pair's share of it."""
    return float(scores[indices][:, indices].sum()) / len(indices)
