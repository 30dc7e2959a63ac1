"""Selectors for somebody else's training loop, in three lines.

    data = InfoBatch(dataset, epochs=200, ratio=0.5)                      # 1
    loader = DataLoader(data, batch_size=128, sampler=data.sampler)       # 2
    for (x, y), index in loader:
        loss = data.update(F.cross_entropy(model(x), y, reduction="none"), index)   # 3

Nothing of torch is patched and no global random state is touched. What the wrapper keeps is ordinary data: it pickles,
goes to spawned workers, and its `state_dict` goes into a checkpoint beside the model's.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from typing import Any, Generic, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from scrimp.methods.base import EpochSelector, Selection, derived_generator
from scrimp.methods.infobatch import InfoBatchSelector

Item = TypeVar("Item", covariant=True)


class SelectedData(Dataset[tuple[Item, int]], Generic[Item]):
    """A map-style dataset that an epoch selector thins out. Items come as (item, index).

    One epoch is one iteration of `sampler`; the plan for it is made when the iteration starts. Under torch.distributed
    every process gets its own part of one common plan, and losses are exchanged in `update`, so all prune alike.
    """

    def __init__(self, dataset: Dataset[Item], selector: EpochSelector, epochs: int, seed: int = 0) -> None:
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {epochs}")
        self.dataset = dataset
        self.selector = selector
        self.epochs = epochs
        self.seed = seed
        self.sampler = SelectedSampler(self)
        self._epoch = -1  # the epoch that is running, or ran last
        self._order = torch.empty(0, dtype=torch.int64)  # its examples, in the order they are visited
        self._weight_of: Tensor = torch.ones(selector.size)  # by example; 1 for those that are not in the plan
        self._updated = 0  # examples of the epoch whose losses have arrived, over all processes
        self._largest_batch = 0
        self._iterations = 0  # how many were started
        self._running = False  # whether the last one still holds its iterator, or was left early
        self._resumed = False  # whether the next iteration goes on in a restored epoch

    def __getstate__(self) -> dict[str, Any]:
        """For pickling: weights travel on the CPU, so that no worker process opens the GPU for them."""
        return {**self.__dict__, "_weight_of": self._weight_of.cpu()}

    def __len__(self) -> int:
        """The size of the whole dataset; the length of an epoch is `len(data.sampler)`."""
        return self.selector.size

    def __getitem__(self, index: int) -> tuple[Item, int]:
        return self.dataset[index], index

    def update(self, losses: Tensor, index: Tensor) -> Tensor:
        """Take the batch's per-example losses [B] (any float type) with their indices [B]; return the loss to minimise.

        The result is the mean of the weighted losses. Indices decide which loss belongs to which example, so loaders
        that run ahead do no harm. Raises ValueError for losses that are not one per index.
        """
        if losses.ndim != 1 or losses.shape != index.shape:
            raise ValueError(
                f"update wants one loss per index: losses have shape {tuple(losses.shape)}, indices "
                f'{tuple(index.shape)}; compute the loss with reduction="none" and one value per example'
            )
        if index.is_floating_point():
            raise ValueError("indices are integers: a float above 2^24 no longer names one example")
        at, values = _exchanged(index.detach().long(), losses.detach().float())
        self.selector.observe(at, values)
        self._updated += len(at)
        self._largest_batch = max(self._largest_batch, len(at))
        self._weight_of = self._weight_of.to(losses.device)  # moves once an epoch, so that no step waits for the host
        return (losses.float() * self._weight_of[index.to(losses.device)]).mean()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on identically, mid-epoch too: tensors and plain numbers."""
        return {
            "selector": self.selector.state_dict(),
            "epoch": self._epoch,
            "order": self._order.clone(),
            "weights": self._weight_of.cpu().clone(),
            "updated": self._updated,
            "largest_batch": self._largest_batch,
            "running": self._running or self._resumed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`. The next iteration of the sampler goes on behind the last example that was updated.

        Where the loop was over and less than a batch of losses was missing, the epoch counts as finished: `drop_last`
        leaves just that behind. Workers draw ahead, so with them a state saved just before a smaller last
        batch goes on without that batch.
        """
        self.selector.load_state_dict(state["selector"])
        self._epoch = state["epoch"]
        self._order = state["order"].clone()
        self._weight_of = state["weights"].clone()
        self._updated = state["updated"]
        self._largest_batch = state["largest_batch"]
        self._running = state["running"]
        self._resumed = not self._is_complete()
        self._running = False

    def _is_complete(self) -> bool:
        """Whether all losses that will come have come: with `drop_last` less than a batch stays away for good."""
        missing = len(self._order) - self._updated
        return missing <= 0 or (not self._running and missing < self._largest_batch)

    def _plan(self, epoch: int) -> Selection:
        return self.selector.select(epoch, epoch / self.epochs)

    def _next_epoch(self) -> int:
        """The epoch that an iteration would start now. One that no loss came from (a peek, a pass without training) is
        not used up: it is run again."""
        return self._epoch + 1 if self._updated > 0 or self._epoch < 0 else self._epoch

    def _begin(self) -> Tensor:
        """What the iteration that starts now visits, in order, by all processes together."""
        if self._resumed:
            self._resumed = False
            return self._order[self._updated :]
        self._epoch = self._next_epoch()
        plan = self._plan(self._epoch)
        shuffle = torch.randperm(len(plan.indices), generator=derived_generator(self.seed, self._epoch, "order"))
        self._order = plan.indices[shuffle]
        self._weight_of = torch.ones(self.selector.size)
        self._weight_of[plan.indices] = plan.weights
        self._updated = 0
        return self._order

    def _upcoming(self) -> int:
        """The length of the running epoch or, between two epochs, of the one that an iteration would start now."""
        if self._resumed:
            return len(self._order) - self._updated
        if self._running or not self._is_complete():
            return len(self._order)
        return len(self._plan(self._next_epoch()).indices)


class SelectedSampler(Sampler[int]):
    """Yields this process's part of an epoch's plan; `len` is the true length of the epoch at hand.

    That is the running epoch's inside the loop, and the coming one's outside. Workers draw ahead of the loop: with them
    it is the coming one's from the last batch on, so take `len(loader)` before the loop.
    """

    def __init__(self, data: SelectedData[Any]) -> None:
        self.data = data

    def __iter__(self) -> Iterator[int]:
        return _Iteration(self.data, _part(self.data._begin()).tolist())

    def __len__(self) -> int:
        return len(_part(torch.empty(self.data._upcoming())))


class _Iteration(Iterator[int]):
    """Ends when the loop lets go of it, not with its last index, which is drawn before the last batch is trained on."""

    def __init__(self, data: SelectedData[Any], indices: list[int]) -> None:
        self._data = data
        self._indices = iter(indices)
        data._iterations += 1
        data._running = True
        self._number = data._iterations

    def __next__(self) -> int:
        return next(self._indices)

    def __del__(self) -> None:
        left_early = length_hint(self._indices) > 0
        if self._number == self._data._iterations and not left_early:
            self._data._running = False


class InfoBatch(SelectedData[Item]):
    """InfoBatch (Qin et al., ICLR 2024) around a map-style dataset: see scrimp/methods/infobatch.py for the method.

    `ratio` is the share pruned of the examples below the mean loss, `delta` the share of the epochs after which all data
    is used, `rescale` and `anneal` switch the two corrections, `threshold` is "mean" or a quantile in (0, 1).
    """

    def __init__(
        self,
        dataset: Dataset[Item],
        epochs: int,
        ratio: float = 0.5,
        delta: float = 0.875,
        *,
        rescale: bool = True,
        anneal: bool = True,
        threshold: Literal["mean"] | float = "mean",
        seed: int = 0,
    ) -> None:
        size = len(dataset)  # type: ignore[arg-type]
        selector = InfoBatchSelector(
            size, seed, ratio=ratio, delta=delta, rescale=rescale, anneal=anneal, threshold=threshold
        )
        super().__init__(dataset, selector, epochs, seed)


def _part(order: Tensor) -> Tensor:
    """Every world-th example of the order, starting at the rank; what does not divide evenly stays out of the epoch."""
    if not dist.is_initialized():
        return order
    world = dist.get_world_size()
    return order[: len(order) // world * world][dist.get_rank() :: world]


def _exchanged(index: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
    """All processes' indices and losses, in the same order everywhere. Batches may differ in size by process."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return index, losses
    index = index.to(losses.device)
    world = dist.get_world_size()
    sizes = [torch.zeros(1, dtype=torch.int64, device=losses.device) for _ in range(world)]
    dist.all_gather(sizes, torch.tensor([len(index)], device=losses.device))
    longest = int(max(size.item() for size in sizes))
    gathered = []
    for values in (index, losses):
        padded = values.new_zeros(longest)
        padded[: len(values)] = values
        parts = [torch.empty_like(padded) for _ in range(world)]
        dist.all_gather(parts, padded)
        gathered.append(torch.cat([part[: int(size)] for part, size in zip(parts, sizes, strict=True)]))
    return gathered[0], gathered[1]
