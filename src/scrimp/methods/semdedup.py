"""SemDeDup-style pruning: of examples that an embedding holds to be nearly the same, one is kept.

Use it on data that was gathered, with copies in it. Within each cluster of k-means, examples come in the order of their
distance from the centroid, the farthest first; each one's score is its largest cosine with those before it, and the share
`ratio` of highest score is removed.
Cost: that of the embedding, k-means, and 2 d FLOPs for each pair within a cluster; all of it is part of the run's cost.
Source: Abbas, Tirumala, Simig, Ganguli, Morcos 2023, *SemDeDup* (arXiv 2303.09540), section 3.
Deviations: a share is removed, not all beyond a threshold, so that costs are known; the embedding is contrastive and
trained here, not that of a large pre-trained model. Of image-text pairs the pictures are embedded, by the image tower.
"""

from __future__ import annotations

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from scrimp.config.base import Closed
from scrimp.kernels.prototypes import nearest_prototype
from scrimp.methods.base import share_of
from scrimp.methods.embeddings import Embedding
from scrimp.methods.prototypes import PrunedByEmbedding, centroids
from scrimp.methods.unit_rows import require_unit_rows


class Params(Closed):
    ratio: float = Field(ge=0, lt=1, description="share of the examples removed, the nearest copies first")
    pool: float = Field(1.0, gt=0, le=1, description="share of the examples that there are to begin with, drawn at random")
    clusters: PositiveInt | None = Field(None, description="k of k-means; null: as many as classes")
    embedding: Embedding = "contrastive"
    horizon: float = Field(0.1, gt=0, le=1, description="length of the embedding's training, as a share of the full recipe")


def copy_scores(points: Tensor, nearest: Tensor, cluster: Tensor) -> tuple[Tensor, float]:
    """Each point's largest cosine with the points before it in its cluster: float32 [n], -1 for the first; and FLOPs.

    `points` float [n, d] are unit vectors, `nearest` float [n] their cosines with their centroids, `cluster` int64 [n].
    """
    scores, pairs = torch.full((len(points),), -1.0), 0
    for number in cluster.unique().tolist():
        members = (cluster == number).nonzero().flatten()
        members = members[nearest[members].argsort(stable=True)]
        cosines = points[members] @ points[members].T
        earlier = torch.ones_like(cosines, dtype=torch.bool).tril(-1)
        scores[members] = cosines.masked_fill(~earlier, -1.0).amax(dim=1).float()
        pairs += len(members) ** 2
    return scores, 2.0 * pairs * points.shape[1]


class SemDeDup(PrunedByEmbedding):
    """Removes the share `ratio` of the pool that is most nearly a copy of something kept, the same in every epoch."""

    Params: type[Closed] = Params

    def scores_of(self, points: Tensor, labels: Tensor | None, seed: int) -> tuple[Tensor, float]:
        require_unit_rows("embeddings", points, zeros=True)
        count, width = points.shape
        clusters = self.clusters_of(labels)
        means, iterations = centroids(points, clusters, seed)
        nearest, cluster = nearest_prototype(points, means)
        scores, flops = copy_scores(F.normalize(points, dim=1), nearest, cluster)
        return scores, flops + 2.0 * (iterations + 1) * count * clusters * width

    def kept_by(self, scores: Tensor, labels: Tensor) -> Tensor:
        pool = (~scores.isnan()).nonzero().flatten()
        count = max(1, share_of(len(pool), 1 - self.params.ratio))
        return pool[scores[pool].argsort(stable=True)[:count]]


METHOD = SemDeDup
