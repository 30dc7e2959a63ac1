"""Large batches by hand: the noise that batch and rate share out, the rules that scale a rate, and both in the loop."""

from __future__ import annotations

import pytest

from scrimp.errors import ScrimpError
from scrimp.methods.combined import Methods
from scrimp.methods.large_batch import LargeBatch, scaled_rate, warmed
from scrimp.methods.noise_schedule import NoiseSchedule, falls, largest_batch, noise_scale, share_out

EPOCHS, EXAMPLES = 200, 50_000


def updates(**methods: dict[str, object]) -> float:
    """Updates of CIFAR-10's 200 epochs from batches of 128, counted by the epoch."""
    named = Methods.of([{"name": name.replace("_", "-"), **spec} for name, spec in methods.items()], EXAMPLES, 128, 0)
    return sum(EXAMPLES / named.batch_size(epoch / EPOCHS, 128) for epoch in range(EPOCHS))


# ---------------------------------------------------------------------------------------------------------- who takes it
@pytest.mark.parametrize(
    ("passed", "growths", "largest", "batch", "rate"),
    [
        (0, None, None, 1.0, 1.0),
        (2, 0, None, 1.0, 1 / 25),  # decay
        (2, 1, None, 5.0, 1 / 5),  # hybrid
        (2, None, None, 25.0, 1.0),  # growth
        (3, None, 40.0, 40.0, 40 / 125),  # growth up to a bound, decay from there
        (1.5, None, None, 5**1.5, 1.0),  # smooth
    ],
)
def test_batch_and_rate_share_a_fall_of_the_noise(
    passed: float, growths: int | None, largest: float | None, batch: float, rate: float
) -> None:
    found = share_out(passed, 5.0, growths, largest)
    assert found == pytest.approx((batch, rate))
    assert found[1] / found[0] == pytest.approx(5.0**-passed)


def test_falls_stand_at_their_shares_or_spread_evenly() -> None:
    at = [0.3, 0.6, 0.8]
    assert [falls(fraction, at) for fraction in (0.0, 0.29, 0.3, 0.59, 0.6, 0.8, 0.99)] == [0, 0, 1, 1, 2, 3, 3]
    assert [falls(fraction, at, "smooth") for fraction in (0.0, 0.5, 1.0)] == [0, 1.5, 3]


def test_updates_of_the_published_runs() -> None:
    """Smith et al., section 5: about 80,000 updates, 29,000, 6,500 and fewer than 2,500."""
    grow = {"at": [0.3, 0.6, 0.8], "factor": 5}
    assert updates(noise_schedule={**grow, "growths": 0}) == pytest.approx(78_125)
    # 60 epochs of 128, 60 of 640, 40 of 3,200, 40 of 16,000.
    assert updates(noise_schedule=grow) == pytest.approx(23_437.5 + 4_687.5 + 625 + 125)
    # 60 epochs of 640, 60 of 3,200, 80 of 5,120: the largest.
    five = {"times": 5, "scaling": "linear"}
    assert updates(large_batch=five, noise_schedule={**grow, "largest": 8}) == pytest.approx(4_687.5 + 937.5 + 781.25)
    # 60 epochs of 3,200, 140 of 5,120.
    momentum = {"times": 25, "scaling": "linear", "momentum": (0.9, 0.98)}
    assert updates(large_batch=momentum, noise_schedule={**grow, "largest": 1.6}) == pytest.approx(937.5 + 1_367.1875)


def test_noise_scale_of_the_published_runs_is_one_number() -> None:
    assert noise_scale(0.1, EXAMPLES, 128, 0.9) == pytest.approx(390.625)
    assert noise_scale(0.5, EXAMPLES, 640, 0.9) == pytest.approx(390.625)
    assert noise_scale(0.5, EXAMPLES, 3200, 0.98) == pytest.approx(390.625)
    assert largest_batch(EXAMPLES) == 5000


@pytest.mark.parametrize("wrong", [{"factor": 1.0}, {"passed": -1.0}, {"growths": -1}, {"largest": 0.5}])
def test_noise_that_would_not_fall_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="want factor > 1"):
        share_out(**{"passed": 1.0, "factor": 5.0, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("at", [[0.6, 0.3], [0.0], [0.5, 1.0], [0.5, 0.5], []])
def test_falls_out_of_order_are_refused(at: list[float]) -> None:
    with pytest.raises(ScrimpError, match=r"method noise-schedule.*at"):
        Methods.of([{"name": "noise-schedule", "at": at}], 100, 16, 0)


# -------------------------------------------------------------------------------------------------------- scaling a rate
def test_rates_by_rule() -> None:
    assert scaled_rate(32, "none") == 1
    assert scaled_rate(32, "linear") == 32
    assert scaled_rate(32, "sqrt") == pytest.approx(32**0.5)
    assert scaled_rate(25, "linear", (0.9, 0.98)) == pytest.approx(5)  # section 5.2: the rate of a batch five times as large
    with pytest.raises(ValueError, match="times must be above 0"):
        scaled_rate(0, "linear")


def test_a_warm_up_rises_from_the_small_batchs_rate() -> None:
    assert [warmed(fraction, 9.0, 0.1) for fraction in (0.0, 0.05, 0.1, 0.5)] == pytest.approx([1, 5, 9, 9])
    large = LargeBatch(0, times=16, scaling="sqrt", warmup=0.1)
    assert large.batch_size(0.0, 32) == 512
    assert large.learning_rate(0.05, 0.5) == pytest.approx(0.5 * 2.5)


@pytest.mark.parametrize("momentum", [(0.9, 1.0), (-0.1, 0.9)])
def test_momentum_belongs_to_linear_scaling(momentum: tuple[float, float]) -> None:
    for spec in ({"scaling": "linear", "momentum": momentum}, {"scaling": "sqrt", "momentum": (0.9, 0.98)}):
        with pytest.raises(ScrimpError, match="momentum: give two numbers"):
            Methods.of([{"name": "large-batch", "times": 2, **spec}], 100, 16, 0)


def test_the_bound_counts_from_the_batch_that_it_is_given() -> None:
    """Five times 32, and at most nine times that: 1,440."""
    large = {"name": "large-batch", "times": 5, "scaling": "linear"}
    methods = Methods.of([large, {"name": "noise-schedule", "largest": 9}], 14_449, 32, 0)
    assert [methods.batch_size(fraction, 32) for fraction in (0.0, 0.3, 0.6, 0.9)] == [160, 800, 1440, 1440]
    # Noise over its beginning: 1, 1/5, 1/25, 1/125.
    noise = [methods.learning_rate(f, 1.0) / methods.batch_size(f, 32) * 32 for f in (0.0, 0.3, 0.6, 0.9)]
    assert noise == pytest.approx([5.0**-passed for passed in range(4)])


def test_alone_in_a_loop_of_ones_own() -> None:
    schedule = NoiseSchedule(0, at=[0.5], factor=4)
    assert [(schedule.batch_size(f, 8), schedule.learning_rate(f, 1.0)) for f in (0.0, 0.5)] == [(8, 1.0), (32, 1.0)]
