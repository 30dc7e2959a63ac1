"""Cascades: a threshold known in closed form is found, routing asks no one twice, wrong input is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from scrimp.cascade import (
    Cascade,
    chow_threshold,
    confidence_of,
    expected_calibration_error,
    fit_temperature,
    front,
    points,
    stages_of,
    tempered,
)
from scrimp.errors import ScrimpError

COUNT = 20_000
COST, PRICE = 1.0, 5.0


def calibrated(count: int = COUNT) -> tuple[np.ndarray, np.ndarray]:
    """Two classes, of which the first has a probability even in [1/2, 1], and labels that keep to it."""
    draws = np.random.default_rng(0)
    likely = draws.uniform(0.5, 1, count)
    labels = (draws.uniform(size=count) > likely).astype(np.int64)
    return np.stack([likely, 1 - likely], axis=1), labels


def known(probabilities: np.ndarray, labels: np.ndarray) -> Cascade:
    """Examples are their own numbers; the first stage is `calibrated`, costs nothing, the second is always right."""
    truth = np.eye(2)[labels]
    return Cascade([(lambda rows: probabilities[rows], 0.0), (lambda rows: truth[rows], COST)])


def test_the_search_finds_the_threshold_of_chows_rule() -> None:
    probabilities, labels = calibrated()
    rows = np.arange(COUNT)
    searched = known(probabilities, labels).choose(rows, labels, price=PRICE)
    # An error costs 5, asking 1: below 1 - 1/5 it pays to ask. Confidence is even in [1/2, 1].
    assert chow_threshold(PRICE, COST) == pytest.approx(0.8)
    assert searched.thresholds is not None
    assert searched.thresholds[0] == pytest.approx(0.8, abs=0.02)
    by_rule = known(probabilities, labels).choose_by_chow(PRICE, errors=[0.0])
    assert by_rule.thresholds == pytest.approx([0.8, 0.0])
    answers = by_rule(rows)
    assert answers.cost.mean() == pytest.approx(0.6, abs=0.02)  # (.8 - .5) / .5 are asked on
    assert (answers.labels == labels).mean() == pytest.approx(1 - 0.4 * 0.1, abs=0.01)  # of 40 % a tenth is wrong
    risk = answers.cost.mean() + PRICE * (answers.labels != labels).mean()
    assert risk == pytest.approx(0.6 + 5 * 0.04, abs=0.05)


def test_aims_of_accuracy_and_of_cost_mirror_each_other() -> None:
    probabilities, labels = calibrated()
    rows = np.arange(COUNT)
    by_accuracy = known(probabilities, labels).choose(rows, labels, accuracy=0.96)(rows)
    assert (by_accuracy.labels == labels).mean() >= 0.96
    by_cost = known(probabilities, labels).choose(rows, labels, cost=0.6)(rows)
    assert by_cost.cost.mean() <= 0.6
    assert (by_cost.labels == labels).mean() == pytest.approx(0.96, abs=0.01)


def test_a_stage_sees_only_what_is_left() -> None:
    seen: list[int] = []

    def second(rows: Any) -> torch.Tensor:
        seen.extend(int(row) for row in rows)
        return torch.tensor([[0.0, 1.0]]).expand(len(rows), 2)

    cascade = Cascade(
        [(lambda rows: [[0.9, 0.1] if row < 2 else [0.5, 0.5] for row in rows], 1), (second, 10)], thresholds=[0.8, 0]
    )
    answers = cascade(list(range(5)))
    assert seen == [2, 3, 4]
    assert answers.labels.tolist() == [0, 0, 1, 1, 1]
    assert answers.stage.tolist() == [0, 0, 1, 1, 1]
    assert answers.cost.tolist() == [1, 1, 11, 11, 11]
    assert cascade.worst_cost == 11


def test_a_filter_that_says_nothing_passes_on() -> None:
    def filtered(rows: Any) -> np.ndarray:
        return np.array([[1.0, 0.0] if row == 0 else [0.0, 0.0] for row in rows])

    cascade = Cascade([(filtered, 0.0), (lambda rows: np.tile([0.3, 0.7], (len(rows), 1)), 1.0)])
    cascade.calibrate(np.arange(4), [0, 1, 1, 0]).choose(np.arange(4), [0, 1, 1, 0], accuracy=0.75)
    answers = cascade(np.arange(4))
    assert answers.stage.tolist() == [0, 1, 1, 1]
    assert answers.labels.tolist() == [0, 1, 1, 1]


def test_the_least_certain_share_gets_no_answer() -> None:
    probabilities, labels = calibrated(1000)
    rows = np.arange(1000)
    # The first stage has no opinion and is wrong: any accuracy at all asks the second on everything.
    useless: Any = (lambda rows: np.tile([0.0, 0.0], (len(rows), 1)), 0.0)
    cascade = Cascade([useless, (lambda rows: probabilities[rows], 1.0)])
    whole = float((labels == 0).mean())
    assert cascade.choose(rows, labels, accuracy=whole)(rows).answered.all()
    answers = cascade.choose(rows, labels, accuracy=whole, abstain=0.1)(rows)
    assert (~answers.answered).sum() == 100
    assert probabilities[~answers.answered, 0].max() < probabilities[answers.answered, 0].min()
    assert (answers.labels == labels)[answers.answered].mean() > whole


def test_a_share_gets_no_answer_even_where_the_first_stage_would_answer_all() -> None:
    """A small model as good as the large one, and far cheaper: what neither is sure of still passes through both."""
    probabilities, labels = calibrated(1000)
    rows = np.arange(1000)
    small: Any = (lambda rows: probabilities[rows], 1.0)
    cascade = Cascade([small, (lambda rows: probabilities[rows], 50.0)])
    whole = float((labels == 0).mean())
    assert (cascade.choose(rows, labels, accuracy=whole)(rows).stage == 0).all()
    for aim in ({"accuracy": whole}, {"cost": 30.0}, {"price": 1.0}):
        answers = cascade.choose(rows, labels, **aim, abstain=0.1)(rows)
        assert (~answers.answered).sum() == 100
        assert probabilities[~answers.answered, 0].max() < probabilities[answers.answered, 0].min()
    with pytest.raises(ScrimpError, match="no thresholds cost 2 or less"):
        cascade.choose(rows, labels, cost=2.0, abstain=0.1)


def test_temperature_undoes_what_sharpened() -> None:
    probabilities, labels = calibrated()
    sharp = tempered(probabilities, 1 / 3)
    assert fit_temperature(sharp, labels) == pytest.approx(3, rel=0.1)
    right = probabilities.argmax(axis=1) == labels
    before = expected_calibration_error(confidence_of(sharp), right)
    after = expected_calibration_error(confidence_of(tempered(sharp, 3)), right)
    assert after < 0.02 < before
    assert tempered(sharp, 3) == pytest.approx(probabilities)
    assert tempered(np.zeros((1, 2)), 2).tolist() == [[0, 0]]


def test_calibration_error_by_hand() -> None:
    # Two bins: .9 and wrong half of the time, .6 and always right.
    confidence, right = np.array([0.9, 0.9, 0.6, 0.6]), np.array([True, False, True, True])
    assert expected_calibration_error(confidence, right) == pytest.approx((0.8 + 0.8) / 4)


def test_small_functions_by_hand() -> None:
    rows = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    assert confidence_of(rows).tolist() == [0.5, 0.8]
    assert confidence_of(rows, "margin") == pytest.approx([0.2, 0.7])
    confidences = np.array([[0.9, 0.1, 0.1], [0.2, 0.6, 0.3]])
    assert stages_of(confidences, [0.5, 0.5]).tolist() == [0, 1, 2]
    right = np.array([[True, False], [True, True]])
    found = front(points(np.array([[0.9, 0.2], [1.0, 1.0]]), right, [1.0, 2.0]))
    assert [(point.cost, point.accuracy) for point in found] == [(1.0, 0.5), (2.0, 1.0)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Cascade([(len, 1)]), "two stages or more"),
        (lambda: Cascade([(len, 1), ("model", 2)]), "no pair"),  # type: ignore[list-item]
        (lambda: Cascade([(len, 1), (len, -2)]), "not below 0"),
        (lambda: Cascade([(len, 1), (len, 2)], confidence="entropy"), "unknown confidence"),  # type: ignore[arg-type]
        (lambda: Cascade([(len, 1), (len, 2)], thresholds=[0.5]), "each of 2 stages"),
        (lambda: Cascade([(len, 1), (len, 2)], temperatures=[0, 1]), "above 0"),
        (lambda: Cascade([(len, 1), (len, 2)])([1]), "no thresholds"),
        (lambda: Cascade([(len, 1), (len, 2)], thresholds=[1, 0])([]), "no examples"),
        (lambda: Cascade([(lambda x: [[2.0, 3.0]], 1), (len, 2)], thresholds=[1, 0])([1]), "softmax"),
        (lambda: Cascade([(lambda x: [0.5], 1), (len, 2)], thresholds=[1, 0])([1]), "not [1, C]"),
        (lambda: Cascade([(len, 1), (len, 2)]).choose([1], [0]), "exactly one"),
        (lambda: Cascade([(len, 1), (len, 2)]).choose([1], [0.5], price=1), "whole numbers"),
        (lambda: Cascade([(lambda x: [[1.0]], 1), (lambda x: [[1.0, 0]], 2)]).choose([1], [0], price=1), "all must know"),
        (
            lambda: Cascade([(lambda x: [[1.0, 0]], 1), (lambda x: [[1.0, 0]], 2)]).choose([1], [1], accuracy=0.9),
            "the best is 0",
        ),
        (lambda: Cascade([(lambda x: [[1.0, 0]], 1), (lambda x: [[1.0, 0]], 2)]).choose([1], [1], cost=0.5), "costs 1"),
        (lambda: Cascade([(len, 1), (len, 2)], "margin").choose_by_chow(5, [0.1]), "probability"),
        (lambda: chow_threshold(0, 1), "above 0"),
        (lambda: Cascade([(len, "1"), (len, 2)]), "costs '1'"),  # type: ignore[list-item]
        (lambda: Cascade([(len, 1), (len, 2)], thresholds=[95, 0]), "from 0 to 1"),
        (lambda: Cascade([(len, 1), (len, 2)]).choose([1], [0], price=-5), "price is a finite number"),
        (lambda: Cascade([(len, 1), (len, 2)]).choose([1], [0], accuracy=float("nan")), "accuracy is a finite number"),
        (lambda: Cascade([(len, 1), (len, 2)]).choose_by_chow(10, [2]), "errors from 0 to 1"),
        (lambda: Cascade([(len, 1), (len, 2)], thresholds=[1, 0])({"x": [1]}), "got a dict (x)"),
        (lambda: Cascade([(lambda x: [[0.5]], 1), (lambda x: [[1.0, 0]], 2)], thresholds=[1, 0])([1]), "all must know"),
    ],
)
def test_what_cannot_be_is_told(make: Any, words: str) -> None:
    with pytest.raises(ScrimpError) as told:
        make()
    assert words in str(told.value)


class Labelled:
    """What a pandas object does: [] looks up by label, iloc by position."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, label: int) -> Any:
        raise KeyError(label)

    @property
    def iloc(self) -> np.ndarray:
        return self.values


