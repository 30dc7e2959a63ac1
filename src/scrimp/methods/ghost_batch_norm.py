"""Ghost batch norm: batch norm over small parts of a batch, so that a large batch is normalised as a small one would be.

Use it with batches larger than those that a model with batch norm was tuned for; parts of 16 to 64 are usual. Cost: one
normalisation a part, the same FLOPs; on a CPU many small calls (`scrimp run` counts the seconds). Without effect where the
batch is no larger than a part, and no method for models without batch norm, for which it raises an error.
Source: Hoffer, Hubara, Soudry 2017, *Train longer, generalize better* (arXiv 1705.08741), section 4 and algorithm 1.
Deviations: what is left over after whole parts is spread over them, so that no part is tiny.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from scrimp.config.base import Closed
from scrimp.errors import ScrimpError
from scrimp.methods.base import Method


class Params(Closed):
    size: PositiveInt


def in_parts(norm: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """`norm`, a batch norm's forward pass in training mode, over parts of about `size` examples of `x` [B, C, ...].

    Its running statistics see the parts one after the other, as the algorithm's decaying sum over them does.
    """
    parts = max(1, len(x) // size)
    if parts == 1:
        return norm(x)
    return torch.cat([norm(part) for part in x.tensor_split(parts)])


class _Ghost(nn.Module):
    """Mixed in before a batch norm: the same in evaluation, in parts while it trains."""

    ghost_size: int

    def forward(self, x: Tensor) -> Tensor:
        plain = super().forward
        return in_parts(plain, x, self.ghost_size) if self.training else plain(x)


class GhostBatchNorm1d(_Ghost, nn.BatchNorm1d):
    """Batch norm over [B, C] or [B, C, L] in parts."""


class GhostBatchNorm2d(_Ghost, nn.BatchNorm2d):
    """Batch norm over [B, C, H, W] in parts."""


class GhostBatchNorm3d(_Ghost, nn.BatchNorm3d):
    """Batch norm over [B, C, D, H, W] in parts."""


GHOSTS: dict[type[nn.Module], type[_Ghost]] = {
    nn.BatchNorm1d: GhostBatchNorm1d,
    nn.BatchNorm2d: GhostBatchNorm2d,
    nn.BatchNorm3d: GhostBatchNorm3d,
}


def use_ghost_batch_norm(model: nn.Module, size: int) -> nn.Module:
    """Make every batch norm of `model` normalise parts of about `size` examples while it trains; returns the model.

    Parameters, buffers and their names stay as they are. Raises ScrimpError for a model without batch norm.
    """
    norms = [module for module in model.modules() if type(module) in GHOSTS]
    if not norms:
        raise ScrimpError(f"{type(model).__name__} has no batch norm: ghost batch norm would change nothing")
    for norm in norms:
        # The class changes, not the object: its parameters may be in an optimizer already, its name in a checkpoint.
        norm.__class__ = GHOSTS[type(norm)]
        setattr(norm, "ghost_size", size)  # noqa: B010 - nn.Module declares its attributes as tensors and modules
    return model


class GhostBatchNorm(Method):
    """Every batch norm of the model in parts of `size` examples."""

    Params = Params

    def adapt(self, model: nn.Module) -> None:
        use_ghost_batch_norm(model, self.params.size)


METHOD = GhostBatchNorm
