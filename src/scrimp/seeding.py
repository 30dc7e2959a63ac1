"""Every random generator, and the orders that follow from them: pure functions of (seed, number, purpose).

A killed run goes on with what came next, since nothing is drawn from a state that would have to be kept.
"""

from __future__ import annotations

import functools
import hashlib

import torch
from torch import Tensor


def derived_generator(seed: int, number: int, purpose: str) -> torch.Generator:
    """A CPU generator that is a pure function of its arguments; `number` is an epoch or a step."""
    digest = hashlib.blake2b(f"{seed}/{number}/{purpose}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The order in which an epoch visits its `count` examples, a pure function of (seed, epoch): int64 [count]."""
    return torch.randperm(count, generator=derived_generator(seed, epoch, "order"))


def stream(size: int, first: int, count: int, seed: int) -> Tensor:
    """`count` examples of a pool of `size`, from the `first`-th drawn on: int64 [count].

    The stream walks through the pool in a fresh order for every pass; what is at the end of one goes on with the next.
    """
    passes = range(first // size, (first + count - 1) // size + 1)
    begin = first - passes[0] * size
    if len(passes) == 1:
        return _order(size, seed, passes[0])[begin : begin + count]
    return torch.cat([_order(size, seed, number) for number in passes])[begin : begin + count]


def candidates_of(size: int, count: int, seed: int, step: int) -> Tensor:
    """The `count` examples of a step, where every step draws as many: int64 [count]."""
    return stream(size, step * count, count, seed)


# A pass of a large pool is many steps: shuffling it at each of them would cost more than a step does.
_order = functools.lru_cache(maxsize=4)(epoch_order)
