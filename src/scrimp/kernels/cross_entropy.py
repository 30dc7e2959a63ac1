"""The cross-entropy of each row from hidden states and the output matrix, without the logits [n, V].

Scoring a language model's examples one by one (RHO-LOSS, InfoBatch, difficulty scores) needs one number a row; the logits of
8,192 rows and 50,257 tokens would take 1.6 GB in float32. The gradients are made block by block too, from logits computed a
second time. Work: 2 n V d FLOPs forward, 6 n V d backward; bytes: both operands once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from scrimp.kernels import cuda
from scrimp.kernels.blocks import as_multiplied, block_rows, exact_type
from scrimp.kernels.define import op, refuse_second_derivative
from scrimp.kernels.dispatch import implementation_for

IGNORED = -100  # torch's own mark of a row without a label
LN_2 = 0.6931471805599453
KEPT = 1 << 26  # bytes of logits a call: keeping them costs less than making them a second time for the gradients


def rowwise_cross_entropy(hidden: Tensor, weight: Tensor, labels: Tensor, block: int = 0) -> Tensor:
    """The op of this name; where a CPU may hold all logits, torch's own steps, which keep them for the gradients.

    It may where they are one block anyway, and then losses are the op's to the bit; and for gradients up to 64 MiB of them,
    which every call keeps until its backward pass.
    """
    differentiated = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    kept = KEPT // hidden.element_size() // max(1, len(weight)) if differentiated else 0
    if (
        not torch.compiler.is_compiling()  # the op is one node of a graph
        and hidden.device.type == "cpu"
        and block == 0
        and hidden.ndim == 2
        and hidden.dtype in (torch.float32, torch.float64)
        and 0 < len(hidden) <= max(block_rows(hidden.device, len(weight)), kept)
        and implementation_for("rowwise_cross_entropy", hidden.device) == "cpu"
    ):
        _check(hidden, weight, labels)
        with torch.autocast("cpu", enabled=False):
            return F.cross_entropy(hidden @ weight.T, labels, reduction="none", ignore_index=IGNORED)
    return _rowwise_cross_entropy(hidden, weight, labels, block)


@op
def _rowwise_cross_entropy(hidden: Tensor, weight: Tensor, labels: Tensor, block: int = 0) -> Tensor:
    """-log softmax(hidden @ weight.T)[label] of each row: float32 [n] (float64 for float64 operands), 0 for label -100.

    `hidden` [n, d] and `weight` [V, d] are of one float type, `labels` int64 [n]. `block` rows of logits are held at a time
    (0: as many as suit the device). Differentiable by both operands. Raises ValueError for shapes, types and labels that
    do not fit.
    """
    _check(hidden, weight, labels)
    chosen = implementation_for("rowwise_cross_entropy", hidden.device)
    if chosen == "reference":
        return reference(hidden, weight, labels).to(exact_type(hidden))
    if chosen == "cuda" and hidden.dtype != torch.float64 and len(hidden):
        return _on_gpu(hidden, weight, labels)
    losses = torch.empty(len(hidden), dtype=exact_type(hidden), device=hidden.device)
    size = block or block_rows(hidden.device, len(weight))
    hidden, weight = as_multiplied(hidden), as_multiplied(weight)
    with torch.autocast(hidden.device.type, enabled=False):
        for begin in range(0, len(hidden), size):
            part = slice(begin, begin + size)
            logits = (hidden[part] @ weight.T).to(losses.dtype)
            losses[part] = F.cross_entropy(logits, labels[part], reduction="none", ignore_index=IGNORED)
    return losses


def reference(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """The specification: float64 [n], with all logits at once."""
    logits = hidden.double() @ weight.double().T
    known = labels != IGNORED
    own = logits.gather(1, labels.where(known, 0)[:, None])[:, 0]
    return (logits.logsumexp(dim=1) - own).where(known, 0.0)


@op
def rowwise_cross_entropy_backward(
    gradient: Tensor, hidden: Tensor, weight: Tensor, labels: Tensor, block: int
) -> tuple[Tensor, Tensor]:
    """Gradients of both operands for the losses' gradient [n]; the logits are made again, a block of rows at a time."""
    exact = exact_type(hidden)
    of_hidden = torch.empty_like(hidden, dtype=exact)
    of_weight = torch.zeros_like(weight, dtype=exact)
    known = labels != IGNORED
    targets = labels.where(known, 0)
    factors = gradient.to(exact) * known
    rows, columns = hidden.to(exact), weight.to(exact)
    size = block or block_rows(hidden.device, len(weight))
    with torch.autocast(hidden.device.type, enabled=False):
        for begin in range(0, len(hidden), size):
            part = slice(begin, begin + size)
            slope = (rows[part] @ columns.T).softmax(dim=1)  # [rows, V]
            slope.scatter_add_(1, targets[part, None], -torch.ones_like(slope[:, :1]))
            slope *= factors[part, None]
            of_hidden[part] = slope @ columns
            of_weight += slope.T @ rows[part]
    return of_hidden.to(hidden.dtype), of_weight.to(weight.dtype)


