"""Measurements of large batches, by hand and against planted truths."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from scrimp.measure.critical_batch import fit_hyperbola
from scrimp.measure.drift import distance, growth_of_distance
from scrimp.measure.gradient_noise import SquaredNorms, simple_noise_scale, squared_norms
from scrimp.measure.serving import poisson_arrivals, serve


# --------------------------------------------------------------------------------------------------------- gradient noise
def test_two_sizes_give_signal_and_noise() -> None:
    """|G|^2 = 2 and tr(S) = 12: norms of 2 + 12 / 4 and 2 + 12 / 16."""
    norms = SquaredNorms(small=4, large=16, small_norm=5.0, large_norm=2.75)
    assert (norms.signal, norms.noise) == pytest.approx((2.0, 12.0))
    assert simple_noise_scale([norms]).value == pytest.approx(6.0)
    assert math.isnan(simple_noise_scale([norms]).low)


class Mean(nn.Module):
    """Loss |w - x|^2 / 2 of an example x, whose gradient is w - x."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dimension))
        self.unused = nn.Parameter(torch.ones(3))


def test_gradients_of_a_batch_and_its_parts_by_hand() -> None:
    model, x = Mean(1), torch.tensor([[0.0], [2.0], [4.0], [6.0]])
    found = squared_norms(model, lambda part: 0.5 * (model.weight - x[part]).square().sum(1), 4, 2)
    # Gradients 1, -1, -3, -5: means of pairs 0 and -4, of all -2.
    assert (found.small_norm, found.large_norm) == pytest.approx((8.0, 4.0))
    assert model.weight.grad is None


def test_the_estimators_are_unbiased_and_the_interval_holds_the_truth() -> None:
    """x ~ N(0, 2 I) in ten dimensions at w = 1: |G|^2 is 10, tr(S) is 20, B_simple 2."""
    model, draws, held = Mean(10), torch.Generator().manual_seed(0), 0
    every = []
    for trial in range(40):
        norms = []
        for _ in range(30):
            x = torch.randn(16, 10, generator=draws) * 2**0.5
            norms.append(squared_norms(model, lambda part, x=x: 0.5 * (model.weight - x[part]).square().sum(1), 16, 2))
        found = simple_noise_scale(norms, trial)
        held += found.low <= 2 <= found.high
        every += norms
    assert np.mean([norm.signal for norm in every]) == pytest.approx(10, rel=0.02)
    assert np.mean([norm.noise for norm in every]) == pytest.approx(20, rel=0.02)
    assert held >= 34  # of 40: 95 % are 38, with a spread of 1.4


def test_a_signal_that_is_not_told_from_nothing_gives_no_bound() -> None:
    found = simple_noise_scale([SquaredNorms(1, 2, 1.0, 0.4), SquaredNorms(1, 2, 1.0, 0.5)])
    assert found.value == found.high == math.inf


@pytest.mark.parametrize(("count", "small"), [(4, 4), (6, 4), (4, 0)])
def test_parts_that_do_not_fit_are_refused(count: int, small: int) -> None:
    model = Mean(1)
    with pytest.raises(ValueError, match="does not fall into two or more parts"):
        squared_norms(model, lambda part: model.weight.expand(4)[part], count, small)
    with pytest.raises(ValueError, match="no gradients"):
        simple_noise_scale([])


# -------------------------------------------------------------------------------------------------------------- hyperbola
def test_a_planted_hyperbola_is_found() -> None:
    batches = [8, 32, 128, 512, 2048]
    found = fit_hyperbola(batches, [100 * (1 + 200 / batch) for batch in batches])
    assert (found.least_steps, found.critical, found.least_examples) == pytest.approx((100, 200, 20_000), rel=1e-4)
    assert found.r_squared == pytest.approx(1)
    # The law itself: (S / S_min - 1) (E / E_min - 1) = 1.
    assert (found.steps(64) / 100 - 1) * (found.examples(64) / 20_000 - 1) == pytest.approx(1, rel=1e-3)


