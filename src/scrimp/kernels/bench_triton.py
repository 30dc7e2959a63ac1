"""The chunk update as one would write it in Triton: a baseline for `scrimp kernels bench`, where Triton is installed."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _softplus_sums(rows, columns, scale, bias, out, n, c, width: tl.constexpr, tile: tl.constexpr, part: tl.constexpr):  # type: ignore[no-untyped-def]
    layer = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * tile + tl.arange(0, tile)
    left = rows + layer * n * width
    right = columns + (layer ^ 1) * c * width
    slope, shift = tl.load(scale + layer), tl.load(bias + layer)
    sums = tl.zeros([tile], dtype=tl.float32)
    for first in range(0, c, tile):
        j = first + tl.arange(0, tile)
        products = tl.zeros([tile, tile], dtype=tl.float32)
        for begin in range(0, width, part):
            k = begin + tl.arange(0, part)
            a = tl.load(left + i[:, None].to(tl.int64) * width + k[None, :], mask=i[:, None] < n, other=0.0)
            b = tl.load(right + j[None, :].to(tl.int64) * width + k[:, None], mask=j[None, :] < c, other=0.0)
            products = tl.dot(a, b, products)
        y = products * slope + shift
        losses = tl.maximum(y, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(y)))
        sums += tl.sum(tl.where(j[None, :] < c, losses, 0.0), axis=1)
    tl.store(out + layer * n + i, sums, mask=i < n)


def update(candidates: Tensor, chunk: Tensor, scale: Tensor, bias: Tensor, sign: Tensor) -> Tensor:
    """`pairwise_learnability_update` of bf16 embeddings whose width is a multiple of 64."""
    layers, count, width = candidates.shape
    candidates, chunk = candidates.contiguous(), chunk.contiguous()
    sums = torch.empty(layers, count, dtype=torch.float32, device=candidates.device)
    grid = (triton.cdiv(count, 128), layers)
    _softplus_sums[grid](
        candidates, chunk, scale, bias, sums, count, chunk.shape[1], width, tile=128, part=64, num_warps=8, num_stages=3
    )
    return (sums * sign[:, None]).sum(dim=0)
