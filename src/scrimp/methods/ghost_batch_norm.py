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
from torch.nn.modules.lazy import LazyModuleMixin

from scrimp.config.base import Closed
from scrimp.errors import ScrimpError
from scrimp.methods.base import Method
from scrimp.methods.mixed_in import MixedIn


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


class Ghost(MixedIn):
    """Mixed in before a batch norm: the same in evaluation, in parts while it trains."""

    prefix = "Ghost"
    ghost_size: int

    def forward(self, x: Tensor) -> Tensor:
        plain = super().forward
        return in_parts(plain, x, self.ghost_size) if self.training else plain(x)


def use_ghost_batch_norm(model: nn.Module, size: int) -> nn.Module:
    """Make every batch norm of `model` normalise parts of about `size` examples while it trains; returns the model.

    Parameters, buffers and their names stay as they are. Raises ScrimpError for a model without batch norm, with ghost
    batch norm already, or with one that normalises over processes or has no shape yet.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        raise ScrimpError(f"{type(model).__name__} has no batch norm: ghost batch norm would change nothing")
    for norm in norms:
        if isinstance(norm, Ghost):
            raise ScrimpError(
                f"{type(model).__name__} has ghost batch norm already, in parts of {norm.ghost_size}: once is enough"
            )
        if isinstance(norm, nn.SyncBatchNorm):
            raise ScrimpError(
                "SyncBatchNorm normalises over the parts of all processes, ghost batch norm within: take BatchNorm"
            )
        if isinstance(norm, LazyModuleMixin):
            raise ScrimpError("a lazy batch norm gets its shape with its first batch: convert the model after one")
    for norm in norms:
        # The class changes, not the object: its parameters may be in an optimizer already, its name in a checkpoint.
        norm.__class__ = Ghost.before(type(norm))  # type: ignore[assignment]
        setattr(norm, "ghost_size", size)  # noqa: B010 - nn.Module declares its attributes as tensors and modules
    return model


class GhostBatchNorm(Method):
    """Every batch norm of the model in parts of `size` examples."""

    Params = Params

    def adapt(self, model: nn.Module) -> None:
        use_ghost_batch_norm(model, self.params.size)


METHOD = GhostBatchNorm
