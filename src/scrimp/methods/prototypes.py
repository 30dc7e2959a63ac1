"""Prototype pruning: keep what is far from (or near) the centroids of k-means in an embedding of the examples.

Use it before training on data of which much is alike; by the paper, keep the farthest examples where data is plentiful and
the nearest where it is scarce. It needs no labels, unless `balance` or `prototypes: classes` asks for them.
Cost: the embedding's training for `horizon` of the recipe, by default contrastive, on two views of each picture; one
embedding pass; k-means and 2 n k d FLOPs for the distances. All of it is part of the run's cost.
Source: Sorscher, Geirhos, Shekhar, Ganguli, Morcos 2022, *Beyond neural scaling laws* (arXiv 2206.14486), section 5.
Deviations: SimCLR's loss with the learner's model in place of SwAV with a ResNet-50; cosine distances. `prototypes:
classes` (labelled means in the unlabelled embedding, the distance to one's own) is our semi-supervised variant; so is
`embedding: features`, for data that are no pictures: a short plain training of the task's own model. Of image-text pairs
the pictures are embedded, by the image tower; their source stands for a class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from scrimp.config.base import Closed
from scrimp.cost import Cost
from scrimp.errors import ScrimpError
from scrimp.kernels.prototypes import nearest_prototype
from scrimp.methods.base import Scoring, derived_generator, share_of, uniform_subset
from scrimp.methods.embeddings import Embedding, embedded
from scrimp.methods.kept_by_scores import KeptByScores
from scrimp.methods.unit_rows import require_unit_rows

if TYPE_CHECKING:
    from scrimp.tasks.base import Task

ITERATIONS = 30  # of k-means, at most


class Params(Closed):
    ratio: float = Field(ge=0, lt=1, description="share of the examples pruned")
    keep: Literal["farthest", "nearest"] = "farthest"
    pool: float = Field(1.0, gt=0, le=1, description="share of the examples that there are to begin with, drawn at random")
    clusters: PositiveInt | None = Field(None, description="k of k-means; null: as many as classes")
    balance: float = Field(0.0, ge=0, le=1, description="each class keeps at least so much of its even share; 1: just that")
    prototypes: Literal["clusters", "classes"] = "clusters"
    embedding: Embedding = "contrastive"
    horizon: float = Field(0.1, gt=0, le=1, description="length of the embedding's training, as a share of the full recipe")


# ------------------------------------------------------------------------------------------------------------- functions
def centroids(points: Tensor, clusters: int, seed: int) -> tuple[Tensor, int]:
    """k-means of scikit-learn on points float32 [n, d]: centroids [k, d], and how many iterations it took.

    Raises ScrimpError for more clusters than points.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if clusters > len(points):
        raise ScrimpError(f"k-means cannot make {clusters} clusters of {len(points)} examples: give fewer `clusters`")
    means = KMeans(clusters, n_init=1, max_iter=ITERATIONS, random_state=seed)
    with threadpool_limits(limits=torch.get_num_threads()):
        means.fit(points.numpy())
    return torch.from_numpy(means.cluster_centers_).to(points), int(means.n_iter_)


def class_means(points: Tensor, labels: Tensor) -> Tensor:
    """The mean of each class's points [n, d] (labels int64 [n]): [C, d]; a class without points has zeros."""
    count = int(labels.max()) + 1
    sums = torch.zeros(count, points.shape[1], dtype=points.dtype).index_add_(0, labels, points)
    return sums / torch.bincount(labels, minlength=count).clamp(min=1)[:, None]


