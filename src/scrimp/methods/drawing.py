"""How JEST draws: options of a sub-batch, the first chunk's weights, draws with and without replacement, their noise."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

First = Literal["exponential", "uniform", "linear"]


class Options(NamedTuple):
    """How a sub-batch is drawn: `size` pairs in `chunks` equal parts; the rest as in `select`."""

    size: int
    chunks: int = 16
    first: First = "exponential"
    gain: float = 1.0
    replacement: bool = False

    def check(self, count: int, generator: torch.Generator) -> None:
        """Raise ValueError, naming what is wrong, where this cannot be drawn from `count` pairs."""
        check_size(count, self.size)
        if self.chunks < 1 or self.size % self.chunks:
            raise ValueError(f"{self.chunks} chunks do not divide a sub-batch of {self.size}: choose sizes that do")
        check_known("rule for the first chunk", self.first, get_args(First))
        if not (math.isfinite(self.gain) and self.gain > 0):
            raise ValueError(f"gain is a positive number, got {self.gain}")
        if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
            raise ValueError("give a torch.Generator that lives on the CPU: no global random state is touched")


def first_logits(own: Tensor, rule: First, gain: float = 1.0) -> Tensor:
    """Log weights of the first chunk's draw from the pairs' own scores [B].

    `exponential` weighs by exp(gain score), as Algorithm 1 does; `uniform` not at all; `linear` by the distance from the
    lowest score.
    """
    if rule == "exponential":
        return gain * own
    if rule == "uniform":
        return torch.zeros_like(own)
    check_known("rule for the first chunk", rule, get_args(First))
    distance = own - own.min()
    return distance.clamp(min=torch.finfo(own.dtype).tiny).log()


def draw(logits: Tensor, noise: Tensor, options: Options) -> Tensor:
    """One chunk by logits [n]: the largest of logits plus Gumbel noise [n], or, with replacement, by uniforms [c].

    The largest c of perturbed logits are c draws without replacement (Kool et al. 2019, arXiv 1903.06059), and unlike
    exp-and-normalise the sum cannot overflow.
    """
    count = options.size // options.chunks
    if not options.replacement:
        return (logits + noise).topk(count).indices
    cumulative = logits.softmax(dim=0).cumsum(dim=0)
    return torch.searchsorted(cumulative, noise * cumulative[-1], right=True).clamp(max=len(logits) - 1)


def noise_of(count: int, options: Options, generator: torch.Generator) -> Tensor:
    """Every chunk's noise over the whole super-batch, drawn or not, so that what was compacted away shifts nothing.

    float64 [chunks, count] of Gumbel noise; with replacement [chunks, size / chunks] of uniforms.
    """
    if options.replacement:
        return torch.rand(options.chunks, options.size // options.chunks, generator=generator, dtype=torch.float64)
    return gumbel((options.chunks, count), generator)


def gumbel(shape: int | tuple[int, ...], generator: torch.Generator) -> Tensor:
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    return uniform.clamp_(min=torch.finfo(torch.float64).tiny).log_().neg_().log_().neg_()


def check_size(count: int, size: int) -> None:
    if size < 1:
        raise ValueError(f"a sub-batch has at least 1 pair, got {size}")
    if size > count:
        raise ValueError(f"{size} pairs were asked for, but the super-batch has {count}")


def check_known(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"unknown {what} {value!r}; known: {', '.join(known)}")
