"""The drop-ins for a model or batches of one's own: what they do in three lines, and what they refuse."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from scrimp import BatchSchedule, GhostBatchNorm, sparsify
from scrimp.errors import ScrimpError
from scrimp.methods import swat
from scrimp.methods.processes import Processes


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


def growing(**options: Any) -> BatchSchedule:
    """Batches of 4, and of 8 from the second of three epochs on."""
    return BatchSchedule(22, batch_size=4, epochs=3, at=[0.3], factor=2, largest=8, **options)


def test_a_state_from_inside_a_pass_goes_on_there() -> None:
    whole = growing()
    batches = [batch for _ in range(3) for batch in whole]
    per_epoch = [6, 3, 3]  # 4 4 4 4 4 2, then 8 8 6
    assert len(batches) == sum(per_epoch)
    for stop in range(1, len(batches)):
        first, seen = growing(), []
        while len(seen) < stop:
            for batch in first:
                seen.append(batch)
                if len(seen) == stop:
                    state = first.state_dict()
                    break
        assert first.state_dict() == state  # after the break, too
        again = growing()
        again.load_state_dict(state)
        assert again.state_dict() == state
        lengths = []
        while len(seen) < len(batches):
            told = len(again)
            rest = [(batch, len(again)) for batch in again]
            assert {length for _, length in rest} == {told}
            lengths.append(told)
            seen += [batch for batch, _ in rest]
        assert seen == batches
        assert sum(lengths) == len(batches) - stop


def test_a_state_of_all_of_an_epochs_batches_goes_on_with_the_next() -> None:
    batches = growing()
    batches.load_state_dict({"epoch": 0, "batch": 6})
    assert batches.state_dict() == {"epoch": 1, "batch": 0}


def test_a_pass_that_was_broken_off_is_behind_the_next_and_can_be_forgotten() -> None:
    batches = growing()
    next(iter(batches))
    assert batches.state_dict() == {"epoch": 0, "batch": 1}
    batches.epoch = 0
    assert batches.state_dict() == {"epoch": 0, "batch": 0}
    assert list(batches) == list(growing())
    next(iter(batches))
    assert len(list(batches)) == 3
    assert batches.state_dict() == {"epoch": 3, "batch": 0}


class OneOf(Processes):
    """As one of `world` processes sees them."""

    def __init__(self, rank: int, world: int) -> None:
        self._of = rank, world

    rank = property(lambda self: self._of[0])  # type: ignore[assignment]
    world = property(lambda self: self._of[1])  # type: ignore[assignment]


def one_of(rank: int, world: int, **options: Any) -> BatchSchedule:
    batches = growing(**options)
    batches._processes = OneOf(rank, world)
    return batches


@pytest.mark.parametrize(
    ("world", "sizes"),
    [
        (2, [[2, 2, 2, 2, 3], [4, 4, 3]]),  # of 4 4 4 4 4 2: a rest of one for each joins the batch before
        (3, [[1, 1, 1, 1, 1, 2], [2, 2, 3]]),  # of seven threes and, for batches of 8, of 6 6 6 3
        (4, [[1, 1, 1, 2], [2, 3]]),  # of five fours and of 8 8 4; two of 22 stay out
    ],
)
def test_processes_split_every_batch_into_parts_of_one_size(world: int, sizes: list[list[int]]) -> None:
    ranks = [one_of(rank, world, split=True) for rank in range(world)]
    for epoch in range(2):
        told = [len(batches) for batches in ranks]
        parts = [list(batches) for batches in ranks]
        assert told == [len(sizes[epoch])] * world
        assert [[len(part) for part in mine] for mine in parts] == [sizes[epoch]] * world
        seen = [at for mine in parts for part in mine for at in part]
        assert len(seen) == len(set(seen)) == 22 // world * world


def test_several_processes_want_a_word_about_who_splits() -> None:
    with pytest.raises(ScrimpError, match=r"all 2 processes would train on the same batches.*split=True.*split=False"):
        next(iter(one_of(0, 2)))
    with pytest.raises(ScrimpError, match="split=True"):
        len(one_of(0, 2))
    assert list(one_of(1, 2, split=False)) == list(growing())
    assert list(growing(split=True)) == list(growing())  # one process
    with pytest.raises(ScrimpError, match="a batch of 4 cannot be split over 5 processes"):
        list(one_of(0, 5, split=True))


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
        (lambda: BatchSchedule(10, batch_size=4.5, epochs=1), "batch_size is a whole number"),
        (lambda: BatchSchedule(10, batch_size=4, epochs=1.5), "epochs is a whole number"),
        (lambda: BatchSchedule(10, batch_size=4, epochs=1).load_state_dict({"epoch": -3}), "state is"),
        (lambda: BatchSchedule(10, batch_size=4, epochs=1).load_state_dict({}), "state is"),
        (lambda: BatchSchedule(10, batch_size=4, epochs=1).load_state_dict({"epoch": 0, "batch": -1}), "state is"),
        (lambda: BatchSchedule(10, batch_size=4, epochs=1).load_state_dict({"epoch": 0, "batch": 5}), "another schedule's"),
        (lambda: GhostBatchNorm.convert(nn.Linear(2, 2)), "no batch norm"),
        (lambda: GhostBatchNorm.convert(model_of(), size=1), "2 or more"),
        (lambda: GhostBatchNorm.convert(model_of(), size=32.5), "whole number"),
        (lambda: GhostBatchNorm.convert("model"), "torch.nn.Module, got str"),
        (lambda: GhostBatchNorm.convert(GhostBatchNorm.convert(model_of())), "already, in parts of 32"),
        (lambda: GhostBatchNorm.convert(nn.SyncBatchNorm(4)), "all processes"),
        (lambda: GhostBatchNorm.convert(nn.LazyBatchNorm1d()), "lazy"),
        (lambda: sparsify("model"), "torch.nn.Module, got str"),
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


def test_the_length_inside_a_pass_is_that_of_the_pass() -> None:
    batches = BatchSchedule(100, batch_size=10, epochs=2, at=[0.5], factor=2, largest=20)
    assert len(batches) == 10
    assert [len(batches) for _ in batches] == [10] * 10
    assert len(batches) == 5


class Loud(nn.BatchNorm1d):
    """A user's own batch norm."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


