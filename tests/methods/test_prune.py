"""InfoBatch's pruning step: counts, weights, thresholds, and the unbiasedness that the method rests on."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scrimp.methods.infobatch import InfoBatchSelector, below_threshold, prune

hundredths = st.integers(0, 99)
# Whole numbers, so that the mean is exact; None: not seen yet.
loss_lists = st.lists(st.none() | st.integers(0, 20), min_size=1, max_size=60)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def as_scores(losses: list[int | None]) -> Tensor:
    return torch.tensor([math.nan if loss is None else float(loss) for loss in losses])


def low_of(losses: list[int | None]) -> set[int]:
    """The examples strictly below the mean of those seen, in exact arithmetic."""
    seen = [loss for loss in losses if loss is not None]
    if not seen:
        return set()
    mean = Fraction(sum(seen), len(seen))
    return {at for at, loss in enumerate(losses) if loss is not None and loss < mean}


# ----------------------------------------------------------------------------------------------------------- who is kept
@given(loss_lists, hundredths, st.integers(0, 5))
def test_who_is_kept_and_with_which_weight(losses: list[int | None], percent: int, seed: int) -> None:
    ratio = percent / 100
    found = prune(as_scores(losses), ratio, generator(seed))
    weight_of = dict(zip(found.indices.tolist(), found.weights.tolist(), strict=True))
    low = low_of(losses)
    assert len(weight_of) == len(found.indices)  # distinct
    assert weight_of.keys() - low == set(range(len(losses))) - low  # at or above the mean, and the unseen: all kept
    assert {weight_of[at] for at in weight_of.keys() - low} <= {1.0}
    assert len(weight_of.keys() & low) == (100 - percent) * len(low) // 100  # int((1 - r) n), without binary fractions
    assert all(weight_of[at] == pytest.approx(100 / (100 - percent)) for at in weight_of.keys() & low)


@pytest.mark.parametrize(("ratio", "kept"), [(0.0, 10), (0.3, 7), (0.5, 5), (0.7, 3), (0.9, 1), (0.95, 0)])
def test_count_of_ten_low_ones(ratio: float, kept: int) -> None:
    # 10 (1 - 0.9) is 0.99999... in binary: the count is still 1.
    scores = torch.tensor([0.0] * 10 + [1.0] * 3)
    assert len(prune(scores, ratio, generator()).indices) == 3 + kept


def test_no_rescaling_leaves_every_weight_at_one() -> None:
    scores = torch.tensor([0.0] * 10 + [1.0] * 3)
    found = prune(scores, 0.5, generator(), rescale=False)
    assert found.weights.tolist() == [1.0] * 8


def test_nothing_seen_prunes_nothing() -> None:
    found = prune(torch.full((7,), math.nan), 0.5, generator())
    assert found.indices.tolist() == list(range(7))
    assert found.weights.tolist() == [1.0] * 7


def test_unseen_examples_do_not_enter_the_mean() -> None:
    # Mean of those seen: 2.5. Were the unseen counted as 1 (the official start), it would be 1.6 and 2 would not be low.
    scores = torch.tensor([1.0, 2.0, 3.0, 4.0, math.nan, math.nan, math.nan, math.nan, math.nan])
    assert below_threshold(scores).tolist() == [True, True] + [False] * 7


@pytest.mark.parametrize("size", [1, 3, 1_000_000])
@pytest.mark.parametrize("loss", [0.1, 0.3, 1e-8, 2.302585])
def test_equal_scores_prune_nothing(size: int, loss: float) -> None:
    # A float32 mean of 1e6 times 0.1 is not 0.1.
    assert not below_threshold(torch.full((size,), loss)).any()


def test_a_kept_draw_is_a_function_of_the_generator_alone() -> None:
    scores = torch.tensor([0.0] * 50 + [9.0])
    assert torch.equal(prune(scores, 0.5, generator(3)).indices, prune(scores, 0.5, generator(3)).indices)
    assert not torch.equal(prune(scores, 0.5, generator(3)).indices, prune(scores, 0.5, generator(4)).indices)


# -------------------------------------------------------------------------------------------------------------- quantile
@given(st.permutations(range(20)), st.integers(1, 99))
def test_quantile_of_distinct_scores(losses: list[int], percent: int) -> None:
    # Of 20 distinct losses 0..19, those below the q quantile are 0 .. floor(20 q) - 1.
    low = below_threshold(torch.tensor(losses, dtype=torch.float32), percent / 100)
    assert {losses[at] for at in low.nonzero().flatten().tolist()} == set(range(20 * percent // 100))


def test_quantile_keeps_ties_and_the_unseen() -> None:
    # Seen: 0, 1, 1, 1, 2. The .4 quantile is the third smallest, 1: only 0 lies below.
    scores = torch.tensor([1.0, math.nan, 0.0, 1.0, 2.0, 1.0])
    assert below_threshold(scores, 0.4).nonzero().flatten().tolist() == [2]


# ----------------------------------------------------------------------------------------------------------- unbiasedness
@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 99))
def test_weights_sum_to_the_data_where_the_count_divides(tens: int, tenths: int, seed: int) -> None:
    scores = torch.tensor([0.0] * (10 * tens) + [1.0] * 7)
    found = prune(scores, tenths / 10, generator(seed))
    assert float(found.weights.double().sum()) == pytest.approx(10 * tens + 7, rel=1e-6)


def test_weighted_sum_is_unbiased_with_the_variance_of_sampling_without_replacement() -> None:
    draws, low, kept, ratio = 4000, 60, 24, 0.6
    g = torch.randn(low + 20, generator=generator(1), dtype=torch.float64) + 0.5  # one number for an example's gradient
    scores = torch.cat([torch.zeros(low), torch.ones(20)])
    source = generator(2)
    plans = [prune(scores, ratio, source) for _ in range(draws)]
    estimates = torch.stack([(plan.weights.double() * g[plan.indices]).sum() for plan in plans])
    # n/k times the sum of k of n without replacement has the variance n^2 (1 - k/n) S^2 / k, S^2 with n - 1.
    variance = low**2 * (1 - kept / low) * float(g[:low].var()) / kept
    assert abs(float(estimates.mean() - g.sum())) < 4 * math.sqrt(variance / draws)
    # A sample variance of `draws` near-normal values has the relative deviation sqrt(2 / draws) = 2.2 %.
    assert float(estimates.var()) == pytest.approx(variance, rel=5 * math.sqrt(2 / draws))


def test_without_rescaling_the_sum_is_short_by_the_pruned_share() -> None:
    draws, low, kept = 4000, 60, 24
    g = torch.rand(low, generator=generator(1), dtype=torch.float64)
    scores = torch.cat([torch.zeros(low), torch.ones(1)])
    padded = torch.cat([g, torch.zeros(1, dtype=torch.float64)])
    source = generator(2)
    sums = torch.stack([padded[prune(scores, 0.6, source, rescale=False).indices].sum() for _ in range(draws)])
    error = math.sqrt(kept * (1 - kept / low) * float(g.var()) / draws)
    assert abs(float(sums.mean() - 0.4 * g.sum())) < 4 * error
    assert 0.6 * float(g.sum()) > 100 * error  # so the bias is far outside what the test above lets pass


def test_every_low_example_is_kept_equally_often() -> None:
    draws, low, kept = 3000, 20, 5
    scores = torch.cat([torch.zeros(low), torch.ones(2)])
    source = generator(5)
    times = torch.zeros(low + 2)
    for _ in range(draws):
        times[prune(scores, 0.75, source).indices] += 1
    assert times[low:].tolist() == [draws] * 2
    share = kept / low
    assert float((times[:low] / draws - share).abs().max()) < 5 * math.sqrt(share * (1 - share) / draws)


# ------------------------------------------------------------------------------------------------------- delta and anneal
def test_it_asks_for_an_epoch_to_end_where_annealing_begins() -> None:
    selector = InfoBatchSelector(10, 0, delta=0.75)
    assert [selector.changes_at(fraction) for fraction in (0.0, 0.7, 0.75, 0.9)] == [0.75, 0.75, 1.0, 1.0]
    assert InfoBatchSelector(10, 0, anneal=False).changes_at(0.1) == 1.0


def selector_with_losses(**params: object) -> InfoBatchSelector:
    """Eight examples of loss 0 and two of loss 1: pruning by half keeps 4 + 2."""
    selector = InfoBatchSelector(10, 0, **params)
    selector.observe(torch.arange(10), torch.tensor([0.0] * 8 + [1.0] * 2))
    return selector


@pytest.mark.parametrize(
    ("params", "fraction", "size"),
    [
        ({}, 0.0, 6),
        ({}, 0.8749, 6),
        ({}, 0.875, 10),  # the default delta
        ({}, 0.999, 10),
        ({"delta": 0.5}, 0.499, 6),
        ({"delta": 0.5}, 0.5, 10),
        ({"delta": 1.0}, 0.999, 6),
        ({"delta": 0.0}, 0.0, 10),
        ({"anneal": False}, 0.999, 6),
        ({"anneal": False, "delta": 0.0}, 0.0, 6),
        ({"ratio": 0.75}, 0.0, 4),
    ],
)
def test_delta_and_anneal_switch(params: dict[str, object], fraction: float, size: int) -> None:
    plan = selector_with_losses(**params).select(3, fraction)
    assert len(plan.indices) == size
    if size == 10:
        assert plan.indices.tolist() == list(range(10))
        assert plan.weights.tolist() == [1.0] * 10
    else:
        assert float(plan.weights.sum()) == 10.0  # 4 low ones of weight 2, or 2 of weight 4, and 2 of weight 1


def test_rescale_and_threshold_reach_the_plan() -> None:
    assert selector_with_losses(rescale=False).select(1, 0.0).weights.tolist() == [1.0] * 6
    # A .5 quantile of eight 0 and two 1 is 0: nothing lies below it.
    assert len(selector_with_losses(threshold=0.5).select(1, 0.0).indices) == 10


def test_pruned_examples_keep_their_old_score() -> None:
    selector = selector_with_losses()
    selector.observe(torch.tensor([9, 3]), torch.tensor([0.25, 0.75]))
    assert selector.scores.tolist() == [0, 0, 0, 0.75, 0, 0, 0, 0, 1, 0.25]


def test_diagnostics_by_hand() -> None:
    selector = InfoBatchSelector(12, 0)
    assert selector.diagnostics() == {}
    # Seen: 0..10 without one unseen; mean 5, so 0..4 of 12 examples are below; decile p lies at position p / 10.
    selector.observe(torch.arange(11), torch.arange(11).flip(0))
    assert selector.diagnostics() == {
        "below_mean": pytest.approx(5 / 12),
        "score_mean": 5.0,
        "score_p10": 1.0,
        "score_p25": 2.0,
        "score_p50": 5.0,
        "score_p75": 7.0,
        "score_p90": 9.0,
    }


def test_more_losses_than_indices_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"one loss an index, got \(4,\) losses of \(2,\) indices"):
        InfoBatchSelector(9, 0).observe(torch.tensor([0, 1]), torch.arange(4.0))
