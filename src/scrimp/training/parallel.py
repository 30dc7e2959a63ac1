"""Data-parallel training under torchrun. With one process everything here is the identity."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scrimp.kernels.define import once_differentiable


@contextmanager
def joined() -> Iterator[None]:
    """Be one of torchrun's processes for a `with` block; nothing changes where torchrun did not start this process."""
    if "RANK" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def local_rank() -> int | None:
    """This process's number on its own machine, where torchrun started it."""
    return int(os.environ.get("LOCAL_RANK", rank())) if dist.is_initialized() else None


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process writes the files."""
    return rank() == 0


def wrapped(model: nn.Module, device: torch.device) -> nn.Module:
    """The model itself, or wrapped so that gradients are averaged over the processes."""
    if world_size() == 1:
        return model
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def part_of(count: int) -> tuple[slice, float]:
    """This process's part of a batch of `count`, and what its summed loss is to be multiplied by.

    The part is every world-th example, starting at the rank. Gradients are averaged over the processes, so with the
    factor world / count the result is the mean over the batch. A batch smaller than the world goes to everyone whole.
    """
    if count < world_size():
        return slice(None), 1 / count
    return slice(rank(), count, world_size()), world_size() / count


def gathered(indices: list[Tensor], losses: list[Tensor], size: int) -> tuple[Tensor, Tensor]:
    """All processes' (indices, losses) of an epoch over `size` examples: the same on every process.

    Tables indexed by example are summed over the processes; indices never pass through floating point.
    """
    at, values = torch.cat(indices), torch.cat(losses).float()
    if world_size() == 1:
        return at, values
    table = torch.zeros(size, dtype=torch.float32, device=values.device)
    seen = torch.zeros(size, dtype=torch.int32, device=values.device)
    table[at], seen[at] = values, 1
    dist.all_reduce(table)
    dist.all_reduce(seen)
    present = seen.nonzero().flatten()
    return present, table[present] / seen[present]


def from_first(value: Tensor) -> Tensor:
    """The first process's copy of a CPU tensor: local batch statistics may have made the others' differ."""
    if world_size() == 1:
        return value
    copy = value.to(torch.device("cuda") if dist.get_backend() == "nccl" else value.device)
    dist.broadcast(copy, 0)
    return copy.cpu()


def summed(value: Tensor) -> Tensor:
    """The sum of a tensor over the processes."""
    if world_size() > 1:
        dist.all_reduce(value)
    return value


def average_gradients(model: nn.Module) -> None:
    """Replace every gradient by its mean over the processes."""
    if world_size() > 1:
        for parameter in model.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= world_size()


def gathered_with_gradients(mine: Tensor) -> Tensor:
    """Rows of all processes [b, d], the first process's first; a gradient goes back to the process a row came from.

    Each process sends one for its own copy of the loss, so after averaging over the processes the gradient is that of one
    loss. All processes hold equally many rows.
    """
    if world_size() == 1:
        return mine
    gathered: Tensor = _Gathered.apply(mine)
    return gathered


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        others = [torch.empty_like(mine) for _ in range(world_size())]
        dist.all_gather(others, mine.contiguous())
        ctx.rows = slice(rank() * len(mine), (rank() + 1) * len(mine))
        return torch.cat(others)

    @staticmethod
    @once_differentiable("gathering rows of all processes", "take the loss of one process's rows")
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous()
        dist.all_reduce(total)
        return total[ctx.rows]


def gathered_rows(mine: Tensor) -> Tensor:
    """Rows of a batch of which process r holds the rows r, r + world, ...: all of them, in the batch's order."""
    if world_size() == 1:
        return mine
    others = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(others, mine.contiguous())
    return torch.stack(others, dim=1).flatten(0, 1)
