"""Budgets: absolute amounts by hand, and where a run that asks for room ends on every axis."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrimp.config import Horizon, Recipe, Workload
from scrimp.errors import ScrimpError
from scrimp.training.budget import Budget, Spent

FLOPS = 7.0e6  # per example


def of_epochs(horizon: Horizon, epochs: float, size: int, batch_size: int, flops_per_example: float) -> Budget:
    recipe = Recipe(optimizer="sgd", learning_rate=1.0, batch_size=batch_size)
    workload = Workload(recipe=recipe, epochs=epochs, arms=[])
    return Budget.of(horizon, workload, size, flops_per_example, by_epochs=True)


def run(budget: Budget, epoch_size: int, batch_size: int, flops: float = FLOPS) -> tuple[Spent, list[int]]:
    """Spend a budget as the training loop does; returns what was spent, and the batch sizes."""
    spent, sizes = Spent(), []
    for epoch in count():
        done = 0
        while done < epoch_size:
            wanted = min(batch_size, epoch_size - done)
            size = budget.room(spent, wanted, epoch_size, flops)
            assert 1 <= size <= wanted
            sizes.append(size)
            done += size
            spent.steps += 1
            spent.examples += size
            spent.flops += size * flops
            spent.epochs = epoch + done / epoch_size
            if budget.fraction(spent) >= 1:
                return spent, sizes
            if size < wanted:
                break
    raise AssertionError


# --------------------------------------------------------------------------------------------------------------- amounts
@pytest.mark.parametrize(
    ("horizon", "amount"),
    [
        (Horizon(epochs=0.25), 3.0),
        (Horizon(examples=0.3), 3600),
        (Horizon(steps=0.5), 48),  # 12 epochs of ceil(1000 / 128) = 8 steps
        (Horizon(flops=2.0), 24_000 * FLOPS),
        (Horizon(seconds=90.0), 90.0),  # the one absolute axis
    ],
)
def test_amounts_by_hand(horizon: Horizon, amount: float) -> None:
    budget = of_epochs(horizon, epochs=12, size=1000, batch_size=128, flops_per_example=FLOPS)
    assert (budget.axis, budget.amount) == (horizon.axis, pytest.approx(amount))


@pytest.mark.parametrize("axis", ["examples", "steps"])
def test_counted_axes_are_whole_numbers_of_at_least_one(axis: str) -> None:
    tiny = of_epochs(Horizon.model_validate({axis: 1e-9}), epochs=12, size=1000, batch_size=128, flops_per_example=FLOPS)
    third = of_epochs(Horizon.model_validate({axis: 1 / 3}), epochs=1, size=1000, batch_size=10, flops_per_example=FLOPS)
    assert tiny.amount == 1
    assert third.amount == {"examples": 333, "steps": 33}[axis]


# -------------------------------------------------------------------------------------------------------------- fractions
@pytest.mark.parametrize(
    ("axis", "amount", "fraction"),
    [("epochs", 6.0, 0.25), ("examples", 6000, 0.2), ("steps", 24, 0.5), ("flops", 4.0e9, 0.75), ("seconds", 80, 0.125)],
)
def test_fractions_by_hand(axis: str, amount: float, fraction: float) -> None:
    spent = Spent(epochs=1.5, examples=1200, steps=12, flops=3.0e9, seconds=10.0)
    assert Budget(axis, amount).fraction(spent) == pytest.approx(fraction)


def test_nothing_spent_and_too_much_spent() -> None:
    budget = Budget("examples", 100)
    assert budget.fraction(Spent()) == 0.0
    assert budget.fraction(Spent(examples=99)) == 0.99
    assert budget.fraction(Spent(examples=100)) == 1.0
    assert budget.fraction(Spent(examples=150)) == 1.0


def test_binary_fractions_leave_no_rest() -> None:
    assert 12 * 0.1 > 1.2  # so that 1.2 epochs would not be all of a budget of 12 x 0.1
    assert Budget("epochs", 12 * 0.1).fraction(Spent(epochs=1.2)) == 1.0


# ------------------------------------------------------------------------------------------------------------------- room
@pytest.mark.parametrize(
    ("budget", "spent", "room"),
    [
        (Budget("examples", 1000), Spent(examples=900), 64),  # more is left than wanted
        (Budget("examples", 1000), Spent(examples=970), 30),
        (Budget("epochs", 2.5), Spent(epochs=2.4), 20),  # .1 of an epoch of 200
        (Budget("epochs", 2.5), Spent(epochs=2.4976), 1),  # .48 of an example: rounded up
        (Budget("epochs", 2.0), Spent(epochs=1.5), 64),
        (Budget("flops", 100 * FLOPS), Spent(flops=88 * FLOPS), 12),
        (Budget("flops", 100.5 * FLOPS), Spent(flops=88 * FLOPS), 13),
        (Budget("steps", 10), Spent(steps=9), 64),  # a step is a step, whatever its size
        (Budget("seconds", 10.0), Spent(seconds=9.99), 64),
    ],
)
def test_room_by_hand(budget: Budget, spent: Spent, room: int) -> None:
    assert budget.room(spent, wanted=64, epoch_size=200, flops_per_example=FLOPS) == room


@pytest.mark.parametrize(
    ("budget", "spent", "room"),
    [
        (Budget("examples", 1000), Spent(examples=700), 50),  # three quarters of the budget are 750 examples
        (Budget("examples", 999), Spent(examples=700), 50),  # 749.25, rounded up
        (Budget("flops", 1000 * FLOPS), Spent(flops=700 * FLOPS), 50),
        (Budget("examples", 1000), Spent(examples=600), 64),
        (Budget("epochs", 2.0), Spent(epochs=1.4), 64),  # epochs are cut by the end only
        (Budget("steps", 10), Spent(steps=7), 64),
    ],
)
def test_room_up_to_three_quarters(budget: Budget, spent: Spent, room: int) -> None:
    assert budget.room(spent, wanted=64, epoch_size=200, flops_per_example=FLOPS, until=0.75) == room


# ---------------------------------------------------------------------------------------------------------------- landing
sizes = st.integers(1, 300)
batch_sizes = st.integers(1, 64)


@given(st.integers(1, 3000), sizes, batch_sizes)
def test_an_examples_budget_is_landed_on_exactly(amount: int, epoch_size: int, batch_size: int) -> None:
    spent, taken = run(Budget("examples", amount), epoch_size, batch_size)
    assert spent.examples == sum(taken) == amount


@given(st.integers(1, 100), sizes, batch_sizes)
def test_a_steps_budget_is_landed_on_exactly(amount: int, epoch_size: int, batch_size: int) -> None:
    spent, taken = run(Budget("steps", amount), epoch_size, batch_size)
    assert spent.steps == len(taken) == amount


@given(st.integers(1, 20), st.integers(1, 12), sizes, batch_sizes)
def test_an_epochs_budget_ends_with_the_example_that_spends_it(
    tenths: int, epochs: int, epoch_size: int, batch_size: int
) -> None:
    budget = of_epochs(Horizon(epochs=tenths / 10), epochs, epoch_size, batch_size, FLOPS)
    spent, taken = run(budget, epoch_size, batch_size)
    expected = math.ceil(Fraction(tenths * epochs * epoch_size, 10))
    assert spent.examples == expected
    # Whole epochs of ceil(N / B) batches, then the rest in as few: no straggler of one example for a rounding error.
    whole, rest = divmod(expected, epoch_size)
    assert len(taken) == whole * math.ceil(epoch_size / batch_size) + math.ceil(rest / batch_size)


@given(st.integers(1, 200), sizes, batch_sizes, st.sampled_from([1.0, 7.0e6, 5.567e8 / 3, 1.1e10]))
def test_a_flops_budget_ends_with_the_example_that_spends_it(
    percent: int, epoch_size: int, batch_size: int, flops: float
) -> None:
    budget = of_epochs(Horizon(flops=percent / 100), 3, epoch_size, batch_size, flops)
    spent, taken = run(budget, epoch_size, batch_size, flops)
    expected = math.ceil(Fraction(percent * 3 * epoch_size, 100))
    assert spent.examples == expected
    whole, rest = divmod(expected, epoch_size)
    assert len(taken) == whole * math.ceil(epoch_size / batch_size) + math.ceil(rest / batch_size)


@pytest.mark.parametrize("given_axes", [{}, {"epochs": 1.0, "steps": 1.0}])
def test_a_horizon_is_one_axis(given_axes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a horizon is exactly one of epochs, examples, steps, flops, seconds; got"):
        Horizon.model_validate(given_axes)


@pytest.mark.parametrize(
    ("axis", "amount"), [("flops", 3.5e9), ("examples", 500), ("steps", 62), ("epochs", 62), ("seconds", 0.5)]
)
def test_a_recipe_of_flops_has_every_axis(axis: str, amount: float) -> None:
    workload = Workload(recipe=Recipe(optimizer="sgd", learning_rate=1.0, batch_size=8), flops=7.0e9, arms=[])
    budget = Budget.of(Horizon.model_validate({axis: 0.5}), workload, 200, FLOPS, by_epochs=False)
    assert (budget.axis, budget.amount) == (axis, pytest.approx(amount))


def test_a_cooldown_begins_after_the_last_step_that_ends_before_its_rate_falls() -> None:
    assert Budget("flops", 100.0).steps_before(0.8, 4, 7.0) == 11  # 77 of 80
    assert Budget("examples", 100).steps_before(0.75, 8, 7.0) == 9
    assert Budget("steps", 40).steps_before(0.75, 8, 7.0) == 30
    with pytest.raises(ScrimpError, match="a horizon in seconds does not tell in advance"):
        Budget("seconds", 9.0).steps_before(0.8, 4, 7.0)