def _on_gpu(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    rows, columns = cuda.as_bf16(hidden, weight)
    count, width = rows.shape
    tiles = -(-count // cuda.TILE)
    parts, tiles_a_part = cuda.splits(len(columns), tiles, rows.device)
    sums = torch.empty(parts, count, 2, dtype=torch.float32, device=rows.device)
    target = torch.zeros(count, dtype=torch.float32, device=rows.device)
    labels = labels.contiguous()
    shapes = (count, len(columns), width, tiles_a_part)
    cuda.run(
        "rowwise.cu", "log_sum_exp", (tiles, 1, parts), rows, columns, labels, sums, target, *shapes, device=rows.device
    )
    log_sums = (sums[..., 0] * LN_2 + sums[..., 1].log()).logsumexp(dim=0)
    return (log_sums - target).where(labels != IGNORED, 0.0)


def _check(hidden: Tensor, weight: Tensor, labels: Tensor) -> None:
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1] or not len(weight):
        raise ValueError(f"hidden and weight must be [n, d] and [V, d], got {tuple(hidden.shape)} and {tuple(weight.shape)}")
    if hidden.dtype != weight.dtype or not hidden.is_floating_point():
        raise ValueError(f"hidden and weight must be of one float type, got {hidden.dtype} and {weight.dtype}")
    if labels.shape != hidden.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(f"labels must be int64 [{len(hidden)}], got {labels.dtype} {tuple(labels.shape)}")
    # On a GPU, looking would wait for all that was launched before.
    if labels.device.type == "cpu" and bool(((labels != IGNORED) & ((labels < 0) | (labels >= len(weight)))).any()):
        raise ValueError(f"labels must be {IGNORED} or in [0, {len(weight)})")


@torch.library.register_fake("scrimp::rowwise_cross_entropy")
def _fake(hidden: Tensor, weight: Tensor, labels: Tensor, block: int = 0) -> Tensor:
    return hidden.new_empty(len(hidden), dtype=exact_type(hidden))


@torch.library.register_fake("scrimp::rowwise_cross_entropy_backward")
def _fake_backward(gradient: Tensor, hidden: Tensor, weight: Tensor, labels: Tensor, block: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(hidden), torch.empty_like(weight)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    hidden, weight, labels, block = inputs
    ctx.save_for_backward(hidden, weight, labels)
    ctx.block = block


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    hidden, weight, labels = ctx.saved_tensors
    of_hidden, of_weight = rowwise_cross_entropy_backward(gradient, hidden, weight, labels, ctx.block)
    return of_hidden, of_weight, None, None


torch.library.register_autograd("scrimp::rowwise_cross_entropy", _differentiate, setup_context=_keep)
refuse_second_derivative(
    "scrimp::rowwise_cross_entropy_backward",
    "the rowwise cross-entropy",
    "where you need second derivatives, take torch's own of `hidden @ weight.T`",
)


@register_flop_formula(torch.ops.scrimp.rowwise_cross_entropy)
def _flops(hidden: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
    return 2 * hidden[0] * weight[0] * hidden[1]


@register_flop_formula(torch.ops.scrimp.rowwise_cross_entropy_backward)
def _backward_flops(gradient: torch.Size, hidden: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
    return 6 * hidden[0] * weight[0] * hidden[1]
