"""One plan for all processes of a node, where they would all make the same: the first that wants it makes it.

No process waits for another but while that one makes the plan that it wants too. What a plan is made from is in its
file's name, so a process that has other losses finds another file, or none. Wherever a file cannot be had (another system
than Linux, no room, no rights) each process makes its own, with the same numbers.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scrimp.methods.base import EpochSelector, derived_generator
from scrimp.methods.infobatch import InfoBatchSelector
from scrimp.methods.plan import Empty, Plan, chosen, private, restored

if sys.platform == "linux":
    from scrimp.methods import plan_memory

SMALLEST = 1 << 20  # examples; a plan of fewer is 20 MB or less, which is not worth a file


class NodePlans:
    """The plans that this process makes, or reads where another of its node made them. It holds on to the last one."""

    def __init__(self) -> None:
        self._held: tuple[str, Plan, plan_memory.PlanFile] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For copies: a plan is copied with its epoch."""
        return {"_held": None}

    def of(self, selector: EpochSelector, seed: int, number: int, epochs: int, world: int) -> Plan:
        """The plan of epoch `number` of `epochs`, in an order of `seed`, where `world` processes train together."""

        def make(empty: Empty) -> Plan:
            shuffle = derived_generator(seed, number, "order")
            return chosen(selector.size, lambda: selector.select(number, number / epochs), shuffle, empty)

        made_from = _made_from(selector)
        if made_from is None or not _worth_sharing(selector.size, world):
            return self._alone(make)
        kind, parameters = type(selector), selector.params.model_dump()
        described = (kind.__module__, kind.__qualname__, parameters, selector.seed, seed, number, epochs, selector.size)
        return self._shared(key_of(described, made_from), selector.size, make)

    def restored(self, order: Tensor, weights: Tensor, seen: Tensor, world: int) -> Plan:
        """The plan that a state holds, as in `plan.restored`."""

        def make(empty: Empty) -> Plan:
            return restored(order, weights, seen, empty)

        if not _worth_sharing(len(weights), world):
            return self._alone(make)
        return self._shared(key_of("restored", (order, weights, seen)), len(weights), make)

    def forget(self) -> None:
        """Hold no plan any longer; those who use it keep it."""
        held, self._held = self._held, None
        if held is not None:
            held[2].release()

    def _alone(self, make: Callable[[Empty], Plan]) -> Plan:
        self.forget()
        return make(private)

    def _shared(self, key: str, size: int, make: Callable[[Empty], Plan]) -> Plan:
        if self._held is not None and self._held[0] == key:
            return self._held[1]  # asked for its length before
        self.forget()
        prefix = f"scrimp-plan-{os.geteuid()}-"
        room = plan_memory.HEADER + plan_memory.bytes_of(size, size, size)
        for folder in folders():
            plan_memory.sweep(folder, prefix)
            file = plan_memory.opened(folder / f"{prefix}{key}", room)
            if file is None:
                continue
            if not file.filled:
                plan = _filled(file, make)
                if plan is not None:
                    return plan
            try:
                plan = file.read()
            except (OSError, ValueError):
                file.release()
                break
            self._held = key, plan, file
            return plan
        return make(private)


def folders() -> list[Path]:
    """Where plans lie: the first is memory; in a container it is often small, and the second a disk with a cache."""
    return [Path("/dev/shm"), Path(tempfile.gettempdir())]


def key_of(described: object, tensors: Sequence[Tensor]) -> str:
    """A name for what is made from these, and by this version of torch, whose generators it rests on."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((torch.__version__, described)).encode())
    for tensor in tensors:
        digest.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _filled(file: plan_memory.PlanFile, make: Callable[[Empty], Plan]) -> Plan | None:
    """Fill the file; the plan where there was no room for it after all, and it was made without the file."""

    def empty(size: int, planned: int, left: int) -> Plan:
        try:
            return file.empty(size, planned, left)
        except OSError:
            file.release()
            return private(size, planned, left)

    try:
        plan = make(empty)
    except BaseException:
        file.release()
        raise
    if not file.release.still_active():
        return plan
    file.publish()
    return None


def _worth_sharing(size: int, world: int) -> bool:
    if sys.platform != "linux" or world == 1 or size < SMALLEST:
        return False
    return plan_memory.local_count() != 1


def _made_from(selector: EpochSelector) -> tuple[Tensor, ...] | None:
    """What it chooses from beside the seed and its parameters, or None where that is not known: it is of another kind."""
    if isinstance(selector, InfoBatchSelector) and type(selector).select is InfoBatchSelector.select:
        return (selector.scores,)
    return None
