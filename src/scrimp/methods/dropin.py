"""Selectors for somebody else's training loop, in three lines.

    data = InfoBatch(dataset, epochs=200, ratio=0.5)                      # 1
    loader = DataLoader(data, batch_size=128, sampler=data.sampler)       # 2
    for (x, y), index in loader:
        loss = data.update(F.cross_entropy(model(x), y, reduction="none"), index)   # 3

Nothing of torch is patched and no global random state is touched. What the wrapper keeps is ordinary data: it pickles,
goes to spawned workers, and its `state_dict` goes into a checkpoint beside the model's. Every update is held against the
epoch's plan (`planned_epoch.py`), so that a loader or a trainer that goes its own way is an error and not a silent loss.
"""

from __future__ import annotations

import math
from abc import ABCMeta
from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar, get_args

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from scrimp.methods.base import EpochSelector, share_of
from scrimp.methods.dropin_checks import check_shapes, compact, copied
from scrimp.methods.planned_epoch import NO_ITERATION, NO_UPDATE, PlannedEpoch, warn_once
from scrimp.methods.processes import Processes
from scrimp.methods.selected_sampler import PlainSampler, SelectedSampler
from scrimp.methods.shared_plan import NodePlans

Item = TypeVar("Item", covariant=True)
Exchange = Literal["update", "epoch"]


class _Made(ABCMeta):
    """Notes that an object is made: what a subclass sets in its `__init__` is its own, what is set later may not be.

    Of ABCMeta, so that a subclass may have abstract bases too.
    """

    def __call__(cls, *args: Any, **options: Any) -> Any:
        made = super().__call__(*args, **options)
        made._made = True
        return made


