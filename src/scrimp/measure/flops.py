"""Counting floating-point operations: a multiply-add is two. Elementwise work (norms, ReLU) is not counted, as usual."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class ExampleFlops:
    """FLOPs of one example: `forward` alone, and `training` (forward and backward)."""

    forward: float
    training: float


def flops_per_example(model: nn.Module, shape: tuple[int, ...], batch: int = 2) -> ExampleFlops:
    """Count a forward and a backward pass of `batch` random inputs of `shape` (without the batch), in training mode.

    The model's parameters, gradients, buffers and mode are left as they were.
    """
    device = next(model.parameters()).device
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    inputs = torch.zeros(batch, *shape, device=device)
    # The counter knows no formula for the CPU's fused attention and would count it as nothing: spell it out.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward, torch.no_grad():
        model(inputs)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as training:
        gradients = torch.autograd.grad(model(inputs).sum(), list(model.parameters()), allow_unused=True)
    del gradients
    with torch.no_grad():
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
    return ExampleFlops(forward.get_total_flops() / batch, training.get_total_flops() / batch)