def kept_by_distance(
    distances: Tensor, count: int, keep: Literal["farthest", "nearest"], labels: Tensor | None = None, balance: float = 0.0
) -> Tensor:
    """The `count` indices of largest, or smallest, distance (float [n]); ties go to the lower index: int64 [count].

    With `balance`, each class (labels int64 [n]) first keeps that share of what an even pruning would leave of it; the
    rest goes by distance alone.
    """
    order = distances.argsort(descending=keep == "farthest", stable=True)
    if labels is None or balance == 0:
        return order[:count]
    ordered = labels[order]
    sizes = torch.bincount(ordered)
    owed = torch.tensor([share_of(int(size), balance * count / len(order)) for size in sizes])
    # Place of each example within its class, in the order of distance.
    by_class = ordered.argsort(stable=True)
    place = torch.empty_like(order)
    starts = sizes.cumsum(0) - sizes
    place[by_class] = torch.arange(len(order)) - starts[ordered[by_class]]
    first = place < owed[ordered]
    return torch.cat([order[first], order[~first][: count - int(first.sum())]])


# ---------------------------------------------------------------------------------------------------------------- methods
class PrunedByEmbedding(KeptByScores, ABC):
    """A static selector whose scores come from an embedding: of the examples `pool` alone, the others have none (NaN)."""

    tasks = ("classification", "image-text")
    pooled = True

    @property
    def pool(self) -> Tensor:
        """The examples that there are to begin with: int64 [n], sorted."""
        count = max(1, share_of(self.size, self.params.pool))
        return uniform_subset(self.size, count, derived_generator(self.seed, 0, "prototypes-pool")).sort().values

    @property
    def labelled(self) -> bool:
        """Whether it looks at labels."""
        return self.params.clusters is None

    def scoring(self) -> Scoring:
        horizon, labelled = self.params.horizon, self.labelled
        if self.params.embedding == "features":
            return Scoring(1, horizon, of_features=self.scores_of, examples=self.pool, labelled=labelled)
        return Scoring(1, horizon, of_task=self.score, labelled=labelled)

    def score(self, task: Task, seed: int, on_progress: Callable[[float], None] | None) -> tuple[Tensor, Cost, Cost]:
        """Scores float32 [size], the cost of the embedding's training, and of all else."""
        pool = self.pool
        made = embedded(task, self.params.embedding, pool, self.params.horizon, seed, on_progress)
        values, flops = self.scores_of(made.points, task.labels[pool] if self.labelled else None, seed)
        scores = torch.full((self.size,), torch.nan)
        scores[pool] = values
        return scores, made.training, made.scoring + Cost(flops=flops)

    @abstractmethod
    def scores_of(self, points: Tensor, labels: Tensor | None, seed: int) -> tuple[Tensor, float]:
        """Scores float32 [n] of embedded examples (unit vectors [n, d]; labels int64 [n] if `labelled`), and FLOPs."""

    def clusters_of(self, labels: Tensor | None) -> int:
        """k of k-means."""
        return self.params.clusters or len(_known(labels).unique())


class Prototypes(PrunedByEmbedding):
    """Keeps a share 1 - ratio of the pool by distance to the nearest prototype, the same in every epoch."""

    Params: type[Closed] = Params

    @property
    def labelled(self) -> bool:
        return self.params.clusters is None or self.params.balance > 0 or self.params.prototypes == "classes"

    def scores_of(self, points: Tensor, labels: Tensor | None, seed: int) -> tuple[Tensor, float]:
        require_unit_rows("embeddings", points, zeros=True)
        count, width = points.shape
        if self.params.prototypes == "classes":
            labels = _known(labels)
            own = class_means(points, labels)[labels]
            return 1 - F.cosine_similarity(points, own, dim=1), 6.0 * count * width
        clusters = self.clusters_of(labels)
        means, iterations = centroids(points, clusters, seed)
        nearest, _ = nearest_prototype(points, means)
        return (1 - nearest).float(), 2.0 * (iterations + 1) * count * clusters * width

    def kept_by(self, scores: Tensor, labels: Tensor) -> Tensor:
        pool = (~scores.isnan()).nonzero().flatten()
        count = max(1, share_of(len(pool), 1 - self.params.ratio))
        return pool[kept_by_distance(scores[pool], count, self.params.keep, labels[pool], self.params.balance)]


def _known(labels: Tensor | None) -> Tensor:
    assert labels is not None  # asked for by `labelled`
    return labels


METHOD = Prototypes
