"""The drop-in InfoBatch in one process: a test for each defect of the official code, and for its own promises."""

from __future__ import annotations

import copy
import io
import pickle
import random
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

import scrimp
from scrimp import InfoBatch, SelectedData
from scrimp.methods import dropin, dropin_infobatch
from scrimp.methods.el2n import EL2N
from scrimp.methods.infobatch import InfoBatchSelector

Batch = tuple[list[int], float]  # the indices of a batch and its weighted mean loss


class Tens(Dataset[float]):
    """Item i is 10 i, so that an item gives its index away."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> float:
        return 10.0 * index


def two_levels(index: Tensor) -> Tensor:
    """Loss 1 for every fifth example, 0 for the others: four fifths lie below the mean."""
    return (index % 5 == 0).float()


def run_epoch(data: SelectedData[Any], loader: DataLoader[Any]) -> list[Batch]:
    """Iterate once, updating after every batch."""
    return [(index.tolist(), float(data.update(two_levels(index), index))) for _, index in loader]


def visited(batches: list[Batch]) -> list[int]:
    return [at for indices, _ in batches for at in indices]


def pruned_twenty(**options: Any) -> InfoBatch[float]:
    """Twenty examples after an epoch of two-level losses: 4 high, 16 low, so the next epoch keeps 4 + 8."""
    data = InfoBatch(Tens(20), **{"epochs": 10, **options})
    assert sorted(visited(run_epoch(data, DataLoader(data, batch_size=5, sampler=data.sampler)))) == list(range(20))
    return data


# ----------------------------------------------------------------------------------------- defect 1: torch's own loaders
def test_prunes_under_todays_dataloader() -> None:
    data = pruned_twenty()
    second = visited(run_epoch(data, DataLoader(data, batch_size=5, sampler=data.sampler)))
    assert len(second) == len(set(second)) == 12
    assert {0, 5, 10, 15} <= set(second)


def test_prunes_with_drop_last() -> None:
    data = pruned_twenty()
    loader = DataLoader(data, batch_size=5, sampler=data.sampler, drop_last=True)
    assert len(loader) == 2
    second = run_epoch(data, loader)
    assert [len(indices) for indices, _ in second] == [5, 5]
    assert len(set(visited(second))) == 10
    assert len(loader) == 2  # the two that were dropped do not hold up the next epoch
    assert len(run_epoch(data, loader)) == 2


def test_weighted_loss_by_hand() -> None:
    data = pruned_twenty()
    plan = list(data.sampler)
    low = next(i for i in plan if i % 5)
    high, higher = [i for i in plan if i % 5 == 0][:2]
    losses = torch.tensor([3.0, 4.0, 7.0], requires_grad=True)
    # Kept low: weight 2; high: weight 1. (6 + 4 + 7) / 3, without renormalising.
    loss = data.update(losses, torch.tensor([low, high, higher]))
    assert loss.item() == pytest.approx(17 / 3)
    loss.backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == pytest.approx([2 / 3, 1 / 3, 1 / 3])


def test_epochs_are_shuffled_anew() -> None:
    data = pruned_twenty(delta=0.0)
    orders = [visited(run_epoch(data, DataLoader(data, batch_size=20, sampler=data.sampler))) for _ in range(2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20))
    assert orders[0] != orders[1]
    assert orders[0] != list(range(20))


# ------------------------------------------------------------------------------------------------- defect 2: annealing
@given(st.integers(1, 40), st.integers(0, 100))
def test_annealing_epochs_have_all_data_at_weight_one(epochs: int, percent: int) -> None:
    data = InfoBatch(Tens(10), epochs=epochs, delta=percent / 100)
    for epoch in range(epochs):
        index = torch.tensor(list(data.sampler))
        loss = data.update(two_levels(index) + 1, index)
        last = epoch == epochs - 1 and percent < 100
        if 100 * epoch >= percent * epochs or epoch == 0 or last:
            assert sorted(index.tolist()) == list(range(10))
            assert float(loss) == pytest.approx(1.2)  # the plain mean of two 2 and eight 1
        else:
            assert len(index) == 6
            assert float(loss) == pytest.approx((2 * 2 + 4 * 1 * 2) / 6)


def test_ninety_epochs() -> None:
    # delta E = 78.75, at which the official code never resets its weights.
    data = InfoBatch(Tens(10), epochs=90)
    sizes = []
    for _ in range(90):
        index = torch.tensor(list(data.sampler))
        data.update(two_levels(index), index)
        sizes.append(len(index))
    assert sizes == [10] + [6] * 78 + [10] * 11


# --------------------------------------------------------------------------------------------- defect 3: len(loader)
@given(
    size=st.integers(1, 30),
    batch_size=st.integers(1, 9),
    drop_last=st.booleans(),
    ratio=st.sampled_from([0.0, 0.3, 0.5, 0.9]),
    seed=st.integers(0, 9),
)
def test_length_is_that_of_the_coming_epoch(size: int, batch_size: int, drop_last: bool, ratio: float, seed: int) -> None:
    data = InfoBatch(Tens(size), epochs=6, ratio=ratio, seed=seed)
    loader = DataLoader(data, batch_size=batch_size, sampler=data.sampler, drop_last=drop_last)
    losses = torch.rand(6, size, generator=torch.Generator().manual_seed(seed))
    for epoch in range(6):
        told_before, told_during, count = len(loader), set(), 0
        for _, index in loader:
            told_during.add(len(loader))
            data.update(losses[epoch, index], index)
            told_during.add(len(loader))  # `step + 1 == len(loader)` must hold in the last batch
            count += 1
        assert told_before == count
        assert told_during <= {count}


def test_a_pass_without_training_uses_no_epoch_up() -> None:
    data = pruned_twenty()
    loader = DataLoader(data, batch_size=5, sampler=data.sampler)
    peeked = [index.tolist() for _, index in loader]
    assert len(loader) == 3
    assert [indices for indices, _ in run_epoch(data, loader)] == peeked


def test_length_of_the_data_is_the_whole() -> None:
    data = pruned_twenty()
    assert len(data) == 20
    assert len(data.sampler) == 12
    assert data[7] == (70.0, 7)


# ----------------------------------------------------------------------------------------- defect 4: pickle and deepcopy
def pickled(data: InfoBatch[float]) -> InfoBatch[float]:
    twin: InfoBatch[float] = pickle.loads(pickle.dumps(data))
    return twin


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_copies_go_on_alike_and_apart(copied: Callable[[InfoBatch[float]], InfoBatch[float]]) -> None:
    data = pruned_twenty()
    twin = copied(data)
    assert twin.sampler.data is twin
    for _ in range(9):
        mine = run_epoch(data, DataLoader(data, batch_size=5, sampler=data.sampler))
        other = run_epoch(twin, DataLoader(twin, batch_size=5, sampler=twin.sampler))
        assert mine == other
    twin.selector.observe(torch.arange(20), torch.full((20,), 9.0))
    assert isinstance(data.selector, InfoBatchSelector)
    assert 9.0 not in data.selector.scores.tolist()


# ---------------------------------------------------------------------------- defect 5: indices beside half-precision losses
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_losses_of_any_precision_go_to_the_right_example(dtype: torch.dtype) -> None:
    data = InfoBatch(Tens(40_010), epochs=2)  # 40001 is 39936 in bfloat16
    next(iter(data.sampler))
    loss = data.update(torch.tensor([0.5, 1.5], dtype=dtype), torch.tensor([40_001, 3]))
    assert isinstance(data.selector, InfoBatchSelector)
    assert data.selector.scores[[3, 40_001]].tolist() == [1.5, 0.5]
    assert int(data.selector.scores.isnan().sum()) == 40_008
    assert loss.dtype == torch.float32
    assert float(loss) == 1.0


def test_indices_above_two_to_the_24() -> None:
    first = 2**24  # as floats, 2^24 and 2^24 + 1 are one number
    data = InfoBatch(Tens(first + 3), epochs=2)
    next(iter(data.sampler))
    state = data.state_dict()
    state["weights"][first + 1] = 4.0
    data.load_state_dict(state)
    next(iter(data.sampler))
    loss = data.update(torch.tensor([1.0, 3.0]), torch.tensor([first, first + 1]))
    assert isinstance(data.selector, InfoBatchSelector)
    assert data.selector.scores[first : first + 2].tolist() == [1.0, 3.0]
    assert float(loss) == (1 + 4 * 3) / 2


# ------------------------------------------------------------------------------- defects 6, 7: nothing global is touched
def test_global_random_states_stay_as_they_are() -> None:
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    data = InfoBatch(Tens(20), epochs=4, seed=3)
    # A loader draws a seed for its workers, from torch's global generator unless it is given one.
    loader = DataLoader(data, batch_size=5, sampler=data.sampler, generator=torch.Generator())
    for _ in range(4):
        run_epoch(data, loader)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before  # noqa: NPY002


def test_seeds_prune_differently_whatever_the_global_seed() -> None:
    plans: list[frozenset[int]] = []
    for seed in (1, 1, 2, 3):
        np.random.seed(0)  # noqa: NPY002
        torch.manual_seed(len(plans))
        data = pruned_twenty(seed=seed)
        plans.append(frozenset(data.sampler))
    assert plans[0] == plans[1]
    assert len(set(plans)) == 3


def test_other_loaders_are_left_alone() -> None:
    before = dict(vars(DataLoader))
    data = pruned_twenty()
    run_epoch(data, DataLoader(data, batch_size=5, sampler=data.sampler))
    assert dict(vars(DataLoader)) == before
    assert [batch.tolist() for batch in DataLoader(Tens(4), batch_size=2)] == [[0.0, 10.0], [20.0, 30.0]]


# ---------------------------------------------------------------------------------------------------- defect 8: resuming
def batches_of(data: SelectedData[Any], drop_last: bool, losses: Tensor, passes: int) -> Iterator[Batch]:
    """Train on for some passes; every example's loss changes from visit to visit."""
    loader = DataLoader(data, batch_size=4, sampler=data.sampler, drop_last=drop_last)
    for _ in range(passes):
        for _, index in loader:
            yield index.tolist(), float(data.update(losses[data.state_dict()["epoch"], index], index))


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize("drop_last", [False, True])
def test_resuming_after_any_batch_gives_the_same_continuation(drop_last: bool) -> None:
    size, epochs = 18, 5
    losses = torch.rand(epochs, size, generator=torch.Generator().manual_seed(4))

    def fresh() -> InfoBatch[float]:
        return InfoBatch(Tens(size), epochs=epochs, delta=0.8)

    whole = list(batches_of(fresh(), drop_last, losses, epochs))
    assert any(len(indices) < 4 for indices, _ in whole) is not drop_last  # smaller last batches are among them
    for done in range(len(whole)):
        data, resumed = fresh(), fresh()
        start = [batch for _, batch in zip(range(done), batches_of(data, drop_last, losses, epochs), strict=False)]
        resumed.load_state_dict(through_a_file(data.state_dict()))
        # One pass more than are left: a pass that was cut off at its very end can be empty.
        rest = batches_of(resumed, drop_last, losses, epochs)
        assert start + [batch for _, batch in zip(range(len(whole) - done), rest, strict=False)] == whole


