"""How much the torch implementations hold at a time, and in which type they multiply."""

from __future__ import annotations

import torch
from torch import Tensor

from scrimp.kernels.dispatch import has_fast_bf16

# Of numbers in float32: 2 MiB, which stay in a core's cache; a GPU wants fewer, larger launches.
BLOCK_ELEMENTS = {"cpu": 1 << 19}
LARGE_BLOCK_ELEMENTS = 1 << 26


def block_rows(device: torch.device, width: int) -> int:
    """How many rows of `width` numbers to hold at a time."""
    return max(1, BLOCK_ELEMENTS.get(device.type, LARGE_BLOCK_ELEMENTS) // max(1, width))


def exact_type(operand: Tensor) -> torch.dtype:
    """What is summed in, and given back: float64 for float64, else float32."""
    return torch.float64 if operand.dtype == torch.float64 else torch.float32


def as_multiplied(operand: Tensor) -> Tensor:
    """An operand in the type that torch multiplies it in.

    Products of bf16 come rounded to bf16. Where the CPU has no such products, float32 costs nothing more and rounds less.
    """
    return operand if has_fast_bf16(operand.device) else operand.to(exact_type(operand))
