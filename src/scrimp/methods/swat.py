"""SWAT: a sparse forward and backward pass, and dense gradients to all weights, so that any weight may come back.

Forward, each layer takes its largest weights and all of its input. For the backward pass it keeps those weights and the
largest numbers of its input; gradients of the output are never thinned, and every weight gets one. Thresholds are found
anew every `refresh` steps and reused in between. `structured` keeps whole input channels, by the sum of their magnitudes.
In evaluation the kept weights follow from the present ones alone, whatever training last used.
Use it where a device skips zeros, or where the memory of activations is short: what is kept is stored as numbers and a
bit mask.
Cost: on a CPU or GPU without hardware for it, more seconds, not fewer: the products are dense here. FLOPs are counted as
the method needs them (`count: needed`) or as they are computed (`computed`).
Source: Raihan & Aamodt 2020, *Sparse Weight Activation Training* (arXiv 2001.01969), section 3.
Deviations: the first layer stays dense, and so do layers that are neither a convolution of pictures nor a linear map
(`nn.MultiheadAttention`, recurrent ones), whose FLOPs count as dense; structured masks go by input channels of weights
and activations; the momentum budget shares weights out by summed averaged gradients, and is set when thresholds are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch._compile import _disable_dynamo  # torch.compiler.disable, which imports the compiler only where it compiles
from torch.nn import functional as F

from scrimp.config.base import Closed
from scrimp.errors import ScrimpError
from scrimp.kernels.define import once_differentiable
from scrimp.kernels.topk import topk_mask
from scrimp.methods.base import Method
from scrimp.methods.mixed_in import MixedIn
from scrimp.methods.sparse_layers import Budget, LayerFlops, kept_counts, thinned_layers

MOMENTUM = 0.9  # of the averaged gradients that the momentum budget goes by
SMALLEST = 1e-30  # zeros are never kept, whatever the threshold
BITS = 8


class Params(Closed):
    weights: float = Field(gt=0, le=1, description="share of the weights that is kept")
    activations: float = Field(gt=0, le=1, description="share of each input that is kept for the backward pass")
    budget: Budget = "uniform"
    refresh: PositiveInt = Field(10, description="steps between two searches for thresholds")
    structured: bool = Field(False, description="whole channels")
    count: str = Field("needed", pattern="^(needed|computed)$", description="FLOPs as the method needs, or computes them")


# ------------------------------------------------------------------------------------------------------------- functions
def magnitudes(values: Tensor, structured: bool) -> Tensor:
    """What is ranked: every number's magnitude, or the sums over channels, [1, C, 1, ...]."""
    if not structured:
        return values.abs()
    channel = values.ndim - 1 if values.ndim < 4 else 1
    return values.abs().sum(dim=[d for d in range(values.ndim) if d != channel], keepdim=True)


def threshold_of(ranked: Tensor, count: int) -> Tensor:
    """The `count`-th largest number of `ranked` (not negative): a scalar; infinite for a count of 0."""
    if count == 0:
        return ranked.new_full((), torch.inf)
    return ranked[topk_mask(ranked, count)].min()


def pack(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers under a mask, and the mask as bits (uint8 [ceil(n / 8)])."""
    flags = F.pad(mask.flatten().to(torch.uint8), (0, -mask.numel() % BITS)).view(-1, BITS)
    powers = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=values.device)
    return values[mask], (flags * powers).sum(dim=1, dtype=torch.uint8)


def unpack(kept: Tensor, bits: Tensor, like: Tensor) -> Tensor:
    """What `pack` was given, zero where nothing was kept; `like` is an empty tensor of its shape and layout."""
    powers = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=kept.device)
    mask = (bits[:, None] & powers).ne(0).flatten()[: like.numel()].view(like.shape)
    whole = like.zero_()
    whole[mask] = kept
    return whole


class _Layer(torch.autograd.Function):
    """Convolution or linear map: dense input forward, thinned input and weights backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, of: _Thinned) -> Tensor:
        kept_weight, kept_input = of.masks(x, weight)
        sparse = weight * kept_weight
        packed = (*pack(sparse, kept_weight), *pack(x, kept_input))
        of.weight_bytes = sum(part.nbytes for part in packed[:2])
        ctx.save_for_backward(*packed)
        ctx.of, ctx.shapes = of, (_layout(x), _layout(weight))
        ctx.has_bias = bias is not None
        return of.product(x, sparse, bias)

    @staticmethod
    @once_differentiable(
        "a sparse layer", "leave a model dense that needs second derivatives, or take them in eval mode, where it has them"
    )
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        (gradient,) = gradients
        weights, weight_bits, inputs, input_bits = ctx.saved_tensors
        x_like, weight_like = (_empty(layout, gradient) for layout in ctx.shapes)
        # Of one type, as a product under autocast was; autograd casts what it is given to what it expects.
        x = unpack(inputs, input_bits, x_like).to(gradient.dtype)
        weight = unpack(weights, weight_bits, weight_like).to(gradient.dtype)
        of_x, of_weight = ctx.of.gradients(gradient, x, weight, ctx.needs_input_grad[0])
        of_bias = gradient.sum(dim=ctx.of.summed(gradient)) if ctx.has_bias else None
        ctx.of.follow(of_weight)
        return of_x, of_weight, of_bias, None