@pytest.mark.parametrize("drop_last", [False, True])
def test_resuming_between_epochs_starts_a_whole_epoch(drop_last: bool) -> None:
    data, resumed = pruned_twenty(), InfoBatch(Tens(20), epochs=10)
    options: dict[str, Any] = {"batch_size": 5, "drop_last": drop_last}
    run_epoch(data, DataLoader(data, sampler=data.sampler, **options))  # 12 examples: drop_last leaves 2 behind
    resumed.load_state_dict(through_a_file(data.state_dict()))
    assert len(resumed.sampler) == len(data.sampler) == 12
    loader = DataLoader(resumed, sampler=resumed.sampler, **options)
    assert run_epoch(resumed, loader) == run_epoch(data, DataLoader(data, sampler=data.sampler, **options))


def test_length_after_resuming_is_what_is_left() -> None:
    data, resumed = pruned_twenty(), InfoBatch(Tens(20), epochs=10)
    _, index = next(iter(DataLoader(data, batch_size=5, sampler=data.sampler)))
    data.update(two_levels(index), index)
    resumed.load_state_dict(data.state_dict())
    loader = DataLoader(resumed, batch_size=5, sampler=resumed.sampler)
    assert len(loader) == 2  # 7 of 12 are left
    assert len(visited(run_epoch(resumed, loader))) == 7


