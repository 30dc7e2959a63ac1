"""FLOPs of training and scoring with two towers: a multiply-add is two, elementwise work is not counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scrimp.methods.batch import BatchSelector
from scrimp.models.contrastive import TwoTowers


@dataclass(frozen=True)
class TowerFlops:
    """FLOPs of a two-tower model: one image's forward pass by patch side, one caption's, and the width of embeddings."""

    image: dict[int, float]
    text: float
    width: int

    def scoring(self, count: int, patch: int) -> float:
        """Embedding `count` pairs."""
        return count * (self.image[patch] + self.text)

    def training(self, count: int, patches: list[int]) -> float:
        """A step on `count` pairs, the patch sides sharing them evenly; a backward pass costs two forward passes.

        The loss takes all combinations of the batch: a product forward, two backward.
        """
        of_images = sum(self.image[patch] for patch in patches) / len(patches)
        return 3 * count * (of_images + self.text + 2.0 * count * self.width)


def tower_flops(model: TwoTowers, size: int, length: int, patches: Iterable[int]) -> TowerFlops:
    """Count the forward passes of one image of side `size`, at each patch side, and of one caption of `length` tokens.

    What a batch pays once, however large (resizing the patch kernel), is left out.
    """
    device = next(model.parameters()).device
    images = torch.zeros(4, 3, size, size, device=device)
    ids = torch.ones(4, length, dtype=torch.int64, device=device)

    def counted(embed: Callable[..., Tensor], inputs: Tensor, *options: int) -> float:
        totals = []
        for count in (2, 4):
            # The counter knows no formula for the CPU's fused attention and would count it as nothing: spell it out.
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
                embed(inputs[:count], *options)
            totals.append(counter.get_total_flops())
        return (totals[1] - totals[0]) / 2

    by_patch = {patch: counted(model.embed_images, images, patch) for patch in patches}
    return TowerFlops(by_patch, counted(model.embed_texts, ids), model.image_head.out_features)


def scoring_flops(flops: TowerFlops, selector: BatchSelector, patches: list[int]) -> float:
    """FLOPs that one choice costs: the learner's forward pass, a live reference's, and products between embeddings."""
    if selector.super_batch == selector.batch_size:
        return 0.0
    learner = flops.scoring(selector.super_batch, selector.scoring_patch or patches[0]) if selector.needs_learner else 0.0
    reference = flops.scoring(selector.super_batch, patches[0]) if selector.live else 0.0
    return learner + reference + selector.pair_flops(flops.width)
