"""Prototype pruning and removal of copies: planted clusters, classes and copies; the embedding's cost is counted."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scrimp.config import Arm, Workspace
from scrimp.config.training import Recipe, Workload
from scrimp.errors import ScrimpError
from scrimp.measure.clock import Clock
from scrimp.methods.combined import Methods
from scrimp.methods.embeddings import contrastive_loss, embedded, view, without_head
from scrimp.methods.prototypes import Prototypes, centroids, class_means, kept_by_distance
from scrimp.methods.semdedup import SemDeDup, copy_scores
from scrimp.stages.fit import fit
from scrimp.tasks import load_task
from scrimp.tasks.base import Task, seeded
from scrimp.training.place import Place


def planted(clusters: int = 4, each: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors around orthogonal axes, at angles that grow within each cluster; their clusters, and the angles."""
    draws = torch.Generator().manual_seed(0)
    of = torch.arange(clusters).repeat_interleave(each)
    angle = torch.linspace(0.01, 0.4, each).repeat(clusters)
    aside = torch.randn(clusters * each, 16, generator=draws)
    aside[:, :clusters] = 0  # off every axis
    points = angle.cos()[:, None] * F.one_hot(of, 16) + angle.sin()[:, None] * F.normalize(aside, dim=1)
    return points, of, angle


# ------------------------------------------------------------------------------------------------------------ prototypes
def test_distances_are_the_planted_angles() -> None:
    points, of, angle = planted()
    selector = Prototypes(len(points), 0, ratio=0.5, clusters=4)
    scores, flops = selector.scores_of(points, of, 0)
    # Around 50 random directions the mean of a cluster is nearly its axis.
    assert (scores - (1 - angle.cos())).abs().max() < 0.03
    # At least an assignment of k-means, and the distances: 2 n k d each.
    assert flops >= 2 * 2 * len(points) * 4 * 16
    assert flops % (2 * len(points) * 4 * 16) == 0


def test_the_farthest_and_the_nearest_halves_are_what_was_planted() -> None:
    points, of, angle = planted()
    kept = {}
    for keep in ("farthest", "nearest"):
        selector = Prototypes(len(points), 0, ratio=0.5, clusters=4, keep=keep)
        scores, _ = selector.scores_of(points, of, 0)
        selector.accept_scores(scores, of)
        kept[keep] = selector.select(0, 0.0).indices
    assert angle[kept["farthest"]].mean() > 0.28 > 0.13 > angle[kept["nearest"]].mean()
    assert not set(kept["farthest"].tolist()) & set(kept["nearest"].tolist())


def test_k_means_finds_the_planted_centroids_and_refuses_more_than_points() -> None:
    points, _, _ = planted()
    means, _ = centroids(points, 4, 0)
    axes = (F.normalize(means, dim=1)[:, :4] > 0.95).int()
    assert axes.sum(dim=0).tolist() == [1, 1, 1, 1]
    with pytest.raises(ScrimpError, match="201 clusters of 200 examples"):
        centroids(points, 201, 0)


def test_class_means_by_hand() -> None:
    means = class_means(torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]]), torch.tensor([0, 0, 2]))
    assert means.tolist() == [[2, 0], [0, 0], [0, 5]]
    points, of, angle = planted()
    scores, _ = Prototypes(len(points), 0, ratio=0.5, prototypes="classes").scores_of(points, of, 0)
    assert (scores - (1 - angle.cos())).abs().max() < 0.03


def test_balance_by_hand() -> None:
    distances = torch.tensor([9.0, 8, 7, 6, 1, 2, 3, 4])
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    assert kept_by_distance(distances, 4, "farthest").tolist() == [0, 1, 2, 3]
    assert kept_by_distance(distances, 4, "nearest").tolist() == [4, 5, 6, 7]
    # An even share is two of each; half of it is one.
    assert sorted(kept_by_distance(distances, 4, "farthest", labels, 1.0).tolist()) == [0, 1, 6, 7]
    assert sorted(kept_by_distance(distances, 4, "farthest", labels, 0.5).tolist()) == [0, 1, 2, 7]
    assert sorted(kept_by_distance(distances, 4, "nearest", labels, 0.5).tolist()) == [3, 4, 5, 6]


def test_only_the_pool_is_chosen_from() -> None:
    selector = Prototypes(100, 3, ratio=0.5, pool=0.4)
    pool = selector.pool
    assert len(pool) == 40
    assert torch.equal(pool, Prototypes(100, 3, ratio=0.2, pool=0.4, keep="nearest").pool)  # of one seed the same
    scores = torch.full((100,), torch.nan)
    scores[pool] = torch.arange(40.0)
    selector.accept_scores(scores, torch.zeros(100, dtype=torch.int64))
    assert set(selector.select(0, 0.0).indices.tolist()) == set(pool[20:].tolist())


