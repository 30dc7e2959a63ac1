"""What training on image-text pairs takes beside the loop: embedding, contrastive losses, what a choice is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scrimp.data.loading import Normalisation
from scrimp.data.pairs import PairSource
from scrimp.methods.pairs import Embedded
from scrimp.models.contrastive import TwoTowers
from scrimp.training.place import Place

# Fewer pictures at a time pay more for every call, more than these no longer fit a core's cache; a GPU wants large batches.
EMBEDDING_BATCH = {"cpu": 320}
LARGE_EMBEDDING_BATCH = 1024
# Pictures are mostly white: to [-1, 1], as SigLIP does, whatever the data.
NORMALISATION = Normalisation(torch.full((3,), 0.5), torch.full((3,), 0.5))


def own_losses(
    image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, loss: Literal["sigmoid", "softmax"] | str
) -> Tensor:
    """Each pair's share of the contrastive loss, over unit embeddings [B, d]: float [B], whose mean is the loss.

    Of the sigmoid loss, half of what its image and half of what its text adds; of the softmax loss, the mean of both ways.
    """
    logits = scale * image @ text.T
    if loss == "softmax":
        labels = torch.arange(len(logits), device=logits.device)
        ways = (F.cross_entropy(way, labels, reduction="none") for way in (logits, logits.T))
        return torch.stack(list(ways)).mean(dim=0)
    signs = 2 * torch.eye(len(logits), dtype=logits.dtype, device=logits.device) - 1
    terms = F.softplus(-signs * (logits + bias))
    return (terms.sum(dim=1) + terms.sum(dim=0)) / 2


def softmax_loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """The contrastive loss of CLIP, both ways averaged, over unit embeddings [B, d]: a scalar (arXiv 2103.00020, 2.3)."""
    logits = scale * image @ text.T
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


@torch.no_grad()
def embed(model: TwoTowers, pool: PairSource, at: Tensor, patch: int | None, place: Place) -> Embedded:
    """Unit embeddings of the pairs `at` (int64 [n]), [n, d] each, without gradients and without augmentation."""
    image, text = embed_pictures(model, pool, at, patch, place), embed_captions(model, pool.captions(at), place)
    return Embedded(image, text, float(model.log_scale.exp()), float(model.bias))


@torch.no_grad()
def embed_pictures(model: TwoTowers, pool: PairSource, at: Tensor, patch: int | None, place: Place) -> Tensor:
    """Unit embeddings [n, d] of the pictures `at` (int64 [n]) alone."""
    normalise = NORMALISATION.to(place.device)
    with place.autocast():
        return torch.cat(
            [
                model.embed_images(normalise(pool.images(part).to(place.device)), patch)
                for part in at.split(_at_a_time(place))
            ]
        )


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


class SetShares:
    """How much of what is chosen comes from each of the pool's largest sets, over each tenth of the budget.

    `sets` (integers [N]) numbers each pair's set, and `largest` gives the numbers of the sets that are shown, by name.
    """

    def __init__(self, sets: np.ndarray[Any, Any], largest: Mapping[str, int]) -> None:
        self.sets = sets
        self.names = [*largest, "other"]
        self.group = {number: place for place, number in enumerate(largest.values())}
        self.counts = torch.zeros(len(self.names), dtype=torch.int64)
        self.noted = 0

    def __call__(self, indices: Tensor, fraction: float) -> dict[str, float]:
        numbers, counts = np.unique(self.sets[indices.cpu().numpy()], return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            self.counts[self.group.get(number, len(self.group))] += count
        if int(fraction * 10 + 1e-9) <= self.noted:
            return {}
        self.noted = int(fraction * 10 + 1e-9)
        shares = (self.counts / self.counts.sum()).tolist()
        self.counts.zero_()
        return {f"chosen_share:{name}": share for name, share in zip(self.names, shares, strict=True)}
