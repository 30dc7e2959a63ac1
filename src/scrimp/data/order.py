"""In which order examples are visited: pure functions of the seed, so that a killed run goes on with what came next."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from scrimp.methods.base import derived_generator


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The order in which an epoch visits its `count` examples, a pure function of (seed, epoch): int64 [count]."""
    return torch.randperm(count, generator=derived_generator(seed, epoch, "order"))


def candidates_of(size: int, count: int, seed: int, step: int) -> Tensor:
    """The `count` examples of a step out of a pool of `size`: int64 [count], a pure function of the arguments.

    Steps walk through the pool in a fresh order for every pass; a step at the end of one goes on with the next.
    """
    first = step * count
    passes = range(first // size, (first + count - 1) // size + 1)
    begin = first - passes[0] * size
    if len(passes) == 1:
        return _order(size, seed, passes[0])[begin : begin + count]
    return torch.cat([_order(size, seed, number) for number in passes])[begin : begin + count]


# A pass of a large pool is many steps: shuffling it at each of them would cost more than a step does.
_order = functools.lru_cache(maxsize=4)(epoch_order)
