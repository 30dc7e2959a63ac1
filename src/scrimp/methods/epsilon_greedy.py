"""eps-greedy dynamic pruning: every few epochs keep the examples of highest loss, and a share eps at random.

Cost: one sort of N losses per period; the losses come from training. Source: Raju, Daruwalla, Lipasti 2021, *Accelerating
deep learning with dynamic data pruning* (arXiv 2111.12621). Deviations: the losses of the training forward passes are
used, with no extra pass for examples that were left out, whose losses are therefore old; the first epoch takes all
examples, since there is nothing yet to rank.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from scrimp.config.base import Closed
from scrimp.methods.base import EpochSelector, Selection, derived_generator, share_of


class Params(Closed):
    ratio: float = Field(ge=0, lt=1, description="share of the examples pruned")
    epsilon: float = Field(0.1, ge=0, le=1, description="share of the kept examples that is drawn at random")
    period: int = Field(10, ge=1, description="epochs between two choices")


def epsilon_greedy(scores: Tensor, count: int, epsilon: float, generator: torch.Generator) -> Tensor:
    """`count` indices: the (1 - epsilon) count of highest score (float [N]), the rest uniform among the others."""
    greedy = share_of(count, 1 - epsilon)
    order = scores.argsort(descending=True, stable=True)
    others = order[greedy:]
    explored = others[torch.randperm(len(others), generator=generator)[: count - greedy]]
    return torch.cat([order[:greedy], explored])


class EpsilonGreedy(EpochSelector):
    """Keeps a share 1 - ratio of the examples, chosen anew every `period` epochs."""

    Params = Params
    keeps_a_share = True
    needs_losses = True

    def __init__(self, size: int, seed: int, **params: object) -> None:
        super().__init__(size, seed, **params)
        self.scores = torch.full((size,), torch.inf)  # not seen yet: first in the ranking
        self.kept = torch.arange(size)

    def select(self, epoch: int, fraction: float) -> Selection:
        if epoch > 0 and (epoch - 1) % self.params.period == 0:
            count = self.kept_count
            generator = derived_generator(self.seed, epoch, "epsilon-greedy")
            self.kept = epsilon_greedy(self.scores, count, self.params.epsilon, generator)
        return Selection(self.kept, torch.ones(len(self.kept)))

    def observe(self, indices: Tensor, losses: Tensor) -> None:
        self.scores[indices.cpu()] = losses.detach().to("cpu", torch.float32)

    def state_dict(self) -> dict[str, Tensor]:
        return {"scores": self.scores.clone(), "kept": self.kept.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.scores.copy_(state["scores"])
        self.kept = state["kept"].clone()


METHOD = EpsilonGreedy
