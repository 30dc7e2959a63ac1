"""Dropout as a function of the batch: torch draws it from a global state, which is set from the batch and put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def with_noise(noise: Tensor, wanted: bool) -> Iterator[None]:
    """Within, torch's generators start from the first of `noise` (int64 [b]); afterwards they are as they were.

    Nothing happens where no noise is `wanted`.
    """
    if not wanted:
        yield
        return
    device = noise.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(noise[0]))
        yield
