"""Proxy models: which they are, what they cost, and that their statistics are of the right examples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from scrimp.config.tasks import ClassificationRecipe, ClassificationWorkload
from scrimp.data.loading import Images, Normalisation
from scrimp.flops import ExampleFlops
from scrimp.methods.base import Scoring
from scrimp.methods.combined import Methods
from scrimp.tasks.classification import Classification
from scrimp.training import proxy
from scrimp.training.place import Place
from scrimp.training.proxy import PROXY_SEEDS, Scores, score_examples

CPU = torch.device("cpu")
COUNT = 600  # more than one batch of an evaluation
FROZEN = ClassificationRecipe(optimizer="sgd", learning_rate=1e-30, weight_decay=0, batch_size=64)


class Marked(nn.Module):
    """Sure and right about a picture whose second channel is set, sure and wrong otherwise; the first is the label."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        marks = (x[:, :, 0, 0] * 255).round().long()
        named = torch.where(marks[:, 1] == 1, marks[:, 0], (marks[:, 0] + 1) % 3)
        return 100 * nn.functional.one_hot(named, 3).float() + self.bias


def marked(right: Tensor) -> Images:
    pixels = torch.zeros(COUNT, 2, 2, 3, dtype=torch.uint8)
    labels = torch.arange(COUNT) % 3
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = labels.to(torch.uint8), right.to(torch.uint8)
    return Images(pixels, labels)


def score(scoring: Scoring, images: Images, seeds: list[int] | None = None) -> Scores:
    class OfMarks(Classification):
        def model(self, seed: int) -> nn.Module:
            if seeds is not None:
                seeds.append(seed)
            return Marked()

    task = OfMarks(ClassificationWorkload(recipe=FROZEN, epochs=4.0, arms=[]), Place(CPU))
    task.use({"train": images}, 3, Normalisation(torch.zeros(3), torch.ones(3)))
    task.__dict__["flops"] = ExampleFlops(forward=10.0, training=30.0)
    return score_examples(scoring, task, 7)


def scoring_of(selector: dict[str, Any]) -> Scoring:
    scoring = Methods.of([selector], COUNT, 64, 0).selector.scoring()
    assert scoring is not None
    return scoring


def test_el2n_is_nought_where_sure_and_right_and_root_two_where_sure_and_wrong() -> None:
    right = torch.arange(COUNT) % 5 != 0
    seeds: list[int] = []
    scores = score(scoring_of({"name": "el2n", "ratio": 0.5, "models": 3, "horizon": 0.25}), marked(right), seeds)
    torch.testing.assert_close(scores.values, torch.where(right, 0.0, 2**0.5))
    # Three proxies of a quarter of four epochs each, and one forward pass of each over everything.
    assert (scores.proxies.flops, scores.scoring.scored) == (3 * COUNT * 30.0, 3 * COUNT)
    assert scores.scoring.flops == 3 * COUNT * 10.0
    assert seeds == [PROXY_SEEDS + 7000, PROXY_SEEDS + 7001, PROXY_SEEDS + 7002]


def test_proxies_of_different_runs_share_no_seed() -> None:
    seeds = [PROXY_SEEDS + 1000 * seed + number for seed in range(100) for number in range(10)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) > 100


def test_never_learnt_counts_as_forgotten_for_ever_and_always_right_as_never() -> None:
    right = torch.arange(COUNT) % 4 == 0
    scores = score(scoring_of({"name": "forgetting", "ratio": 0.5, "horizon": 0.5}), marked(right))
    assert torch.equal(scores.values, torch.where(right, 0.0, torch.inf))
    # Its statistics come from the training passes: nothing is scored apart.
    assert (scores.proxies.flops, scores.scoring.flops, scores.scoring.scored) == (2 * COUNT * 30.0, 0.0, 0)


def test_visits_are_put_in_rows_by_epoch_and_an_unfinished_epoch_is_left_out() -> None:
    history = [
        (torch.tensor([2, 0]), torch.tensor([True, False])),
        (torch.tensor([1]), torch.tensor([True])),
        (torch.tensor([1, 2]), torch.tensor([False, True])),
        (torch.tensor([0]), torch.tensor([True])),
        (torch.tensor([0]), torch.tensor([False])),  # the third epoch has only begun
    ]
    table = proxy._by_visit([at for at, _ in history], [hit for _, hit in history], 3)
    assert table.tolist() == [[False, True, True], [True, False, True]]


def test_a_proxy_that_ends_within_its_first_epoch_has_learnt_nothing_yet() -> None:
    scores = score(scoring_of({"name": "forgetting", "ratio": 0.5, "horizon": 0.2}), marked(torch.ones(COUNT)))
    assert scores.values.isinf().all()
    assert scores.proxies.flops == 0.8 * COUNT * 30.0
