"""Retrieval on embeddings whose ranks are known."""

from __future__ import annotations

import pytest
import torch

from scrimp.measure.retrieval import few_shot_accuracy, mean_retrieval, ranks, retrieval, retrieval_many, zero_shot_accuracy


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


# ---------------------------------------------------------------------------------------------- several captions an image
@pytest.mark.parametrize("block", [1, 3, 1024])
def test_an_image_is_ranked_by_its_best_caption(block: int) -> None:
    images, captions, owner = at_angles(0, 90), at_angles(10, 85, 60, 100), torch.tensor([0, 0, 1, 1])
    # From the image at 0 degrees its caption at 10 is nearest; from 90 its nearest, 100, comes after the other's 85.
    # Of the captions just 85 is nearer to the image that is not its own.
    found = retrieval_many(images, captions, owner, block)
    assert (found["i2t_r1"], found["t2i_r1"], found["r1"]) == (50, 75, 62.5)
    assert (found["i2t_r5"], found["t2i_r5"]) == (100, 100)
    assert found["mrr"] == pytest.approx(((1 + 1 / 2) / 2 + (1 + 1 / 2 + 1 + 1) / 4) / 2)


def test_an_images_other_captions_do_not_stand_in_its_way() -> None:
    images, captions = at_angles(0, 180), at_angles(1, 2, 3, 4, 5, 6, 170)
    owner = torch.tensor([0, 0, 0, 0, 0, 0, 1])
    assert retrieval_many(images, captions, owner)["i2t_r1"] == 100
    far = retrieval_many(images, at_angles(1, 2, 3, 4, 5, 6, 7), torch.tensor([1, 1, 1, 1, 1, 1, 0]))
    assert (far["i2t_r1"], far["i2t_r5"], far["i2t_r10"]) == (0, 50, 100)  # ranks 7 and 2


def test_captions_that_tell_nothing_apart_earn_nothing() -> None:
    same, owner = at_angles(*[30.0] * 20), torch.arange(4).repeat_interleave(5)
    found = retrieval_many(same[:4], same, owner)
    assert (found["i2t_r10"], found["t2i_r1"]) == (0, 0)  # ranks 16 and 4
    assert found["mrr"] == pytest.approx((1 / 16 + 1 / 4) / 2)


def test_with_one_caption_each_it_is_plain_retrieval() -> None:
    draws = torch.Generator().manual_seed(0)
    images, captions = (torch.nn.functional.normalize(torch.randn(60, 4, generator=draws), dim=1) for _ in range(2))
    owner = torch.randperm(60, generator=draws)
    expected = retrieval(images[owner], captions)
    assert retrieval_many(images, captions, owner, block=7) == pytest.approx(expected)
    assert 0 < expected["r5"] < 50


def test_galleries_count_alike_and_are_searched_apart() -> None:
    # Image 0 is nearest to caption 2: wrong in one gallery of four, right where caption 2 is in another gallery.
    image = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2], [0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]]), dim=1)
    text = torch.nn.functional.normalize(torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.2], [-1.0, 0.0]]), dim=1)
    whole = mean_retrieval(image, text, [torch.arange(4)])
    assert whole == retrieval(image, text)
    assert whole["i2t_r1"] == 75
    parts = [torch.tensor([0, 3]), torch.tensor([1]), torch.tensor([2])]
    assert mean_retrieval(image, text, parts)["i2t_r1"] == 100
    # The first gallery has one of two right, the second its only one: (50 + 100) / 2.
    assert mean_retrieval(image, text, [torch.tensor([0, 2]), torch.tensor([3])])["i2t_r1"] == 75


def test_few_shots_learn_a_line_and_are_averaged_over_draws() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(2).repeat(40)
    shown = torch.randn(80, 3, generator=generator) * 0.1
    shown[:, 0] += labels * 2 - 1.0
    tested, tested_labels = torch.tensor([[-1.0, 0, 0], [-1.0, 0, 0], [1.0, 0, 0], [1.0, 0, 0]]), torch.tensor([0, 0, 1, 1])
    rows = torch.arange(10)
    assert few_shot_accuracy(shown, labels, rows[None], tested, tested_labels) == 100
    # A draw whose labels are swapped gets everything wrong; the mean of both draws is half.
    both = torch.cat([shown, shown]), torch.cat([labels, 1 - labels])
    assert few_shot_accuracy(*both, torch.stack([rows, rows + 80]), tested, tested_labels) == 50
