"""Static pruning by scores that are there before training: the same examples are kept in every epoch."""

from __future__ import annotations

import torch
from torch import Tensor

from scrimp.errors import ScrimpError
from scrimp.methods.base import EpochSelector, Selection


class KeptByScores(EpochSelector):
    """What such selectors share; one says in `kept_by` which examples its scores keep."""

    pooled = False  # whether an example without a score (NaN) is one that there is none of to begin with

    def __init__(self, size: int, seed: int, **params: object) -> None:
        super().__init__(size, seed, **params)
        self.kept: Tensor | None = None  # until there are scores

    def accept_scores(self, scores: Tensor, labels: Tensor) -> None:
        scores, labels = torch.as_tensor(scores).cpu(), torch.as_tensor(labels).cpu()
        name = type(self).__name__
        for what, given in (("score", scores), ("label", labels)):
            if given.shape != (self.size,):
                raise ScrimpError(f"{name} wants one {what} an example, [{self.size}], got {list(given.shape)}")
        missing = int(scores.isnan().sum())
        if missing == self.size or (missing and not self.pooled):
            raise ScrimpError(f"{name}: {missing:,} of {self.size:,} scores are not numbers (NaN): score every example")
        self.kept = self.kept_by(scores, labels)

    def kept_by(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The examples to keep, int64 [n], by scores (float [size]) and labels (int64 [size])."""
        raise TypeError(f"{type(self).__name__} asks for no scores")

    def select(self, epoch: int, fraction: float) -> Selection:
        if self.kept is None:
            raise ScrimpError(
                f"{type(self).__name__} selects by scores: give it some with accept_scores(scores, labels) first"
            )
        return Selection(self.kept, torch.ones(len(self.kept)))

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self.kept is None else {"kept": self.kept.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.kept = state["kept"].clone() if state else None
