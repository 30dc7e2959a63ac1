"""All counting of floating-point operations: a multiply-add is two, elementwise work (norms, ReLU) is not counted.

Counted by `torch.utils.flop_counter` on a pass, or derived; tests hold both against numbers by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from scrimp.models.contrastive import TwoTowers


@dataclass(frozen=True)
class ExampleFlops:
    """FLOPs of one example: `forward` alone, and `training` (forward and backward)."""

    forward: float
    training: float


def counted(work: Callable[[], object]) -> float:
    """FLOPs of calling `work` once."""
    # The counter knows no formula for the CPU's fused attention and would count it as nothing: spell it out.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def flops_per_example(model: nn.Module, losses: Callable[[], Tensor], count: int) -> ExampleFlops:
    """Count a forward and a backward pass of `losses()`, which gives the losses [count] of some batch under `model`.

    The model's parameters, gradients, buffers and mode are left as they were.
    """
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    with torch.no_grad():
        forward = counted(losses)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    training = counted(lambda: torch.autograd.grad(losses().sum(), parameters, allow_unused=True))
    with torch.no_grad():
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
    return ExampleFlops(forward / count, training / count)


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


@torch.no_grad()
def tower_flops(model: TwoTowers, size: int, length: int, patches: Iterable[int]) -> TowerFlops:
    """Count the forward passes of one image of side `size`, at each patch side, and of one caption of `length` tokens.

    What a batch pays once, however large (resizing the patch kernel), is left out.
    """
    device = next(model.parameters()).device
    images = torch.zeros(4, 3, size, size, device=device)
    ids = torch.ones(4, length, dtype=torch.int64, device=device)

    def of_one(embed: Callable[..., Tensor], inputs: Tensor, *options: int) -> float:
        two, four = (counted(lambda: embed(inputs[:count], *options)) for count in (2, 4))  # noqa: B023 - called at once
        return (four - two) / 2

    by_patch = {patch: of_one(model.embed_images, images, patch) for patch in patches}
    return TowerFlops(by_patch, of_one(model.embed_texts, ids), model.image_head.out_features)
