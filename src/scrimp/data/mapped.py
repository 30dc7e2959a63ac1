"""Arrays that stay on disk: written a block at a time, and mapped, so that only what is looked at is read and held.

Processes side by side share what they look at.
"""

from __future__ import annotations

import hashlib
import io
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scrimp.data.digests import check_digest
from scrimp.errors import ScrimpError, no_damage

BLOCK = 2**20  # rows looked at together where a whole file has to be


def mapped(path: Path, digest: str, remedy: str) -> np.ndarray[Any, Any]:
    """The array of a .npy file, read-only and mapped; ScrimpError, which ends in `remedy`, for another than was written."""
    check_digest(path, digest, remedy)
    try:
        # "r": a private map that might be written to counts as memory, and the system refuses one larger than it has.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        no_damage(error, path)
        raise ScrimpError(f"{path} is missing or damaged ({error}); {remedy}") from error
    if isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
        # Rows are asked for in no order: reading ahead would read a hundred kilobytes for each.
        array.base.madvise(mmap.MADV_RANDOM)
    return array


def rows_of(tokens: Tensor | np.ndarray[Any, Any], at: Tensor) -> Tensor:
    """The rows `at` (int64 [n]) of token ids [N, L] of any integer type, as embeddings look them up: int64 [n, L]."""
    rows = tokens[at] if isinstance(tokens, Tensor) else torch.from_numpy(np.asarray(tokens[at.numpy()]))
    return rows.long()


class ArrayWriter:
    """A .npy file of a known shape, written block after block from its first row, and its SHA-256."""

    def __init__(self, path: Path, kind: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.path, self.kind, self.shape, self.written = path, kind, shape, 0
        self._digest = hashlib.sha256()
        header = io.BytesIO()
        told = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, told)
        self._file = path.open("wb")
        self._put(header.getvalue())

    def append(self, rows: np.ndarray[Any, Any]) -> None:
        """Write the next rows, [n, *shape[1:]]."""
        assert rows.shape[1:] == self.shape[1:]
        self._put(np.ascontiguousarray(rows, dtype=self.kind).tobytes())
        self.written += len(rows)

    def close(self) -> str:
        """Finish the file; its digest, as hex."""
        self._file.close()
        assert self.written == self.shape[0]
        return self._digest.hexdigest()

    def _put(self, content: bytes) -> None:
        self._file.write(content)
        self._digest.update(content)