def _layout(x: Tensor) -> tuple[torch.Size, torch.dtype, bool]:
    return x.shape, x.dtype, x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


def _empty(layout: tuple[torch.Size, torch.dtype, bool], near: Tensor) -> Tensor:
    shape, dtype, last = layout
    order = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=near.device, memory_format=order)


@dataclass
class _Thinned:
    """A layer's present masks: how many weights it keeps, its thresholds, and how old they are."""

    layer: Any
    params: Any
    count: int
    age: int = 0
    weight_bytes: int = 0
    thresholds: list[Tensor] = field(default_factory=list)
    average: Tensor | None = None
    kept_share: float = 1.0
    evaluated: tuple[list[float], Tensor] | None = None  # the threshold in evaluation, and what it was found for

    def forget(self) -> None:
        """Weights were loaded: thresholds of others tell nothing about them."""
        self.thresholds = []

    def masks(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Masks of weights and input, with new thresholds where they are due.

        A pass inside a backward pass is an earlier one that is made again (activation checkpointing), and is masked as that
        was. It may not be where another search came between: where a layer runs several times before its backward pass.
        """
        again = torch._C._current_graph_task_id() != -1
        due = self.age % self.params.refresh == 0 and not again
        ranked = [magnitudes(tensor.detach(), self.params.structured) for tensor in (weight, x)]
        if not self.thresholds or due:
            shares = (self.count / weight.numel(), self.params.activations)
            wanted = [max(1, round(share * of.numel())) for share, of in zip(shares, ranked, strict=True)]
            self.thresholds = [threshold_of(of, count) for of, count in zip(ranked, wanted, strict=True)]
        first, second = (of >= limit.clamp_min(SMALLEST) for of, limit in zip(ranked, self.thresholds, strict=True))
        masks = first.expand_as(weight), second.expand_as(x)
        if due:
            self.kept_share = float(masks[1].float().mean())
        self.age += not again
        return masks

    def weight(self) -> Tensor:
        """The weights as a finished model uses them: the largest of the present ones."""
        ranked = magnitudes(self.layer.weight.detach(), self.params.structured)
        found: Tensor = self.layer.weight * (ranked >= self._limit(ranked).clamp_min(SMALLEST))
        return found

    def _limit(self, ranked: Tensor) -> Tensor:
        """The threshold of the present weights, found once for all batches of an evaluation.

        Known again by sums: fused optimizers and writes through `.data` change weights under one version and address.
        """
        wide = ranked.float()
        known = [float(self.count), *torch.stack([wide.sum(), wide.square().sum(), wide.max()]).tolist()]
        if self.evaluated is not None and self.evaluated[0] == known:
            return self.evaluated[1]
        if math.isnan(known[1]):  # of a run that diverged: what it gives is NaN as well
            return ranked.new_zeros(())
        limit = threshold_of(ranked, max(1, round(self.count / self.layer.weight.numel() * ranked.numel())))
        self.evaluated = known, limit
        return limit

    def follow(self, gradient: Tensor) -> None:
        """Average the weights' gradients, where the budget goes by them."""
        if self.params.budget != "momentum":
            return
        if self.average is None:
            self.average = torch.zeros_like(gradient)
        # Scaled gradients may overflow, and their step is skipped; which of the two, the device need not be asked.
        finite = gradient.isfinite().all()
        self.average = torch.where(finite, self.average.lerp(gradient.detach(), 1 - MOMENTUM), self.average)

    def momentum(self) -> float:
        """The sum of the averaged gradient's magnitudes; the average is over the processes, too, from here on."""
        if self.average is None:  # another process has one
            self.average = torch.zeros_like(self.layer.weight.detach())
        if _processes() > 1:
            dist.all_reduce(self.average)
            self.average /= _processes()
        return float(self.average.abs().sum())

    # --- the layer's own arithmetic ---
    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if isinstance(self.layer, nn.Linear):
            return F.linear(x, weight, bias)
        at = self.layer
        return F.conv2d(x, weight, bias, at.stride, at.padding, at.dilation, at.groups)

    def gradients(self, gradient: Tensor, x: Tensor, weight: Tensor, of_input: bool) -> tuple[Tensor | None, Tensor]:
        if isinstance(self.layer, nn.Linear):
            flat = gradient.flatten(0, -2)
            return gradient @ weight if of_input else None, flat.T @ x.flatten(0, -2)
        at = self.layer
        found = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, at.stride, at.padding, at.dilation, False, [0, 0], at.groups, [of_input, True, False]
        )
        return found[0], found[1]

    def summed(self, gradient: Tensor) -> list[int]:
        channel = gradient.ndim - 1 if isinstance(self.layer, nn.Linear) else 1
        return [dimension for dimension in range(gradient.ndim) if dimension != channel]


