"""The ops' CPU paths against the specification, autograd, fake tensors, FLOP counts, and bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from scrimp.errors import ScrimpError
from scrimp.kernels import (
    check,
    chunked_sigmoid_loss,
    cross_entropy,
    learnability,
    nearest_prototype,
    pairwise_learnability_update,
    prune,
    prune_and_rescale,
    rowwise_cross_entropy,
    sigmoid,
    topk,
    topk_mask,
)
from scrimp.kernels.dispatch import implementation_for, used

CPU = torch.device("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layers(count: int, chunk: int, width: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Arguments of the chunk update for two models."""
    rows, some = (torch.randn(4, n, width, generator=seeded(n), dtype=dtype) for n in (count, chunk))
    scalars = ([9.0, 9.0, 3.0, 3.0], [-5.0, -5.0, -1.0, -1.0], [1.0, 1.0, -1.0, -1.0])
    return [rows, some, *(torch.tensor(values, dtype=dtype) for values in scalars)]


@pytest.mark.parametrize("implementation", ["cpu", "reference"])
def test_every_case_of_the_self_check_passes(implementation: Any) -> None:
    outcomes = list(check.cases(CPU, implementation, seeded(7)))
    assert {outcome.op for outcome in outcomes} == {
        "pairwise_learnability_update",
        "chunked_sigmoid_loss",
        "rowwise_cross_entropy",
        "nearest_prototype",
        "prune_and_rescale",
        "topk_mask",
    }
    assert [outcome for outcome in outcomes if not outcome.passed] == []


def test_the_self_check_finds_an_error_and_a_difference_between_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    true = learnability.blocked
    monkeypatch.setattr(learnability, "blocked", lambda *inputs: 1.001 * true(*inputs))
    args = (CPU, "cpu", torch.float32, (7, 3, 64), check.PRODUCT["sum"], seeded())
    assert not check._learnability(*args).passed
    noise = iter(range(1, 9))
    monkeypatch.setattr(learnability, "blocked", lambda *inputs: true(*inputs) * (1 + next(noise) * 1e-7))
    outcome = check._learnability(*args)
    assert outcome.largest < outcome.bound
    assert not outcome.repeatable
    assert not outcome.passed


# ------------------------------------------------------------------------------------------------------------ by hand
def test_a_chunk_of_one_pair_by_hand() -> None:
    """One model, one candidate: softplus of both crossed products."""
    candidates = torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]]])  # its image, its text
    chunk = torch.tensor([[[0.0, 1.0]], [[0.8, 0.6]]])
    scale, bias, sign = torch.tensor([2.0, 2.0]), torch.tensor([-1.0, -1.0]), torch.ones(2)
    # image . text of the chunk: .8; text . image of the chunk: .8. Both logits are 2 * .8 - 1 = .6.
    expected = 2 * torch.log1p(torch.tensor(0.6).exp())
    got = pairwise_learnability_update(candidates, chunk, scale, bias, sign)
    torch.testing.assert_close(got, expected[None])


@pytest.mark.parametrize("rows", [1, 2, 31, 32, 33, 100])
def test_grouped_softplus_keeps_small_and_survives_large_terms(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learnability, "FEW_ELEMENTS", 0)
    for spread, shift in ((1.0, -10.0), (40.0, 0.0), (1.0, -17.0), (0.0, 0.0), (1.0, 90.0)):
        logits = spread * torch.randn(3, rows, 50, generator=seeded(rows)) + shift
        expected = torch.nn.functional.softplus(logits.double(), threshold=1000).sum(dim=1)
        torch.testing.assert_close(learnability.softplus_sums(logits.clone()).double(), expected, rtol=3e-6, atol=1e-30)
        whole = learnability.softplus_sums(logits, whole=True).double()
        assert whole.isfinite().all() or shift == 90.0 or spread == 40.0
        torch.testing.assert_close(whole[whole.isfinite()], expected[whole.isfinite()], rtol=3e-6, atol=1e-30)


