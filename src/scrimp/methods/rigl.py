"""RigL: a model that is sparse from the beginning, whose smallest weights give way to those of the largest gradients.

A share of each layer's weights is kept, by ERK or evenly. Every `every` steps, until `until` of the budget, a share that
falls on a cosine from `replaced` is dropped by magnitude, and as many are grown where the dense gradient is largest, from
zero. With `every: null` the first mask, drawn at random, stays: the static control.
Use it where a device skips zeros, or weights must be few from the first step on. Cost: on a CPU or GPU none is saved:
products are dense here. FLOPs are counted as the method needs them (a dense weight gradient every `every` steps) or as
computed.
Source: Evci, Gale, Menick, Castro, Elsen 2020, *Rigging the Lottery* (arXiv 1911.11134), section 3.
Deviations: the first layer stays dense under ERK, too; a grown weight keeps its optimiser's state, which masked gradients
have let decay.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from scrimp.config.base import Closed
from scrimp.kernels.topk import topk_mask
from scrimp.methods.base import Method
from scrimp.methods.sparse_layers import LayerFlops, kept_counts, thinned_layers
from scrimp.seeding import derived_generator

SMALLEST = 1e-30  # what may grow ranks above what may not, even without a gradient


class Params(Closed):
    weights: float = Field(gt=0, le=1, description="share of the weights that is kept")
    budget: str = Field("erk", pattern="^(uniform|erk)$")
    every: PositiveInt | None = Field(100, description="steps between two changes of the masks; null: they stay")
    until: float = Field(0.75, gt=0, le=1, description="share of the budget after which the masks stay")
    replaced: float = Field(0.3, gt=0, lt=1, description="share of a layer's weights that the first change replaces")
    count: str = Field("needed", pattern="^(needed|computed)$", description="FLOPs as the method needs, or computes them")


def replaced_share(fraction: float, replaced: float, until: float) -> float:
    """The share of the kept weights that a change replaces: a cosine from `replaced` to 0 at `until`."""
    return 0.0 if fraction >= until else replaced / 2 * (1 + math.cos(math.pi * fraction / until))


def rewired(weight: Tensor, gradient: Tensor, mask: Tensor, count: int) -> Tensor:
    """The mask with its `count` smallest weights dropped and as many of the largest gradients grown among all others.

    Raises ValueError where fewer than `count` are kept.
    """
    kept = int(mask.sum())
    if not 0 <= count <= kept:
        raise ValueError(f"cannot replace {count} of {kept} weights")
    stays = topk_mask(torch.where(mask, weight.abs() + SMALLEST, torch.zeros_like(weight)), kept - count)
    grows = topk_mask(torch.where(stays, torch.zeros_like(gradient), gradient.abs() + SMALLEST), count)
    return stays | grows


class RigL(Method):
    """Masks of every layer but the first."""

    Params = Params

    def adapt(self, model: nn.Module) -> None:
        self.layer_flops, self.steps = LayerFlops(model), 0
        self.layers = thinned_layers(model)
        weights = [layer.weight for layer in self.layers.values()]
        counts = kept_counts(self.params.budget, weights, self.params.weights)
        self.masks: dict[str, Tensor] = {}
        self.gradients: dict[str, Tensor] = {}
        for number, ((name, layer), count) in enumerate(zip(self.layers.items(), counts, strict=True)):
            draws = torch.rand(layer.weight.shape, generator=derived_generator(self.seed, number, "rigl"))
            self.masks[name] = topk_mask(draws + SMALLEST, count).to(layer.weight.device)
            layer.weight.register_hook(self._masked(name))
        self._apply()

    def _masked(self, name: str) -> Callable[[Tensor], Tensor]:
        def of(gradient: Tensor) -> Tensor:
            if self._due:
                self.gradients[name] = self.gradients.get(name, 0) + gradient.detach()
            return gradient * self.masks[name]

        return of

    @property
    def _due(self) -> bool:
        """Whether the step on its way is one after which masks change."""
        return self.params.every is not None and (self.steps + 1) % self.params.every == 0

    @torch.no_grad()
    def _apply(self) -> None:
        for name, layer in self.layers.items():
            layer.weight.mul_(self.masks[name])

    @torch.no_grad()
    def after_step(self, model: nn.Module, fraction: float) -> None:
        share = replaced_share(fraction, self.params.replaced, self.params.until)
        if self._due and share > 0:
            for name, layer in self.layers.items():
                mask = self.masks[name]
                # What cannot grow need not go: a layer that is full stays as it is.
                count = min(int(share * int(mask.sum())), int((~mask).sum()))
                new = rewired(layer.weight * mask, self.gradients[name], mask, count)
                layer.weight.mul_(mask & new)  # what grows begins at zero
                self.masks[name] = new
        self.gradients = {}
        self.steps += 1
        self._apply()

    def flops(self, fraction: float, training: float) -> float:
        if self.params.count == "computed":
            return training
        return training * self.layer_flops.share(self._needed, list(self.masks))

    def _needed(self, name: str) -> float:
        """Three sparse products, and the rest of the weights' gradient at every change."""
        density = float(self.masks[name].float().mean())
        dense = 0.0 if self.params.every is None else (1 - density) / self.params.every
        return 3 * density + dense

    def state_dict(self) -> dict[str, Tensor]:
        return {**{name: mask.to(torch.uint8) for name, mask in self.masks.items()}, "steps": torch.tensor(self.steps)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if not state:
            return
        self.steps = int(state["steps"])
        self.masks = {name: state[name].bool().to(mask.device) for name, mask in self.masks.items()}


METHOD = RigL