class _Swat(MixedIn):
    """Mixed in before a layer."""

    prefix = "Swat"
    thinned: _Thinned

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *others)
        if any(name.startswith(prefix) for name in state_dict):
            self.thinned.forget()

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            found: Tensor = _uncompiled(self, x)
            return found
        return self.thin(x)

    def thin(self, x: Tensor) -> Tensor:
        if not self.training or not x.numel():  # an empty batch has no thresholds to tell
            return self.thinned.product(x, self.thinned.weight(), self.bias)  # type: ignore[arg-type]
        alone = x.ndim == (1 if isinstance(self, nn.Linear) else 3)  # one example, and no batch of it
        found: Tensor = _Layer.apply(x[None] if alone else x, self.weight, self.bias, self.thinned)
        return found[0] if alone else found


@_disable_dynamo
def _uncompiled(layer: _Swat, x: Tensor) -> Tensor:
    """How many numbers are kept hangs on them, which no graph can hold."""
    return layer.thin(x)


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def use_swat(
    model: nn.Module, weights: float, activations: float, first: str | None = None, **options: Any
) -> dict[str, _Thinned]:
    """Thin every layer of `model` but one while it trains; parameters and their names stay as they are.

    The layer that stays dense is `first`, or the one that was registered first.

    Returns the layers' states by name. Raises ScrimpError for a model without two layers, or with a convolution that pads
    otherwise than by a number of zeros.
    """
    params = Params(weights=weights, activations=activations, **options)
    layers = thinned_layers(model, first)
    counts = kept_counts(params.budget, [layer.weight for layer in layers.values()], params.weights)
    for name, layer in layers.items():  # all are looked at before one is changed
        if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
            raise ScrimpError(f"{name}: SWAT pads a convolution with zeros by a number of places: give it `padding=1` or so")
    states = {}
    for (name, layer), count in zip(layers.items(), counts, strict=True):
        state = _Thinned(layer, params, count)
        # The class changes, not the object: its parameters may be in an optimizer already, its name in a checkpoint.
        layer.__class__ = _Swat.before(type(layer))  # type: ignore[assignment]
        layer.thinned = state  # type: ignore[assignment]
        states[name] = state
    return states


class Swat(Method):
    """Every layer but the first as `use_swat` leaves it."""

    Params = Params
    first: str | None = None  # the layer that stays dense; None: the one that was registered first

    def adapt(self, model: nn.Module) -> None:
        self.states = use_swat(model, first=self.first, **self.params.model_dump())
        self.layer_flops = LayerFlops(model)
        self.shared = 0  # how many searches for thresholds there had been when weights were last shared out

    def after_step(self, model: nn.Module, fraction: float) -> None:
        """Share the weights out anew by averaged gradients, once for every search for thresholds.

        Under torch.distributed every process calls this after each update, and averages are over the processes.
        """
        if self.params.budget != "momentum":
            return
        states = list(self.states.values())
        searches = self._searches()
        due, self.shared = searches != self.shared, searches
        told = [due, *(state.average is not None for state in states)]
        if _processes() > 1:  # one that ran a pass more than the others must not share out alone
            flags = torch.tensor(told, dtype=torch.int32, device=states[0].layer.weight.device)
            dist.all_reduce(flags, op=dist.ReduceOp.MAX)
            told = [bool(flag) for flag in flags.tolist()]
        if not all(told):
            return
        momenta = [state.momentum() for state in states]
        if not 0 < sum(momenta) < torch.inf:  # all gradients so far were zero or not finite
            return
        counts = kept_counts("momentum", [state.layer.weight for state in states], self.params.weights, momenta)
        for state, count in zip(states, counts, strict=True):
            state.count = count

    def _searches(self) -> int:
        age: int = next(iter(self.states.values())).age
        return age // self.params.refresh

    def flops(self, fraction: float, training: float) -> float:
        if self.params.count == "computed":
            return training
        return training * self.layer_flops.share(self._needed, list(self.states))

    def _needed(self, name: str) -> float:
        """Forward and the input's gradient by the weights, the weights' gradient by the activations that are kept."""
        state = self.states[name]
        return 2 * state.count / state.layer.weight.numel() + self.params.activations

    def diagnostics(self) -> dict[str, float]:
        shares = [state.kept_share for state in self.states.values()]
        return {"kept_activations": sum(shares) / len(shares)}

    def state_dict(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, state in self.states.items():
            found[f"{name}/numbers"] = torch.tensor([state.count, state.age])
            found |= {f"{name}/threshold{n}": limit.clone() for n, limit in enumerate(state.thresholds)}
            if state.average is not None:
                found[f"{name}/average"] = state.average.clone()
        return found

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, thinned in self.states.items():
            if f"{name}/numbers" not in state:
                continue
            thinned.count, thinned.age = (int(number) for number in state[f"{name}/numbers"])
            near = thinned.layer.weight.device
            limits = [state.get(f"{name}/threshold{n}") for n in range(2)]
            thinned.thresholds = [limit.to(near) for limit in limits if limit is not None]
            average = state.get(f"{name}/average")
            thinned.average = None if average is None else average.to(near)
        self.shared = self._searches()


METHOD = Swat
