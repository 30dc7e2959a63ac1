"""What an update's losses and indices must look like, and copies of a selector's state."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor


def compact(value: Any) -> Any:
    """A copy of a tensor, in the memory of one number where all are alike: at 1e8 examples 400 MB are saved."""
    if not isinstance(value, Tensor) or value.numel() == 0:
        return copied(value)
    one = value.flatten()[0].clone()
    alike = value.isnan().all() if one.isnan() else (value == one).all()
    return one.expand(value.shape) if alike else value.clone()


def copied(value: Any) -> Any:
    """A copy that shares no memory."""
    return value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def check_shapes(losses: Tensor, index: Tensor) -> None:
    """ValueError, with the remedy, unless there is one loss [B] for each index [B]."""
    if index.is_floating_point():
        raise ValueError("indices are integers: a float above 2^24 no longer names one example")
    if losses.dim() == index.dim() == 1 and losses.numel() == index.numel():
        return
    told = f"update wants one loss per index: losses have shape {tuple(losses.shape)}, indices {tuple(index.shape)}; "
    if losses.ndim == 2 and index.ndim == 1 and len(losses) == len(index):
        if losses.shape[1] == 1:
            raise ValueError(f"{told}there is one an example, in a column of its own: give losses.squeeze(1)")
        raise ValueError(
            f"{told}for losses of labels [B, C] give each example their mean, losses.mean(dim=1); for losses of tokens "
            "[B, T] the mean over its own, (losses * mask).sum(dim=1) / mask.sum(dim=1), where mask is 0 at padding"
        )
    raise ValueError(f'{told}compute the loss with reduction="none" and one value per example')
