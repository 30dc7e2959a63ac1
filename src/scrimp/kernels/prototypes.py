"""The most similar of K prototypes for each of n points, without the similarities [n, K].

Data pruning by prototypes (Sorscher et al. 2022, arXiv 2206.14486) keeps the points that are far from every centroid.
Work: 2 n K d FLOPs; bytes: both operands once.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from scrimp.kernels import cuda
from scrimp.kernels.blocks import as_multiplied, block_rows, exact_type
from scrimp.kernels.define import op
from scrimp.kernels.dispatch import implementation_for


@op
def nearest_prototype(points: Tensor, prototypes: Tensor, block: int = 0) -> tuple[Tensor, Tensor]:
    """The largest cosine of each point [n, d] with the prototypes [K, d], and which one: float32 [n] and int64 [n].

    Of equally near prototypes the first; a vector of zeros has cosine 0 with everything. float64 points give float64
    cosines. `block` points are taken at a time (0: as many as suit the device). Raises ValueError for shapes and types
    that do not fit.
    """
    if points.ndim != 2 or prototypes.ndim != 2 or points.shape[1] != prototypes.shape[1] or not len(prototypes):
        raise ValueError(
            f"points and prototypes must be [n, d] and [K, d], got {tuple(points.shape)}, {tuple(prototypes.shape)}"
        )
    if points.dtype != prototypes.dtype or not points.is_floating_point():
        raise ValueError(f"points and prototypes must be of one float type, got {points.dtype} and {prototypes.dtype}")
    exact = exact_type(points)
    chosen = implementation_for("nearest_prototype", points.device)
    if chosen == "reference":
        best, at = reference(points, prototypes)
        return best.to(exact), at
    points, prototypes = (F.normalize(operand.to(exact), dim=1).to(operand.dtype) for operand in (points, prototypes))
    if chosen == "cuda" and exact == torch.float32 and len(points):
        return _on_gpu(points, prototypes)
    best = torch.empty(len(points), dtype=exact, device=points.device)
    at = torch.empty(len(points), dtype=torch.int64, device=points.device)
    size = block or block_rows(points.device, len(prototypes))
    points, prototypes = as_multiplied(points), as_multiplied(prototypes)
    with torch.autocast(points.device.type, enabled=False):
        for begin in range(0, len(points), size):
            part = slice(begin, begin + size)
            best[part], at[part] = (points[part] @ prototypes.T).to(exact).max(dim=1)
    return best, at


def reference(points: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
    """The specification: float64 [n] and int64 [n], with all cosines at once."""
    cosines = F.normalize(points.double(), dim=1) @ F.normalize(prototypes.double(), dim=1).T
    best, at = cosines.max(dim=1)
    return best, at


def _on_gpu(points: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = cuda.as_bf16(points, prototypes)
    count, width = rows.shape
    tiles = -(-count // cuda.TILE)
    parts, tiles_a_part = cuda.splits(len(columns), tiles, rows.device)
    best = torch.empty(parts, count, dtype=torch.float32, device=rows.device)
    at = torch.empty(parts, count, dtype=torch.int32, device=rows.device)
    shapes = (count, len(columns), width, tiles_a_part)
    cuda.run("rowwise.cu", "nearest", (tiles, 1, parts), rows, columns, best, at, *shapes, device=rows.device)
    value, part = best.max(dim=0, keepdim=True)  # of equals the first part, which holds the lower columns
    return value[0], at.gather(0, part)[0].long()


@torch.library.register_fake("scrimp::nearest_prototype")
def _fake(points: Tensor, prototypes: Tensor, block: int = 0) -> tuple[Tensor, Tensor]:
    exact = exact_type(points)
    return points.new_empty(len(points), dtype=exact), points.new_empty(len(points), dtype=torch.int64)


@register_flop_formula(torch.ops.scrimp.nearest_prototype)
def _flops(points: torch.Size, prototypes: torch.Size, *_: object, **__: object) -> int:
    return 2 * points[0] * prototypes[0] * points[1]
