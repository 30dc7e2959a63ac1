"""Losses of a contrastive batch."""

from __future__ import annotations

import torch
from torch import Tensor

from scrimp.kernels import chunked_sigmoid_loss


def sigmoid_loss(
    image: Tensor, text: Tensor, scale: Tensor | float, bias: Tensor | float, block: int | None = None
) -> Tensor:
    """The sum of softplus(-y_ij (scale z_i . t_j + bias)) over all combinations, over B: a scalar.

    `image` and `text` are unit embeddings [B, d]; y is 1 on the diagonal and -1 off it. `block` rows of logits are held at
    a time, in the forward pass and in the backward pass, where they are computed a second time: memory O(block B + B d).
    Raises ValueError for embeddings that are not two matrices of one shape. Source: Zhai et al. 2023 (arXiv 2303.15343).
    """
    exact = torch.float64 if image.dtype == torch.float64 else torch.float32
    scale, bias = (torch.as_tensor(value, dtype=exact, device=image.device).reshape(()) for value in (scale, bias))
    loss: Tensor = chunked_sigmoid_loss(image, text, scale, bias, block or 0)
    return loss