class SelectedData(Dataset[tuple[Item, int]], Generic[Item], metaclass=_Made):
    """A map-style dataset that an epoch selector thins out. Items come as (item, index).

    One epoch is one iteration of `sampler`; the plan for it is made when the iteration starts. Under torch.distributed
    every process gets its own part of one common plan, and losses are exchanged in `update`, so all prune alike;
    `process_group` names the processes that share the data where others share a model's parts. `plain_sampler` gives
    every process the whole plan, for a trainer that splits it itself. The processes of a Linux node hold InfoBatch's plan
    once (`shared_plan.py`). Other attributes are the wrapped dataset's, to read and, where it has them, to set.

    `exchange="epoch"` exchanges losses when less than a batch is left of an epoch: then all processes have batches of one
    size, begin the same iterations, and call `state_dict` together.

    Raises TypeError for a dataset without a length, ValueError for one that is not of the selector's size.
    """

    def __init__(
        self,
        dataset: Dataset[Item],
        selector: EpochSelector,
        epochs: int,
        seed: int = 0,
        process_group: dist.ProcessGroup | None = None,
        exchange: Exchange = "update",
    ) -> None:
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {epochs}")
        if exchange not in get_args(Exchange):
            raise ValueError(f"unknown exchange {exchange!r}; known: {', '.join(get_args(Exchange))}")
        self.dataset = dataset
        self.selector = selector
        self.epochs = epochs
        self.seed = seed
        self.sampler = SelectedSampler(self)
        self.plain_sampler = PlainSampler(self)
        self._processes = Processes(process_group)
        self._plans = NodePlans()
        self._exchange = exchange
        self._waiting: list[tuple[Tensor, Tensor]] = []  # indices and losses that the others have not heard of
        self._epoch: PlannedEpoch | None = None  # the one that is running, or ran last
        self._next: PlannedEpoch | None = None  # one that was begun inside it; the first update tells whether it is a peek
        self._iterations = 0  # how many were started
        self._begun = False  # whether one was, since the start or a restored state
        self._unused = 0  # whole passes one after another that no update came from
        self._warned: set[str] = set()
        self._trained = False  # whether an epoch was trained on before the one at hand, since the start or a restored state
        self._untrained: dict[str, Any] | None = None  # the selector's state before the first iteration or restored state
        self._check_size()

    def __getattr__(self, name: str) -> Any:
        """Attributes of the wrapped dataset, such as `classes`."""
        if name.startswith("_") or "dataset" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set what the wrapped dataset has and this has not, such as `transform`, there: where it is read, too."""
        mine = self.__dict__
        if "_made" not in mine or name.startswith("_") or name in mine or hasattr(type(self), name):
            super().__setattr__(name, value)
        elif hasattr(self.dataset, name):
            setattr(self.dataset, name, value)
        else:
            super().__setattr__(name, value)

    def __len__(self) -> int:
        """The size of the whole dataset; the length of an epoch is `len(data.sampler)`."""
        return self.selector.size

    def __getitem__(self, index: int) -> tuple[Item, int]:
        return self.dataset[index], index

    def update(self, losses: Tensor, index: Tensor | Sequence[int]) -> Tensor:
        """Take the batch's per-example losses [B] (any float type) with their indices [B]; return the loss to minimise.

        The result is the mean of the weighted losses. Indices decide which loss belongs to which example, so loaders
        that run ahead do no harm. A second call for the same batch (SAM) gives its loss and takes note of nothing.
        Raises ValueError for losses that are not one per index, RuntimeError for a batch that breaks the epoch's plan.
        """
        index = torch.as_tensor(index)
        check_shapes(losses, index)
        mine = index.detach().long()
        if not self._begun or self._epoch is None:
            raise RuntimeError(NO_ITERATION)
        if self._exchange == "update" or self._processes.world == 1:
            at, values, sizes = self._processes.gathered(mine, losses.detach().float())
            at = at.cpu()
            if self._next is None and self._epoch.goes_in_step(at, sizes):
                self.selector.observe(at, values)
            elif not self._epoch.repeats(at):
                self._settle(mine.cpu())
                self._epoch.note(at, sizes)
                self.selector.observe(at, values)
        elif not self._epoch.repeats(mine.cpu()):
            self._keep(mine.cpu(), losses.detach().float())
        epoch = self._epoch
        epoch.weight_of = epoch.weight_of.to(losses.device)  # moves once an epoch, so that no step waits for the host
        return (losses.float() * epoch.weight_of.index_select(0, mine.to(losses.device))).mean()

    @property
    def fraction(self) -> float:
        """The share of all epochs that is done, in [0, 1]: for a learning rate that ends with them.

        Pruned epochs are shorter, so a schedule over a number of steps planned from the first epoch never ends:
        `LambdaLR(optimizer, lambda _: (1 + math.cos(math.pi * data.fraction)) / 2)` does.
        """
        epoch = self._epoch
        if epoch is None:
            return 0.0
        restored = len(epoch.order) - len(epoch.left)
        untold = (self._processes.world - 1) * sum(len(at) for at, _ in self._waiting)  # by the others, who go in step
        share = (restored + epoch.visited + untold) / max(1, len(epoch.order))
        done = 1.0 if epoch.is_complete(self._processes) else share
        return min(1.0, (epoch.number + done) / self.epochs)

    @property
    def next_epoch(self) -> int:
        """The number of the epoch that the next iteration is of: the running one until it is complete."""
        epoch = self._epoch
        return 0 if epoch is None else epoch.number + int(epoch.is_complete(self._processes))

    @property
    def restored(self) -> int:
        """How many examples of the epoch at hand a restored state had behind it; the sampler's length leaves them out."""
        epoch = self._epoch
        if epoch is None or (epoch.is_complete(self._processes) and not epoch.iterations):
            return 0
        return len(epoch.order) - len(epoch.left)

    def expected_steps(self, batch_size: int, drop_last: bool = False) -> int:
        """How many updates of `batch_size` examples a process all epochs are expected to take, for who has to know.

        An estimate where the plans depend on losses: InfoBatch counts with the share of the losses known now that are
        below the threshold, with half before there are any. For a learning rate `fraction` is exact.
        """
        world = self._processes.world
        steps = 0
        for epoch in range(self.epochs):
            examples = share_of(self.selector.size, self._expected_share(epoch)) // world
            steps += examples // batch_size if drop_last else math.ceil(examples / batch_size)
        return steps

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on identically, mid-epoch too: tensors and plain numbers, the same in all processes.

        Any process may save it by itself, but with `exchange="epoch"`: then all call this together.
        """
        self._tell()
        state: dict[str, Any] = {"selector": self.selector.state_dict(), "size": self.selector.size, "epoch": -1}
        epoch = self._epoch
        if epoch is not None:
            state |= {
                "epoch": epoch.number,
                "order": epoch.order.clone(),
                "weights": epoch.weight_of.cpu().clone(),
                "seen": epoch.seen.clone(),
                "largest_batch": epoch.largest_batch,
                "over": epoch.drawn and not epoch.iterations,
            }
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`. The next iteration of the sampler goes on with what was not updated of the epoch.

        So a trainer must not skip batches itself. Where the loop was over and less than a batch of losses was missing, the
        epoch counts as finished: `drop_last` leaves just that behind. Workers draw ahead, so with them a state saved just
        before a smaller last batch goes on without that batch. Raises ValueError for the state of another dataset's size.
        """
        size = self.selector.size
        if state["size"] != size:
            raise ValueError(
                f"the state is of {state['size']:,} examples, and the dataset has {size:,}: restore it with the dataset "
                "that it was saved with, or start anew"
            )
        self._remember()
        self.selector.load_state_dict(state["selector"])
        if not self._untrained:  # scores that were there before training, and that this object was not given itself
            self._untrained = {name: compact(value) for name, value in self.selector.state_dict().items()}
        self._leave()
        if state["epoch"] >= 0:
            seen = state["seen"].clone()
            plan = self._plans.restored(state["order"], state["weights"], seen, self._processes.world)
            self._epoch = PlannedEpoch(state["epoch"], plan, seen)
            self._epoch.largest_batch = state["largest_batch"]
            self._epoch.drawn = state["over"]

    @property
    def trained(self) -> bool:
        """Whether an update came since this was made, reset or restored."""
        return self._trained or (self._epoch is not None and self._epoch.updates > 0)

    def reset(self) -> None:
        """Forget all training: the next iteration is of epoch 0, with what the selector knew before the first of all.

        For another training on the same data; several processes call it together. The adapters of trainers do so where
        a training starts without a checkpoint.
        """
        if self._untrained is not None:
            self.selector.load_state_dict({name: copied(value) for name, value in self._untrained.items()})
        self._leave()
        self._unused = 0
        self._warned.clear()

    def finish_epoch(self) -> None:
        """Say that the running loop is over: for a trainer that counts its batches and holds the iterator on."""
        epoch = self._epoch
        if epoch is not None:
            epoch.iterations.clear()
            epoch.drawn = epoch.drawn or epoch.missing(self._processes) < epoch.largest_batch

    # ------------------------------------------------------------------------------------------------------- iterations
    def _begin(self, whole: bool) -> PlannedEpoch:
        """The epoch that an iteration which starts now is of.

        One that no loss came from (a peek, a pass without training) is not used up: it is run again, and so is the rest
        of a restored one. Inside an epoch that may still go on the coming one is only tried: `_settle` decides.
        """
        self._begun = True
        epoch = self._epoch
        self._count_unused()
        if self._exchange == "epoch" and self._processes.world > 1:
            if whole:
                raise RuntimeError(
                    'exchange="epoch" goes with data.sampler: of data.plain_sampler no process knows its part'
                )
            if epoch is not None and epoch.iterations and epoch.updates > 0 and not epoch.is_complete(self._processes):
                raise RuntimeError(
                    'exchange="epoch" allows no second iteration inside an epoch, of which others do not know'
                )
            if self._waiting:
                self._tell()
            if epoch is not None and epoch.updates > 0 and not epoch.iterations:
                return self._advance(self._plan(epoch.number + 1))
        if epoch is None:
            first = self._plan(0)
            self._remember()
            epoch = self._epoch = first
        elif epoch.is_complete(self._processes) or not (epoch.iterations or epoch.drawn or epoch.updates == 0):
            epoch = self._advance(self._plan(epoch.number + 1))  # it is over, or its loop was left early
        elif epoch.updates > 0:
            epoch = self._next = self._next or self._plan(epoch.number + 1)
        epoch.whole, epoch.drawn = whole, False
        return epoch

    def _count_unused(self) -> None:
        """One pass without an update may be for statistics of the data; after a second, training goes without them."""
        epoch = self._epoch
        idle = epoch is not None and epoch.updates == 0 and epoch.drawn and not epoch.is_complete(self._processes)
        self._unused = self._unused + 1 if idle else 0
        if self._unused == 2:
            warn_once(self._warned, "no update", NO_UPDATE)

    def _keep(self, index: Tensor, losses: Tensor) -> None:
        """Note a batch of this process alone; near the epoch's end tell the others."""
        epoch = self._epoch
        assert epoch is not None
        epoch.note(index, [len(index)])
        epoch.largest_batch = max(epoch.largest_batch, len(index) * self._processes.world)
        self._waiting.append((index.clone(), losses.clone()))  # the caller may fill its tensors with the next batch
        if epoch.ends_with(len(index), self._processes):
            self._tell()

    def _tell(self) -> None:
        """Exchange what is waiting; all processes call this together."""
        if self._exchange == "update" or self._processes.world == 1 or self._epoch is None:
            return
        nothing = torch.empty(0, device=self._epoch.weight_of.device)
        index = torch.cat([at for at, _ in self._waiting]) if self._waiting else nothing.long()
        losses = torch.cat([values for _, values in self._waiting]) if self._waiting else nothing
        at, values, _ = self._processes.gathered(index, losses)
        at = at.cpu()
        self._epoch.note_others(at)
        self.selector.observe(at, values)
        self._waiting.clear()

    def _settle(self, index: Tensor) -> None:
        """Decide, where an iteration began inside an epoch, which of both a batch (int64 [b]) of this process is from."""
        epoch, tried = self._epoch, self._next
        assert epoch is not None
        if tried is None:
            return
        if not tried.iterations and not tried.drawn:
            self._now(epoch)  # a peek
        elif not epoch.goes_on_with(index, self._processes) and not (epoch.iterations and epoch.waits_for(index)):
            self._advance(tried)

    def _remember(self) -> None:
        """Keep the selector's state, before training changes it for the first time, for `reset`."""
        if self._untrained is None:
            self._untrained = {name: compact(value) for name, value in self.selector.state_dict().items()}

    def _leave(self) -> None:
        """Be in no epoch, as before the first iteration."""
        self._now(None)
        self._begun = self._trained = False
        self._waiting.clear()
        self._plans.forget()

    def _advance(self, epoch: PlannedEpoch) -> PlannedEpoch:
        assert self._epoch is not None
        self._trained = self.trained
        doubt = self._epoch.close(self._processes)
        if doubt:
            warn_once(self._warned, "holes", doubt)
        if epoch.number >= self.epochs:
            warn_once(
                self._warned,
                "epochs",
                f"epoch {epoch.number} of {self.epochs} begins: data.fraction stays 1.0, so what follows it has ended, "
                f"such as a learning rate. To train anew call data.reset() before, or make a new {type(self).__name__}; "
                "to train for longer, make it with the number of epochs that are run",
            )
        self._now(epoch)
        return epoch

    def _now(self, epoch: PlannedEpoch | None) -> None:
        """Train on this epoch. Iterations of those that were running or tried end here, with an error for who draws on."""
        for before in (self._epoch, self._next):
            if before is not None and before is not epoch:
                before.replace()
        self._epoch, self._next = epoch, None

    def _plan(self, number: int) -> PlannedEpoch:
        self._check_size()
        return PlannedEpoch(number, self._plans.of(self.selector, self.seed, number, self.epochs, self._processes.world))

    def _upcoming(self) -> Tensor:
        """What the running iteration visits in all or, between two epochs, what one that starts now would: places."""
        epoch = self._next if self._next is not None and self._next.iterations else self._epoch
        if epoch is None:
            return self._plan(0).left
        if epoch.iterations or (not epoch.is_complete(self._processes) and (epoch.drawn or epoch.updates == 0)):
            return epoch.left
        return self._plan(epoch.number + 1).left

    # --------------------------------------------------------------------------------------------------------- checking
    def _expected_share(self, epoch: int) -> float:
        """The share of the examples that an epoch is expected to visit."""
        first = epoch == 0 and self.selector.needs_losses
        return 1.0 if first else 1.0 - float(getattr(self.selector.params, "ratio", 0.0))

    def _check_size(self) -> None:
        name = type(self).__name__
        if isinstance(self.dataset, IterableDataset) or not hasattr(self.dataset, "__len__"):
            raise TypeError(
                f"{name} needs a map-style dataset, with len(dataset) and dataset[i]: a stream's examples have no index by "
                "which a loss could be kept. Load the stream into memory or an indexed file, or choose within each batch, "
                "as scrimp.jest does"
            )
        size = len(self.dataset)
        if size != self.selector.size:
            raise ValueError(
                f"the dataset has {size:,} examples, the selector {self.selector.size:,}: make a new {name} whenever the "
                "dataset changes its length"
            )
