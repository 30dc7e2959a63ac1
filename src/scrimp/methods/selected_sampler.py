"""The samplers of the drop-in selectors: an epoch's plan, whole or this process's part of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor
from torch.utils.data import DistributedSampler, Sampler

from scrimp.methods.planned_epoch import PlannedEpoch

if TYPE_CHECKING:
    from scrimp.methods.dropin import SelectedData

CHUNK = 4096  # indices that are Python's numbers at a time, which take five times as many bytes


class PlainSampler(Sampler[int]):
    """Yields an epoch's plan in every process, for a trainer that splits it; `len` is the true length of the epoch at hand.

    That is the running epoch's inside the loop, and the coming one's outside. Workers draw ahead of the loop: with them
    it is the coming one's from the last batch on, so take `len(loader)` before the loop.
    """

    whole = True

    def __init__(self, data: SelectedData[Any]) -> None:
        self.data = data

    def __iter__(self) -> Iterator[int]:
        epoch = self.data._begin(self.whole)
        return _iteration(self.data, epoch, self._mine(epoch.to_visit))

    def __len__(self) -> int:
        return len(self._mine(self.data._upcoming()))

    def _mine(self, order: Tensor) -> Tensor:
        return order if self.whole else self.data._processes.part(order)


class SelectedSampler(PlainSampler, DistributedSampler[int]):
    """The same, of this process's part alone. By its type it says that it splits by itself: Lightning asks for that."""

    whole = False

    @property
    def num_replicas(self) -> int:  # type: ignore[override]
        return self.data._processes.world

    @property
    def rank(self) -> int:  # type: ignore[override]
        return self.data._processes.rank

    def set_epoch(self, epoch: int) -> None:
        """Does nothing: an iteration starts the epoch that is next, by which a restored state goes on too."""


class _Iteration(itertools.chain[int]):
    """Ends when the loop lets go of it, not with its last index, which is drawn before the last batch is trained on.

    A chain of lists: each step is C's alone, where a generator's or a method's would cost four times as much and more.
    """

    epoch: PlannedEpoch
    number: int

    def __reduce__(self) -> Any:
        raise TypeError("an iteration of a sampler belongs to its loop, and cannot be copied")

    def __del__(self) -> None:
        self.epoch.iterations.discard(self.number)
        self.epoch.drawn_from.pop(self.number, None)


class _GoesOn(Iterator[int]):
    """What an iteration of an epoch that has been replaced gives: the same error again and again."""

    def __init__(self, epoch: PlannedEpoch) -> None:
        self.number = epoch.number

    def __next__(self) -> int:
        raise RuntimeError(
            f"the iteration of epoch {self.number} goes on, but a later one was trained on meanwhile: let go of one "
            "iteration of the loader before the other is used"
        )


def _iteration(data: SelectedData[Any], epoch: PlannedEpoch, order: Tensor) -> Iterator[int]:
    chunk: list[int] = []
    iteration = cast(_Iteration, _Iteration.from_iterable(_chunks(epoch, order, chunk)))
    data._iterations += 1
    iteration.epoch, iteration.number = epoch, data._iterations
    epoch.iterations.add(data._iterations)
    epoch.drawn_from[data._iterations] = chunk
    return iteration


def _chunks(epoch: PlannedEpoch, order: Tensor, chunk: list[int]) -> Iterator[Iterable[int]]:
    """The order in pieces, all in one list: `epoch.replace` empties it, and then the next index is asked for here."""
    last = len(order) - 1
    for begin in range(0, last, CHUNK):
        if epoch.replaced:
            break
        chunk[:] = order[begin : min(begin + CHUNK, last)].tolist()
        yield chunk
    if epoch.replaced:
        yield _GoesOn(epoch)
    epoch.drawn = True  # with its last index, which is a piece of its own: what asks for more has had all, and ends
    chunk[:] = order[max(last, 0) :].tolist()
    yield chunk
    epoch.drawn = True  # still, where another iteration of the epoch has begun since
