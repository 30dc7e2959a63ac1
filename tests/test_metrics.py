"""Metrics by name: the better side is known or an error, never guessed."""

from __future__ import annotations

import pytest

from scrimp.errors import ScrimpError
from scrimp.metrics import Metric, axis_label, better_side, metric_of, metrics, register


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("test_accuracy", "higher"),
        ("zero_shot_accuracy", "higher"),
        ("validation_loss", "lower"),
        ("train_loss", "lower"),
        ("test_emoji_i2t_r1", "higher"),
        ("coco_t2i_r5", "higher"),
        ("test_bits_per_byte", "lower"),
        ("test_fid", "lower"),
        ("nll", "lower"),
        ("test_mse", "lower"),
        ("cpu_seconds", "lower"),
    ],
)
def test_the_better_side_is_the_metrics_own(name: str, better: str) -> None:
    assert better_side(name) == better


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("test_accuracy", "test top-1 accuracy, %"),
        ("test_emoji_i2t_r1", "test emoji i2t recall at 1, %"),
        ("test_bits_per_byte", "test bits a byte"),
        ("validation_mse", "validation mean squared error"),
        ("nll", "negative log-likelihood, nats"),
    ],
)
def test_an_axis_names_split_metric_and_unit(name: str, label: str) -> None:
    assert axis_label(name) == label


def test_an_unknown_name_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(ScrimpError, match=r"unknown metric 'test_acuracy': did you mean 'accuracy'.*known: accuracy"):
        better_side("test_acuracy")


def test_what_is_only_noted_is_not_compared() -> None:
    assert metric_of("chosen_share:alpha").name == "chosen_share"
    assert metric_of("score_p50").better is None
    with pytest.raises(ScrimpError, match="kept_fraction has no better side"):
        better_side("kept_fraction")


def test_a_task_registers_its_own_and_nobody_redefines_it() -> None:
    dice = Metric("dice_of_this_test", "%", "higher", "Dice score")
    assert register(dice) is register(dice)
    assert better_side("test_dice_of_this_test") == "higher"
    assert dice in metrics()
    with pytest.raises(ScrimpError, match="'dice_of_this_test' is registered as"):
        register(Metric("dice_of_this_test", "%", "lower", "Dice loss"))