def test_a_batch_norm_of_ones_own_is_normalised_in_parts_too() -> None:
    norm = GhostBatchNorm.convert(nn.Sequential(Loud(1)), size=2)
    out = norm(torch.tensor([[0.0], [2.0], [10.0], [12.0]]))
    assert out.flatten().tolist() == pytest.approx([-2, 2, -2, 2], abs=1e-4)


def test_a_changed_model_is_pickled_and_copied() -> None:
    model = GhostBatchNorm.convert(model_of(), size=2)
    sparsify(model, weights=0.5, activations=0.5)
    x = torch.randn(8, 4)
    model(x)
    alike = [model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for outputs in ([each(x) for each in alike], [each.eval()(x) for each in alike]):
        assert torch.equal(outputs[0], outputs[1])
        assert torch.equal(outputs[0], outputs[2])


def test_a_new_sparse_model_is_evaluated_with_gradients_on() -> None:
    model = nn.Sequential(nn.Linear(2, 4, bias=False), nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[1].weight.copy_(torch.tensor([[1.0, -4.0, 2.0, 3.0]]))
    sparsify(model, weights=0.5)
    assert model.eval()(torch.tensor([[1.0, 1.0]])).item() == 2 * (-4 + 3)


def sparse_layers(model: nn.Module) -> list[Any]:
    return [layer for layer in model.modules() if hasattr(layer, "thinned")]


def kept_shares(model: nn.Module) -> list[float]:
    """What share of its weights each sparse layer of `narrow` computes with in evaluation."""
    model.eval()
    return [float((layer(torch.eye(10)) != 0).float().mean()) for layer in sparse_layers(model)]


def narrow() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 10), nn.Linear(10, 10, bias=False), nn.Linear(10, 10, bias=False))


def test_an_evaluation_keeps_the_largest_of_the_present_weights() -> None:
    """Whatever thresholds training had: after a checkpoint, in an average of models, after a write to the data itself."""
    model = narrow()
    early = {name: value.clone() / 100 for name, value in model.state_dict().items()}
    sparsify(model, weights=0.2)
    average = torch.optim.swa_utils.AveragedModel(model)
    model(torch.randn(8, 4))
    average.update_parameters(model)
    assert kept_shares(model) == pytest.approx([0.2, 0.2])
    with torch.no_grad():
        for layer in sparse_layers(model):
            layer.weight.div_(10)
    average.update_parameters(model)  # the mean of weights and a tenth of them
    assert kept_shares(average) == pytest.approx([0.2, 0.2])
    model.load_state_dict(early)
    assert kept_shares(model) == pytest.approx([0.2, 0.2])
    model.train()
    for layer in sparse_layers(model):
        layer.weight.data /= 10
    assert kept_shares(model) == pytest.approx([0.2, 0.2])


