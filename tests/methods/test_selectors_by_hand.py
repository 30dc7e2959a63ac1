"""Selectors against tables small enough to work out by hand."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from scrimp.methods.ccs import CCS, stratified
from scrimp.methods.el2n import EL2N, error_norm, hardest
from scrimp.methods.epsilon_greedy import EpsilonGreedy, epsilon_greedy
from scrimp.methods.forgetting import Forgetting, forgetting_events
from scrimp.methods.full import Full
from scrimp.methods.random_static import RandomStatic
from scrimp.methods.rs2 import RS2, following_pass
from scrimp.methods.ucb import UCB, updated_moments

INF = math.inf


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kept_by(selector: Full | RandomStatic | RS2 | EpsilonGreedy | UCB | EL2N, epoch: int) -> list[int]:
    plan = selector.select(epoch, 0.0)
    assert plan.weights.tolist() == [1.0] * len(plan.indices)
    return plan.indices.tolist()


# ------------------------------------------------------------------------------------------------- full and random static
def test_full_is_everything() -> None:
    assert kept_by(Full(5, 0), 3) == [0, 1, 2, 3, 4]


def test_random_static_stays_the_same() -> None:
    selector = RandomStatic(100, 7, ratio=0.7)
    assert kept_by(selector, 0) == kept_by(selector, 1) == kept_by(selector, 50)


def test_random_static_is_uniform() -> None:
    times = Counter(at for seed in range(2000) for at in kept_by(RandomStatic(5, seed, ratio=0.6), 0))
    # 2 of 5 kept, 2000 times: 800 each with a standard deviation of sqrt(2000 .4 .6) = 22.
    assert sorted(times) == [0, 1, 2, 3, 4]
    assert max(abs(count - 800) for count in times.values()) < 5 * 22


# ------------------------------------------------------------------------------------------------------------------- RS2
@given(st.integers(1, 40), st.integers(0, 95), st.integers(0, 99))
def test_rs2_covers_the_data_before_repeating(size: int, percent: int, seed: int) -> None:
    count = size * (100 - percent) // 100
    assume(count > 0)
    selector = RS2(size, seed, ratio=percent / 100)
    times: Counter[int] = Counter(dict.fromkeys(range(size), 0))
    for epoch in range(12):
        kept = kept_by(selector, epoch)
        assert len(set(kept)) == len(kept) == count
        times.update(kept)
        # Example visits after e epochs: floor or ceiling of e count / N, whatever epoch boundaries fall into a pass; an
        # epoch that crosses into the next pass puts off what it has already.
        whole, rest = divmod((epoch + 1) * count, size)
        assert Counter(times.values()) == Counter({whole: size - rest, whole + 1: rest}) + Counter()


def test_rs2_passes_are_permutations_and_put_off_what_is_held() -> None:
    order = torch.tensor([4, 2, 0, 1, 3])
    for seed in range(50):
        new = following_pass(order, 2, 4, generator(seed)).tolist()
        assert sorted(new) == [0, 1, 2, 3, 4]
        assert not {1, 3} & set(new[:2])  # the epoch of 4 holds 1 and 3 already
        assert new[2:] == [at for at in torch.randperm(5, generator=generator(seed)).tolist() if at not in new[:2]]


def test_rs2_is_a_function_of_seed_and_epoch() -> None:
    straight, jumping = RS2(10, 3, ratio=0.3), RS2(10, 3, ratio=0.3)
    forward = [kept_by(straight, epoch) for epoch in range(20)]
    assert [kept_by(jumping, epoch) for epoch in (19, 4, 11, 0, 5)] == [forward[epoch] for epoch in (19, 4, 11, 0, 5)]
    assert len({tuple(sorted(kept)) for kept in forward}) > 10


# ------------------------------------------------------------------------------------------------------------ eps-greedy
def test_epsilon_greedy_by_hand() -> None:
    # 4 of 6 with eps .5: the two of highest loss, then two of the other four.
    scores = torch.tensor([0.1, 5.0, 0.3, 0.2, 4.0, 0.0])
    drawn = [epsilon_greedy(scores, 4, 0.5, generator(seed)).tolist() for seed in range(300)]
    assert all(kept[:2] == [1, 4] for kept in drawn)
    assert all(len(set(kept)) == 4 for kept in drawn)
    times = Counter(at for kept in drawn for at in kept[2:])
    # Each of 0, 2, 3, 5 in half of 300 draws, standard deviation sqrt(300 / 4) = 8.7.
    assert sorted(times) == [0, 2, 3, 5]
    assert max(abs(count - 150) for count in times.values()) < 5 * 8.7


def test_epsilon_one_is_uniform_and_zero_is_greedy() -> None:
    scores = torch.tensor([3.0, 1.0, 2.0, 0.0])
    assert epsilon_greedy(scores, 2, 0.0, generator()).tolist() == [0, 2]
    assert {tuple(sorted(epsilon_greedy(scores, 2, 1.0, generator(s)).tolist())) for s in range(100)} == {
        *((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    }


def test_epsilon_greedy_chooses_every_period_from_the_latest_losses() -> None:
    selector = EpsilonGreedy(4, 0, ratio=0.5, epsilon=0.0, period=2)
    assert kept_by(selector, 0) == [0, 1, 2, 3]
    selector.observe(torch.tensor([3, 2, 1]), torch.tensor([0.3, 0.2, 0.1]))
    assert kept_by(selector, 1) == [0, 3]  # 0 was not seen: first
    selector.observe(torch.tensor([0, 3]), torch.tensor([0.15, 0.05]))
    assert kept_by(selector, 2) == [0, 3]  # the period is 2
    assert kept_by(selector, 3) == [2, 0]  # .15 .1 .2 .05: 1 and 2 with their old losses


# ------------------------------------------------------------------------------------------------------------------- UCB
def test_moving_moments_by_hand() -> None:
    nan = torch.tensor([math.nan])
    mean, variance = updated_moments(nan, torch.zeros(1), torch.tensor([2.0]), 0.8)
    assert (mean.item(), variance.item()) == (2.0, 0.0)
    mean, variance = updated_moments(mean, variance, torch.tensor([4.0]), 0.8)
    assert mean.item() == pytest.approx(2.4)  # 2 + .2 x 2
    assert variance.item() == pytest.approx(0.64)  # .8 (0 + .2 x 2^2)
    mean, variance = updated_moments(mean, variance, torch.tensor([1.4]), 0.8)
    assert mean.item() == pytest.approx(2.2)
    assert variance.item() == pytest.approx(0.672)  # .8 (.64 + .2 x 1)


@pytest.mark.parametrize(("confidence", "kept"), [(0.0, [1]), (1.0, [0])])
def test_ucb_prefers_the_uncertain_as_told(confidence: float, kept: list[int]) -> None:
    # 0: losses 2, 4, so mean 2.4 and variance .64, bound 3.04. 1: always 2.9. 2: always 1.
    selector = UCB(3, 0, ratio=0.66, confidence=confidence, period=2)
    for losses in ([2.0, 2.9, 1.0], [4.0, 2.9, 1.0]):
        selector.observe(torch.arange(3), torch.tensor(losses))
    assert kept_by(selector, 1) == kept


def test_ucb_takes_all_first_and_the_unseen_next() -> None:
    selector = UCB(4, 0, ratio=0.5, period=2)
    assert kept_by(selector, 0) == [0, 1, 2, 3]
    selector.observe(torch.tensor([0, 1, 3]), torch.tensor([1.0, 9.0, 2.0]))
    assert kept_by(selector, 1) == [2, 1]
    selector.observe(torch.tensor([2]), torch.tensor([0.5]))
    assert kept_by(selector, 2) == [2, 1]  # the period is 2
    assert kept_by(selector, 3) == [1, 3]


# ------------------------------------------------------------------------------------------------------------------ EL2N
@pytest.mark.parametrize(
    ("logits", "label", "norm"),
    [
        ([0.0, 0.0], 0, math.sqrt(0.5)),  # (-1/2, 1/2)
        ([math.log(3), 0.0], 1, math.sqrt(2) * 0.75),  # (3/4, -3/4)
        ([math.log(2), 0.0, 0.0], 0, math.sqrt(0.375)),  # (-1/2, 1/4, 1/4)
        ([200.0, 0.0], 0, 0.0),
        ([200.0, 0.0], 1, math.sqrt(2)),
    ],
)
def test_error_norm_by_hand(logits: list[float], label: int, norm: float) -> None:
    batch = torch.tensor([[5.0] * len(logits), logits])  # the second row, so that rows are not mixed up
    assert error_norm(batch, torch.tensor([0, label]))[1].item() == pytest.approx(norm, abs=1e-6)


def test_error_norm_leaves_the_logits_alone() -> None:
    logits = torch.zeros(1, 2)
    error_norm(logits, torch.tensor([1]))
    assert logits.tolist() == [[0.0, 0.0]]


def test_el2n_keeps_the_hardest() -> None:
    selector = EL2N(5, 0, ratio=0.4, models=3, horizon=0.2)
    scoring = selector.scoring()
    assert (scoring.models, scoring.horizon, scoring.of_logits, scoring.of_history) == (3, 0.2, error_norm, None)
    selector.accept_scores(torch.tensor([0.5, 0.9, 0.1, 0.5, 0.7]), torch.zeros(5))
    assert kept_by(selector, 0) == kept_by(selector, 9) == [1, 4, 0]  # of the two .5 the lower index
    assert hardest(torch.tensor([1.0, INF, 2.0]), 2).tolist() == [1, 2]


# ------------------------------------------------------------------------------------------------------------ forgetting
def test_forgetting_events_by_hand() -> None:
    visits = torch.tensor(
        [
            # always, never, forgotten once, twice, learned late, lost at the end
            [True, False, True, True, False, True],
            [True, False, False, False, False, True],
            [True, False, True, True, True, True],
            [True, False, True, False, True, False],
        ]
    )
    assert forgetting_events(visits).tolist() == [0.0, INF, 1.0, 2.0, 0.0, 1.0]


def test_one_visit_knows_only_the_never_learned() -> None:
    assert forgetting_events(torch.tensor([[True, False]])).tolist() == [0.0, INF]


def test_forgetting_keeps_the_most_forgotten() -> None:
    selector = Forgetting(4, 0, ratio=0.5)
    assert selector.scoring().of_history is forgetting_events
    selector.accept_scores(torch.tensor([0.0, 2.0, 1.0, INF]), torch.zeros(4))
    assert kept_by(selector, 0) == [3, 1]


# ------------------------------------------------------------------------------------------------------------------- CCS
@pytest.mark.parametrize(("count", "easy", "hard"), [(2, 1, 1), (3, 2, 1), (5, 3, 2), (6, 4, 2), (8, 6, 2)])
def test_strata_share_the_count(count: int, easy: int, hard: int) -> None:
    # Six scores in [0, .5), two in [.5, 1]. The small stratum is served first with half of the count, rounded down.
    scores = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.45, 0.9, 1.0])
    for seed in range(5):
        chosen = stratified(scores, count, 2, generator(seed)).tolist()
        assert len(set(chosen)) == count
        assert (sum(at < 6 for at in chosen), sum(at >= 6 for at in chosen)) == (easy, hard)


def test_empty_strata_take_nothing() -> None:
    # Ten strata over [0, 1]; only three have members, of 1, 2 and 4: 6 goes out as 1, 2 (of (6 - 1) // 2), 3.
    scores = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.55, 0.55, 1.0])
    chosen = stratified(scores, 6, 10, generator()).tolist()
    assert sorted(scores[chosen].tolist()) == pytest.approx([0.0, 0.0, 0.0, 0.55, 0.55, 1.0])


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(1, 12), st.data())
def test_strata_give_exactly_the_count(scores: list[int], strata: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(scores)))
    chosen = stratified(torch.tensor(scores, dtype=torch.float32), count, strata, generator()).tolist()
    assert len(chosen) == len(set(chosen)) == count


def ccs_kept(scores: Tensor, **params: object) -> list[int]:
    selector = CCS(len(scores), 0, **params)
    selector.accept_scores(scores, torch.zeros(len(scores)))
    return kept_by(selector, 0)


def test_ccs_cuts_the_hardest_first() -> None:
    # Of 0..9 the hardest two go; 0..7 lie in two strata of four, and four are kept: two of each.
    for order in ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [9, 3, 1, 7, 0, 2, 8, 4, 6, 5]):
        scores = torch.tensor(order, dtype=torch.float32)
        kept = scores[ccs_kept(scores, ratio=0.6, cutoff=0.2, strata=2)].tolist()
        assert len(kept) == 4
        assert sum(score < 3.5 for score in kept) == sum(3.5 < score < 8 for score in kept) == 2


def test_ccs_cuts_no_more_than_it_may_prune() -> None:
    # Nine of ten are to be kept, so a cutoff of .5 can cut only one.
    assert sorted(ccs_kept(torch.arange(10.0), ratio=0.1, cutoff=0.5)) == list(range(9))


def test_ccs_counts_the_never_learned_as_hardest() -> None:
    scores = torch.tensor([INF, 0.0, 1.0, 2.0, 3.0, INF, 1.0, 2.0, 0.0, 1.0])
    assert not {0, 5} & set(ccs_kept(scores, ratio=0.5, cutoff=0.2, statistic="forgetting"))
    kept = ccs_kept(scores, ratio=0.0, cutoff=0.2, statistic="forgetting")
    assert sorted(kept) == list(range(10))


def test_ccs_of_scores_that_tell_nothing() -> None:
    for scores in (torch.full((10,), INF), torch.zeros(10)):
        assert len(set(ccs_kept(scores, ratio=0.5))) == 5


def test_ccs_asks_for_the_statistic_it_is_told() -> None:
    assert CCS(4, 0, ratio=0.5).scoring().of_logits is error_norm
    assert CCS(4, 0, ratio=0.5, statistic="forgetting").scoring().of_history is forgetting_events
