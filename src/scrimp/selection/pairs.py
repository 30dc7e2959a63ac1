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

Method = Literal["learnability", "easy-reference", "hard-learner"]
# Of a block of losses in float32: 2 MiB, which stay in a core's cache; a GPU wants fewer, larger launches.
BLOCK_ELEMENTS = {"cpu": 1 << 19}
LARGE_BLOCK_ELEMENTS = 1 << 26
FEW_ELEMENTS = 1 << 16  # below, one call for all softplus costs less than many cheaper ones


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


Model = Embedded | tuple[Tensor, Tensor, float | Tensor, float | Tensor]
Signed = tuple[Embedded, float]


def signed_models(method: Method, learner: Model | None, reference: Model | None) -> list[Signed]:
    """The models whose losses a method adds up, each with its sign: learnability is learner minus reference.

    Source: Evans et al. 2024 (arXiv 2406.17711), section 3.1. Raises ValueError for an unknown method and for a model
    that the method needs and that is None.
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
        chosen.append((Embedded(*model), sign))
    return chosen


# --------------------------------------------------------------------------------------------------------------- losses
def sigmoid_losses(model: Embedded) -> Tensor:
    """The loss of every combination of image i and text j: [B, B], in the embeddings' type."""
    logits = model.scale * (model.image @ model.text.T) + model.bias
    signs = 2 * torch.eye(len(logits), dtype=logits.dtype, device=logits.device) - 1
    return F.softplus(-signs * logits)


def sigmoid_diagonal(model: Embedded) -> Tensor:
    """The losses of the pairs themselves, the diagonal of `sigmoid_losses`: [B]."""
    return F.softplus(-(model.scale * (model.image * model.text).sum(dim=1) + model.bias))


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
    of_pairs = {"sigmoid": sigmoid_diagonal, "softmax": softmax_losses}[loss]
    parts = [sign * of_pairs(model.to(torch.float64)) for model, sign in models]
    return torch.stack(parts).sum(dim=0)


class Stacked(NamedTuple):
    """A super-batch as M models see it, for one product to serve all: each model's images, then its texts.

    `rows` [2 M, n, d], of models of different widths padded with zeros, which change no product; `scale` and `bias`
    [2 M, 1, 1] and `sign` [2 M, 1] are those of the model that a layer of `rows` belongs to, in float32 or float64.
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
        each = torch.stack([torch.as_tensor(value, dtype=exact, device=first.device).reshape(()) for value in values])
        return each.repeat_interleave(2)

    return Stacked(
        rows,
        of_layers(model.scale for model, _ in models).view(-1, 1, 1),
        of_layers(model.bias for model, _ in models).view(-1, 1, 1),
        of_layers(sign for _, sign in models).view(-1, 1),
    )


def chunk_scores(candidates: Stacked, chunk: Stacked, block: int | None = None) -> Tensor:
    """What a newly chosen chunk adds to each candidate's score: float32 or float64 [n].

    For candidate j the sum over k in the chunk of the losses of (image k, text j) and (image j, text k), none of which
    is a matching pair, over the models by their signs. Candidates are taken in blocks; nothing larger than a block times
    the chunk is ever held.
    """
    layers, width, _ = chunk.rows.shape
    count = candidates.rows.shape[1]
    sums = torch.empty(count, dtype=candidates.scale.dtype, device=candidates.rows.device)
    size = block or block_rows(sums.device, layers * width)
    # Images meet texts: layers of a model change places.
    keys = chunk.rows.view(layers // 2, 2, width, -1).flip(1).view(chunk.rows.shape)
    with torch.autocast(sums.device.type, enabled=False):  # the products are in the embeddings' own type
        for begin in range(0, count, size):
            part = candidates.rows[:, begin : begin + size].transpose(1, 2)
            logits = torch.bmm(keys, part).to(sums.dtype)  # [2 M, c, rows]: sums run along whole rows of memory
            logits = torch.addcmul(candidates.bias, logits, candidates.scale)
            sums[begin : begin + size] = (softplus_sums(logits) * candidates.sign).sum(dim=0)
    return sums


def softplus_sums(logits: Tensor) -> Tensor:
    """The sums of softplus over the rows of logits [M, c, n], which may be overwritten: [M, n].

    With t = exp(-|y|), softplus(y) is relu(y) + log(1 + t), and the logarithms of up to 32 rows are taken as one of the
    product of their 1 + t: an exponential is several times cheaper than a logarithm. What is kept is the product less 1,
    lest a small t vanish beside the 1; 32 factors of at most 2 cannot overflow.
    """
    if logits.numel() < FEW_ELEMENTS:
        return F.softplus(logits).sum(dim=1)
    sums = logits.clamp(min=0).sum(dim=1)
    excess = logits.abs_().neg_().exp_()  # [M, c, n]
    for _ in range(5):
        half = excess.shape[1] // 2
        if half == 0:
            break
        if excess.shape[1] % 2:
            sums += excess[:, -1].log1p()
        one, other = excess[:, :half], excess[:, half : 2 * half]
        excess = (one + other).addcmul_(one, other)
    return sums.add_(excess.log1p_().sum(dim=1))


def block_rows(device: torch.device, width: int) -> int:
    """How many rows of `width` losses to hold at a time."""
    return max(1, BLOCK_ELEMENTS.get(device.type, LARGE_BLOCK_ELEMENTS) // max(1, width))


def batch_score(scores: Tensor, indices: Tensor) -> float:
    """The score of a sub-batch (int64 [b]) under a matrix [B, B]: the sum over its combinations, a pair's share of it."""
    return float(scores[indices][:, indices].sum()) / len(indices)