def test_training_goes_on_from_loaded_weights_with_thresholds_of_theirs() -> None:
    model = narrow()
    early = {name: value.clone() / 100 for name, value in model.state_dict().items()}
    sparsify(model, weights=0.2, refresh=10)
    model(torch.randn(8, 4))
    model.load_state_dict(early)
    assert model(torch.randn(8, 4)).abs().max() > 0  # the next search by age is nine passes away
    states = [layer.thinned for layer in sparse_layers(model)]
    kept = [int((state.layer.weight.abs() >= state.thresholds[0]).sum()) for state in states]
    assert kept == [20, 20]


def test_weights_that_a_parametrization_makes_are_found_anew() -> None:
    model = narrow()
    for layer in model:
        nn.utils.parametrizations.weight_norm(layer)
    early = {name: value.clone() / 100 for name, value in model.state_dict().items()}
    sparsify(model, weights=0.2)
    model(torch.randn(8, 4))
    for _ in range(3):
        assert kept_shares(model) == pytest.approx([0.2, 0.2])
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter))
    states = [layer.thinned for layer in sparse_layers(model)]
    model.load_state_dict(early)
    assert [state.thresholds for state in states] == [[], []]


def test_an_evaluation_searches_once_for_many_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    searches, search = [], swat.threshold_of

    def counted(ranked: Tensor, count: int) -> Tensor:
        searches.append(count)
        return search(ranked, count)

    monkeypatch.setattr(swat, "threshold_of", counted)
    model = narrow()
    sparsify(model, weights=0.2)
    model.eval()
    for _ in range(3):
        model(torch.randn(2, 4))
    assert searches == [20, 20]  # one a layer
    with torch.no_grad():
        sparse_layers(model)[0].weight.mul_(2)
    model(torch.randn(2, 4))
    assert searches == [20, 20, 20]


def test_weights_that_are_no_numbers_are_evaluated_to_none() -> None:
    model = narrow()
    sparsify(model, weights=0.2)
    with torch.no_grad():
        sparse_layers(model)[1].weight[0, 0] = torch.nan
    assert model.eval()(torch.randn(2, 4))[:, 0].isnan().all()


class Turned(nn.Module):
    """A linear map with weights of its own, [in, out], as transformers' Conv1D has them."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(into, out))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


class Heads(nn.Module):
    """A product that no shape tells."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 8, 4))
        self.scale = nn.Parameter(torch.ones(1, 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bd,hdk->bhk", x * self.scale, self.weight).flatten(1)


def test_modules_with_weights_of_their_own_are_told_and_counted_where_they_can_be() -> None:
    body = nn.Sequential(nn.Linear(4, 8), Turned(8, 8), nn.Linear(8, 2))
    with pytest.warns(UserWarning, match=r"stay dense.*: 1 \(Turned\)$"):
        sparse = sparsify(body, weights=0.25, activations=0.25)
    body(torch.randn(3, 5, 4))  # whatever the places of an example
    # 2 passes of the first, 3 of the dense one, 0.75 of the thinned one.
    assert sparse.flops(0.0, 1.0) == pytest.approx((2 * 32 + 3 * 64 + 0.75 * 16) / (2 * 32 + 3 * 64 + 3 * 16))
    body = nn.Sequential(nn.Linear(4, 8), Heads(), nn.LayerNorm(8), nn.Linear(8, 2))
    with pytest.warns(UserWarning, match=r"stay dense.*: 1 \(Heads\)$"):
        sparse = sparsify(body, weights=0.25, activations=0.25)
    with pytest.warns(UserWarning, match=r"leaves out what it cannot count, the products of 1 \(Heads\)"):
        body(torch.randn(3, 4))
    assert sparse.flops(0.0, 1.0) == pytest.approx((2 * 32 + 0.75 * 16) / (2 * 32 + 3 * 16))


class Backwards(nn.Module):
    """Layers that are registered in another order than they run in."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.stem = nn.Linear(8, 2), nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x).relu())


def test_the_layer_that_stays_dense_can_be_named_and_another_that_ran_first_is_told() -> None:
    x = torch.randn(3, 4)
    model = Backwards()
    assert list(sparsify(model, weights=0.5).states) == ["stem"]
    model = pickle.loads(pickle.dumps(model))
    with pytest.warns(UserWarning, match=r"stem ran first.*sparsify\(\.\.\., first='stem'\)"):
        model(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(x)  # told once
        model = Backwards()
        sparse = sparsify(model, weights=0.25, activations=0.25, first="stem")
        model(x)
    assert list(sparse.states) == ["head"]
    assert sparse.flops(0.0, 1.0) == pytest.approx((2 * 32 + 0.75 * 16) / (2 * 32 + 3 * 16))
    with pytest.raises(ScrimpError, match="'body' is no convolution or linear map of the model, which has head, stem"):
        sparsify(Backwards(), first="body")


def steps_of(run: Callable[[nn.Module, Tensor], Tensor]) -> tuple[list[Tensor], list[int]]:
    """Weights after some steps of a sparse model that is run in one way or another, and its layers' ages."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    sparse = sparsify(model, refresh=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(8):
        optimizer.zero_grad()
        run(model, torch.randn(8, 4, requires_grad=True)).square().mean().backward()
        optimizer.step()
    return [value.detach() for value in model.parameters()], [state.age for state in sparse.states.values()]


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_changes_no_number(reentrant: bool) -> None:
    """The second pass is masked as the first was, and is not counted as one."""
    plain, ages = steps_of(lambda model, x: model(x))
    again, same = steps_of(lambda model, x: checkpoint(model, x, use_reentrant=reentrant))
    assert all(torch.equal(*pair) for pair in zip(plain, again, strict=True))
    assert ages == same == [8, 8]


def test_a_compiled_model_is_the_eager_one() -> None:
    torch._dynamo.reset()
    plain, ages = steps_of(lambda model, x: model(x))
    compiled, same = steps_of(lambda model, x: torch.compile(model, backend="eager")(x))
    assert all(torch.equal(*pair) for pair in zip(plain, compiled, strict=True))
    assert ages == same == [8, 8]


@pytest.mark.parametrize("structured", [False, True])
def test_one_example_without_a_batch_is_a_batch_of_one(structured: bool) -> None:
    pictures = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3, padding=1))
    for model, x in ((narrow(), torch.randn(4)), (pictures, torch.randn(1, 6, 6))):
        model[-1].bias = nn.Parameter(torch.randn(len(model[-1].weight)))  # type: ignore[arg-type]
        sparsify(model, weights=0.5, activations=0.5, structured=structured)
        twin = copy.deepcopy(model)
        alone, batch = model(x), twin(x[None])
        assert torch.equal(alone, batch[0])
        alone.square().sum().backward()
        batch.square().sum().backward()
        for one, other in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)
        assert torch.equal(model.eval()(x), twin.eval()(x[None])[0])


