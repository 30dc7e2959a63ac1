"""Learning-rate factors against torch's own schedule and against points known by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scrimp.config import Schedule
from scrimp.training.schedules import learning_rate_factor

PEAK = 0.05
fractions = st.floats(0, 1)
schedules = st.builds(
    Schedule,
    name=st.sampled_from(["one-cycle", "cosine", "linear", "constant"]),
    warmup=st.integers(0, 100).map(lambda percent: percent / 100),
)


def torchs_factors(total: int, warmup: float, division: float, final: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK, total_steps=total, pct_start=warmup, div_factor=division, final_div_factor=final
    )
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"] / PEAK)
        optimizer.step()
        if len(found) < total:
            scheduler.step()
    return found


@pytest.mark.parametrize(("warmup", "division", "final"), [(0.3, 25.0, 1e4), (0.1, 10.0, 100.0), (0.5, 4.0, 1.0)])
def test_one_cycle_is_torchs(warmup: float, division: float, final: float) -> None:
    schedule = Schedule(warmup=warmup, initial_division=division, final_division=final)
    total = 200
    theirs = torchs_factors(total, warmup, division, final)
    peak_at, end_at = warmup * total - 1, total - 1  # where torch puts the ends of its two phases
    for step, factor in enumerate(theirs):
        rising = step <= peak_at
        part = step / peak_at if rising else (step - peak_at) / (end_at - peak_at)
        fraction = warmup * part if rising else warmup + (1 - warmup) * part
        assert learning_rate_factor(schedule, fraction) == pytest.approx(factor, rel=1e-9)
        # As the fraction of steps that are done, torch's step lags by at most one; a cosine rises by at most pi / 2 a phase.
        slope = math.pi / 2 / min(warmup, 1 - warmup)
        assert abs(learning_rate_factor(schedule, step / total) - factor) <= slope / total


def test_one_cycle_by_hand() -> None:
    schedule = Schedule()  # warm-up .3, divisions 25 and 1e4
    low, end = 1 / 25, 1 / 25e4
    points = {0.0: low, 0.15: (1 + low) / 2, 0.3: 1.0, 0.65: (1 + end) / 2, 1.0: end}
    # A third of the way down: (1 + cos 60 deg) / 2 = 3/4 of it is left.
    points[0.3 + 0.7 / 3] = end + (1 - end) * 0.75
    assert {f: learning_rate_factor(schedule, f) for f in points} == pytest.approx(points)


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("cosine", {0.0: 0.0, 0.1: 0.5, 0.2: 1.0, 0.6: 0.5, 1.0: 0.0, 0.2 + 0.8 / 3: 0.75}),
        ("linear", {0.0: 0.0, 0.1: 0.5, 0.2: 1.0, 0.6: 0.5, 1.0: 0.0, 0.4: 0.75}),
        ("constant", {0.0: 0.0, 0.1: 0.5, 0.2: 1.0, 0.6: 1.0, 1.0: 1.0}),
    ],
)
def test_other_schedules_by_hand(name: str, points: dict[float, float]) -> None:
    schedule = Schedule.model_validate({"name": name, "warmup": 0.2})
    assert {f: learning_rate_factor(schedule, f) for f in points} == pytest.approx(points, abs=1e-12)


@pytest.mark.parametrize("name", ["one-cycle", "cosine", "linear", "constant"])
def test_without_warm_up_the_peak_comes_first(name: str) -> None:
    assert learning_rate_factor(Schedule.model_validate({"name": name, "warmup": 0}), 0.0) == 1.0


@given(schedules, fractions)
def test_factors_lie_between_zero_and_one(schedule: Schedule, fraction: float) -> None:
    assert 0 <= learning_rate_factor(schedule, fraction) <= 1 + 1e-12


@given(schedules, fractions, fractions)
def test_up_to_the_peak_then_down(schedule: Schedule, one: float, other: float) -> None:
    early, late = sorted((one, other))
    first, second = learning_rate_factor(schedule, early), learning_rate_factor(schedule, late)
    if late < schedule.warmup:
        assert first <= second + 1e-12
    if early >= schedule.warmup:
        assert first >= second - 1e-12


@given(schedules)
def test_fractions_outside_are_clamped(schedule: Schedule) -> None:
    assert learning_rate_factor(schedule, -0.1) == learning_rate_factor(schedule, 0.0)
    assert learning_rate_factor(schedule, 1.1) == learning_rate_factor(schedule, 1.0)


# ------------------------------------------------------------------------------------------- every shape, by hand
HALF = math.sqrt(0.5)


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        # A cooldown over the last fifth: 1 until .8, and halfway through it at .9.
        (
            Schedule(name="constant", warmup=0, cooldown=0.2, cooldown_shape="1-sqrt"),
            {0.0: 1.0, 0.79: 1.0, 0.8: 1.0, 0.85: 0.5, 0.9: 1 - HALF, 1.0: 0.0},
        ),
        (
            Schedule(name="constant", warmup=0, cooldown=0.2, cooldown_shape="linear"),
            {0.8: 1.0, 0.85: 0.75, 0.9: 0.5, 0.95: 0.25, 1.0: 0.0},
        ),
        (
            Schedule(name="constant", warmup=0, cooldown=0.2, cooldown_shape="cosine"),
            {0.8: 1.0, 0.85: (1 + HALF) / 2, 0.9: 0.5, 1.0: 0.0},
        ),
        # Half a budget of warm-up, then down to a tenth.
        (Schedule(name="cosine", warmup=0.5, floor=0.1), {0.0: 0.0, 0.25: 0.5, 0.5: 1.0, 0.75: 0.55, 1.0: 0.1}),
        (Schedule(name="linear", warmup=0.5, floor=0.1), {0.0: 0.0, 0.25: 0.5, 0.5: 1.0, 0.75: 0.55, 1.0: 0.1}),
        # Laid out for two budgets and cut at the end of the first: half of the way down.
        (Schedule(name="cosine", warmup=0, stretch=2), {0.0: 1.0, 0.5: (1 + HALF) / 2, 1.0: 0.5}),
        (Schedule(name="linear", warmup=0, stretch=2, floor=0.2), {0.0: 1.0, 0.5: 0.8, 1.0: 0.6}),
        (Schedule(name="linear", warmup=0.2, stretch=2), {0.2: 0.5, 0.4: 1.0, 1.0: 1 - 0.3 / 0.8}),
    ],
)
def test_points_of_every_shape(schedule: Schedule, points: dict[float, float]) -> None:
    assert {at: learning_rate_factor(schedule, at) for at in points} == pytest.approx(points, abs=1e-12)


@pytest.mark.parametrize("name", ["cosine", "linear", "constant"])
def test_a_warm_up_in_steps_rises_whatever_the_budget(name: str) -> None:
    """Of four steps of warm-up the first runs at a quarter of the rate and the fourth at all of it."""
    schedule = Schedule(name=name, warmup=0, warmup_steps=4)  # type: ignore[arg-type]
    assert [learning_rate_factor(schedule, 0.0, step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    # It multiplies what the shape gives there.
    whole = learning_rate_factor(Schedule(name=name, warmup=0), 0.5)  # type: ignore[arg-type]
    assert learning_rate_factor(schedule, 0.5, 1) == pytest.approx(0.5 * whole)