@pytest.mark.parametrize("block", [0, 1, 3])
def test_cross_entropy_and_its_gradients_are_torchs_in_any_block(block: int) -> None:
    hidden, weight = (torch.randn(n, 5, generator=seeded(n), dtype=torch.float64).requires_grad_() for n in (7, 11))
    labels = torch.tensor([0, 10, 3, -100, 5, 5, 1])
    factors = torch.arange(7.0, dtype=torch.float64)
    losses = rowwise_cross_entropy(hidden, weight, labels, block)
    expected = torch.nn.functional.cross_entropy(hidden @ weight.T, labels, reduction="none")
    torch.testing.assert_close(losses, expected)
    for got, known in zip(
        torch.autograd.grad((losses * factors).sum(), (hidden, weight)),
        torch.autograd.grad((expected * factors).sum(), (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(got, known)


def test_ops_obey_torchs_rules() -> None:
    """Schemas, fake tensors, autograd registration: `opcheck` runs each op eagerly and traced."""
    rows = layers(6, 4, 3, torch.float32)
    torch.library.opcheck(torch.ops.scrimp.pairwise_learnability_update.default, (*rows,))
    image, text = (torch.randn(5, 3, generator=seeded(n)).requires_grad_() for n in range(2))
    scalars = (torch.tensor(3.0, requires_grad=True), torch.tensor(-2.0, requires_grad=True))
    torch.library.opcheck(torch.ops.scrimp.chunked_sigmoid_loss.default, (image, text, *scalars))
    more = torch.randn(7, 3, generator=seeded(2)).requires_grad_()
    torch.library.opcheck(torch.ops.scrimp.chunked_sigmoid_loss.default, (image, more, *scalars, 2, False))
    torch.library.opcheck(torch.ops.scrimp.rowwise_cross_entropy.default, (image, text, torch.tensor([0, 1, 2, 3, 4])))
    torch.library.opcheck(torch.ops.scrimp.nearest_prototype.default, (image.detach(), text.detach()))
    torch.library.opcheck(torch.ops.scrimp.topk_mask.default, (image.detach(), 4))
    torch.library.opcheck(torch.ops.scrimp.prune_and_rescale.default, (torch.rand(20, generator=seeded()), 0.5, 3))


def test_flops_are_counted() -> None:
    rows = layers(6, 4, 3, torch.float32)
    image, text = (torch.randn(5, 3, generator=seeded(n)).requires_grad_() for n in range(2))
    scalars = (torch.tensor(1.0), torch.tensor(0.0))
    cases: list[tuple[Callable[[], Any], int]] = [
        (lambda: pairwise_learnability_update(*rows), 2 * 4 * 6 * 4 * 3),
        (lambda: nearest_prototype(image.detach(), text.detach()), 2 * 5 * 5 * 3),
        (lambda: rowwise_cross_entropy(image, text, torch.arange(5), 4).sum().backward(), (2 + 6) * 5 * 5 * 3),
        (lambda: chunked_sigmoid_loss(image, text, *scalars).backward(), (2 + 6) * 5 * 5 * 3),
        (lambda: chunked_sigmoid_loss(image, text[:2], *scalars, pairs=False).backward(), (2 + 6) * 5 * 2 * 3),
    ]
    for run, expected in cases:
        with FlopCounterMode(display=False) as counter:
            run()
        assert counter.get_total_flops() == expected


# ------------------------------------------------------------------------------------------------ a loss without pairs
def all_negatives(image: torch.Tensor, text: torch.Tensor, scale: float = 1.0, bias: float = 0.0, block: int = 0) -> Any:
    return chunked_sigmoid_loss(image, text, torch.tensor(scale), torch.tensor(bias), block, pairs=False)


def test_two_images_and_a_text_that_belongs_to_neither_by_hand() -> None:
    image, text = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.6, 0.8]])
    # Logits 2 z.t - 1: .2 and .6, both of negatives; over two images.
    expected = (torch.log1p(torch.tensor(0.2).exp()) + torch.log1p(torch.tensor(0.6).exp())) / 2
    torch.testing.assert_close(all_negatives(image, text, 2.0, -1.0), expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 12), st.integers(0, 1000))
