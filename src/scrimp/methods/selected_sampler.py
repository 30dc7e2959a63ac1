"""The samplers of the drop-in selectors: an epoch's plan, whole or this process's part of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.data import DistributedSampler, Sampler

from scrimp.methods.planned_epoch import PlannedEpoch

if TYPE_CHECKING:
    from scrimp.methods.dropin import SelectedData


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
        return _Iteration(self.data, epoch, self._mine(epoch.to_visit))

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


class _Iteration(Iterator[int]):
    """Ends when the loop lets go of it, not with its last index, which is drawn before the last batch is trained on."""

    def __init__(self, data: SelectedData[Any], epoch: PlannedEpoch, order: Tensor) -> None:
        self._data = data
        self._epoch = epoch
        self._order = order
        self._drawn = 0
        self._chunk: list[int] = []  # a part of the order as Python's numbers, which take five times as many bytes
        data._iterations += 1
        self._number = data._iterations
        epoch.iterations.add(self._number)

    def __next__(self) -> int:
        if self._drawn == len(self._order):
            self._epoch.drawn = True
            raise StopIteration
        if self._epoch is not self._data._epoch and self._epoch is not self._data._next:
            raise RuntimeError(
                f"the iteration of epoch {self._epoch.number} goes on, but a later one was trained on meanwhile: let go of "
                "one iteration of the loader before the other is used"
            )
        if self._drawn % 4096 == 0:
            self._chunk = self._order[self._drawn : self._drawn + 4096].tolist()
        self._drawn += 1
        if self._drawn == len(self._order):
            self._epoch.drawn = True
        return self._chunk[(self._drawn - 1) % 4096]

    def __del__(self) -> None:
        self._epoch.iterations.discard(self._number)
