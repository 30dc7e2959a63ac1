"""Losses of a contrastive batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from scrimp.kernels.define import once_differentiable
from scrimp.kernels.sigmoid import (
    chunked_sigmoid_loss,
    chunked_sigmoid_loss_backward,
    require_embeddings,
    sigmoid_loss_of,
)
from scrimp.methods.pairs import no_bias, require_unit

TWICE = (
    "the sigmoid loss of several processes",
    "where you need second derivatives, gather the embeddings and take scrimp.kernels.sigmoid.reference of them",
)
TYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


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
    Without a `block` a CPU keeps those of up to 724 pairs, 2 MiB, until the backward pass; not with a `process_group`.

    With a `process_group` (`dist.group.WORLD`: all) every process's images meet the texts of all W processes. The mean of
    the processes' losses, and of their gradients, which DistributedDataParallel takes, is that of one process with all
    pairs. Texts go from neighbour to neighbour around a ring: W - 1 exchanges of B d numbers in the forward pass. The
    backward pass sends them round again, and their gradients home in as many more, in float32 or float64. A process holds
    at most two of the others' blocks at a time, so that memory is O(block B + B d) for any W. All processes of the group
    must run the backward pass, or none.

    `unit=False` takes embeddings of other lengths as they are, and saves the check a look at the device.
    Raises RuntimeError where it is differentiated twice.
    Raises ValueError for embeddings that are not two matrices of one shape or not of length 1, for a model without a bias,
    for processes with different numbers of pairs or unlike embeddings, and in a process that is not in `process_group`.
    Source: Zhai et al. 2023 (arXiv 2303.15343), section 3.3 for several processes.
    """
    if bias is None:
        bias = no_bias("model")
    if unit and image.ndim == 2 and image.shape == text.shape and len(image):  # other shapes are told below
        require_unit("model", image, text)
    exact = torch.float64 if image.dtype == torch.float64 else torch.float32
    scale, bias = (torch.as_tensor(value, dtype=exact, device=image.device).reshape(()) for value in (scale, bias))
    if process_group is None:
        return sigmoid_loss_of(image, text, scale, bias, block or 0)
    require_embeddings(image, text)  # before others wait for this process
    _require_alike(image, text, scale, bias, process_group)
    loss: Tensor = _Ring.apply(image, text, scale, bias, block or 0, process_group)
    return loss


def _require_alike(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, group: dist.ProcessGroup) -> None:
    """ValueError, in all processes, where their exchanges would not fit together."""
    if dist.get_rank(group) < 0:
        raise ValueError("this process is not in process_group: only those that are may ask for its loss")
    backward = torch.is_grad_enabled() and any(value.requires_grad for value in (image, text, scale, bias))
    mine = [*text.shape, TYPES.index(text.dtype), int(backward), int(backward and text.requires_grad)]
    described = torch.tensor(mine, device=text.device)  # not an object, which is pickled and stops torch.compile
    each = [torch.empty_like(described) for _ in range(dist.get_world_size(group))]
    dist.all_gather(each, described, group=group)
    counts, *others = torch.stack(each, dim=1).tolist()
    if len(set(counts)) > 1:
        raise ValueError(f"the processes have {counts} pairs: give each as many, with drop_last=True")
    others[1] = [str(TYPES[at]) for at in others[1]]
    names = ("widths of the embeddings", "types of the embeddings", "needs of gradients", "needs of the texts' gradients")
    for name, values in zip(names, others, strict=True):
        if len(set(values)) > 1:
            raise ValueError(f"the processes have unlike {name}, {values}: make them the same")


class _Ring(torch.autograd.Function):
    """The loss of this process's images with the texts of all processes."""

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, block: int, group: dist.ProcessGroup
    ) -> Tensor:
        ctx.save_for_backward(image, text, scale, bias)
        ctx.block, ctx.group = block, group
        loss = torch.zeros_like(scale)
        for hops, texts in enumerate(_around(text, group)):
            loss += chunked_sigmoid_loss(image, texts, scale, bias, block, hops == 0)
        return loss

    @staticmethod
    @once_differentiable(*TWICE)
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        image, text, scale, bias = ctx.saved_tensors
        exact = image.to(scale.dtype)  # so that what is summed over the processes is rounded once, at the end
        of_image, of_scale, of_bias = (torch.zeros_like(value) for value in (exact, scale, bias))
        of_text = torch.zeros_like(exact, memory_format=torch.contiguous_format)
        arriving = torch.empty_like(of_text)
        leaving: Tensor | None = None  # held until it has been sent
        exchange: list[dist.Work] = []
        for hops, texts in enumerate(_around(text, ctx.group)):
            mine, theirs, slope, shift = chunked_sigmoid_loss_backward(
                gradient, exact, texts.to(exact.dtype), scale, bias, ctx.block, hops == 0
            )
            of_image += mine
            of_scale += slope
            of_bias += shift
            if not ctx.needs_input_grad[1]:
                continue
            if hops == 0:
                of_text += theirs
                continue
            if leaving is not None:  # the neighbour before had these texts before, and what came with them is of these
                _finish(exchange)
                theirs += arriving
            leaving = theirs.contiguous()
            exchange = _pass_on(leaving, arriving, ctx.group, tag=1)
        if leaving is not None:  # the last hop is home
            _finish(exchange)
            of_text += arriving
        return of_image.to(image.dtype), of_text.to(text.dtype), of_scale, of_bias, None, None


def _around(rows: Tensor, group: dist.ProcessGroup) -> Iterator[Tensor]:
    """This process's rows [B, d], then those of all others, of the neighbour before first.

    What is given out is being passed on, and is overwritten in the next turn.
    """
    hops = dist.get_world_size(group) - 1
    held = rows.contiguous()
    rooms = [torch.empty_like(held) for _ in range(min(2, hops))]
    for hop in range(hops):
        exchange = _pass_on(held, rooms[hop % 2], group)
        yield held
        _finish(exchange)
        held = rooms[hop % 2]
    yield held


def _pass_on(rows: Tensor, room: Tensor, group: dist.ProcessGroup, tag: int = 0) -> list[dist.Work]:
    """Begin to send rows to the neighbour after, and to receive those of the neighbour before."""
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    send = dist.P2POp(dist.isend, rows, group=group, tag=tag, group_peer=(rank + 1) % world)
    receive = dist.P2POp(dist.irecv, room, group=group, tag=tag, group_peer=(rank - 1) % world)
    return dist.batch_isend_irecv([send, receive])


def _finish(exchange: list[dist.Work]) -> None:
    for work in exchange:
        work.wait()