def test_the_interval_of_the_critical_batch_holds_the_truth() -> None:
    batches = np.repeat([8, 32, 128, 512, 2048], 3)
    draws, held = np.random.default_rng(0), 0
    for _ in range(100):
        noisy = 100 * (1 + 200 / batches) * np.exp(draws.normal(0, 0.1, len(batches)))
        found = fit_hyperbola(batches.tolist(), noisy.tolist())
        held += found.low <= 200 <= found.high
    assert 89 <= held <= 100


def test_too_little_for_a_hyperbola() -> None:
    with pytest.raises(ValueError, match="3 batch sizes or more, got 2"):
        fit_hyperbola([8, 8, 16], [3, 4, 5])
    with pytest.raises(ValueError, match="leave out runs that miss"):
        fit_hyperbola([8, 16, 32], [3, 4, math.inf])


# ------------------------------------------------------------------------------------------------------------------ drift
def test_distance_by_hand_and_its_law() -> None:
    assert distance([torch.tensor([3.0]), torch.zeros(2)], [torch.zeros(1), torch.tensor([0.0, 4.0])]) == 5
    steps = [1, 2, 4, 8, 16, 32, 64]
    found = growth_of_distance(steps, [1 + 2 * math.log(step) for step in steps])
    assert (found.slope, found.of_log) == pytest.approx((2, 1))
    assert found.advantage > 0.05
    walk = growth_of_distance(steps, [math.sqrt(step) for step in steps])
    assert (walk.of_root, walk.advantage < -0.05) == (pytest.approx(1), True)
    with pytest.raises(ValueError, match="four or more"):
        growth_of_distance([1, 2, 3], [1, 2, 3])


# ---------------------------------------------------------------------------------------------------------------- serving
ARRIVALS = np.array([0.0, 1.0, 2.0, 10.0])


def test_one_by_one_a_queue_builds_up() -> None:
    """Three seconds each: answers at 3, 6, 9 and 13."""
    found = serve(ARRIVALS, lambda first, count: 3.0, largest=1, wait=0.0)
    assert found.latencies.tolist() == [3, 5, 7, 3]
    assert (found.calls, found.busy, found.span) == (4, 12.0, 13.0)


def test_what_arrived_while_the_worker_was_busy_is_served_together() -> None:
    """At 3 two are there: answers at 3, 6, 6 and 13."""
    found = serve(ARRIVALS, lambda first, count: 3.0, largest=8, wait=0.0)
    assert found.latencies.tolist() == [3, 5, 4, 3]
    assert found.sizes.tolist() == [1, 2, 1]


def test_the_first_waits_for_others_until_the_batch_is_full() -> None:
    asked: list[tuple[int, int]] = []

    def service(first: int, count: int) -> float:
        asked.append((first, count))
        return 1.0

    waited = serve(ARRIVALS, service, largest=8, wait=1.5)
    # Two are taken at 1.5, the third, which came at 2, at 3.5, the last at 11.5.
    assert asked == [(0, 2), (2, 1), (3, 1)]
    assert waited.latencies.tolist() == [2.5, 1.5, 2.5, 2.5]
    full = serve(ARRIVALS, lambda first, count: 1.0, largest=2, wait=1.5)
    assert full.latencies[:2].tolist() == [2, 1]  # full at 1
    assert waited.busy_per_request == 0.75


def test_poisson_arrivals_have_their_rate_and_exponential_gaps() -> None:
    gaps = np.diff(poisson_arrivals(50.0, 40_000, 0))
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.02)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.03)  # of an exponential law they are the same
    with pytest.raises(ValueError, match="rate above 0"):
        poisson_arrivals(0.0, 1, 0)
    with pytest.raises(ValueError, match="sorted arrivals"):
        serve(ARRIVALS[::-1], lambda first, count: 1.0, 1, 0.0)
