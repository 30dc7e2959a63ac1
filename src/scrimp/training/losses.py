"""The sigmoid contrastive loss in bounded memory: its logits are made block by block, and made again for the gradients.

Source: Zhai, Mustafa, Kolesnikov, Beyer 2023 (arXiv 2303.15343), section 3.1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from scrimp.selection.pairs import block_rows


def sigmoid_loss(
    image: Tensor, text: Tensor, scale: Tensor | float, bias: Tensor | float, block: int | None = None
) -> Tensor:
    """The sum of softplus(-y_ij (scale z_i . t_j + bias)) over all combinations, over B: a scalar.

    `image` and `text` are unit embeddings [B, d]; y is 1 on the diagonal and -1 off it. `block` rows of logits are held at
    a time, in the forward pass and in the backward pass, where they are computed a second time: memory O(block B + B d).
    Raises ValueError for embeddings that are not two matrices of one shape.
    """
    if image.ndim != 2 or image.shape != text.shape or len(image) == 0:
        raise ValueError(f"embeddings must be two matrices [B, d], got {tuple(image.shape)} and {tuple(text.shape)}")
    exact = torch.float64 if image.dtype == torch.float64 else torch.float32
    scale, bias = (torch.as_tensor(value, dtype=exact, device=image.device).reshape(()) for value in (scale, bias))
    rows = block or block_rows(image.device, len(image))
    loss: Tensor = _SigmoidLoss.apply(image, text, scale, bias, rows)
    return loss


class _SigmoidLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, block: int) -> Tensor:
        ctx.save_for_backward(image, text, scale, bias)
        ctx.block = block
        with torch.autocast(image.device.type, enabled=False):
            total = torch.zeros_like(scale)
            for begin in range(0, len(image), block):
                logits = scale * (image[begin : begin + block] @ text.T).to(total.dtype) + bias  # [b, B]
                logits.diagonal(begin).neg_()  # the matching pairs'
                total += F.softplus(logits).sum()
            return total / len(image)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        image, text, scale, bias = ctx.saved_tensors
        exact = gradient.dtype
        of_image, of_text = torch.empty_like(image, dtype=exact), torch.zeros_like(text, dtype=exact)
        of_scale, of_bias = torch.zeros_like(gradient), torch.zeros_like(gradient)
        with torch.autocast(image.device.type, enabled=False):
            for begin in range(0, len(image), ctx.block):
                part = image[begin : begin + ctx.block]
                products = (part @ text.T).to(exact)
                slope = torch.sigmoid(scale * products + bias)  # [b, B], of the loss by its logit
                slope.diagonal(begin).sub_(1)
                of_scale += (slope * products).sum()
                of_bias += slope.sum()
                of_image[begin : begin + len(part)] = slope @ text.to(exact)
                of_text += slope.T @ part.to(exact)
        factor = gradient / len(image)
        return (
            (of_image * (scale * factor)).to(image.dtype),
            (of_text * (scale * factor)).to(text.dtype),
            (of_scale * factor).to(scale.dtype),
            (of_bias * factor).to(bias.dtype),
            None,
        )
