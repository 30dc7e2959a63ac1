"""Retrieval on embeddings whose ranks are known."""

from __future__ import annotations

import pytest
import torch

from scrimp.measure.retrieval import ranks, retrieval, zero_shot_accuracy


def at_angles(*degrees: float) -> torch.Tensor:
    angles = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_ranks_count_the_keys_that_score_as_high() -> None:
    queries, keys = at_angles(0, 90, 45), at_angles(10, 60, 0)
    # From 0 degrees: keys at 10, 60, 0 come second, third, first; its own is the first of them.
    assert ranks(queries, keys).tolist() == [2, 1, 3]
    assert ranks(queries, keys, block=2).tolist() == [2, 1, 3]


def test_embeddings_that_tell_nothing_apart_earn_nothing() -> None:
    same = at_angles(*[30.0] * 20)
    found = retrieval(same, same)
    assert (found["r1"], found["r10"], found["mrr"]) == (0, 0, pytest.approx(1 / 20))


def test_recall_and_mean_reciprocal_rank_of_known_ranks() -> None:
    image, text = at_angles(0, 90, 45), at_angles(10, 60, 0)
    # Captions to images: from 10 degrees 0 is first; from 60 degrees 45 beats 90; from 0 degrees 45 is second to 0.
    found = retrieval(image, text)
    assert found["i2t_r1"] == pytest.approx(100 / 3)
    assert found["t2i_r1"] == pytest.approx(100 / 3)
    assert found["r1"] == pytest.approx(100 / 3)
    assert found["r5"] == found["i2t_r10"] == 100
    assert found["mrr"] == pytest.approx((1 / 2 + 1 + 1 / 3 + 1 + 1 / 2 + 1 / 2) / 6)


def test_zero_shot_takes_the_nearest_name() -> None:
    names = at_angles(0, 120, 240)
    images, labels = at_angles(10, 100, 130, 250), torch.tensor([0, 0, 1, 2])
    assert zero_shot_accuracy(images, names, labels) == 75