def test_a_state_that_is_saved_before_it_is_used_is_still_mid_epoch() -> None:
    data, resumed, again = pruned_twenty(), InfoBatch(Tens(20), epochs=10), InfoBatch(Tens(20), epochs=10)
    iterator = iter(DataLoader(data, batch_size=5, sampler=data.sampler))
    for _ in range(2):
        _, index = next(iterator)
        data.update(two_levels(index), index)
    resumed.load_state_dict(data.state_dict())
    again.load_state_dict(resumed.state_dict())
    assert list(again.sampler) == next(iterator)[1].tolist()  # the 2 of 12 that are left


def test_a_state_is_a_copy() -> None:
    data = pruned_twenty()
    state = data.state_dict()
    scores, seen = state["selector"]["scores"].clone(), state["seen"].clone()
    first = next(iter(data.sampler))
    data.update(torch.tensor([5.0]), torch.tensor([first]))
    assert torch.equal(state["selector"]["scores"], scores)
    assert torch.equal(state["seen"], seen)


# ----------------------------------------------------------------------------------- defect 9: loaders that run ahead
def one_batch_ahead(loader: DataLoader[Any]) -> Iterator[Any]:
    """A prefetcher as CUDA users write it: the next batch is drawn before the present one is given out."""
    iterator = iter(loader)
    waiting = next(iterator)
    for coming in iterator:
        yield waiting
        waiting = coming
    yield waiting


