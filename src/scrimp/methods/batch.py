"""What every batch selector is: asked at every step to choose a sub-batch of a super-batch of image-text pairs.

A selector draws from generators derived from (seed, step) and never touches a global random state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scrimp.methods.base import Method

if TYPE_CHECKING:
    from scrimp.methods.pairs import Embedded


class BatchSelector(Method):
    """Base of all batch selectors; by itself it draws as many candidates as are trained on and chooses all of them.

    `super_batch` candidates are drawn for every sub-batch of `size`. Before `choose` is called the learner embeds the
    candidates if `needs_learner`, in patches of side `scoring_patch` (None: those it is trained in), and so does the model
    `reference`, if there is one: from its cache, or by a forward pass of its own where `live`.
    """

    tasks = ("image-text",)

    def __init__(self, batch_size: int, seed: int, **params: Any) -> None:
        super().__init__(seed, **params)
        self.size = batch_size
        self.super_batch = batch_size
        self.needs_learner = False
        self.reference: str | None = None
        self.scoring_patch: int | None = None
        self.live = False

    def choose(self, step: int, learner: Embedded | None, reference: Embedded | None) -> Tensor:
        """Positions among the candidates (int64 [size]) of what to train on; a pure function of its arguments."""
        return torch.arange(self.size)

    def pair_flops(self, width: int) -> float:
        """FLOPs of one choice's products between embeddings of `width`, beside the forward passes."""
        return 0.0