# -------------------------------------------------------------------------------------------------------------- semdedup
def test_copies_go_first() -> None:
    draws = torch.Generator().manual_seed(0)
    points = F.normalize(torch.randn(60, 16, generator=draws), dim=1)
    copies = F.normalize(points[:20] + 0.01 * torch.randn(20, 16, generator=draws), dim=1)
    both = torch.cat([points, copies])
    selector = SemDeDup(80, 0, ratio=0.25, clusters=3)
    scores, _ = selector.scores_of(both, torch.zeros(80, dtype=torch.int64), 0)
    selector.accept_scores(scores, torch.zeros(80, dtype=torch.int64))
    kept = set(selector.select(0, 0.0).indices.tolist())
    assert len(kept) == 60
    for place in range(20):  # one of each pair is gone, and no single
        assert (place in kept) + (60 + place in kept) == 1


def test_copy_scores_by_hand() -> None:
    points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [1.0, 0.0]])
    nearest = torch.tensor([0.1, 0.2, 0.3, 0.9])
    scores, flops = copy_scores(points, nearest, torch.tensor([0, 0, 0, 1]))
    assert scores.tolist() == pytest.approx([-1, 0, 0.8, -1])
    assert flops == 2 * (9 + 1) * 2


# ------------------------------------------------------------------------------------------------------------- embedding
def test_the_contrastive_loss_without_information_and_with_all() -> None:
    same = F.normalize(torch.ones(8, 4), dim=1)
    assert float(contrastive_loss(same, same)) == pytest.approx(math.log(15), rel=1e-5)
    apart = torch.eye(8)
    assert float(contrastive_loss(apart, apart, temperature=0.05)) < 1e-6


def test_views_stay_pictures_and_follow_their_generator() -> None:
    pixels = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8)
    first, again = (view(pixels, torch.Generator().manual_seed(1)) for _ in range(2))
    assert first.shape == (6, 3, 32, 32)
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, view(pixels, torch.Generator().manual_seed(2)))


def test_the_last_linear_layer_comes_off() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    assert without_head(model) == 3
    assert model(torch.zeros(5, 4)).shape == (5, 3)
    with pytest.raises(ScrimpError, match="embedding: pixels"):
        without_head(nn.Conv2d(3, 3, 1))


@pytest.fixture
def task(tiny: Workspace) -> Task:
    study = tiny.study("tiny")
    scale = study.scale("smoke")
    return load_task("classification", tiny, scale.workloads[scale.main], torch.device("cpu"))


def test_the_embedding_is_of_the_pool_and_costs_two_views_a_picture(task: Task) -> None:
    pool = torch.arange(0, task.examples, 2)
    made = embedded(task, "contrastive", pool, 1.0, 0)
    assert made.points.shape[0] == len(pool)
    assert made.points.norm(dim=1) == pytest.approx(torch.ones(len(pool)))
    size = min(task.workload.recipe.batch_size, len(pool))
    assert made.training.examples == 2 * size * made.training.updates
    assert made.training.flops > made.training.examples * task.flops.training
    assert made.scoring.flops == len(pool) * task.flops.forward
    again = embedded(task, "contrastive", pool, 1.0, 0)
    assert torch.equal(made.points, again.points)
    assert embedded(task, "pixels", pool, 1.0, 0).training.flops == 0


def test_a_run_counts_its_embedding_as_earlier_cost(task: Task, tiny: Workspace) -> None:
    spec: dict[str, Any] = {"name": "prototypes", "ratio": 0.5, "horizon": 1.0}
    found = fit(task, Arm(label="a", methods=[spec]), 0, Clock(torch.device("cpu")))
    plain = fit(task, Arm(label="b", methods=[{"name": "random-static", "ratio": 0.5}]), 0, Clock(torch.device("cpu")))
    made = embedded(task, "contrastive", torch.arange(task.examples), 1.0, 0)
    assert found.cost.learner.flops == plain.cost.learner.flops
    assert found.cost.earlier.flops == made.training.flops
    assert found.cost.earlier.examples == made.training.examples
    assert found.cost.scoring.flops > task.examples * task.flops.forward
    assert found.rows[0]["flops"] >= made.training.flops