def test_a_prefetcher_pairs_losses_with_the_right_examples() -> None:
    data = InfoBatch(Tens(22), epochs=4)
    loader = DataLoader(data, batch_size=4, sampler=data.sampler)
    sizes = []
    for _ in range(4):
        seen: list[int] = []
        for item, index in one_batch_ahead(loader):
            data.update(item.float() + 0.5, index)
            seen += index.tolist()
        sizes.append(len(seen))
        assert isinstance(data.selector, InfoBatchSelector)
        assert data.selector.scores[seen].tolist() == [10 * at + 0.5 for at in seen]
    # Losses 0.5, 10.5, ..., 210.5: half of the 22 lie below the mean, and int(11 / 2) of them are kept.
    assert sizes == [22, 16, 16, 22]  # the last epoch is whole, though delta of four epochs comes after it


# --------------------------------------------------------------------------------------------------- the three lines
def test_the_three_lines_train() -> None:
    """The lines of the module's docstring, run as they stand, with an optimiser's step behind them."""
    assert dropin.__doc__ is not None
    lines = [line[4:] for line in dropin.__doc__.splitlines() if line.startswith("    ")]
    assert [line[-3:] for line in lines if line[-3:-1] == "# "] == ["# 1", "# 2", "# 3"]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 2, generator=generator)
    y = (x.sum(dim=1) + 0.3 * torch.randn(600, generator=generator) > 0).long()
    model = nn.Linear(2, 2)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    names: dict[str, Any] = {
        "InfoBatch": InfoBatch,
        "DataLoader": DataLoader,
        "F": F,
        "dataset": TensorDataset(x, y),
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.5),
    }
    setup, loop = lines[:2], [*lines[2:], "    optimizer.zero_grad()", "    loss.backward()", "    optimizer.step()"]
    exec("\n".join(setup), names)
    data = names["data"]
    sizes = []
    for _ in range(4):
        sizes.append(len(data.sampler))
        exec("\n".join(loop), names)
    assert sizes[0] == 600
    assert max(sizes[1:]) < 500
    accuracy = float((model(x).argmax(dim=1) == y).float().mean())
    assert accuracy > 0.9


def test_the_names_are_at_the_top() -> None:
    assert scrimp.InfoBatch is dropin_infobatch.InfoBatch
    assert scrimp.SelectedData is dropin.SelectedData
    with pytest.raises(AttributeError, match="InfoBach"):
        scrimp.InfoBach  # noqa: B018


# ----------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("losses", "index", "message"),
    [
        (torch.tensor(1.0), torch.tensor([0, 1]), 'reduction="none"'),
        (torch.ones(3), torch.tensor([0, 1]), r"shape \(3,\), indices \(2,\)"),
        (torch.ones(2, 2), torch.tensor([[0, 1], [2, 3]]), "one loss per index"),
        (torch.ones(2, 7), torch.tensor([0, 1]), r"losses of tokens \[B, T\].*\(losses \* mask\)\.sum\(dim=1\) / mask\.sum"),
        (torch.ones(2, 7), torch.tensor([0, 1]), r"losses of labels \[B, C\].*losses\.mean\(dim=1\)"),
        (torch.ones(2, 1), torch.tensor([0, 1]), r"one an example, in a column of its own: give losses\.squeeze\(1\)$"),
        (torch.ones(2), torch.tensor([0.0, 1.0]), "indices are integers"),
    ],
)
def test_update_says_what_is_wrong(losses: Tensor, index: Tensor, message: str) -> None:
    data = InfoBatch(Tens(4), epochs=2)
    with pytest.raises(ValueError, match=message):
        data.update(losses, index)
    assert isinstance(data.selector, InfoBatchSelector)
    assert data.selector.scores.isnan().all()  # nothing was taken note of


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"epochs": 1, "ratio": 1.0}, "ratio"),
        ({"epochs": 1, "ratio": -0.1}, "ratio"),
        ({"epochs": 1, "delta": 1.5}, "delta"),
        ({"epochs": 1, "threshold": 1.5}, "threshold"),
        ({"epochs": 1, "threshold": "median"}, "threshold"),
    ],
)
def test_impossible_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InfoBatch(Tens(4), **options)


def test_scores_that_came_with_a_restored_state_outlive_a_reset() -> None:
    def made() -> SelectedData[Any]:
        return SelectedData(TensorDataset(torch.arange(20.0)), EL2N(20, 0, ratio=0.5), epochs=3)

    data = made()
    cast(EL2N, data.selector).accept_scores(torch.arange(20.0), torch.zeros(20))
    restored = made()
    restored.load_state_dict(data.state_dict())
    for _ in range(2):
        assert sorted(restored.sampler) == list(range(10, 20))
        restored.reset()
