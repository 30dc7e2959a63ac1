"""Schedules of masked language models by hand: the triangle, the inverse root, BERT's decay cut, and the batch's ramp."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from scrimp.config.training import Horizon, Schedule
from scrimp.methods.batch_growth import BatchGrowth, growth
from scrimp.training.schedules import learning_rate_factor


@pytest.mark.parametrize(("fraction", "factor"), [(0, 0.25), (0.375, 0.625), (0.75, 1), (0.875, 0.5), (1, 0)])
def test_crammings_triangle(fraction: float, factor: float) -> None:
    """From a quarter up to the peak over 75 % of the budget, down to 0 over the rest."""
    schedule = Schedule(name="triangle", warmup=0.75, initial_division=4)
    assert learning_rate_factor(schedule, fraction) == pytest.approx(factor)


@pytest.mark.parametrize(("fraction", "factor"), [(0, 0), (0.225, 0.5), (0.45, 1), (1, 1 - (1 / 45 - 0.01) / 0.99)])
def test_berts_decay_cut_at_a_forty_fifth_of_its_run(fraction: float, factor: float) -> None:
    """A warm-up of 1 % of the whole run is 45 % of what is run; then a line to 0, of which little is seen."""
    schedule = Schedule(name="linear", warmup=0.01, stretch=45)
    assert learning_rate_factor(schedule, fraction) == pytest.approx(factor)


@pytest.mark.parametrize(("fraction", "factor"), [(0.05, 0.5), (0.1, 1), (0.4, 0.5), (0.9, 1 / 3)])
def test_an_inverse_root(fraction: float, factor: float) -> None:
    assert learning_rate_factor(Schedule(name="inverse-sqrt", warmup=0.1), fraction) == pytest.approx(factor)


def test_an_inverse_root_needs_a_warm_up() -> None:
    with pytest.raises(ValidationError, match="falls from the warm-up's end"):
        Schedule(name="inverse-sqrt", warmup=0)


def test_a_linear_ramp_of_the_batch_ends_where_it_is_told() -> None:
    """Cramming v2: a batch that grows on a straight line until 60 % of the budget is spent."""
    assert [growth(at, 0.25, 2, "linear", until=0.6) for at in (0, 0.3, 0.6, 1)] == [0.25, 1.125, 2, 2]
    ramp = BatchGrowth(0, start=0.25, end=2, shape="linear", until=0.6)
    assert [ramp.batch_size(at, 64) for at in (0.0, 0.3, 0.6, 0.9)] == [16, 72, 128, 128]
    assert growth(0.25, 1, 4, "smooth", until=0.5) == pytest.approx(2)  # half of its way, so the root of 4


def test_no_budget_is_an_error() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        Horizon(flops=0)
