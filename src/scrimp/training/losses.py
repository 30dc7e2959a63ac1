"""Losses of a contrastive batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from scrimp.kernels.sigmoid import sigmoid_loss_of
from scrimp.methods.pairs import no_bias, require_unit


def sigmoid_loss(
    image: Tensor,
    text: Tensor,
    scale: Tensor | float,
    bias: Tensor | float | None,
    block: int | None = None,
    *,
    unit: bool = True,
    process_group: dist.ProcessGroup | None = None,
) -> Tensor:
    """The sum of softplus(-y_ij (scale z_i . t_j + bias)) over all combinations, over B: a scalar.

    `image` and `text` are unit embeddings [B, d]; y is 1 on the diagonal and -1 off it. `block` rows of logits are held at
    a time, in the forward pass and in the backward pass, where they are computed a second time: memory O(block B + B d).
    Without a `block` a CPU keeps those of up to 724 pairs, 2 MiB, until the backward pass.
    With a `process_group` (`dist.group.WORLD`: all) every process's images meet the texts of all of them, W B d numbers. The
    mean of the processes' losses, and of their gradients, which DistributedDataParallel takes, is that of one process
    with all pairs. `unit=False` takes embeddings of other lengths as they are, and saves the check a look at the device.
    Raises ValueError for embeddings that are not two matrices of one shape or not of length 1, for a model without a bias,
    and for processes with different numbers of pairs. Source: Zhai et al. 2023 (arXiv 2303.15343).
    """
    if bias is None:
        bias = no_bias("model")
    if unit and image.ndim == 2 and image.shape == text.shape and len(image):  # other shapes are told below
        require_unit("model", image, text)
    exact = torch.float64 if image.dtype == torch.float64 else torch.float32
    scale, bias = (torch.as_tensor(value, dtype=exact, device=image.device).reshape(()) for value in (scale, bias))
    loss = sigmoid_loss_of(image, text, scale, bias, block or 0)
    if process_group is None:
        return loss
    for other in _others(text, process_group):
        # All of these are negatives: the op takes the diagonal for pairs, and softplus(x) = softplus(-x) + x.
        diagonal = scale * (image.to(exact) * other.to(exact)).sum(dim=1) + bias
        loss = loss + sigmoid_loss_of(image, other, scale, bias, block or 0) + diagonal.mean()
    return loss


def _others(text: Tensor, group: dist.ProcessGroup) -> list[Tensor]:
    """The other processes' texts [B, d] each, through which gradients go back to where they came from."""
    counts: list[int | None] = [None] * dist.get_world_size(group)
    dist.all_gather_object(counts, len(text), group=group)
    if len(set(counts)) > 1:
        raise ValueError(f"the processes have {counts} pairs: give each as many, with drop_last=True")
    parts: Tensor = _Gathered.apply(text, group)
    own = dist.get_rank(group)
    return [part for rank, part in enumerate(parts) if rank != own]


class _Gathered(torch.autograd.Function):
    """All processes' rows [W, B, d]; a row's gradient is the sum of what all processes found."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, rows.contiguous(), group=group)
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        return total[dist.get_rank(ctx.group)], None
