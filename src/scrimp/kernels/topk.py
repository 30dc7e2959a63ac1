"""The mask of the k numbers of largest magnitude, of a whole tensor or of each row: what sparse training keeps.

SWAT (Raihan and Aamodt 2020, arXiv 2001.01969) keeps the largest weights and activations of every layer. On a CPU numpy's
partition finds the threshold, which uses vector instructions, and of many numbers it gets the few that a sample leaves; one
comparison makes the mask. On a GPU it is a radix select over the bits of the magnitudes, which are ordered as the numbers
are. Nothing is sorted. Bytes on a GPU: each number read three times.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from scrimp.kernels import cuda
from scrimp.kernels.define import op
from scrimp.kernels.dispatch import implementation_for

SAMPLED, STRIDE = 1 << 17, 64  # from so many numbers on, a sample of every 64th narrows the search
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@op
def topk_mask(values: Tensor, count: int, rowwise: bool = False) -> Tensor:
    """Where the `count` numbers of largest magnitude stand: bool, of the shape of `values`; of equals the first ones.

    `rowwise` chooses `count` of each row (the last dimension) instead. Raises ValueError for a count that is negative or
    more than there are, for types that are not float, and for NaN on the CPU; on a GPU a NaN counts as largest.
    """
    values = values.detach()  # a mask has no gradient
    rows = values.reshape(-1, values.shape[-1]) if rowwise and values.ndim else values.reshape(1, -1)
    if values.dtype not in FLOATS:
        raise ValueError(f"values must be float, got {values.dtype}")
    if not 0 <= count <= rows.shape[1]:
        raise ValueError(f"{count} of {rows.shape[1]} numbers were asked for")
    # The largest of numbers with a NaN among them is NaN, and found in one pass.
    if values.device.type == "cpu" and values.numel() and bool(values.amax().isnan()):
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
    """All numbers that are at least the `count`-th largest magnitude of a row; of those that equal it the first ones."""
    magnitudes = rows.abs()
    if rows.device.type == "cpu":
        # numpy partitions and compares with vector instructions; it knows no bfloat16, and is slow with float16. Both are
        # exact as float32.
        wide = (magnitudes if rows.dtype == torch.float64 else magnitudes.float()).contiguous().numpy()
        return torch.from_numpy(_by_numpy(wide, count))
    least = magnitudes.kthvalue(rows.shape[1] - count + 1, dim=1, keepdim=True).values
    mask = magnitudes >= least
    # No row has fewer than it should, so that their sum tells of them all.
    if int(mask.count_nonzero()) == count * len(rows):
        return mask
    above = magnitudes > least
    equal = mask ^ above
    return above | (equal & (equal.cumsum(dim=1) <= count - above.sum(dim=1, keepdim=True)))


def _by_numpy(magnitudes: np.ndarray, count: int) -> np.ndarray:
    """The same of magnitudes [r, n], row after row in memory, for a count of 1 to n."""
    number, size = magnitudes.shape
    if number == 1 and size >= SAMPLED:
        limit = np.full((1, 1), _limit(magnitudes[0], count), magnitudes.dtype)
    else:
        limit = np.partition(magnitudes, size - count, axis=1)[:, size - count : size - count + 1]
    mask: np.ndarray = magnitudes >= limit
    surplus = np.count_nonzero(mask, axis=1) - count
    if not surplus.any():
        return mask
    equal = np.flatnonzero(magnitudes == limit)  # row after row
    row = equal // size
    equals = np.bincount(row, minlength=number)
    rank = np.arange(len(equal)) - (equals.cumsum() - equals)[row]
    mask.reshape(-1)[equal[rank >= (equals - surplus)[row]]] = False
    return mask


def _limit(magnitudes: np.ndarray, count: int) -> np.floating[Any]:
    """The `count`-th largest of many numbers [n], exactly: a sample says between which two it should lie."""
    size = len(magnitudes)
    sample = np.ascontiguousarray(magnitudes[::STRIDE])
    share = count / size
    middle, apart = len(sample) * (1 - share), 5 * (len(sample) * share * (1 - share)) ** 0.5 + 2  # five standard deviations
    ends = max(0, int(middle - apart)), min(len(sample) - 1, int(middle + apart))
    sample.partition(ends)
    low, high = sample[ends[0]], sample[ends[1]]
    wanted = count - int(np.count_nonzero(magnitudes > high))
    between = magnitudes[(magnitudes >= low) & (magnitudes <= high)]
    if not 0 < wanted <= len(between):  # numbers in an order that a stride does not sample fairly
        between, wanted = magnitudes.copy(), count
    between.partition(len(between) - wanted)
    found: np.floating[Any] = between[len(between) - wanted]
    return found


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
