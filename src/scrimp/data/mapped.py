"""Arrays that stay on disk: of a file mapped into memory only what is looked at is read, and processes share it."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scrimp.data.digests import check_digest
from scrimp.errors import ScrimpError

BLOCK = 2**20  # rows looked at together where a whole file has to be


def mapped(path: Path, digest: str, remedy: str) -> np.ndarray[Any, Any]:
    """The array of a .npy file, read-only and mapped; ScrimpError, which ends in `remedy`, for another than was written."""
    check_digest(path, digest, remedy)
    try:
        # "r": a private map that might be written to counts as memory, and the system refuses one larger than it has.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ScrimpError(f"{path} is missing or damaged ({error}); {remedy}") from error
    if isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
        # Rows are asked for in no order: reading ahead would read a hundred kilobytes for each.
        array.base.madvise(mmap.MADV_RANDOM)
    return array


def rows_of(tokens: Tensor | np.ndarray[Any, Any], at: Tensor) -> Tensor:
    """The rows `at` (int64 [n]) of token ids [N, L] of any integer type, as embeddings look them up: int64 [n, L]."""
    rows = tokens[at] if isinstance(tokens, Tensor) else torch.from_numpy(np.asarray(tokens[at.numpy()]))
    return rows.long()
