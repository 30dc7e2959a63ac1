"""Wall time by purpose: training, selection, reference, evaluation, set-up. The clock stops for whatever is not running."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Clock:
    """Seconds per purpose. On CUDA a span begins and ends with a synchronisation, unless it is told not to."""

    def __init__(self, device: torch.device, earlier: dict[str, float] | None = None) -> None:
        self.device = device
        self.seconds: dict[str, float] = dict(earlier or {})
        self._running: list[str] = []
        self._since = 0.0

    def __getitem__(self, purpose: str) -> float:
        return self.seconds.get(purpose, 0.0)

    @contextmanager
    def span(self, purpose: str, synchronise: bool = True) -> Iterator[None]:
        """Charge the time inside to `purpose`; a span inside another pauses the outer one.

        A training step does not synchronise: the GPU may fall behind, and the next span that does pays for it. Spans of
        other purposes therefore have to synchronise when they begin.
        """
        self._settle(synchronise)
        self._running.append(purpose)
        try:
            yield
        finally:
            self._settle(synchronise)
            self._running.pop()

    def _settle(self, synchronise: bool) -> None:
        if synchronise and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if self._running:
            purpose = self._running[-1]
            self.seconds[purpose] = self.seconds.get(purpose, 0.0) + now - self._since
        self._since = now