def test_an_empty_batch_goes_through_a_sparse_model() -> None:
    model = model_of()[3:]
    sparsify(nn.Sequential(nn.Linear(8, 8), model), weights=0.5)
    assert model(torch.zeros(0, 8)).shape == (0, 2)


def test_a_refused_model_is_left_as_it_was() -> None:
    layers = [nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding="same")]
    with pytest.raises(ScrimpError, match="padding"):
        sparsify(nn.Sequential(*layers))
    assert {type(layer) for layer in layers} == {nn.Conv2d}


def test_what_stays_dense_in_a_transformer_is_told_and_counted() -> None:
    width, inner, tokens = 8, 16, 5
    block = nn.TransformerEncoderLayer(width, 2, inner, dropout=0.0, batch_first=True)
    model = nn.Sequential(nn.Linear(3, width), block, nn.Linear(width, 2))
    with pytest.warns(UserWarning, match=r"stay dense.*self_attn \(MultiheadAttention\)"):
        sparse = sparsify(model, weights=0.25, activations=0.25)
    x = torch.randn(2, tokens, 3)
    model(x)
    first, attention, thinned = 3 * width, 4 * width * width, 2 * width * inner + 2 * width
    needed = 2 * first + 3 * attention + 3 * 0.25 * thinned
    assert sparse.flops(0.0, 1.0) == pytest.approx(needed / (2 * first + 3 * attention + 3 * thinned))
    # torch's short cut for finished transformers would take the whole weights.
    model.eval()
    with torch.no_grad():
        before = model(x)
        block.linear1.weight[block.linear1.weight.abs() < block.linear1.weight.abs().flatten().quantile(0.5)] = 0.0
        assert torch.equal(model(x), before)


def test_evaluation_sees_weights_that_were_written_to_without_a_trace() -> None:
    model = model_of().eval()
    sparsify(model, weights=0.25)
    layer, x = model[3], torch.randn(6, 8)
    before = layer(x)
    version = layer.weight._version
    layer.weight.data.mul_(1e-3)
    layer.bias.data.mul_(1e-3)
    assert layer.weight._version == version
    assert torch.allclose(layer(x), before * 1e-3)


def test_positions_that_a_model_adds_are_no_products() -> None:
    class Positioned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.positions = nn.Parameter(torch.zeros(5, 4))
            self.layers = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.layers(x + self.positions)
            return found

    model = Positioned()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sparsify(model)
        model(torch.randn(3, 5, 4))
