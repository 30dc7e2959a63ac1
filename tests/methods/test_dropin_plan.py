"""An epoch's updates match its plan: whatever breaks that is an error, or a warning, that names the remedy."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler, get_worker_info

from scrimp import InfoBatch, SelectedData
from scrimp.methods.base import Selection
from scrimp.methods.el2n import EL2N
from scrimp.methods.plan import chosen, restored
from scrimp.methods.planned_epoch import PlannedEpoch
from scrimp.methods.processes import Processes
from scrimp.methods.rs2 import RS2
from scrimp.methods.selected_sampler import CHUNK


class Two(Processes):
    """As one of two processes sees them."""

    def __init__(self, rank: int = 0) -> None:
        self._rank = rank

    world = property(lambda self: 2)  # type: ignore[assignment]
    rank = property(lambda self: self._rank)  # type: ignore[assignment]


def hundred(epochs: int = 10, **options: Any) -> InfoBatch[Any]:
    return InfoBatch(TensorDataset(torch.arange(100.0)), epochs=epochs, **options)


def losses_of(index: Tensor) -> Tensor:
    """80 of the hundred lie below the mean: the second epoch keeps 20 + 40."""
    return (index % 5 == 0).float()


def loader_of(data: SelectedData[Any], **options: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=10, sampler=data.sampler, **options)


def train(data: SelectedData[Any], loader: DataLoader[Any]) -> list[int]:
    seen: list[int] = []
    for _, index in loader:
        data.update(losses_of(index), index)
        seen += index.tolist()
    return seen


# ------------------------------------------------------------------------------------------------- the sampler is not used
@pytest.mark.parametrize("own", [{"shuffle": True}, {"sampler": WeightedRandomSampler(torch.ones(100), 100)}, {}])
def test_a_loader_with_its_own_sampler_is_an_error_at_the_first_update(own: dict[str, Any]) -> None:
    data = hundred()
    with pytest.raises(RuntimeError, match=r"no iteration of data\.sampler has begun.*sampler=data\.sampler"):
        train(data, DataLoader(data, batch_size=10, **own))


def test_epochs_of_the_right_loader() -> None:
    data = hundred()
    loader = loader_of(data)
    assert [len(train(data, loader)) for _ in range(10)] == [100] + [60] * 8 + [100]


def test_a_batch_from_elsewhere_is_an_error() -> None:
    data = hundred()
    train(data, loader_of(data))
    plan = set(data.sampler)
    left_out = next(at for at in range(100) if at not in plan)
    with pytest.raises(RuntimeError, match=f"example {left_out} is not in the plan of epoch 1"):
        data.update(torch.ones(1), [left_out])
    with pytest.raises(RuntimeError, match="index 100 is none of the dataset's 100"):
        data.update(torch.ones(1), [100])


# --------------------------------------------------------------------------------------- a second iteration in an epoch
def weights_by_epoch(peek: str) -> list[tuple[int, float]]:
    """(number of the epoch, sum of its weights) of four epochs, with a second iteration inside each or without."""
    data = hundred()
    loader, rows, held = loader_of(data), [], []
    for _ in range(4):
        weight = 0.0
        for step, (_, index) in enumerate(loader):
            # All losses 1: the returned mean is the batch's mean weight.
            weight += float(data.update(torch.ones(len(index)), index)) * len(index)
            data.selector.observe(index, losses_of(index))
            if step == 1 and peek == "dropped":
                next(iter(loader))
            if step == 1 and peek == "whole":
                list(loader)
            if step == 1 and peek == "held":
                held.append(iter(loader))
                next(held[-1])
        rows.append((data.state_dict()["epoch"], weight))
        held.clear()
    return rows


@pytest.mark.parametrize("peek", ["none", "dropped", "whole", "held"])
def test_a_peek_changes_nothing(peek: str) -> None:
    assert weights_by_epoch(peek) == [(epoch, pytest.approx(100)) for epoch in range(4)]


def test_an_iteration_that_goes_on_beside_a_later_one_is_an_error() -> None:
    data = hundred()
    loader = loader_of(data)
    first = iter(loader)
    _, index = next(first)
    data.update(losses_of(index), index)
    _, other = next(iter(loader))  # the next epoch's first batch is trained on, though `first` is still held
    second = iter(loader)
    _, other = next(second)
    if not set(other.tolist()) & set(index.tolist()):
        other[0] = index[0]  # surely none of what the first epoch still waits for
    assert data._next is not None
    data.update(losses_of(other), other)
    with pytest.raises(RuntimeError, match="let go of one"):
        next(first)


@pytest.mark.parametrize("size", [1, 2, CHUNK, CHUNK + 1, 2 * CHUNK + 2])
def test_a_long_iteration_gives_the_plan_and_is_drawn_with_its_last_index(size: int) -> None:
    data = InfoBatch(TensorDataset(torch.arange(size)), epochs=3, seed=1)
    iteration = iter(data.sampler)
    epoch = data._epoch
    assert epoch is not None
    found = [index for index in itertools.islice(iteration, size - 1) if not epoch.drawn]
    found.append(next(iteration))
    assert epoch.drawn
    assert found == epoch.order.tolist()
    assert sorted(found) == list(range(size))
    assert list(iteration) == []


@pytest.mark.parametrize("drawn", [10, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1])
def test_an_iteration_ends_in_the_error_with_its_next_index_wherever_it_was(drawn: int) -> None:
    data = InfoBatch(TensorDataset(torch.arange(2 * CHUNK)), epochs=3, seed=1)
    first = iter(data.sampler)
    held = torch.tensor([next(first) for _ in range(drawn)])
    data.finish_epoch()
    data.update(torch.rand(len(held)), held)
    second = iter(data.sampler)  # the loop of the first was left
    index = torch.tensor([next(second) for _ in range(10)])
    data.update(torch.rand(len(index)), index)
    assert data._epoch is not None
    assert data._epoch.number == 1
    with pytest.raises(RuntimeError, match="the iteration of epoch 0 goes on"):
        next(first)


@pytest.mark.parametrize("first", [[0, 1], [1, 0]])  # in the plan's order, and not
def test_a_tensor_that_the_loop_fills_anew_for_every_batch_is_no_second_pass(first: list[int]) -> None:
    data = hundred()
    batches = torch.tensor(list(data.sampler)).split(10)
    index = torch.empty(10, dtype=torch.int64)
    for at in [*first, *range(2, 10)]:
        index.copy_(batches[at])
        data.update(losses_of(index), index)
    assert data.next_epoch == 1
    assert bool(data.selector.state_dict()["scores"].isfinite().all())


def test_a_copy_carries_its_last_batch_and_not_the_order_again() -> None:
    data = InfoBatch(TensorDataset(torch.arange(100_000)), epochs=3)
    index = torch.tensor(list(itertools.islice(data.sampler, 10)))
    before = len(pickle.dumps(data))
    data.update(torch.rand(10), index)
    assert len(pickle.dumps(data)) < before + 10_000


@pytest.mark.parametrize("size", [10, CHUNK, CHUNK + 1])
def test_an_iteration_that_was_drawn_to_its_end_just_ends_whatever_was_trained_on_since(size: int) -> None:
    data = InfoBatch(TensorDataset(torch.arange(size)), epochs=3, seed=1)
    first = iter(data.sampler)
    index = torch.tensor([next(first) for _ in range(size)])
    data.update(torch.rand(size), index)
    second = iter(data.sampler)
    index = torch.tensor([next(second)])
    data.update(torch.rand(1), index)
    assert data._epoch is not None
    assert data._epoch.number == 1
    assert list(first) == []


def test_such_an_iteration_ends_in_the_error_however_often_it_is_asked_and_is_not_copied() -> None:
    data = hundred()
    first = iter(data.sampler)
    data.update(torch.rand(10), torch.tensor([next(first) for _ in range(10)]))
    for index in torch.tensor(list(data.sampler)).split(10):
        data.update(torch.rand(len(index)), index)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="a later one was trained on meanwhile"):
            next(first)
    for made in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="belongs to its loop"):
            made(first)


def test_a_loop_that_is_left_early_starts_the_next_epoch() -> None:
    data = hundred()
    loader = loader_of(data)
    for _ in range(3):
        for step, (_, index) in enumerate(loader):
            data.update(losses_of(index), index)
            if step == 2:
                break
    assert data.state_dict()["epoch"] == 2


# ------------------------------------------------------------------------------------------- two updates a batch; resuming
@pytest.mark.parametrize("updates", [1, 2, 3])
def test_a_second_pass_over_a_batch_counts_once(updates: int) -> None:
    data, again = hundred(), hundred()
    first: list[int] = []
    for step, (_, index) in enumerate(loader_of(data)):
        values = [float(data.update(losses_of(index) + call, index)) for call in range(updates)]
        assert values == pytest.approx([values[0] + call for call in range(updates)])
        first += index.tolist()
        if step == 3:
            break
    assert data.selector.state_dict()["scores"][first].max() == 1  # the first pass's, at the weights themselves
    again.load_state_dict(data.state_dict())
    rest = train(again, loader_of(again))
    assert (len(first), len(rest), len({*first, *rest})) == (40, 60, 100)


def test_an_example_that_comes_again_is_an_error() -> None:
    data = hundred()
    (_, one), (_, two), *_ = loader_of(data)
    data.update(losses_of(one), one)
    data.update(losses_of(two), two)
    with pytest.raises(RuntimeError, match=f"example {int(one[0])} was updated twice in epoch 0"):
        data.update(losses_of(one), one)


def test_a_peek_after_resuming_loses_nothing() -> None:
    data, again = hundred(), hundred()
    for step, (_, index) in enumerate(loader_of(data)):
        data.update(losses_of(index), index)
        if step == 3:
            break
    again.load_state_dict(data.state_dict())
    loader = loader_of(again)
    next(iter(loader))
    assert len(loader) == 6
    assert len(train(again, loader)) == 60
    assert again.state_dict()["epoch"] == 0


def test_a_trainer_that_skips_what_was_skipped_is_an_error() -> None:
    data, again = hundred(), hundred()
    for step, (_, index) in enumerate(loader_of(data)):
        data.update(losses_of(index), index)
        if step == 3:
            break
    again.load_state_dict(data.state_dict())
    batches = list(loader_of(again))[4:]
    with pytest.raises(RuntimeError, match="ignore_data_skip=True"):
        again.update(losses_of(batches[0][1]), batches[0][1])


def test_lost_batches_are_told_once() -> None:
    data = hundred()
    loader = loader_of(data)

    def four_epochs() -> None:
        for _ in range(4):
            for step, (_, index) in enumerate(loader):
                if step not in (2, 4):
                    data.update(losses_of(index), index)

    with pytest.warns(UserWarning, match="epoch 0: 20 of the first 100 planned examples were never updated") as told:
        four_epochs()
    assert len(told) == 1


def test_training_without_a_single_update_is_told_once() -> None:
    data = hundred(epochs=5)
    loader = loader_of(data)
    with pytest.warns(UserWarning, match=r"update was called for no batch of them.*data\.update\(losses, index\)") as told:
        assert [len(list(loader)) for _ in range(5)] == [10] * 5
    assert len(told) == 1


def test_one_pass_without_updates_is_for_statistics() -> None:
    data = hundred()
    loader = loader_of(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            list(loader)  # in the first epoch, and between two others
            train(data, loader)


def test_the_state_of_another_size_is_an_error() -> None:
    other = InfoBatch(TensorDataset(torch.arange(7.0)), epochs=10)
    with pytest.raises(ValueError, match="the state is of 7 examples, and the dataset has 100"):
        hundred().load_state_dict(other.state_dict())


# --------------------------------------------------------------------------------------------------------- two processes
def sixty() -> PlannedEpoch:
    all_of_them = Selection(torch.arange(120), torch.ones(120))
    return PlannedEpoch(0, chosen(120, lambda: all_of_them, torch.Generator().manual_seed(0)))


def update_all(epoch: PlannedEpoch, *ranks: list[Tensor]) -> None:
    """Both processes' batches, step by step, each an int64 [b] of places in the epoch's order."""
    for batches in zip(*ranks, strict=True):
        epoch.note(epoch.order[torch.cat(batches)], [len(batch) for batch in batches])


def parts() -> list[Tensor]:
    return [torch.arange(120)[rank::2] for rank in range(2)]


def test_two_processes_that_share_a_plan() -> None:
    epoch = sixty()
    update_all(epoch, *[list(part.split(7)) for part in parts()])
    assert epoch.missing(Two()) == 0
    assert epoch.close(Two()) is None


def test_a_distributed_sampler_around_ours_is_an_error_at_once() -> None:
    mine = [list(part[rank::2].split(10)) for rank, part in enumerate(parts())]
    with pytest.raises(RuntimeError, match="use_distributed_sampler=False"):
        update_all(sixty(), *[batches[:1] for batches in mine])


def test_batches_dealt_out_once_more_are_an_error_at_the_second() -> None:
    epoch = sixty()
    mine = [list(part.split(10))[rank::2] for rank, part in enumerate(parts())]
    update_all(epoch, *[batches[:1] for batches in mine])
    with pytest.raises(RuntimeError, match=r"scrimp\.integrations"):
        update_all(epoch, *[batches[1:2] for batches in mine])


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("resumed", [False, True])
def test_batches_in_step_are_noted_as_any_others(world: int, resumed: bool) -> None:
    """The short way that most batches go marks what the long one does, and a batch out of step leaves it for good."""
    plan = chosen(50, lambda: Selection(torch.arange(50), torch.ones(50)), torch.Generator().manual_seed(0))
    behind = torch.zeros(50, dtype=torch.bool)
    behind[: 10 * resumed : 3] = True
    if resumed:
        plan = restored(plan.order, plan.weight_of, behind)
    short, long = PlannedEpoch(1, plan, behind.clone()), PlannedEpoch(1, plan, behind.clone())
    order = short.to_visit[: 40 // world * world]
    parts = [order[rank::world] for rank in range(world)]
    steps = [0, 1, 2, 3, 5, 4, 6]  # the last three are not in the plan's order
    for number, step in enumerate(steps):
        batch = torch.cat([part[4 // world * step :][: 4 // world] for part in parts])
        for epoch in (short, long):
            epoch.note(batch, [4 // world] * world)
        long._in_step = False
        assert short._in_step == (number < 4)
        assert torch.equal(short.seen, long.seen)
        assert (short.visited, short.updates, short.largest_batch) == (long.visited, long.updates, long.largest_batch)
        assert short.visited == 4 * (number + 1)
    with pytest.raises(RuntimeError, match="updated twice"):
        short.note(order[:4], [4 // world] * world)


def test_an_epoch_is_not_over_while_its_last_batch_is_trained_on() -> None:
    """A smaller last batch is drawn by asking for more than there is."""
    data = hundred()
    for number, (_, index) in enumerate(DataLoader(data, batch_size=30, sampler=data.sampler)):
        if number == 3:
            assert len(index) == 10
            assert data.next_epoch == 0
            assert len(data.sampler) == 100
        data.update(losses_of(index), index)
    assert data.next_epoch == 1


def test_half_an_epoch_lost_is_an_error_however_it_was_split() -> None:
    epoch = sixty()
    shuffled = [part[torch.randperm(60, generator=torch.Generator().manual_seed(3))][:30] for part in parts()]
    update_all(epoch, *[list(part.split(10)) for part in shuffled])
    with pytest.raises(RuntimeError, match="planned examples were never updated: another component splits"):
        epoch.close(Two())


def test_leaving_an_epoch_early_is_no_loss() -> None:
    epoch = sixty()
    update_all(epoch, *[list(part.split(10))[:2] for part in parts()])
    assert epoch.missing(Two()) == 80
    assert epoch.close(Two()) is None


def test_who_splits_the_whole_plan_may_fill_its_last_round_up() -> None:
    epoch = sixty()
    epoch.whole = True
    padded = torch.cat([torch.arange(120), torch.arange(10)])  # as Accelerate deals 12 batches of 10 and an odd one
    dealt = [list(padded.split(10))[rank::2][:6] for rank in range(2)]
    update_all(epoch, *dealt)
    assert epoch.missing(Two()) == 0
    update_all(epoch, [torch.arange(5)], [torch.arange(5, 10)])
    assert epoch.missing(Two()) == 0


def test_two_processes_that_both_train_on_everything_are_an_error() -> None:
    epoch = sixty()
    epoch.whole = True
    batches = list(torch.arange(120).split(10))
    with pytest.raises(RuntimeError, match=r"where every process sees all examples, use data\.sampler"):
        update_all(epoch, batches, batches)


def test_the_plain_sampler_gives_the_whole_plan_to_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    data = hundred()
    monkeypatch.setattr(data, "_processes", Two(rank=1))
    assert len(data.sampler) == 50
    assert len(data.plain_sampler) == 100
    assert list(data.sampler) == list(data.plain_sampler)[1::2]


class Threads(Processes):
    """Two threads that exchange as two processes do; `meetings` counts how often."""

    def __init__(self, rank: int, slots: list[Any], barrier: threading.Barrier) -> None:
        self._rank, self.slots, self.barrier, self.meetings = rank, slots, barrier, 0

    world = property(lambda self: 2)  # type: ignore[assignment]
    rank = property(lambda self: self._rank)  # type: ignore[assignment]

    def gathered(self, index: Tensor, losses: Tensor) -> tuple[Tensor, Tensor, list[int]]:
        self.meetings += 1
        self.slots[self._rank] = (index, losses)
        self.barrier.wait(60)
        parts = list(self.slots)
        self.barrier.wait(60)
        indices, values = zip(*parts, strict=True)
        return torch.cat(indices), torch.cat(values), [len(at) for at in indices]


def two_threads(exchange: str, **options: Any) -> list[dict[str, Any]]:
    """Four epochs of a hundred examples by two ranks, whose losses change from epoch to epoch; what each ended with."""
    slots, barrier = [None, None], threading.Barrier(2)

    def work(rank: int) -> dict[str, Any]:
        data = hundred(epochs=4, exchange=exchange)
        data._processes = Threads(rank, slots, barrier)
        loader, plans, fractions = DataLoader(data, batch_size=7, sampler=data.sampler, **options), [], []
        for epoch in range(4):
            for _, index in loader:
                data.update(losses_of(index) * (epoch + 1), index)
                fractions.append(data.fraction)
            plans.append(sorted(data.state_dict()["order"].tolist()))
        scores = data.selector.state_dict()["scores"].tolist()
        return {"plans": plans, "scores": scores, "fractions": fractions, "meetings": data._processes.meetings}

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(work, range(2)))


@pytest.mark.parametrize("drop_last", [False, True])
def test_losses_exchanged_at_an_epochs_end_choose_as_those_exchanged_at_every_update(drop_last: bool) -> None:
    often, seldom = two_threads("update", drop_last=drop_last), two_threads("epoch", drop_last=drop_last)
    for each in (*often, *seldom):
        assert each["plans"] == often[0]["plans"]
        assert each["scores"] == pytest.approx(often[0]["scores"], nan_ok=True)
        assert each["fractions"] == sorted(each["fractions"])
        assert each["fractions"][-1] == pytest.approx(1, abs=0.006)  # drop_last leaves 2 of 100 behind
    assert seldom[0]["fractions"] == pytest.approx(often[0]["fractions"], abs=0.02)
    # 50 examples of a rank in batches of 7, then 30, 30 and 50: 8 + 5 + 5 + 8 updates, or 7 + 4 + 4 + 7 whole ones.
    assert often[0]["meetings"] == (22 if drop_last else 26)
    # Where less than a batch is left, after the batch that is left, and in each of the four states.
    assert seldom[0]["meetings"] == (8 if drop_last else 12)


def test_an_unknown_exchange_is_named() -> None:
    with pytest.raises(ValueError, match="unknown exchange 'never'; known: update, epoch"):
        hundred(exchange="never")


# ------------------------------------------------------------------------------------------------ lengths and fractions
def test_the_fraction_ends_at_one() -> None:
    data, fractions = hundred(epochs=4), [0.0]
    loader = loader_of(data)
    for _ in range(4):
        for _, index in loader:
            data.update(losses_of(index), index)
            fractions.append(data.fraction)
    # 10 + 6 + 6 + 10 updates.
    assert fractions == pytest.approx(
        [at / 40 for at in range(11)] + [0.25 + at / 24 for at in range(1, 13)] + [0.75 + at / 40 for at in range(1, 11)]
    )


def test_the_fraction_counts_what_a_restored_state_has_behind_it() -> None:
    data, again = hundred(epochs=4), hundred(epochs=4)
    for step, (_, index) in enumerate(loader_of(data)):
        data.update(losses_of(index), index)
        if step == 3:
            break
    again.load_state_dict(data.state_dict())
    assert again.fraction == data.fraction == pytest.approx(0.1)


def test_expected_steps() -> None:
    # Half of the losses below the mean, half of these left out: 100 + 75 + 75 + 100 examples in batches of ten.
    data = hundred(epochs=4)
    assert data.expected_steps(10) == 10 + 8 + 8 + 10
    assert data.expected_steps(10, drop_last=True) == 10 + 7 + 7 + 10
    train(data, loader_of(data))
    assert data.expected_steps(10) == 10 + 6 + 6 + 10  # four fifths lie below, as is known now
    rs2 = SelectedData(TensorDataset(torch.arange(100.0)), RS2(100, 0, ratio=0.7), epochs=3)
    assert rs2.expected_steps(10) == 9


@pytest.mark.parametrize(
    ("epochs", "options", "sizes"),
    [
        (1, {}, [100]),
        (1, {"delta": 1.0}, [100]),
        (2, {}, [100, 100]),
        (4, {"delta": 0.25}, [100] * 4),
        (2, {"delta": 1.0}, [100, 60]),
        (2, {"anneal": False}, [100, 60]),
        (3, {}, [100, 60, 100]),
        (2, {"ratio": 0.0}, [100, 100]),
    ],
)
def test_short_runs_end_on_all_data_and_say_where_they_prune_nothing(
    epochs: int, options: dict[str, Any], sizes: list[int]
) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        data = hundred(epochs=epochs, **options)
    loader = loader_of(data)
    assert [len(train(data, loader)) for _ in range(epochs)] == sizes
    silent = min(sizes) < 100 or "ratio" in options
    assert len(told) == (0 if silent else 1)
    assert silent or f"prunes nothing in {epochs} epoch" in str(told[0].message)


def test_more_epochs_than_were_said_are_told() -> None:
    data = hundred(epochs=3)
    loader = loader_of(data)
    for _ in range(3):
        train(data, loader)
    with pytest.warns(UserWarning, match=r"epoch 3 of 3 begins: data.fraction stays 1\.0.* data\.reset\(\).* new InfoBatch"):
        train(data, loader)
    assert data.fraction == 1.0


def test_a_second_batch_first_after_resuming_may_be_of_workers_that_hand_over_as_they_are_ready() -> None:
    data = hundred()
    for _, index in itertools.islice(loader_of(data), 3):
        data.update(losses_of(index), index)
    resumed = hundred()
    resumed.load_state_dict(data.state_dict())
    _, (_, second), *_ = loader_of(resumed)
    with pytest.raises(RuntimeError, match=r"resume without DataLoader\(in_order=False\)"):
        resumed.update(losses_of(second), second)


# ----------------------------------------------------------------------------------------------------------- training anew
@pytest.mark.parametrize("epochs", [1, 2.5, 4])
def test_after_a_reset_all_is_trained_on_as_the_first_time(epochs: float) -> None:
    known = torch.arange(100.0)  # given to the selector before training, and not to be forgotten
    data, new = hundred(epochs=4), hundred(epochs=4)
    for each in (data, new):
        each.selector.observe(torch.arange(100), known)
    loader = loader_of(data)
    for _ in range(math.floor(epochs)):
        train(data, loader)
    if epochs % 1:
        for _, index in itertools.islice(loader, 3):
            data.update(losses_of(index), index)
    assert data.trained
    data.reset()
    assert not data.trained
    assert data.fraction == data.next_epoch == data.restored == 0
    assert len(loader) == len(loader_of(new)) == 8  # half of the fifty below the mean are left out of the first epoch
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [train(data, loader) for _ in range(4)] == [train(new, loader_of(new)) for _ in range(4)]
    with pytest.warns(UserWarning, match="epoch 4 of 4"):  # told again, though the training before may have told it
        train(data, loader)


def test_a_reset_forgets_a_restored_state_too() -> None:
    source = hundred()
    train(source, loader_of(source))
    data = hundred()
    data.load_state_dict(source.state_dict())
    assert not data.trained
    assert data.next_epoch == 1
    data.reset()
    assert data.next_epoch == 0
    assert sorted(train(data, loader_of(data))) == list(range(100))


def test_scores_that_came_after_the_data_was_made_outlast_a_reset() -> None:
    selector = EL2N(100, 0, ratio=0.5)
    data: SelectedData[Any] = SelectedData(TensorDataset(torch.arange(100.0)), selector, epochs=2)
    selector.accept_scores(torch.arange(100.0), torch.zeros(100, dtype=torch.int64))
    first = [train(data, loader_of(data)) for _ in range(2)]
    data.reset()
    assert [train(data, loader_of(data)) for _ in range(2)] == first


def test_what_a_reset_needs_is_one_number_where_nothing_was_known() -> None:
    data = hundred()
    train(data, loader_of(data))
    kept = data._untrained
    assert kept is not None
    assert kept["scores"].shape == (100,)
    assert kept["scores"].untyped_storage().nbytes() == 4


# -------------------------------------------------------------------------------------------------------- the dataset
class Scaled(Dataset[float]):
    """Item i is i times `scale`. It has names that a wrapper has, too."""

    epochs, seed, selector = "its own", "its own", "its own"

    def __init__(self) -> None:
        self.scale, self.labels = 1.0, list(range(8))

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> float:
        return self.scale * index


class Labelled(InfoBatch[float]):
    shared = "of the class"

    def __init__(self, dataset: Dataset[float]) -> None:
        super().__init__(dataset, epochs=3)
        self.labels = "the wrapper's"


def as_it_is(data: InfoBatch[float]) -> InfoBatch[float]:
    return data


def pickled(data: InfoBatch[float]) -> InfoBatch[float]:
    twin: InfoBatch[float] = pickle.loads(pickle.dumps(data))
    return twin


@pytest.mark.parametrize("copied", [as_it_is, copy.copy, copy.deepcopy, pickled])
def test_attributes_are_set_where_they_are_read(copied: Any) -> None:
    data = copied(InfoBatch(Scaled(), epochs=3))
    data.scale = 3.0
    data.epochs = 4  # the wrapper has them
    data.note = "new"  # nobody has it
    assert data.dataset.scale == 3.0
    assert data[2] == (6.0, 2)
    assert "scale" not in vars(data)
    assert (data.epochs, data.dataset.epochs) == (4, "its own")
    assert (data.seed, data.dataset.selector) == (0, "its own")
    assert (vars(data)["note"], hasattr(data.dataset, "note")) == ("new", False)


@pytest.mark.parametrize("copied", [as_it_is, copy.deepcopy, pickled])
def test_what_a_subclass_sets_in_its_making_stays_its_own(copied: Any) -> None:
    data = copied(Labelled(Scaled()))
    assert (data.labels, data.dataset.labels) == ("the wrapper's", list(range(8)))
    data.labels, data.shared = "again", "of the object"
    assert (data.labels, data.dataset.labels) == ("again", list(range(8)))
    assert vars(data)["shared"] == "of the object"


def set_scale(worker: int) -> None:
    get_worker_info().dataset.scale = 10.0  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_workers_initialisation_sets_what_the_dataset_reads() -> None:
    data = InfoBatch(Scaled(), epochs=3)
    for item, index in DataLoader(data, batch_size=4, sampler=data.sampler, num_workers=1, worker_init_fn=set_scale):
        assert item.tolist() == [10.0 * at for at in index.tolist()]


def test_attributes_of_the_wrapped_dataset_pass_through() -> None:
    tensors = TensorDataset(torch.arange(100.0))
    tensors.classes = ["cat", "dog"]  # type: ignore[attr-defined]
    data = InfoBatch(tensors, epochs=3)
    assert data.classes == ["cat", "dog"]
    assert data.tensors is tensors.tensors
    with pytest.raises(AttributeError, match="clases"):
        data.clases  # noqa: B018
    assert not hasattr(data, "__getitems__")  # the loader would fetch a whole batch past the index


def test_indices_from_a_collate_function_may_be_a_list() -> None:
    data = hundred()
    for batch in loader_of(data, collate_fn=list):
        index = [at for _, at in batch]
        assert float(data.update(torch.ones(len(index)), index)) == 1
    assert data.fraction == pytest.approx(0.1)


def test_a_stream_is_refused_with_advice() -> None:
    class Stream(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(range(5))

    with pytest.raises(TypeError, match=r"map-style dataset.*scrimp\.jest"):
        InfoBatch(Stream(), epochs=2)


def test_a_dataset_that_changes_its_length_is_an_error() -> None:
    items = list(range(100))
    data = InfoBatch(items, epochs=3)  # type: ignore[arg-type]
    train(data, loader_of(data))
    items.append(100)
    with pytest.raises(ValueError, match="101 examples, the selector 100: make a new InfoBatch"):
        train(data, loader_of(data))


def test_no_warning_where_nothing_is_wrong() -> None:
    data = hundred()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(10):
            train(data, loader_of(data, drop_last=True))
