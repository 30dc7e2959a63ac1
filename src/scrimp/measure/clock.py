"""Wall and CPU time by purpose: training, selection, reference, evaluation, set-up. It stops for what is not running."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Clock:
    """Seconds per purpose. On CUDA a span begins and ends with a synchronisation, unless it is told not to.

    `clock["train"]` is wall time; `clock.cpu("train")` is the time that the process's threads computed, which on a shared
    machine repeats where wall time does not.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._wall: dict[str, float] = {}
        self._cpu: dict[str, float] = {}
        self._running: list[str] = []
        self._since = (0.0, 0.0)

    def __getitem__(self, purpose: str) -> float:
        return self._wall.get(purpose, 0.0)

    def cpu(self, purpose: str) -> float:
        """CPU seconds of this process spent on a purpose."""
        return self._cpu.get(purpose, 0.0)

    def state(self) -> dict[str, dict[str, float]]:
        """What a checkpoint keeps."""
        return {"wall": dict(self._wall), "cpu": dict(self._cpu)}

    def restore(self, state: dict[str, dict[str, float]]) -> None:
        self._wall, self._cpu = dict(state["wall"]), dict(state["cpu"])

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
        now = (time.perf_counter(), time.process_time())
        if self._running:
            purpose = self._running[-1]
            self._wall[purpose] = self._wall.get(purpose, 0.0) + now[0] - self._since[0]
            self._cpu[purpose] = self._cpu.get(purpose, 0.0) + now[1] - self._since[1]
        self._since = now
