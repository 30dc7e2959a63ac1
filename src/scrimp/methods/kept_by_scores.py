"""Static pruning by scores that are there before training: the same examples are kept in every epoch."""

from __future__ import annotations

import torch
from torch import Tensor

from scrimp.errors import ScrimpError
from scrimp.methods.base import EpochSelector, Selection


class KeptByScores(EpochSelector):
    """What such selectors share; one sets `kept`, int64 [n], when it accepts its scores."""

    def __init__(self, size: int, seed: int, **params: object) -> None:
        super().__init__(size, seed, **params)
        self.kept: Tensor | None = None  # until there are scores

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
