"""Methods that act on a model or on batches, as one takes them up in a loop of one's own: `from scrimp import ...`.

    GhostBatchNorm.convert(model, size=32)

    batches = BatchSchedule(len(dataset), batch_size=128, epochs=90)
    loader = DataLoader(dataset, batch_sampler=batches)

    sparse = sparsify(model, weights=0.2, activations=0.2)

What each does, what it costs and where it is from stands in `ghost_batch_norm.py`, `noise_schedule.py` and `swat.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch.distributed as dist
from torch import nn

from scrimp.config.base import parse_model
from scrimp.errors import ScrimpError
from scrimp.methods import noise_schedule, swat
from scrimp.methods.ghost_batch_norm import use_ghost_batch_norm
from scrimp.methods.noise_schedule import NoiseSchedule, largest_batch
from scrimp.methods.processes import Processes
from scrimp.methods.sparse_layers import TellAfterFirstPass, left_dense, named
from scrimp.methods.swat import Swat
from scrimp.seeding import epoch_order


class GhostBatchNorm:
    """Batch norm over parts of a batch; see `convert`."""

    @staticmethod
    def convert(model: nn.Module, size: int = 32) -> nn.Module:
        """Let every batch norm of a model normalise parts of about `size` examples while it trains; gives the model back.

        Parameters and their names stay, so an optimizer or a checkpoint that knows them goes on. Raises ScrimpError for a
        model without batch norm or with ghost batch norm already, and a size that is no whole number from 2 on.
        """
        _require_module(model, "GhostBatchNorm.convert")
        if not isinstance(size, int):
            raise ScrimpError(f"a part is a whole number of examples, got {size!r}")
        if size < 2:
            raise ScrimpError(
                f"a part of {size} examples cannot be normalised: give a size of 2 or more, 16 to 64 are usual"
            )
        return use_ghost_batch_norm(model, size)


class BatchSchedule:
    """Batches of indices that grow where a learning rate would fall: for `DataLoader(dataset, batch_sampler=...)`.

    The loader's next pass is the next epoch, in a new order; one that is broken off, or a look at a first batch, was a pass,
    too (set `epoch` back after it). `len` is that of the pass that runs, or else of the next. At shares `at` of all
    `epochs` the batch is multiplied by `factor`, up to `largest` examples (None: a tenth of them all, and no less than
    `batch_size`); what it cannot take, the rate does: multiply yours by `learning_rate`, which is 1 until then. A rest of
    one example joins the batch before.

    Under torch.distributed say who splits the batches. `split=True` gives each process (of `process_group`; None: all) its
    part of every batch, all of one size: sizes are of all processes together, whole multiples of their number, and what does
    not divide evenly stays out of an epoch. `split=False` gives every process all batches, for a component that splits them.
    Raises ScrimpError for numbers that cannot be, and for several processes without a word about `split`.
    """

    def __init__(
        self,
        examples: int,
        batch_size: int,
        epochs: int,
        largest: int | None = None,
        seed: int = 0,
        split: bool | None = None,
        process_group: dist.ProcessGroup | None = None,
        **options: Any,
    ) -> None:
        for name, number in {"examples": examples, "batch_size": batch_size, "epochs": epochs}.items():
            if not isinstance(number, int):
                raise ScrimpError(f"{name} is a whole number, got {number!r}")
        if examples < 1 or epochs < 1 or not 1 <= batch_size <= examples:
            raise ScrimpError(
                f"a batch schedule needs examples, epochs, and a batch of 1 to all examples, got {examples} examples, "
                f"{epochs} epochs and a batch of {batch_size}"
            )
        bound = max(batch_size, largest_batch(examples)) if largest is None else largest
        if bound < batch_size:
            raise ScrimpError(f"the largest batch, {bound}, is smaller than the first, {batch_size}: batches only grow")
        told = {**options, "largest": bound / batch_size}
        params = parse_model(told, noise_schedule.Params, "BatchSchedule")
        self.schedule = NoiseSchedule(seed, **params.model_dump())
        self.examples, self.first, self.epochs, self.seed, self.split = examples, batch_size, epochs, seed, split
        self._processes = Processes(process_group)
        self._next = 0  # the epoch that the next pass is of
        self._skipped = 0  # how many batches of that a restored state had behind it
        self._running: int | None = None  # the epoch that a pass is in, or was broken off in
        self._drawn = 0  # how many batches of that were drawn, by this pass and by one that it goes on with
        self._before = 0  # how many of those by the latter
        self.learning_rate = 1.0  # times yours, for the batch that was drawn last

    @property
    def epoch(self) -> int:
        """The one that the next pass is. Setting it forgets the place in a pass that was broken off."""
        return self._next

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._next, self._skipped, self._running = epoch, 0, None

    def sizes(self, epoch: int) -> list[int]:
        """How large the batches of an epoch are, of all processes; after the last they stay as they were at the end."""
        parts = self._parts()
        found: list[int] = []
        done, whole = 0, self.examples // parts * parts
        while done < whole:
            size = self.schedule.batch_size(self._fraction(epoch, done), self.first) // parts * parts
            found.append(min(size, whole - done))
            done += found[-1]
        if len(found) > 1 and found[-1] == parts:
            found[-2:] = [found[-2] + parts]
        return found

    def _parts(self) -> int:
        """How many processes share a batch; raises ScrimpError where it is not said, or there are too many."""
        world = self._processes.world
        if world == 1 or self.split is False:
            return 1
        if self.split is None:
            raise ScrimpError(
                f"all {world} processes would train on the same batches: give BatchSchedule split=True, and each gets its "
                "part of every batch, also under Lightning's Trainer(use_distributed_sampler=False); or split=False, where "
                "another component splits them, as Accelerate's prepare does"
            )
        if self.first < world:
            raise ScrimpError(f"a batch of {self.first} cannot be split over {world} processes: sizes are of all together")
        return world

    def _fraction(self, epoch: int, done: int) -> float:
        return min(1.0, (epoch + done / self.examples) / self.epochs)

    def __len__(self) -> int:
        epoch, before = (self._next, self._skipped) if self._running is None else (self._running, self._before)
        return len(self.sizes(epoch)) - before

    def __iter__(self) -> Iterator[list[int]]:
        sizes, parts = self.sizes(self._next), self._parts()
        epoch, skipped = self._next, self._skipped
        self._next, self._skipped = epoch + 1, 0
        order = epoch_order(self.examples, self.seed, epoch).tolist()
        rank = self._processes.rank if parts > 1 else 0
        done = sum(sizes[:skipped])
        for number, size in enumerate(sizes[skipped:], skipped + 1):
            self._running, self._drawn, self._before = epoch, number, skipped
            self.learning_rate = self.schedule.learning_rate(self._fraction(epoch, done), 1.0)
            yield order[done + rank : done + size : parts]
            done += size
        self._running = None

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches were drawn: what runs, or was broken off, goes on there.

        In this process the pass after one that was broken off is the next epoch's: a state of it goes on with the rest, for
        who saves and ends there. Set `epoch` before saving where the rest is not wanted.

        Loader workers draw ahead of training: with them put the number of batches you have trained on there.
        """
        if self._running is None:
            return {"epoch": self._next, "batch": self._skipped}
        if self._drawn == len(self.sizes(self._running)):
            return {"epoch": self._running + 1, "batch": 0}
        return {"epoch": self._running, "batch": self._drawn}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on with what `state_dict` gave: the next pass is the rest of its epoch. Raises ScrimpError for what is none."""
        epoch, batch = state.get("epoch"), state.get("batch", 0)
        if not isinstance(epoch, int) or epoch < 0 or not isinstance(batch, int) or batch < 0:
            raise ScrimpError(f"a batch schedule's state is {{'epoch': 3, 'batch': 40}} or so, got {state}")
        count = len(self.sizes(epoch)) if batch else 1
        if batch > count:
            raise ScrimpError(f"the state is of batch {batch} of epoch {epoch}, which has {count}: it is another schedule's")
        self.epoch = epoch + batch // count
        self._skipped = batch % count


def sparsify(
    model: nn.Module, weights: float = 0.2, activations: float = 0.2, first: str | None = None, **options: Any
) -> Swat:
    """Let every layer of a model but the first train with its largest weights alone, and keep the largest activations.

    `first` names the layer that stays dense; by default it is the one that was registered first, and a warning after the
    first pass says where another ran before it.

    `weights` and `activations` are the shares kept; `budget` (uniform, erk, momentum), `refresh` and `structured` as in the
    method `swat`. After an update call `.after_step(model, 0.0)` where the budget is `momentum`; `.flops(0.0, training)`
    says what is needed of a training pass's FLOPs. Layers that are neither convolutions of pictures nor linear maps stay
    dense, and so do all of `nn.MultiheadAttention` and modules with weights of their own: a warning names them; a second,
    after the first pass, those whose FLOPs are not known. Raises ScrimpError for shares and options that cannot be, for a
    model of fewer than two layers or without the `first`, and for one that is sparse already.
    """
    _require_module(model, "sparsify")
    told = {"weights": weights, "activations": activations, **options}
    params = parse_model(told, swat.Params, "sparsify")
    if any(hasattr(module, "thinned") for module in model.modules()):
        raise ScrimpError(f"{type(model).__name__} is sparse already: sparsify a model once")
    method = Swat(0, **params.model_dump())
    method.first = first
    method.adapt(model)
    if dense := left_dense(model):
        names = named({name: type(layer).__name__ for name, layer in dense.items()})
        warnings.warn(f"these layers stay dense, and their FLOPs count as such: {names}", stacklevel=2)
    model.register_forward_hook(TellAfterFirstPass(method.layer_flops, list(method.states)))
    return method


def _require_module(model: Any, caller: str) -> None:
    if not isinstance(model, nn.Module):
        raise ScrimpError(f"{caller} takes a torch.nn.Module, got {type(model).__name__}")
