"""Data-parallel training under torchrun. With one process everything here is the identity."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


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
