"""The sigmoid contrastive loss in bounded memory: its logits are made block by block, and made again for the gradients.

Source: Zhai, Mustafa, Kolesnikov, Beyer 2023 (arXiv 2303.15343), sections 3.1 and 3.3. Work of R images and C texts:
2 R C d FLOPs forward and 6 R C d backward, R C softplus and sigmoids; bytes: the embeddings once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from scrimp.kernels import cuda
from scrimp.kernels.blocks import as_multiplied, block_rows, exact_type
from scrimp.kernels.define import once_differentiable, op, refuse_second_derivative
from scrimp.kernels.dispatch import implementation_for
from scrimp.kernels.learnability import softplus

TWICE = (
    "the sigmoid loss",
    "where you need second derivatives, take scrimp.kernels.sigmoid.reference (scale and bias: tensors)",
)


@op
def chunked_sigmoid_loss(
    image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, block: int = 0, pairs: bool = True
) -> Tensor:
    """The sum of softplus(-y_ij (scale z_i . t_j + bias)) over all combinations, over R: a scalar, float32 or float64.

    `image` [R, d] and `text` [C, d] are unit embeddings; `scale` and `bias` are scalars. With `pairs`, C is R, and y is 1 on
    the diagonal and -1 off it. Without, no text belongs to any of the images, C is any number, and y is -1 throughout.
    `block` rows of logits are held at a time (0: as many as suit the device). Differentiable by all four. Raises
    ValueError for embeddings that are not two matrices of one type, and of one shape or, without `pairs`, one width.
    """
    require_embeddings(image, text, pairs)
    exact = exact_type(image)
    chosen = implementation_for("chunked_sigmoid_loss", image.device)
    if chosen == "reference":
        return reference(image, text, scale, bias, pairs).to(exact)
    scale, bias = scale.to(exact), bias.to(exact)
    if chosen == "cuda" and exact == torch.float32:
        return _on_gpu(image, text, scale, bias, pairs)
    return blocked(image, text, scale, bias, block, pairs)


def require_embeddings(image: Tensor, text: Tensor, pairs: bool = True) -> None:
    """ValueError for what `chunked_sigmoid_loss` refuses."""
    if (
        not (image.ndim == text.ndim == 2 and len(image) and len(text))
        or image.shape[1] != text.shape[1]
        or (pairs and len(image) != len(text))
    ):
        wanted = "[B, d]" if pairs else "[R, d] and [C, d]"
        raise ValueError(f"embeddings must be two matrices {wanted}, got {tuple(image.shape)} and {tuple(text.shape)}")
    if image.dtype != text.dtype or not image.is_floating_point():
        raise ValueError(f"embeddings must be of one float type, got {image.dtype} and {text.dtype}")


def sigmoid_loss_of(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, block: int = 0) -> Tensor:
    """`chunked_sigmoid_loss` of pairs, to the bit, in fewer steps where a CPU holds all logits in one block anyway.

    These are kept for the gradients, and not made again.
    """
    if (
        image.device.type == "cpu"
        and block == 0
        and image.ndim == 2
        and image.shape == text.shape
        and image.dtype == text.dtype == scale.dtype == bias.dtype
        and image.dtype in (torch.float32, torch.float64)
        and 0 < len(image) <= block_rows(image.device, len(image))
        and implementation_for("chunked_sigmoid_loss", image.device) == "cpu"
    ):
        whole: Tensor = _Whole.apply(image, text, scale, bias)
        return whole
    loss: Tensor = chunked_sigmoid_loss(image, text, scale, bias, block)
    return loss


class _Whole(torch.autograd.Function):
    """The operations of `blocked` and `gradients`, in their order, on one block."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            products = image @ text.T
            logits = scale * products + bias
            if any(ctx.needs_input_grad):
                slope = logits.sigmoid()  # of the loss by its logit
                slope.diagonal().sub_(1)
                ctx.save_for_backward(image, text, scale, products, slope)
            logits.diagonal().neg_()
            return softplus(logits).sum() / len(image)

    @staticmethod
    @once_differentiable(*TWICE)
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        image, text, scale, products, slope = ctx.saved_tensors
        factor = gradient / len(image)
        steep = scale * factor
        with torch.autocast("cpu", enabled=False):
            return (
                (slope @ text) * steep,
                (slope.T @ image) * steep,
                (slope * products).sum() * factor,
                slope.sum() * factor,
            )


