"""A head for texts on a pre-trained encoder: pool, perhaps a dense layer, then classes or a grade."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scrimp.models.language import NORMAL_STD, Language


class TextHead(nn.Module):
    """Token ids int64 [B, T] with lengths int64 [B] to logits [B, outputs]; nothing behind a length is looked at.

    The pooled body has a `Language`'s norm at its end, so entries of unit size: `width` inputs give outputs of unit
    variance at 1 / sqrt(width), while BERT's classes start at N(0, 0.02).
    """

    def __init__(
        self, body: Language, outputs: int, *, pooling: Literal["mean", "first"], head_width: int | None, dropout: float
    ) -> None:
        super().__init__()
        self.body, self.pooling, self.dropout = body, pooling, dropout
        self.dense = None if head_width is None else nn.Linear(body.width, head_width)
        self.classes = nn.Linear(head_width or body.width, outputs)
        if self.dense is not None:
            nn.init.normal_(self.dense.weight, std=1 / math.sqrt(body.width))
            nn.init.zeros_(self.dense.bias)
        nn.init.normal_(self.classes.weight, std=NORMAL_STD)
        nn.init.zeros_(self.classes.bias)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        valid = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]  # [B, T]
        x = self.body.body(ids, None if bool(valid.all()) else valid)  # [B, T, width]
        pooled = (x * valid[..., None]).sum(dim=1) / lengths[:, None] if self.pooling == "mean" else x[:, 0]
        if self.dense is not None:
            pooled = self.dense(F.dropout(pooled, self.dropout, self.training)).tanh()
        logits: Tensor = self.classes(F.dropout(pooled, self.dropout, self.training))
        return logits