def test_a_loss_without_pairs_is_the_dense_forms_in_any_block(rows: int, columns: int, block: int, seed: int) -> None:
    image, text = (torch.randn(n, 4, generator=seeded(seed + n), dtype=torch.float64) for n in (rows, columns))
    scalars = (torch.tensor(3.0, dtype=torch.float64), torch.tensor(-2.0, dtype=torch.float64))
    inputs = [value.requires_grad_() for value in (image, text, *scalars)]
    ours = chunked_sigmoid_loss(*inputs, block, False)
    theirs = torch.nn.functional.softplus(scalars[0] * image @ text.T + scalars[1], threshold=50).sum() / rows
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for got, known in zip(*(torch.autograd.grad(loss, inputs) for loss in (ours, theirs)), strict=True):
        torch.testing.assert_close(got, known, rtol=1e-11, atol=1e-12)


def test_gradients_of_a_loss_without_pairs_are_the_numerical_ones() -> None:
    image, text = (torch.randn(n, 3, generator=seeded(n), dtype=torch.float64).requires_grad_() for n in (4, 6))
    scalars = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (3.0, -1.0)]
    assert torch.autograd.gradcheck(lambda *inputs: chunked_sigmoid_loss(*inputs, 3, False), (image, text, *scalars))


def test_pairs_and_negatives_add_up_to_all_combinations() -> None:
    """Halves of a batch with a diagonal each, and the two blocks off it: what several processes compute."""
    image, text = (torch.randn(10, 4, generator=seeded(n), dtype=torch.float64) for n in range(2))
    scalars = (torch.tensor(3.0, dtype=torch.float64), torch.tensor(-2.0, dtype=torch.float64))
    halves = [slice(0, 5), slice(5, 10)]
    parts = [chunked_sigmoid_loss(image[a], text[b], *scalars, pairs=a == b) for a in halves for b in halves]
    torch.testing.assert_close(torch.stack(parts).sum() / 2, chunked_sigmoid_loss(image, text, *scalars))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_touches_no_loss_without_pairs(dtype: torch.dtype) -> None:
    image, text = (torch.randn(n, 16, generator=seeded(n)).to(dtype).div(4).requires_grad_() for n in (20, 33))
    plain = all_negatives(image, text, 5.0, -3.0)
    known = torch.autograd.grad(plain, (image, text))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = all_negatives(image, text, 5.0, -3.0)
        got = torch.autograd.grad(loss, (image, text))
    assert loss.dtype == torch.float32
    assert torch.equal(loss, plain)
    assert [part.dtype for part in got] == [dtype, dtype]
    assert all(torch.equal(a, b) for a, b in zip(got, known, strict=True))


def test_a_compiled_loss_without_pairs_is_the_eager_one() -> None:
    image, text = (torch.randn(n, 4, generator=seeded(n)).requires_grad_() for n in (5, 7))
    compiled = torch.compile(all_negatives, backend="aot_eager", fullgraph=True)
    losses = [loss(image, text, 3.0, -2.0, 2) for loss in (compiled, all_negatives)]
    assert torch.equal(*losses)
    for got, known in zip(*(torch.autograd.grad(loss, (image, text)) for loss in losses), strict=True):
        assert torch.equal(got, known)


# ------------------------------------------------------------------------------------------------------------- pruning
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 10, width=32) | st.just(float("nan")), max_size=60), st.floats(0, 0.95), st.integers(0, 2**63 - 1)
)
def test_pruning_keeps_what_the_specification_keeps(values: list[float], ratio: float, seed: int) -> None:
    scores = torch.tensor(values, dtype=torch.float32)
    indices, weights = prune_and_rescale(scores, ratio, seed)
    high, low = prune.reference(scores, ratio, seed)
    assert indices.tolist() == high.tolist() + low.tolist()
    assert torch.equal(weights[: len(high)], torch.ones(len(high)))
    torch.testing.assert_close(weights[len(high) :], torch.full((len(low),), 1 / (1 - ratio)))


def test_keys_choose_uniformly_and_anew_for_every_seed() -> None:
    scores = torch.cat([torch.zeros(1000), torch.ones(1000)])
    times = torch.zeros(1000)
    for seed in range(400):
        indices, _ = prune_and_rescale(scores, 0.7, seed)
        assert len(indices) == 1000 + 300
        times[indices[1000:]] += 1
    # Each of the thousand is kept 120 times in 400, give or take a binomial's 9.2: the sum of squares is a chi square's.
    spread = float(((times - 120) ** 2).mean())
    assert 75 < spread < 94
    assert abs(float(times[:500].mean()) - 120) < 1.5