def blocked(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, block: int = 0, pairs: bool = True) -> Tensor:
    """The loss by torch, a block of rows of logits at a time."""
    exact = exact_type(image)
    image, text = as_multiplied(image), as_multiplied(text)
    total = torch.zeros((), dtype=exact, device=image.device)
    size = block or block_rows(image.device, len(text))
    with torch.autocast(image.device.type, enabled=False):
        for begin in range(0, len(image), size):
            logits = scale * (image[begin : begin + size] @ text.T).to(exact) + bias  # [b, C]
            if pairs:
                logits.diagonal(begin).neg_()
            total += softplus(logits).sum()
    return total / len(image)


def reference(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, pairs: bool = True) -> Tensor:
    """The specification: a float64 scalar, from all logits at once."""
    logits = scale.double() * (image.double() @ text.double().T) + bias.double()
    signs = 2 * pairs * torch.eye(*logits.shape, dtype=torch.float64, device=logits.device) - 1
    return softplus(-signs * logits).sum() / len(image)


def _on_gpu(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, pairs: bool) -> Tensor:
    rows, columns = cuda.as_bf16(image, text)
    count, width = rows.shape
    others = len(columns)
    tiles = -(-count // cuda.TILE)
    parts, tiles_a_part = cuda.splits(others, tiles, rows.device)
    sums = torch.empty(parts, count, dtype=torch.float32, device=rows.device)
    offset = 0 if pairs else others  # a row's pair would lie beyond the last column: the kernel finds none
    arguments = (rows, columns, scale.contiguous(), bias.contiguous(), sums, count, others, width, offset, tiles_a_part)
    cuda.run("rowwise.cu", "sigmoid_rows", (tiles, 1, parts), *arguments, device=rows.device)
    return sums.sum() / count


@op
def chunked_sigmoid_loss_backward(
    gradient: Tensor, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, block: int, pairs: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return gradients(gradient, image, text, scale, bias, block, pairs)


def gradients(
    gradient: Tensor, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, block: int = 0, pairs: bool = True
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the embeddings, the scale and the bias; a block of rows of logits at a time."""
    exact = exact_type(image)
    of_image, of_text = torch.empty_like(image, dtype=exact), torch.zeros_like(text, dtype=exact)
    of_scale, of_bias = torch.zeros((), dtype=exact, device=image.device), torch.zeros((), dtype=exact, device=image.device)
    size = block or block_rows(image.device, len(text))
    factor = gradient.to(exact) / len(image)
    # Products of bf16 come rounded to bf16, which the scale would blow up in the slopes.
    rows, columns = image.to(exact), text.to(exact)
    with torch.autocast(image.device.type, enabled=False):
        for begin in range(0, len(rows), size):
            part = rows[begin : begin + size]
            products = part @ columns.T
            slope = torch.sigmoid(scale.to(exact) * products + bias.to(exact))  # [b, C], of the loss by its logit
            if pairs:
                slope.diagonal(begin).sub_(1)
            of_scale += (slope * products).sum()
            of_bias += slope.sum()
            of_image[begin : begin + len(part)] = slope @ columns
            of_text += slope.T @ part
    steep = scale.to(exact) * factor
    return (
        (of_image * steep).to(image.dtype),
        (of_text * steep).to(text.dtype),
        (of_scale * factor).to(scale.dtype),
        (of_bias * factor).to(bias.dtype),
    )


@torch.library.register_fake("scrimp::chunked_sigmoid_loss")
def _fake(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, block: int = 0, pairs: bool = True) -> Tensor:
    return image.new_empty((), dtype=exact_type(image))


@torch.library.register_fake("scrimp::chunked_sigmoid_loss_backward")
def _fake_backward(
    gradient: Tensor, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, block: int, pairs: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.empty_like(image), torch.empty_like(text), torch.empty_like(scale), torch.empty_like(bias)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    image, text, scale, bias, block, pairs = inputs
    ctx.save_for_backward(image, text, scale, bias)
    ctx.block, ctx.pairs = block, pairs


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    image, text, scale, bias = ctx.saved_tensors
    return (*chunked_sigmoid_loss_backward(gradient, image, text, scale, bias, ctx.block, ctx.pairs), None, None)


torch.library.register_autograd("scrimp::chunked_sigmoid_loss", _differentiate, setup_context=_keep)
refuse_second_derivative("scrimp::chunked_sigmoid_loss_backward", *TWICE)


@register_flop_formula(torch.ops.scrimp.chunked_sigmoid_loss)
def _flops(image: torch.Size, text: torch.Size, *_: object, **__: object) -> int:
    return 2 * image[0] * text[0] * image[1]


@register_flop_formula(torch.ops.scrimp.chunked_sigmoid_loss_backward)
def _backward_flops(gradient: torch.Size, image: torch.Size, text: torch.Size, *_: object, **__: object) -> int:
    return 6 * image[0] * text[0] * image[1]
