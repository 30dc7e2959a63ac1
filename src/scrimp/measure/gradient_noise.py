"""The simple noise scale of a gradient: the batch at which noise and signal are as large, from gradients of two sizes.

The squared norm of a mean gradient of B examples is |G|^2 + tr(S) / B on average, S being the covariance of one example's
gradient. Two sizes give two equations, so that both unknowns have unbiased estimators; B_simple is tr(S) / |G|^2.
Source: McCandlish et al. 2018 (arXiv 1812.06162), equation 2.9 and appendix A.1.
Deviations: the small gradients are the parts of the large one, so that one pass over a batch gives both; the ratio is taken
of means over batches and never averaged itself, which would be biased.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

DRAWS = 2000


@dataclass(frozen=True)
class SquaredNorms:
    """Squared norms of a batch's mean gradient (`large_norm`, of `large` examples) and of its parts' (mean, of `small`)."""

    small: int
    large: int
    small_norm: float
    large_norm: float

    def __post_init__(self) -> None:
        if not 0 < self.small < self.large:
            raise ValueError(f"two sizes are wanted, the small one first; got {self.small} and {self.large}")

    @property
    def signal(self) -> float:
        """|G|^2, unbiased; noise may carry it below 0."""
        return (self.large * self.large_norm - self.small * self.small_norm) / (self.large - self.small)

    @property
    def noise(self) -> float:
        """tr(S), unbiased and never below 0 where the small gradients are parts of the large one."""
        return (self.small_norm - self.large_norm) / (1 / self.small - 1 / self.large)


@dataclass(frozen=True)
class NoiseScale:
    """B_simple in examples with its 95 % interval; infinite where the signal is not told from 0."""

    value: float
    low: float
    high: float
    signal: float
    noise: float


def simple_noise_scale(norms: Sequence[SquaredNorms], seed: int = 0) -> NoiseScale:
    """tr(S) / |G|^2 from several batches: means over the batches first, then their ratio; the interval by bootstrap.

    Raises ValueError without batches. One batch has no interval: its ends are nan.
    """
    if not norms:
        raise ValueError("no gradients were measured")
    signal = np.array([norm.signal for norm in norms])
    noise = np.array([norm.noise for norm in norms])
    low = high = float("nan")
    if len(norms) > 1:
        chosen = np.random.default_rng(seed).integers(len(norms), size=(DRAWS, len(norms)))
        drawn = _ratios(noise[chosen].mean(axis=1), signal[chosen].mean(axis=1))
        # Of order statistics, since an infinite one cannot be interpolated with.
        low, high = (float(np.quantile(drawn, share, method="inverted_cdf")) for share in (0.025, 0.975))
    value = float(_ratios(noise.mean(keepdims=True), signal.mean(keepdims=True))[0])
    return NoiseScale(value, low, high, float(signal.mean()), float(noise.mean()))


def _ratios(noise: NDArray[np.float64], signal: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(noise, signal, out=np.full_like(noise, np.inf), where=signal > 0)


def squared_norms(model: nn.Module, losses: Callable[[slice], Tensor], count: int, small: int) -> SquaredNorms:
    """Norms of the mean gradient of `count` examples and of its parts of `small`; gradients of the model are left alone.

    `losses(part)` gives the losses [b] of a part of the batch under the model. A batch norm in training mode normalises each
    part by itself: the noise is then that of ghost batches of `small`. Raises ValueError where `count` is not several times
    `small`.
    """
    if small < 1 or count < 2 * small or count % small:
        raise ValueError(f"a batch of {count} does not fall into two or more parts of {small}")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    total = [torch.zeros_like(parameter) for parameter in parameters]
    of_parts = 0.0
    for begin in range(0, count, small):
        mean = losses(slice(begin, begin + small)).mean()
        gradients = torch.autograd.grad(mean, parameters, allow_unused=True, materialize_grads=True)
        of_parts += sum(float(gradient.double().square().sum()) for gradient in gradients)
        for kept, gradient in zip(total, gradients, strict=True):
            kept.add_(gradient)
    parts = count // small
    whole = sum(float((kept / parts).double().square().sum()) for kept in total)
    return SquaredNorms(small, count, of_parts / parts, whole)
