"""Whether embeddings are unit vectors, as every method that reads cosines off products wants them."""

from __future__ import annotations

import torch
from torch import Tensor

from scrimp.kernels.blocks import exact_type

UNIT_TOLERANCE = 0.01  # bf16 rounds each component by at most .002 of it


def require_unit_rows(what: str, rows: Tensor, otherwise: str = "", zeros: bool = False) -> None:
    """ValueError for a matrix [n, d] with a row whose length is not 1; `otherwise` ends the advice.

    `zeros`: rows of zeros, such as a point at the mean of all, are let through.
    """
    lengths = torch.linalg.vector_norm(rows.detach(), dim=-1, dtype=exact_type(rows))
    off = (lengths - 1).abs()
    if zeros:
        off = off.masked_fill(lengths == 0, 0)
    if not bool((off < UNIT_TOLERANCE).all()):
        worst = int(off.argmax())
        length = float(rows[worst].double().norm())
        advice = f"normalise them, F.normalize(z, dim=-1){otherwise}"
        raise ValueError(f"the {what} are not of length 1 (row {worst} has {length:.3g}): {advice}")
