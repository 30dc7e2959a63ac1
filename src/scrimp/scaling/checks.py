"""What the fits share: types, constants, checked input, percentile intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Interval = tuple[float, float]

CONFIDENCE = 0.95
FLOPS_FACTOR = 6.0  # forward and backward pass, a parameter and token


def positive(**arrays: ArrayLike) -> list[Array]:
    """The arrays as float64, checked to be one-dimensional, equally long, positive and finite."""
    found = {name: np.asarray(values, dtype=np.float64) for name, values in arrays.items()}
    shapes = {name: array.shape for name, array in found.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ValueError(f"need one-dimensional arrays of one length, one entry a run, got the shapes {shapes}")
    for name, array in found.items():
        wrong = np.flatnonzero(~(np.isfinite(array) & (array > 0)))
        if wrong.size:
            raise ValueError(
                f"{name}[{wrong[0]}] is {array[wrong[0]]}: drop that run, only positive finite numbers can be used"
            )
    return list(found.values())


def percentiles(values: Array) -> Interval:
    low, high = np.percentile(values, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return float(low), float(high)


def first_of_repeats(*columns: Array) -> NDArray[np.bool_]:
    """Which rows do not repeat an earlier one to six digits in all columns (a tracker's export may hold a run twice)."""
    rows = [" ".join(f"{value:.6g}" for value in row) for row in zip(*columns, strict=True)]
    first = np.zeros(len(rows), dtype=np.bool_)
    first[np.unique(rows, return_index=True)[1]] = True
    return first