def test_a_shuffled_series_is_taken_by_position() -> None:
    probabilities, _ = calibrated(200)
    order = np.random.default_rng(0).permutation(200)

    def stage(given: Any) -> np.ndarray:
        return probabilities[np.asarray(given.values if isinstance(given, Labelled) else given)]

    cascade = Cascade([(stage, 1.0), (stage, 10.0)], thresholds=[0.9, 0.0])
    assert (cascade(Labelled(order)).labels == cascade(order).labels).all()


def test_thresholds_of_other_temperatures_are_forgotten() -> None:
    probabilities, labels = calibrated(200)
    cascade = Cascade([(lambda at: probabilities[at], 1.0), (lambda at: probabilities[at], 10.0)], thresholds=[0.9, 0.0])
    cascade.calibrate(np.arange(200), labels)
    with pytest.raises(ScrimpError, match="the cascade has no thresholds"):
        cascade(np.arange(200))


def test_a_stage_in_training_mode_is_told() -> None:
    stage = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout(), torch.nn.Softmax(dim=1))
    cascade = Cascade([(stage, 1.0), (stage, 2.0)], thresholds=[0.0, 0.0])
    with pytest.raises(ScrimpError, match="stage 0 is in training mode"):
        cascade(torch.randn(4, 3))
    stage.eval()
    assert len(cascade(torch.randn(4, 3)).labels) == 4
