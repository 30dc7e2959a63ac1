"""The mask of the k numbers of largest magnitude, of a whole tensor or of each row: what sparse training keeps.

SWAT (Raihan and Aamodt 2020, arXiv 2007.01069) keeps the largest weights and activations of every layer at every step. A
threshold is found by radix select over the bits of the magnitudes, which are ordered as the numbers are: the upper half of
the bits first, then the lower half among those that share it; nothing is sorted. Bytes: each number read three times.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from scrimp.kernels import cuda
from scrimp.kernels.define import op
from scrimp.kernels.dispatch import implementation_for

BITS = {torch.float32: torch.int32, torch.float64: torch.int64, torch.float16: torch.int16, torch.bfloat16: torch.int16}


@op
def topk_mask(values: Tensor, count: int, rowwise: bool = False) -> Tensor:
    """Where the `count` numbers of largest magnitude stand: bool, of the shape of `values`; of equals the first ones.

    `rowwise` chooses `count` of each row (the last dimension) instead. Raises ValueError for a count that is negative or
    more than there are, for types that are not float, and for NaN on the CPU; on a GPU a NaN counts as largest.
    """
    rows = values.reshape(-1, values.shape[-1]) if rowwise and values.ndim else values.reshape(1, -1)
    if values.dtype not in BITS:
        raise ValueError(f"values must be float, got {values.dtype}")
    if not 0 <= count <= rows.shape[1]:
        raise ValueError(f"{count} of {rows.shape[1]} numbers were asked for")
    if values.device.type == "cpu" and bool(values.isnan().any()):
        raise ValueError("the values hold NaN")
    chosen = implementation_for("topk_mask", values.device)
    if count == 0 or rows.numel() == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    if chosen == "reference":
        return reference(rows, count).view(values.shape)
    if chosen == "cuda" and values.dtype != torch.float64:
        return _on_gpu(rows.contiguous(), count).view(values.shape)
    return _by_threshold(rows, count).view(values.shape)


def reference(rows: Tensor, count: int) -> Tensor:
    """The specification, by a stable sort: bool [r, n]."""
    order = rows.abs().argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(rows, dtype=torch.bool).scatter_(1, order[:, :count], True)


def _by_threshold(rows: Tensor, count: int) -> Tensor:
    """All numbers above the `count`-th largest magnitude of a row, and the first of those that equal it."""
    bits = (rows.contiguous().abs() + 0.0).view(BITS[rows.dtype])  # + 0: of the two zeros one
    at = rows.shape[1] - count + 1
    least = _least_kept(bits[0], count)[None] if len(rows) == 1 else bits.kthvalue(at, dim=1).values
    mask = bits > least[:, None]
    missing = count - mask.sum(dim=1)
    equal = bits == least[:, None]
    if bool((equal.sum(dim=1) == missing).all()):
        return mask.logical_or_(equal)
    return mask.logical_or_(equal & (equal.cumsum(dim=1) <= missing[:, None]))


def _least_kept(bits: Tensor, count: int) -> Tensor:
    """The `count`-th largest of bits [n] that are not negative, by two counts instead of a sort."""
    width = bits.element_size() * 8
    upper = (bits >> (width - 16)).int()
    # From the largest down: how many numbers have this upper half or a larger one.
    at_least = torch.bincount(upper, minlength=1 << 15).flip(0).cumsum(0)
    place = int(torch.searchsorted(at_least, count))
    digit = (1 << 15) - 1 - place
    above = int(at_least[place - 1]) if place else 0
    same = bits[upper == digit]
    return same.kthvalue(len(same) - (count - above) + 1).values


def _on_gpu(rows: Tensor, count: int) -> Tensor:
    """Nothing is read back: thresholds and counts stay on the device."""
    device, (number, size) = rows.device, rows.shape
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    blocks = max(1, min(-(-size // 4096), -(-8 * processors // number)))
    stretch, width = -(-size // blocks), rows.element_size()
    threshold = torch.zeros(number, dtype=torch.int32, device=device)
    wanted = torch.full((number,), count, dtype=torch.int64, device=device)
    equal = torch.empty(number, blocks, dtype=torch.int64, device=device)
    mask = torch.empty(rows.shape, dtype=torch.bool, device=device)
    shape = (np.int64(size), np.int64(stretch))

    def launch(name: str, across: int, *arguments: object) -> None:
        cuda.run("topk.cu", name, (number, across), *arguments, device=device)

    for step in range(3 if width == 4 else 2):  # the last bits of a 16-bit magnitude's word are zeros
        digits = torch.zeros(number, 2048, dtype=torch.int32, device=device)
        launch("count_magnitudes", blocks, rows, threshold, digits, width, step, *shape)
        launch("choose_digit", 1, digits, threshold, wanted, step)
    launch("count_equal", blocks, rows, threshold, equal, width, *shape)
    launch("write_mask", blocks, rows, threshold, wanted, equal.cumsum(1) - equal, mask, width, *shape)
    return mask


@torch.library.register_fake("scrimp::topk_mask")
def _fake(values: Tensor, count: int, rowwise: bool = False) -> Tensor:
    return torch.empty_like(values, dtype=torch.bool)
