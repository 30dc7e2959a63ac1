"""EL2N static pruning: keep the examples whose predicted probabilities are farthest from the label early in training.

The score is the L2 norm of softmax(logits) - one-hot, averaged over proxy models. Cost: training the proxies, counted as
reference FLOPs and seconds, and one scoring pass each. Source: Paul, Ganguli, Dziugaite 2021, *Deep learning on a data
diet* (arXiv 2107.07075), section 2; it reproduces (2303.14753), unlike GraNd at initialisation. Deviations: the proxies
follow the learner's recipe shrunk to their own short horizon, rather than the first epochs of a long schedule.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from scrimp.config.base import Closed
from scrimp.methods.base import Scoring
from scrimp.methods.kept_by_scores import KeptByScores


class Params(Closed):
    ratio: float = Field(ge=0, lt=1, description="share of the examples pruned, the easiest first")
    models: int = Field(10, ge=1, description="proxy models the score is averaged over")
    horizon: float = Field(0.1, gt=0, le=1, description="length of a proxy's training, as a share of the full recipe")


def error_norm(logits: Tensor, labels: Tensor) -> Tensor:
    """L2 norm of softmax(logits [B, C]) minus the one-hot label (int64 [B]): float [B]."""
    errors = logits.float().softmax(dim=1)
    errors[torch.arange(len(labels), device=labels.device), labels] -= 1
    return errors.norm(dim=1)


def hardest(scores: Tensor, count: int) -> Tensor:
    """The `count` indices of highest score (float [N]); ties go to the lower index."""
    return scores.argsort(descending=True, stable=True)[:count]


class EL2N(KeptByScores):
    """Keeps the hardest share 1 - ratio of the examples, the same in every epoch."""

    Params: type[Closed] = Params
    keeps_a_share = True

    def scoring(self) -> Scoring:
        return Scoring(self.params.models, self.params.horizon, of_logits=error_norm)

    def kept_by(self, scores: Tensor, labels: Tensor) -> Tensor:
        return hardest(scores, self.kept_count)


METHOD = EL2N
