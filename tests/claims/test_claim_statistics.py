"""Intervals and speedups against numbers worked out by hand, and their invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scrimp.claims.statistics import (
    Speedup,
    curve_speedup,
    geometric_interval,
    mean_interval,
    resolution,
    sweep_interval,
    sweep_speedup,
)

# The 97.5 % point of Student's t with 2 degrees of freedom, where F(t) = 1/2 + t / (2 sqrt(2 + t^2)): 4.3027.
T_2 = math.sqrt(2) * 0.95 / math.sqrt(1 - 0.95**2)
COSTS = [0.25, 0.5, 1.0, 2.0, 4.0]

numbers = st.floats(-1e3, 1e3).map(lambda v: round(v, 3))
rising = st.lists(st.integers(1, 1000), min_size=5, max_size=5).map(lambda steps: np.cumsum(steps).astype(float))


# ---------------------------------------------------------------------------------------------------------- intervals
def test_t_interval_by_hand() -> None:
    found = mean_interval([1.0, 2.0, 3.0])  # mean 2, standard deviation 1
    assert (found.mean, found.n) == (2.0, 3)
    assert found.low == pytest.approx(2 - T_2 / math.sqrt(3))
    assert found.high == pytest.approx(2 + T_2 / math.sqrt(3))


def test_t_interval_of_two_values_by_hand() -> None:
    # One degree of freedom is the Cauchy distribution: its 97.5 % point is tan(.475 pi); the standard error is 1/2.
    found = mean_interval([0.0, 1.0])
    assert found.low == pytest.approx(0.5 - math.tan(0.475 * math.pi) / 2)
    assert found.high == pytest.approx(0.5 + math.tan(0.475 * math.pi) / 2)


def test_one_value_has_no_interval() -> None:
    found = mean_interval([3.0])
    assert found.mean == 3.0
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_equal_values_are_as_exact_as_what_they_resolve() -> None:
    assert math.isnan(mean_interval([0.1] * 3).low)  # nothing says how exact they are
    found = mean_interval([0.5] * 3, step=0.1)  # a standard deviation of one step
    assert (found.low, found.high) == pytest.approx((0.5 - T_2 * 0.1 / math.sqrt(3), 0.5 + T_2 * 0.1 / math.sqrt(3)))
    assert mean_interval([0.5] * 20, step=0.1).high > 0.5
    wide = [1.0, 2.0, 3.0]  # a spread above the step stays what it is
    assert mean_interval(wide, step=0.5) == mean_interval(wide)


@given(st.lists(st.integers(0, 2000), min_size=2, max_size=12).filter(lambda hits: len(set(hits)) > 1))
def test_accuracies_resolve_a_test_example(hits: list[int]) -> None:
    found = resolution([100 * hit / 1827 for hit in hits])
    divisor = math.gcd(*(hit - hits[0] for hit in hits))
    assert found == pytest.approx(divisor * 100 / 1827, rel=1e-6)
    assert resolution([hits[0]] * 3) == 0


def test_bootstrap_from_eight_values() -> None:
    values = np.random.default_rng(5).normal(10, 1, size=200)
    found = mean_interval(values)
    assert found == mean_interval(values)  # the same files, the same verdict
    # With 200 normal values the bootstrap agrees with the t interval to a few per cent of its width.
    low, high = stats.t.interval(0.95, 199, loc=values.mean(), scale=stats.sem(values))
    assert abs(found.low - low) < 0.1 * (high - low)
    assert abs(found.high - high) < 0.1 * (high - low)
    other = mean_interval(values, rng=np.random.default_rng(6))
    assert other.low != found.low


@pytest.mark.parametrize("n", [8, 12])
def test_bootstrap_survives_ties(n: int) -> None:
    found = mean_interval([1.0] * (n - 1) + [2.0])
    assert 1.0 <= found.low <= found.mean <= found.high <= 2.0


def test_infinities_open_their_own_side_only() -> None:
    # An infinity counts as the largest finite value at the other end: a lower limit of a smaller mean.
    above = mean_interval([1.0, 2.0, math.inf])
    assert above.mean == above.high == math.inf
    assert above.low == pytest.approx(mean_interval([1.0, 2.0, 2.0]).low)
    below = mean_interval([-math.inf, 1.0, 2.0])
    assert below.mean == below.low == -math.inf
    assert below.high == pytest.approx(mean_interval([1.0, 1.0, 2.0]).high)
    assert mean_interval([math.inf, math.inf]).low == -math.inf  # nothing finite is known


def test_bounds_open_their_side_and_keep_the_other() -> None:
    plain = mean_interval([1.0, 2.0, 3.0])
    above = mean_interval([1.0, 2.0, 3.0], censored=[None, None, "above"])
    assert (above.low, above.high) == (plain.low, math.inf)
    both = mean_interval([1.0, 2.0, 3.0], censored=["below", None, "above"])
    assert (both.low, both.high) == (-math.inf, math.inf)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [[1.0, 2.0]]])
def test_values_that_are_none_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="non-empty"):
        mean_interval(values)


@given(st.lists(numbers, min_size=2, max_size=7), numbers)
def test_interval_holds_its_mean_and_moves_with_the_values(values: list[float], shift: float) -> None:
    found, moved = (mean_interval(np.array(values) + by, step=1e-3) for by in (0.0, shift))
    assert found.low <= found.mean + 1e-9
    assert found.mean <= found.high + 1e-9
    assert moved.low == pytest.approx(found.low + shift, abs=1e-6)
    assert moved.high == pytest.approx(found.high + shift, abs=1e-6)


def test_speedups_average_as_logs() -> None:
    found = geometric_interval([Speedup(2.0), Speedup(0.5)])
    assert found.mean == pytest.approx(1.0)
    assert found.low * found.high == pytest.approx(1.0)
    # By hand: the logs are 1, 2, 3.
    three = geometric_interval([Speedup(math.e), Speedup(math.e**2), Speedup(math.e**3)])
    assert three.low == pytest.approx(math.exp(2 - T_2 / math.sqrt(3)))
    assert geometric_interval([Speedup(2.0), Speedup(3.0, "below")]).low == 0.0


# ------------------------------------------------------------------------------------------------------------- sweep
def test_sweep_by_hand() -> None:
    # 25 lies halfway between the points at 2 and 4; halfway in log cost is 2 sqrt(2).
    assert sweep_speedup([1, 2, 4], [10, 20, 30], 1.0, 25.0).value == pytest.approx(2 * math.sqrt(2))
    assert sweep_speedup([4, 1, 2], [30, 10, 20], 0.5, 20.0) == Speedup(pytest.approx(4.0))
    assert sweep_speedup([1, 2, 4], [3.0, 2.0, 1.0], 1.0, 1.5, better="lower").value == pytest.approx(2 * math.sqrt(2))


def test_sweep_never_extrapolates() -> None:
    assert sweep_speedup([1, 2, 4], [10, 20, 30], 0.5, 30.1) == Speedup(pytest.approx(8.0), "above")
    assert sweep_speedup([1, 2, 4], [10, 20, 30], 0.5, 9.9) == Speedup(pytest.approx(2.0), "below")
    assert sweep_speedup([1, 2, 4], [3, 2, 1], 1.0, 0.9, better="lower").censored == "above"


def test_first_cost_of_a_plateau_counts() -> None:
    # 25 lies at three quarters of the way from 10 to 30; what comes later, better or worse, does not matter.
    for later in ([20, 40], [30, 30], [0, 0]):
        assert sweep_speedup([1, 2, 4, 8], [10, 30, *later], 1.0, 25.0).value == pytest.approx(2**0.75)
    assert sweep_speedup([1, 2, 4], [5, 5, 5], 1.0, 5.0) == Speedup(pytest.approx(1.0))


def test_more_plain_training_that_makes_it_worse_makes_no_method_cheap() -> None:
    # A quarter of the training is better than the method already.
    sweep = ([0.25, 0.5, 0.75, 1, 2], [95.83, 96.38, 96.24, 95.97, 92.77])
    assert sweep_speedup(*sweep, 0.67, 95.69) == Speedup(pytest.approx(0.25 / 0.67), "below")
    assert sweep_speedup(*sweep, 0.67, 96.38) == Speedup(pytest.approx(0.5 / 0.67))
    assert sweep_speedup(*sweep, 0.67, 96.39) == Speedup(pytest.approx(2 / 0.67), "above")


def test_points_of_equal_cost_are_averaged() -> None:
    assert sweep_speedup([1, 1, 4], [10, 20, 35], 1.0, 25.0).value == pytest.approx(2.0)


@pytest.mark.parametrize("costs", [[1.0], [0.0, 1.0], [1.0, math.inf]])
def test_a_broken_sweep_is_refused(costs: list[float]) -> None:
    with pytest.raises(ValueError, match="sweep needs"):
        sweep_speedup(costs, [1.0] * len(costs), 1.0, 1.0)


@given(rising, rising, st.integers(0, 4))
def test_a_point_of_the_sweep_saves_nothing(costs: np.ndarray, qualities: np.ndarray, point: int) -> None:
    speedup = sweep_speedup(costs, qualities, costs[point], qualities[point])
    assert speedup == Speedup(pytest.approx(1.0))


@given(rising, st.lists(numbers, min_size=5, max_size=5), st.integers(1, 5000), numbers, st.floats(1e-6, 1e12))
def test_the_unit_of_cost_does_not_matter(
    costs: np.ndarray, qualities: list[float], cost: float, quality: float, unit: float
) -> None:
    one, other = (sweep_speedup(costs * u, qualities, cost * u, quality) for u in (1.0, unit))
    assert other == Speedup(pytest.approx(one.value, rel=1e-6), one.censored)


@given(rising, st.lists(numbers, min_size=5, max_size=5), st.integers(1, 5000), numbers, st.floats(0, 100))
def test_a_better_method_never_saves_less(
    costs: np.ndarray, qualities: list[float], cost: float, quality: float, gain: float
) -> None:
    one, better = (sweep_speedup(costs, qualities, cost, quality + g) for g in (0.0, gain))
    assert better.value >= one.value * (1 - 1e-9)
    mirrored = sweep_speedup(costs, [-q for q in qualities], cost, -quality, better="lower")
    assert mirrored == one


# ----------------------------------------------------------------------------------------------------- sweep interval
def test_interval_of_a_noiseless_sweep_is_the_speedup() -> None:
    sweep = (COSTS, [10.0, 20.0, 30.0, 40.0, 50.0])  # 10 points per doubling: 45 at cost 1 is worth 2 ** 1.5
    speedups, found = sweep_interval([sweep] * 3, [(1.0, 45.0)] * 3)
    assert [s.value for s in speedups] == pytest.approx([2**1.5] * 3)
    assert (found.mean, found.low, found.high) == pytest.approx([2**1.5] * 3, rel=1e-9)


def test_interval_on_a_straight_sweep_is_the_interval_of_logs() -> None:
    # Quality log2(cost) makes a lead of quality a difference of log speedups: both of its parts are then the same.
    sweep = (COSTS, np.log2(COSTS))
    speedups, found = sweep_interval([sweep] * 3, [(1.0, 0.2), (1.0, 0.25), (1.0, 0.3)])
    logs = geometric_interval(speedups)
    assert (found.low, found.high) == pytest.approx((logs.low, logs.high), rel=1e-6)


def test_a_hair_above_a_saturated_sweep_is_no_speedup() -> None:
    # Every seed beats its sweep's top, so every speedup is "at least 4"; but by no more than the seeds differ.
    sweep = (COSTS, [90.0, 90.0, 90.0, 90.0, 90.0])
    speedups, found = sweep_interval([sweep] * 3, [(1.0, 90.01), (1.0, 90.3), (1.0, 90.02)])
    assert speedups == [Speedup(pytest.approx(4.0), "above")] * 3
    assert (found.low, found.high) == (0.0, math.inf)


def test_far_above_the_sweep_is_at_least_its_end() -> None:
    sweep = (COSTS, [10.0, 20.0, 30.0, 40.0, 50.0])
    _, found = sweep_interval([sweep] * 3, [(1.0, 60.0), (1.0, 60.1), (1.0, 60.2)])
    assert found.low == pytest.approx(4.0)
    assert found.high == math.inf
    _, found = sweep_interval([sweep] * 3, [(1.0, 1.0), (1.0, 1.1), (1.0, 1.2)])
    assert found.low == 0.0
    assert found.high == pytest.approx(0.25)


def noisy(truth: list[float], noise: float, seeds: int, rng: np.random.Generator) -> list[tuple[list[float], np.ndarray]]:
    return [(COSTS, np.array(truth) + noise * rng.normal(size=len(truth))) for _ in range(seeds)]


def test_the_interval_knows_the_running_best_too() -> None:
    # Beyond half of the training the plain recipe only loses, in the end to less than the method has.
    rng = np.random.default_rng(0)
    sweeps = noisy([80.0, 90.0, 88.0, 84.0, 80.0], 0.1, 3, rng)
    _, found = sweep_interval(sweeps, [(1.0, 85.0 + 0.1 * rng.normal()) for _ in range(3)])
    assert found.mean == pytest.approx(2**-1.5, rel=0.05)  # halfway in quality from 1/4 to 1/2
    assert 0.3 < found.low < found.high < 0.4
    _, found = sweep_interval(sweeps, [(1.0, 75.0 + 0.1 * rng.normal()) for _ in range(3)])
    assert found.high == pytest.approx(0.25)  # at most the cheapest run's cost


@pytest.mark.parametrize(
    ("truth", "quality", "sized"),
    [
        ([70.0, 80.0, 90.0, 91.0, 91.0], 85.0, True),
        ([70.0, 80.0, 90.0, 90.0, 90.0], 90.0, True),  # it rises just before
        ([70.0, 90.0, 90.0, 90.0, 90.0], 91.0, False),  # above a flat end
        ([90.0, 90.0, 90.0, 90.0, 90.0], 90.0, False),
        ([90.0, 80.0, 70.0, 60.0, 50.0], 90.0, False),
        ([70.0, 80.0, 90.0, 80.0, 70.0], 85.0, True),
    ],
)
def test_a_speedup_has_a_size_where_the_sweep_rises(truth: list[float], quality: float, sized: bool) -> None:
    rng = np.random.default_rng(1)
    _, found = sweep_interval(noisy(truth, 0.2, 5, rng), [(1.0, quality + 0.2 * rng.normal()) for _ in range(5)])
    assert found.sized == sized


def test_qualities_that_happen_to_be_equal_do_not_make_a_point() -> None:
    sweep = (COSTS, [10.0, 20.0, 30.0, 40.0, 50.0])
    _, found = sweep_interval([sweep] * 3, [(1.0, 45.0)] * 3, step=0.5)
    # Leads spread by half a point at least, which is 1/20 of a doubling.
    reach = T_2 * 0.05 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((2 ** (1.5 - reach), 2 ** (1.5 + reach)), rel=1e-6)


def test_one_seed_on_the_sweep_has_no_interval() -> None:
    speedups, found = sweep_interval([(COSTS, COSTS)], [(1.0, 2.0)])
    assert speedups[0].value == pytest.approx(2.0)
    assert math.isnan(found.low)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 5), st.floats(0.25, 4), st.floats(1e-3, 1e6))
def test_sweep_interval_holds_its_mean_whatever_the_unit(seed: int, noise: float, cost: float, unit: float) -> None:
    rng = np.random.default_rng(seed)
    heights = [90 - 6 / np.sqrt(COSTS) + noise * rng.normal(size=5) for _ in range(3)]
    ends = (84 + noise * rng.normal(size=3)).tolist()
    found, other = (
        sweep_interval([(np.array(COSTS) * u, h) for h in heights], [(cost * u, end) for end in ends])[1]
        for u in (1.0, unit)
    )
    assert found.low <= found.mean * (1 + 1e-9)
    assert found.mean <= found.high * (1 + 1e-9)
    assert (other.mean, other.low, other.high) == pytest.approx((found.mean, found.low, found.high), rel=1e-6)


# ------------------------------------------------------------------------------------------------------------- curves
PLAIN = ([0, 1, 2, 3, 4], [0, 10, 20, 30, 40])


def test_curves_by_hand() -> None:
    assert curve_speedup(PLAIN, ([0, 1, 2], [0, 20, 40])) == Speedup(2.0)  # 4 over 2
    assert curve_speedup(PLAIN, ([0, 1, 2], [0, 20, 40]), target=25.0) == Speedup(2.0)  # 2.5 over 1.25
    falling = ([0, 1, 2], [8.0, 4.0, 2.0])
    assert curve_speedup(falling, ([0, 1, 2], [8.0, 2.0, 1.0]), better="lower") == Speedup(2.0)


def test_first_crossing_counts() -> None:
    # The baseline is at its final 20 already at cost 1, and falls back.
    assert curve_speedup(([1, 2, 3], [20, 10, 20]), ([1, 2], [0, 20])) == Speedup(0.5)


def test_a_target_never_reached_is_bounded_by_the_end_of_the_run() -> None:
    assert curve_speedup(PLAIN, ([1, 2], [5, 39])) == Speedup(2.0, "below")
    assert curve_speedup(PLAIN, ([1, 2], [5, 50]), target=50.0) == Speedup(2.0, "above")
    with pytest.raises(ValueError, match="neither"):
        curve_speedup(PLAIN, ([1, 2], [5, 39]), target=100.0)


def test_an_untrained_model_has_reached_nothing() -> None:
    assert curve_speedup(([0, 1, 2], [50, 50, 50]), ([0, 1, 2], [50, 50, 50])) == Speedup(1.0)
    with pytest.raises(ValueError, match="ascending"):
        curve_speedup(([2, 1], [1, 2]), PLAIN)


@given(rising, rising, st.floats(1e-3, 1e9))
def test_identical_curves_save_nothing_in_any_unit(costs: np.ndarray, qualities: np.ndarray, unit: float) -> None:
    assert curve_speedup((costs, qualities), (costs, qualities)) == Speedup(1.0)
    other = curve_speedup((costs * unit, qualities), (costs * unit / 3, qualities))
    assert other == Speedup(pytest.approx(3.0))