def test_equal_scores_are_all_kept() -> None:
    """Their mean is themselves, whatever a float32 sum of a million of them would say."""
    indices, weights = prune_and_rescale(torch.full((1_000_003,), 0.1), 0.5, 0)
    assert len(indices) == 1_000_003
    assert float(weights.max()) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-4, 4, width=16), min_size=1, max_size=50), st.data())
def test_masks_are_those_of_a_stable_sort(values: list[float], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(values)))
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        numbers = torch.tensor(values, dtype=dtype)
        mask = topk_mask(numbers, count)
        assert int(mask.sum()) == count
        if count:
            assert torch.equal(mask[None], topk.reference(numbers[None], count))
        assert torch.equal(topk_mask(torch.stack([numbers, -numbers.flip(0)]), count, rowwise=True)[0], mask)


@pytest.mark.parametrize("dtype", topk.FLOATS)
def test_rows_that_do_not_lie_one_after_the_other_are_masked_as_others(dtype: torch.dtype) -> None:
    many_ties = torch.randn(64, 32, generator=seeded(3)).relu().to(dtype)
    for values in (
        torch.ones(3, 4, dtype=dtype).t(),
        many_ties.t(),
        many_ties,
        torch.ones(4, 2, 3, dtype=dtype).permute(1, 2, 0),
    ):
        count = values.shape[-1] // 2
        rows = values.reshape(-1, values.shape[-1])
        assert torch.equal(topk_mask(values, count, rowwise=True), topk.reference(rows, count).view(values.shape))


LARGE = 3 * topk.SAMPLED
UNFAIR = {
    "drawn": torch.randn(LARGE, generator=torch.Generator().manual_seed(0)),
    "sorted": torch.linspace(-1, 1, LARGE),
    "all alike": torch.ones(LARGE),
    "mostly zeros": torch.randn(LARGE, generator=torch.Generator().manual_seed(1)).relu(),
    # What a sample of every 64th sees is all at one end.
    "large where sampled": torch.where(torch.arange(LARGE) % topk.STRIDE == 0, 9.0, 0.0) + torch.rand(LARGE),
    "small where sampled": torch.where(torch.arange(LARGE) % topk.STRIDE == 0, 0.0, 9.0) + torch.rand(LARGE),
    "infinite": torch.where(torch.arange(LARGE) % 3 == 0, torch.inf, torch.linspace(-1, 1, LARGE)),
}


@pytest.mark.parametrize("kind", UNFAIR)
@pytest.mark.parametrize("share", [1e-5, 0.1, 0.5, 0.9, 1.0])
def test_masks_of_many_numbers_do_not_hang_on_the_sample(kind: str, share: float) -> None:
    count = max(1, int(share * LARGE))
    mask = topk_mask(UNFAIR[kind], count)
    assert torch.equal(mask[None], topk.reference(UNFAIR[kind][None], count))


