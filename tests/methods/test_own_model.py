"""The drop-ins for a model or batches of one's own: what they do in three lines, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from scrimp import BatchSchedule, GhostBatchNorm, sparsify
from scrimp.errors import ScrimpError


def model_of() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def test_batches_grow_where_the_rate_would_fall() -> None:
    batches = BatchSchedule(1000, batch_size=10, epochs=4, at=[0.25, 0.5], factor=5)
    sizes = []
    rates = []
    for _ in range(4):
        seen: list[int] = []
        for (x,) in DataLoader(TensorDataset(torch.arange(1000)), batch_sampler=batches):
            seen += x.tolist()
            sizes.append(len(x))
            rates.append(batches.learning_rate)
        assert sorted(seen) == list(range(1000))  # each example once an epoch
    # 10, then 50, then the bound of a tenth of the examples, 100, in place of 250: the rate takes the rest.
    assert sizes == [10] * 100 + [50] * 20 + [100] * 20
    assert rates == pytest.approx([1] * 120 + [100 / 250] * 20)


def test_an_epoch_is_a_new_order_that_a_state_goes_on_with() -> None:
    first = BatchSchedule(20, batch_size=4, epochs=3)
    epochs = [list(first) for _ in range(3)]
    assert epochs[0] != epochs[1]
    again = BatchSchedule(20, batch_size=4, epochs=3)
    again.load_state_dict({"epoch": 2})
    assert len(again) == len(epochs[2])
    assert list(again) == epochs[2]


def test_a_rest_of_one_joins_the_batch_before() -> None:
    assert BatchSchedule(9, batch_size=4, epochs=1, at=[0.99]).sizes(0) == [4, 5]


def test_ghost_batches_are_normalised_apart() -> None:
    norm = nn.Sequential(nn.BatchNorm1d(1))
    assert GhostBatchNorm.convert(norm, size=2) is norm
    out = norm(torch.tensor([[0.0], [2.0], [10.0], [12.0]]))
    assert out.flatten().tolist() == pytest.approx([-1, 1, -1, 1], abs=1e-4)


def test_sparse_layers_compute_with_the_largest_weights() -> None:
    model = nn.Sequential(nn.Linear(2, 4, bias=False), nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[1].weight.copy_(torch.tensor([[1.0, -4.0, 2.0, 3.0]]))
    sparse = sparsify(model, weights=0.5, activations=0.5)
    assert model(torch.tensor([[1.0, 1.0]])).item() == 2 * (-4 + 3)
    # The first layer is dense, 2 of 3 passes of it; the second needs half of its three: 16 + 12 of 16 + 24.
    assert sparse.flops(0.0, 1.0) < 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BatchSchedule(0, batch_size=1, epochs=1), "needs examples"),
        (lambda: BatchSchedule(10, batch_size=11, epochs=1), "1 to all examples"),
        (lambda: BatchSchedule(10, batch_size=4, epochs=1, largest=2), "only grow"),
        (lambda: BatchSchedule(10, batch_size=4, epochs=1, at=[0.5, 0.2]), "larger than the one before"),
        (lambda: BatchSchedule(10, batch_size=4, epochs=1, grow=2), "grow"),
        (lambda: GhostBatchNorm.convert(nn.Linear(2, 2)), "no batch norm"),
        (lambda: GhostBatchNorm.convert(model_of(), size=1), "2 or more"),
        (lambda: sparsify(nn.Linear(2, 2)), "first stays dense"),
        (lambda: sparsify(model_of(), weights=0), "weights"),
        (lambda: sparsify(model_of(), dense=True), "dense"),
    ],
)
def test_what_cannot_be_is_told(make: Any, words: str) -> None:
    with pytest.raises(ScrimpError) as told:
        make()
    assert words in str(told.value)


def test_a_model_is_made_sparse_once() -> None:
    model = model_of()
    sparsify(model)
    with pytest.raises(ScrimpError, match="once"):
        sparsify(model)
