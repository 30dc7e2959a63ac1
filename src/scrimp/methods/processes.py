"""The processes that train together: which of them this one is, its part of an order, and what all of them have seen."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class Processes:
    """Those of a process group (None: all of them, or this one alone where torch.distributed is not initialised).

    A copy in another process has no group: workers of a loader only fetch items.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group

    def __getstate__(self) -> dict[str, Any]:
        return {"group": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Processes:
        return self

    @property
    def world(self) -> int:
        return dist.get_world_size(self.group) if dist.is_initialized() else 1

    @property
    def rank(self) -> int:
        return dist.get_rank(self.group) if dist.is_initialized() else 0

    def part(self, order: Tensor) -> Tensor:
        """Every world-th entry, starting at the rank; what does not divide evenly stays out."""
        return order[: len(order) // self.world * self.world][self.rank :: self.world]

    def gathered(self, index: Tensor, losses: Tensor) -> tuple[Tensor, Tensor, list[int]]:
        """All processes' indices and losses, one process after the other, alike everywhere, and how many each gave."""
        if self.world == 1:
            return index, losses, [index.numel()]
        index = index.to(losses.device)
        counts = [torch.zeros(1, dtype=torch.int64, device=losses.device) for _ in range(self.world)]
        dist.all_gather(counts, torch.tensor([len(index)], device=losses.device), group=self.group)
        sizes = [int(count) for count in counts]
        if max(sizes) == 0:
            return index, losses, sizes
        both = []
        for values in (index, losses):
            padded = values.new_zeros(max(sizes))
            padded[: len(values)] = values
            parts = [torch.empty_like(padded) for _ in sizes]
            dist.all_gather(parts, padded, group=self.group)
            both.append(torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)]))
        return both[0], both[1], sizes