# ------------------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda: pairwise_learnability_update(torch.zeros(3, 2, 4), *layers(2, 2, 4, torch.float32)[1:]), "2 M, n, d"),
        (lambda: pairwise_learnability_update(*layers(2, 2, 4)[:2], *[torch.ones(3)] * 3), "one for each layer"),
        (lambda: chunked_sigmoid_loss(torch.zeros(2, 3), torch.zeros(2, 4), torch.ones(()), torch.ones(())), "two matrices"),
        (lambda: chunked_sigmoid_loss(torch.zeros(2, 3), torch.zeros(4, 3), torch.ones(()), torch.ones(())), r"\[B, d\]"),
        (lambda: all_negatives(torch.zeros(2, 3), torch.zeros(2, 4)), r"\[R, d\] and \[C, d\], got \(2, 3\) and \(2, 4\)"),
        (lambda: all_negatives(torch.zeros(2, 3), torch.zeros(0, 3)), "two matrices"),
        (lambda: all_negatives(torch.zeros(2, 3), torch.zeros(4, 3).double()), "one float type"),
        (lambda: rowwise_cross_entropy(torch.zeros(2, 3), torch.zeros(4, 3), torch.tensor([0, 4])), "labels must be"),
        (
            lambda: rowwise_cross_entropy(torch.zeros(2, 3), torch.zeros(4, 3).double(), torch.tensor([0, 1])),
            "one float type",
        ),
        (lambda: nearest_prototype(torch.zeros(2, 3), torch.zeros(0, 3)), "prototypes must be"),
        (lambda: prune_and_rescale(torch.zeros(2, 3), 0.5, 0), "scores must be"),
        (lambda: prune_and_rescale(torch.zeros(3), 1.0, 0), "ratio"),
        (lambda: topk_mask(torch.zeros(3), 4), "4 of 3"),
        (lambda: topk_mask(torch.tensor([1.0, torch.nan]), 1), "NaN"),
        (lambda: topk_mask(torch.zeros(3, dtype=torch.int32), 1), "float"),
    ],
)
def test_bad_input_is_named(run: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        run()


# ------------------------------------------------------------------------------------------------------------- dispatch
def test_a_forced_implementation_is_taken_or_refused_and_noted_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCRIMP_KERNELS", raising=False)
    topk_mask(torch.ones(3), 1)
    assert used()["topk_mask"] == "cpu"
    monkeypatch.setenv("SCRIMP_KERNELS", "reference")
    topk_mask(torch.ones(3), 1)
    assert used()["topk_mask"] == "reference"
    monkeypatch.setenv("SCRIMP_KERNELS", "cuda")
    with pytest.raises(ScrimpError, match="lie on cpu"):
        topk_mask(torch.ones(3), 1)
    monkeypatch.setenv("SCRIMP_KERNELS", "gpu")
    with pytest.raises(ScrimpError, match="reference, cpu, cuda"):
        implementation_for("topk_mask", CPU)


def test_nothing_gives_nothing() -> None:
    assert pairwise_learnability_update(*layers(0, 3, 4)).shape == (0,)
    assert torch.equal(pairwise_learnability_update(*layers(3, 0, 4)), torch.zeros(3).double())
    assert [len(part) for part in prune_and_rescale(torch.empty(0), 0.5, 0)] == [0, 0]
    assert [len(part) for part in nearest_prototype(torch.empty(0, 3), torch.ones(2, 3))] == [0, 0]
    assert rowwise_cross_entropy(torch.empty(0, 3), torch.ones(2, 3), torch.empty(0, dtype=torch.int64)).shape == (0,)
    assert topk_mask(torch.empty(0), 0).shape == (0,)


def test_labels_that_are_ignored_cost_nothing() -> None:
    hidden = torch.randn(3, 4, generator=seeded())
    losses = rowwise_cross_entropy(hidden, torch.randn(5, 4, generator=seeded(1)), torch.full((3,), cross_entropy.IGNORED))
    assert torch.equal(losses, torch.zeros(3))


@pytest.mark.parametrize("count", [1, 5, 130, 725])  # 725 pairs do not fit one block
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_sigmoid_loss_of_one_block_is_the_ops_to_the_bit(count: int, dtype: torch.dtype) -> None:
    image, text = (torch.randn(count, 9, generator=seeded(n), dtype=dtype).requires_grad_() for n in range(2))
    scale, bias = (torch.tensor(value, dtype=dtype, requires_grad=True) for value in (3.0, -4.0))
    inputs = (image, text, scale, bias)
    losses = [loss(*inputs) for loss in (sigmoid.sigmoid_loss_of, chunked_sigmoid_loss)]
    assert torch.equal(*losses)
    for got, known in zip(*(torch.autograd.grad(1.7 * loss, inputs) for loss in losses), strict=True):
        assert torch.equal(got, known)
    with torch.no_grad():
        assert torch.equal(sigmoid.sigmoid_loss_of(*inputs), losses[1])


@pytest.mark.parametrize(("count", "chunk", "width"), [(77, 1, 5), (500, 13, 64), (1000, 32, 128)])
def test_products_in_bf16_layer_by_layer_are_those_of_all_layers_to_the_bit(
    count: int, chunk: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrimp.kernels.blocks.has_fast_bf16", lambda device: True)
    rows, some, *scalars = layers(count, chunk, width, torch.float32)
    inputs = (rows.bfloat16() / 8, some.bfloat16() / 8, *(value.float() for value in scalars))
    one_by_one = learnability.blocked(*inputs)
    monkeypatch.setattr(torch, "mm", lambda one, other, out: torch.bmm(one[None], other[None], out=out[None]))
    assert torch.equal(one_by_one, learnability.blocked(*inputs))


@pytest.mark.parametrize("few", [True, False])
def test_few_logits_are_kept_for_gradients_and_many_made_again(few: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "KEPT", 4 * (12 if few else 11))
    monkeypatch.setattr(cross_entropy, "block_rows", lambda *_: 1)
    hidden, weight = (torch.randn(n, 5, generator=seeded(n)).requires_grad_() for n in (4, 3))
    again: list[int] = []
    monkeypatch.setattr(cross_entropy, "rowwise_cross_entropy_backward", _noted(again))
    loss = rowwise_cross_entropy(hidden, weight, torch.tensor([0, 2, 1, 0]))
    given = torch.autograd.grad(loss.sum(), (hidden, weight))
    wanted = torch.autograd.grad(cross_entropy.reference(hidden, weight, torch.tensor([0, 2, 1, 0])).sum(), (hidden, weight))
    torch.testing.assert_close(given, wanted)
    assert len(again) == (0 if few else 1)
    with torch.no_grad():  # nothing is kept where nothing is differentiated
        monkeypatch.setattr(cross_entropy.F, "cross_entropy", _noted(again, torch.nn.functional.cross_entropy))
        rowwise_cross_entropy(hidden, weight, torch.tensor([0, 2, 1, 0]))
    assert len(again) == (4 if few else 5)  # a block is a row


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_cross_entropy_of_one_block_is_the_ops(dtype: torch.dtype) -> None:
    hidden, weight = (torch.randn(n, 9, generator=seeded(n), dtype=dtype).requires_grad_() for n in (40, 70))
    labels = torch.arange(40) % 70
    labels[3] = cross_entropy.IGNORED
    factors = torch.arange(40, dtype=dtype)
    losses = [loss(hidden, weight, labels) for loss in (rowwise_cross_entropy, torch.ops.scrimp.rowwise_cross_entropy)]
    assert torch.equal(*losses)
    for got, known in zip(*(torch.autograd.grad((loss * factors).sum(), (hidden, weight)) for loss in losses), strict=True):
        torch.testing.assert_close(got, known)


@pytest.mark.parametrize("block", [0, 2])  # kept logits, and logits made again
def test_a_second_derivative_of_a_loss_is_an_error(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "KEPT", 0)
    image, text = (torch.randn(5, 4, generator=seeded(n)).requires_grad_() for n in range(2))
    scale, bias = torch.tensor(3.0), torch.tensor(-4.0)
    labels = torch.arange(5)
    losses: list[Callable[[], torch.Tensor]] = [
        lambda: sigmoid.sigmoid_loss_of(image, text, scale, bias, block),
        lambda: rowwise_cross_entropy(image, text, labels, block or 3).sum(),
    ]
    for loss in losses:
        assert torch.autograd.grad(loss(), image)[0].isfinite().all()
        with pytest.raises(RuntimeError, match=r"cannot be differentiated twice.*where you need second derivatives, take"):
            torch.autograd.grad(loss(), image, create_graph=True)[0].square().sum().backward()
    (first,) = torch.autograd.grad(sigmoid.reference(image, text, scale, bias), image, create_graph=True)
    first.square().sum().backward()  # the way that the message names
    assert image.grad is not None


def test_few_logits_are_one_op_to_a_compiler() -> None:
    """What looks at labels in Python would break its graph."""
    run = torch.compile(rowwise_cross_entropy, backend="eager", fullgraph=True)
    hidden, weight = (torch.randn(n, 8, generator=seeded(n)).requires_grad_() for n in (600, 1024))
    labels = torch.arange(600)
    torch.testing.assert_close(run(hidden, weight, labels), rowwise_cross_entropy(hidden, weight, labels))


def _noted(
    calls: list[int], function: Callable[..., Any] = cross_entropy.rowwise_cross_entropy_backward
) -> Callable[..., Any]:
    def noted(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        return function(*arguments, **options)

    return noted
