"""What every batch selector is: asked at every step to choose a sub-batch of a super-batch of image-text pairs.

A selector draws from generators derived from (seed, step) and never touches a global random state.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from scrimp.config import Closed
from scrimp.methods import check_method, method_class
from scrimp.methods.pairs import Embedded


class BatchSelector:
    """Base of all batch selectors; by itself it draws as many candidates as are trained on and chooses all of them.

    `super_batch` candidates are drawn for every sub-batch of `batch_size`. Before `choose` is called the learner embeds the
    candidates if `needs_learner`, in patches of side `scoring_patch` (None: those it is trained in), and so does the model
    `reference`, if there is one: from its cache, or by a forward pass of its own where `live`.
    """

    Params: type[Closed] = Closed
    task = "image-text"

    def __init__(self, batch_size: int, seed: int, **params: Any) -> None:
        self.batch_size = batch_size
        self.seed = seed
        self.params: Any = self.Params(**params)
        self.super_batch = batch_size
        self.needs_learner = False
        self.reference: str | None = None
        self.scoring_patch: int | None = None
        self.live = False

    def choose(self, step: int, learner: Embedded | None, reference: Embedded | None) -> Tensor:
        """Positions among the candidates (int64 [batch_size]) of what to train on; a pure function of its arguments."""
        return torch.arange(self.batch_size)

    def pair_flops(self, width: int) -> float:
        """FLOPs of one choice's products between embeddings of `width`, beside the forward passes."""
        return 0.0


def build_batch_selector(spec: dict[str, Any], batch_size: int, seed: int) -> BatchSelector:
    """A batch selector for sub-batches of `batch_size` from an arm's `selector` mapping."""
    check_method(spec, f"selector {spec['name']}", "image-text")
    params = {key: value for key, value in spec.items() if key != "name"}
    return cast(BatchSelector, method_class(spec["name"])(batch_size, seed, **params))
