"""One epoch of a drop-in selector: its plan, what was updated of it, and the check that both agree.

The promise is: every planned example is updated once, by one of the processes, from the iteration of the sampler that is
running. What breaks it is an error, or a warning where going on is sound, that names the remedy. All processes check all
processes' indices, so that all of them stop.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from scrimp.methods.plan import Plan
from scrimp.methods.processes import Processes

NO_ITERATION = (
    "update was called, but no iteration of data.sampler has begun: the loader has a sampler of its own, and nothing "
    "would ever be pruned. Give it `DataLoader(data, sampler=data.sampler, ...)` without shuffle=True, and let a trainer "
    "that makes its own loader use that sampler (scrimp.integrations has adapters for Hugging Face, Lightning, Accelerate)"
)
NO_UPDATE = (
    "two whole passes were drawn and data.update was called for no batch of them: nothing is pruned, each pass is the same "
    "epoch again, and data.fraction does not move. Take the loss from data.update(losses, index) for every batch that is "
    "trained on; a trainer's own compute_loss or training_step has to call it, too"
)
SHARDED_AGAIN = (
    "another component splits data.sampler's examples over the processes once more, so that most of them are never seen. "
    "Switch that off: Lightning takes Trainer(use_distributed_sampler=False); for Accelerate and the Hugging Face Trainer "
    "use the adapters in scrimp.integrations, or give the loader sampler=data.plain_sampler, which leaves splitting to them"
)
OTHER_PLANS = "the processes have different plans: give all of them the same seed, and the same state when resuming"
SKIPPED_TWICE = (
    "the first batch after load_state_dict is not the first of what was left of the epoch: the trainer skips what "
    "load_state_dict had skipped already, or workers hand their batches over as they are ready. Switch the trainer's own "
    "skipping off (Hugging Face: ignore_data_skip=True; Accelerate: no skip_first_batches), and resume without "
    "DataLoader(in_order=False)"
)


class PlannedEpoch:
    """Epoch `number` by its plan, of which `seen` (bool [n], by place in the order) was updated before: nothing, or what a
    restored state had behind it.

    `whole` says that every process is handed all that is left, since another component splits it.
    """

    def __init__(self, number: int, plan: Plan, seen: Tensor | None = None) -> None:
        self.number = number
        self.order, self.weight_of, self.left, self.place = plan  # never written to: other processes may map them
        self._seen = torch.zeros(len(self.order), dtype=torch.bool) if seen is None else seen
        self._prefix = self._marked = 0  # how many were visited in step one after another, and how many of them `_seen` has
        self.whole = False
        self.iterations: set[int] = set()  # those that are held by a loop
        self.drawn = False  # whether one of them was drawn to its end
        self.drawn_from: dict[int, list[int]] = {}  # of each iteration, the indices that it is drawing from
        self.replaced = False  # whether another epoch is trained on in its stead
        self.updates = 0  # batches since the epoch was begun or restored
        self.visited = 0  # examples that they held
        self.largest_batch = 0  # of all processes together
        self._last: Tensor | None = None  # the last batch's indices, of all processes
        self._done: list[int] = []  # examples updated by each process
        self._dealt = True  # whether each batch so far lay where one does that was dealt to the processes in turn
        self._in_step = True  # whether each batch so far was just what the plan had next

    def __getstate__(self) -> dict[str, Any]:
        """For copies: no loop of theirs holds an iteration; weights travel on the CPU, to open no GPU in a worker."""
        return {**self.__dict__, "iterations": set(), "drawn_from": {}, "weight_of": self.weight_of.cpu()}

    def replace(self) -> None:
        """Let no iteration go on: what it draws next is an error."""
        self.replaced = True
        for indices in list(self.drawn_from.values()):  # an iteration that is let go of meanwhile takes itself out
            indices.clear()

    @property
    def seen(self) -> Tensor:
        """What was updated: bool [n], by place in the order. Batches in step are marked when somebody asks."""
        if self._marked < self._prefix:
            new = slice(self._marked, self._prefix)
            self._seen[new if len(self.left) == len(self.order) else self.left[new].long()] = True
            self._marked = self._prefix
        return self._seen

    @property
    def to_visit(self) -> Tensor:
        """The examples (int64 [m]) that are left, in their order; of a whole epoch the order itself, not a copy."""
        return self.order if len(self.left) == len(self.order) else self.order[self.left]

    def missing(self, processes: Processes) -> int:
        """How many examples' losses are still to come, from all processes."""
        count = len(self.left)
        return (count if self.whole else count // processes.world * processes.world) - self.visited

    def is_complete(self, processes: Processes) -> bool:
        """Whether all losses that will come have come: with `drop_last` less than a batch stays away for good."""
        missing = self.missing(processes)
        return missing <= 0 or (self.drawn and not self.iterations and missing < self.largest_batch)

    def repeats(self, index: Tensor) -> bool:
        """Whether a batch (int64 [b], of all processes) is the last one again: a second pass, as SAM makes."""
        return self._last is not None and torch.equal(index, self._last)

    def waits_for(self, index: Tensor) -> bool:
        """Whether all of a batch (int64 [b]) is planned and has not been updated."""
        place = self.place[index].long()
        return bool((place >= 0).all()) and not bool(self.seen[place].any())

    def goes_on_with(self, index: Tensor, processes: Processes) -> bool:
        """Whether a batch (int64 [b]) of this process is just what comes next in its part of the plan."""
        begin = self._done[min(processes.rank, len(self._done) - 1)] if self._done else 0  # one where each notes its own
        mine = self.to_visit if self.whole else processes.part(self.to_visit)
        return torch.equal(mine[begin : begin + len(index)], index)

    def note(self, index: Tensor, sizes: list[int]) -> None:
        """Mark a batch of all processes (int64 [b] on the CPU, `sizes` of it from each) as updated.

        Raises RuntimeError where it is not what the plan has next, naming the remedy; nothing is marked then.
        """
        count = index.numel()
        if count == 0 or self.goes_in_step(index, sizes):
            return
        self._in_step = self._in_step and self._comes_next(index, sizes)
        self._mark(self._checked(index, sizes))
        self._count(index, sizes, count)

    def goes_in_step(self, index: Tensor, sizes: list[int]) -> bool:
        """Whether a batch, as `note` takes it, is just what the plan has next, as nearly every one is; it is noted then.

        One comparison, after which no check of `note` can fail. The first batches of several processes tell more there.
        """
        count = index.numel()
        if not self._in_step or count == 0 or (len(sizes) > 1 and self.updates < 2) or not self._comes_next(index, sizes):
            return False
        self._prefix = self.visited = self.visited + count
        self._count(index, sizes, count)
        return True

    def _count(self, index: Tensor, sizes: list[int], count: int) -> None:
        self._done = [done + size for done, size in zip(self._done or [0] * len(sizes), sizes, strict=True)]
        self.updates += 1
        self.largest_batch = max(self.largest_batch, count)
        self._last = index.clone()  # the caller may fill its tensor with the next batch

    def _comes_next(self, index: Tensor, sizes: list[int]) -> bool:
        """Whether a batch, where all before were in step, is what the plan has next."""
        world, begin, end, planned = len(sizes), self.visited, self.visited + index.numel(), self.left.numel()
        if end > planned or (world > 1 and (self.whole or min(sizes) < max(sizes))):
            return False
        expected = self.order[begin:end] if planned == self.order.numel() else self.order[self.left[begin:end].long()]
        if world > 1:
            expected = expected.view(-1, world).T.reshape(-1)
        return torch.equal(expected, index)

    def _checked(self, index: Tensor, sizes: list[int]) -> Tensor:
        """The places of a batch in the order: int64 [b]. Raises RuntimeError as `note` does."""
        if bool(((index < 0) | (index >= len(self.place))).any()):
            raise RuntimeError(f"index {int(index.max())} is none of the dataset's {len(self.place):,} examples")
        place = self.place[index].long()
        if bool((place < 0).any()):
            stray = int(index[place < 0][0])
            raise RuntimeError(
                f"example {stray} is not in the plan of epoch {self.number}: the batch comes from another sampler than "
                f"data.sampler, from an iteration that is over, or {OTHER_PLANS}"
            )
        at = torch.searchsorted(self.left, place.to(self.left.dtype))  # among what was left
        self._check_repeats(index, place, at)
        self._check_order(at, sizes)
        return place

    def ends_with(self, batch: int, processes: Processes) -> bool:
        """Whether less than a batch is left of this process's part, where each process notes its own alone."""
        return len(self.left) // processes.world - sum(self._done) < batch

    def note_others(self, index: Tensor) -> None:
        """Mark what all processes updated (int64 [n] on the CPU) since their last exchange."""
        place = self.place[index].long()
        if bool((place < 0).any()):
            raise RuntimeError(OTHER_PLANS)
        self._mark(place)

    def _mark(self, place: Tensor) -> None:
        self.visited += int((~self.seen[place.unique()]).sum())
        self.seen[place] = True

    def _check_repeats(self, index: Tensor, place: Tensor, at: Tensor) -> None:
        again = self.seen[place]
        order = place.argsort(stable=True)
        again[order[1:][place[order].diff() == 0]] = True  # twice in this batch
        if self.whole:
            # Who splits a sampler fills the last round up with examples from the beginning.
            again &= at >= max(self.largest_batch, len(index))
        if bool(again.any()):
            raise RuntimeError(
                f"example {int(index[again][0])} was updated twice in epoch {self.number}. Where a second iteration of the "
                "loader was begun inside the epoch, let go of it before training goes on; two passes over one batch (SAM) "
                "call update right after each other; where every process sees all examples, use data.sampler, or a trainer "
                "that splits data.plain_sampler"
            )

    def _check_order(self, at: Tensor, sizes: list[int]) -> None:
        """Look at where the first batches lie: that tells who else splits or skips, before the epoch is through."""
        if self.updates > 1:
            return
        lowest, resumed = int(at.min()), len(self.left) < len(self.order)
        if self.updates == 0 and resumed and lowest >= len(at) and int(at.max()) - lowest == len(at) - 1:
            raise RuntimeError(SKIPPED_TWICE)
        world = len(sizes)
        if self.whole or world == 1 or min(sizes) < 2:
            return
        parts = [torch.div(mine - rank, world, rounding_mode="floor") for rank, mine in enumerate(at.split(sizes))]
        steps = {int(step) for part in parts for step in part.diff().unique()}
        strided = steps == {world}  # as a DistributedSampler around ours takes them
        turns = [(self.updates * world + rank) * size for rank, size in enumerate(sizes)]  # as Accelerate deals batches
        self._dealt = self._dealt and steps == {1} and [int(part[0]) for part in parts] == turns
        if strided or (self._dealt and self.updates == 1):
            raise RuntimeError(SHARDED_AGAIN)

    def close(self, processes: Processes) -> str | None:
        """Look back at an epoch that is over. RuntimeError where half of it was lost; what deserves a warning else.

        An epoch that was left early has all that it visited at its beginning; holes say that examples were lost.
        """
        marks = self.seen[self.left].nonzero()[:, 0]
        if len(marks) == 0:
            return None
        holes = int(marks[-1]) + 1 - len(marks)
        if holes < self.largest_batch:
            return None
        told = f"epoch {self.number}: {holes:,} of the first {int(marks[-1]) + 1:,} planned examples were never updated"
        if processes.world > 1 and 2 * holes >= int(marks[-1]):
            raise RuntimeError(f"{told}: {SHARDED_AGAIN}")
        return f"{told}: batches were skipped, or another component took some out; they keep their old losses"


def warn_once(warned: set[str], kind: str, message: str) -> None:
    if kind not in warned:
        warned.add(kind)
        warnings.warn(message, stacklevel=3)
