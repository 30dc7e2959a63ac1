"""The order of a pool that is too large to be shuffled: computed place by place, with nothing in memory.

A shuffle of a billion pairs holds 8 bytes a pair and takes minutes. Here a place is encrypted to a pair's number by a small
Feistel network (Luby and Rackoff 1988), and once more while the result is no number of the pool (cycle walking: Black and
Rogaway 2002), which is a permutation for every key.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from scrimp.seeding import derived_generator

LARGE = 2**24  # pairs; smaller pools are shuffled
ROUNDS = 6


def large_stream(size: int, first: int, count: int, seed: int) -> Tensor:
    """`count` examples of a pool of `size`, from the `first`-th drawn on, every pass in an order of its own: int64 [count].

    What `seeding.stream` gives, in another order.
    """
    places = first + np.arange(count)
    passes = places // size
    parts = [permuted(places[passes == number] % size, size, seed, int(number)) for number in np.unique(passes)]
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))


def permuted(places: np.ndarray, size: int, seed: int, number: int) -> np.ndarray:
    """Where each place (integers [n] below `size`) of pass `number` leads: uint64 [n], a permutation of the pool."""
    draws = torch.randint(2**62, (ROUNDS,), generator=derived_generator(seed, number, "large order"))
    keys = draws.numpy().astype(np.uint64)
    half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))  # bits; both make the least even number that suffices
    mask = (np.uint64(1) << half) - np.uint64(1)
    values = places.astype(np.uint64)
    outside = np.ones(len(values), dtype=bool)
    while outside.any():
        values[outside] = _encrypted(values[outside], keys, half, mask)
        outside = values >= np.uint64(size)
    return values


def _encrypted(values: np.ndarray, keys: np.ndarray, half: np.uint64, mask: np.uint64) -> np.ndarray:
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ key) & mask)
    return (left << half) | right


def _mixed(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele et al. 2014): each bit of a number depends on all of it."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