# -------------------------------------------------------------------------------------------------- by a task's features
class Blobs(Task):
    """Points around two corners, as far from them as their number says; without labels."""

    def setup(self, workspace: object) -> None:
        corner = torch.arange(80) % 2 * 2.0 - 1
        away = torch.randn(80, 3, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.01, 0.5, 80)[:, None]
        self.data = {"train": (corner[:, None] + away, corner), "test": (away, corner)}

    def model(self, seed: int) -> nn.Module:
        return seeded(seed, lambda: nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)))

    def losses(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        points, targets = batch
        return (model(points)[:, 0] - targets).square()


@pytest.fixture
def blobs() -> Blobs:
    recipe = Recipe(optimizer="sgd", learning_rate=0.05, batch_size=8)
    task = Blobs(Workload(recipe=recipe, epochs=4, evaluations=1, arms=[]), Place(torch.device("cpu")))
    task.setup(None)
    return task


def test_features_are_what_the_last_linear_layer_that_runs_is_given(blobs: Blobs) -> None:
    model, batch = blobs.model(0), blobs.batch("train", torch.arange(5))
    assert torch.equal(blobs.features(model, batch), model[:2](batch[0]))  # type: ignore[index]
    sequence = nn.Sequential(nn.Unflatten(1, (3, 1)), nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten())
    each = sequence[:3](batch[0])  # [5, 3, 4]
    assert torch.equal(blobs.features(sequence, batch), each.mean(dim=1))
    assert not sequence[1]._forward_pre_hooks
    flat = nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (15, 1)), nn.Linear(1, 1), nn.Unflatten(0, (5, 3)), nn.Flatten())
    for model in (flat, nn.Sequential(nn.Unflatten(1, (3, 1)), nn.Conv1d(3, 1, 1), nn.Flatten())):
        with pytest.raises(ScrimpError, match="Blobs: no linear layer of the model gets a row an example"):
            blobs.features(model, batch)


@pytest.mark.parametrize("name", ["prototypes", "semdedup"])
def test_any_task_is_pruned_by_its_features_which_are_paid_for(blobs: Blobs, name: str) -> None:
    spec = {"name": name, "ratio": 0.5, "clusters": 2, "embedding": "features", "horizon": 0.5}
    kept = []
    for seed in (0, 0, 1):
        methods = Methods.of([spec], blobs.examples, 8, seed)
        found = fit(blobs, Arm(label="a", methods=[spec]), seed, Clock(torch.device("cpu")), methods=methods)
        kept.append(methods.selector.kept)
    assert torch.equal(kept[0].sort().values, kept[1].sort().values)
    assert not torch.equal(kept[0].sort().values, kept[2].sort().values)
    assert len(kept[0].unique()) == 40
    cost = found.cost
    assert (cost.earlier.updates, cost.earlier.examples) == (20, 160)  # half of four epochs, of all examples
    assert cost.earlier.flops == 160 * blobs.flops.training
    assert cost.learner.examples == 160  # four epochs of half of them
    assert cost.scoring.scored == 80
    assert cost.scoring.flops > 80 * blobs.flops.forward + 2 * 2 * 80 * 2 * 8  # and the distances


def test_what_is_far_from_both_corners_is_kept(blobs: Blobs) -> None:
    spec = {"name": "prototypes", "ratio": 0.5, "clusters": 2, "embedding": "features", "horizon": 1.0}
    methods = Methods.of([spec], 80, 8, 0)
    fit(blobs, Arm(label="a", methods=[spec]), 0, Clock(torch.device("cpu")), methods=methods)
    assert methods.selector.kept.double().mean() > 45  # of 0 to 79, by how far they lie; 39.5 at random


def test_only_the_pool_is_trained_on_and_kept(blobs: Blobs) -> None:
    spec = {"name": "prototypes", "ratio": 0.5, "clusters": 2, "embedding": "features", "pool": 0.5}
    methods = Methods.of([spec], 80, 8, 0)
    found = fit(blobs, Arm(label="a", methods=[spec]), 0, Clock(torch.device("cpu")), methods=methods)
    assert len(methods.selector.kept) == 20
    assert set(methods.selector.kept.tolist()) <= set(methods.selector.pool.tolist())
    assert found.cost.earlier.examples == 16  # a tenth of four epochs of 40


def test_tasks_without_labels_or_pictures_are_told_what_to_give(blobs: Blobs) -> None:
    clock = Clock(torch.device("cpu"))
    for more, said in (
        ({"embedding": "features"}, "Blobs has no class labels"),
        ({"embedding": "features", "clusters": 2, "balance": 0.5}, "Blobs has no class labels"),
        (
            {"clusters": 2},
            "Blobs does not hold pictures as the task classification does: give the method `embedding: features`",
        ),
    ):
        spec = {"name": "prototypes", "ratio": 0.5, **more}
        with pytest.raises(ScrimpError, match=said):
            fit(blobs, Arm(label="a", methods=[spec]), 0, clock)


def test_features_that_are_not_finite_are_an_error(blobs: Blobs) -> None:
    blobs.features = lambda model, batch: torch.full((len(batch[0]), 2), torch.nan)  # type: ignore[method-assign]
    spec = {"name": "prototypes", "ratio": 0.5, "clusters": 2, "embedding": "features"}
    with pytest.raises(ScrimpError, match=r"Blobs\.features gave numbers that are not finite"):
        fit(blobs, Arm(label="a", methods=[spec]), 0, Clock(torch.device("cpu")))


@pytest.mark.parametrize("method", [Prototypes, SemDeDup])
def test_embeddings_that_are_no_unit_vectors_are_told(method: type[Prototypes] | type[SemDeDup]) -> None:
    selector = method(50, 0, ratio=0.2, clusters=3)
    with pytest.raises(ValueError, match="the embeddings are not of length 1"):
        selector.scores_of(3 * torch.randn(50, 4), None, 0)
