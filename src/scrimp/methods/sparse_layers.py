"""What sparse training shares: which layers are thinned, how much of each is kept, and the FLOPs that this needs.

Budgets: `uniform` keeps the same share everywhere; `erk` keeps weights in proportion to the sum of a layer's dimensions
(Erdos-Renyi kernel; Evci et al. 2020, arXiv 1911.11134, section 3), so that small layers stay denser; `momentum` in
proportion to the summed magnitude of a layer's averaged gradients (after Dettmers & Zettlemoyer 2019, arXiv 1907.04840).
The layer that reads the input stays dense, as is usual: the one that was registered first, unless it is named.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from scrimp.errors import ScrimpError

Budget = Literal["uniform", "erk", "momentum"]


# What holds products as well, and stays dense: its pass is not one product of an input and a weight that could be thinned.
OTHERS = (nn.modules.conv._ConvNd, nn.MultiheadAttention, nn.RNNBase)
# What may hold weights of two dimensions, and multiplies nothing by them: they are looked up, scale, or make up another's.
NO_PRODUCTS = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.utils.parametrize.ParametrizationList)


def thinned_layers(model: nn.Module, first: str | None = None) -> dict[str, nn.Conv2d | nn.Linear]:
    """Convolutions of pictures and linear maps by name, but for one, and but for those inside `nn.MultiheadAttention`.

    That one reads its output map's weights without calling it. The layer that stays dense is `first`, or the one that was
    registered first. Raises ScrimpError for a model without two such layers, and a `first` that is none of them.
    """
    inside = _inside_attention(model)
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and name not in inside
    }
    if len(layers) < 2:
        raise ScrimpError(f"{type(model).__name__} has {len(layers)} convolutions and linear maps: the first stays dense")
    if first is not None and first not in layers:
        raise ScrimpError(f"first: {first!r} is no convolution or linear map of the model, which has {', '.join(layers)}")
    del layers[next(iter(layers)) if first is None else first]
    return layers


def left_dense(model: nn.Module) -> dict[str, nn.Module]:
    """Layers by name that hold products and cannot be thinned: torch's attention, recurrent ones, other convolutions.

    And modules with weights of their own, of which nobody knows whether they multiply by them.
    """
    return {
        name: layer
        for name, layer in model.named_modules()
        if (isinstance(layer, OTHERS) and not isinstance(layer, nn.Conv2d)) or own_weights(layer)
    }


def own_weights(layer: nn.Module) -> list[nn.Parameter]:
    """Weights of a module that is no layer of torch's, such as transformers' Conv1D: parameters of two dimensions or more.

    Dimensions of size 1 do not count: a token or a scale per channel is no matrix. Nor do weights of a module that has
    modules inside, mostly positions and tokens that it adds.
    """
    if isinstance(layer, (nn.Linear, *OTHERS, *NO_PRODUCTS)) or any(True for _ in layer.children()):
        return []
    return [weight for weight in layer.parameters(recurse=False) if sum(size > 1 for size in weight.shape) > 1]


def _inside_attention(model: nn.Module) -> set[str]:
    attention = [name for name, layer in model.named_modules() if isinstance(layer, nn.MultiheadAttention)]
    return {f"{name}.out_proj" if name else "out_proj" for name in attention}


def proportional(scores: Sequence[float], sizes: Sequence[int], density: float) -> list[int]:
    """How many weights each layer keeps: `density` of all together, in proportion to `scores`, and no more than it has.

    What a full layer cannot take goes to the others in proportion. Scores of zero get nothing while others can take it.
    """
    if not 0 < density <= 1:
        raise ValueError(f"density must be above 0 and at most 1, got {density}")
    left, full = density * sum(sizes), set[int]()
    while True:
        open_layers = [number for number in range(len(sizes)) if number not in full]
        total = sum(scores[number] for number in open_layers)
        room = left - sum(sizes[number] for number in full)
        if not open_layers:
            return list(sizes)
        shares = {n: room * (scores[n] / total if total > 0 else 1 / len(open_layers)) for n in open_layers}
        over = {number for number, share in shares.items() if share > sizes[number] * (1 + 1e-9)}
        if not over:
            return [sizes[n] if n in full else max(1, round(shares[n])) for n in range(len(sizes))]
        full |= over


def kept_counts(
    budget: Budget, weights: Sequence[Tensor], density: float, momenta: Sequence[float] | None = None
) -> list[int]:
    """How many weights of each layer are kept; `momenta`, for that budget, are sums of gradients' magnitudes by layer."""
    sizes = [weight.numel() for weight in weights]
    if budget == "erk":
        return proportional([float(sum(weight.shape)) for weight in weights], sizes, density)
    if budget == "momentum" and momenta is not None:
        return proportional(momenta, sizes, density)
    return proportional([float(size) for size in sizes], sizes, density)


@dataclass
class _Note:
    """A hook that notes a layer's FLOPs at its first pass; no closure, so that the model can be pickled."""

    flops: dict[str, float]
    name: str

    def __call__(self, layer: Any, inputs: Any, output: Any) -> None:
        if self.name in self.flops:
            return
        if own := own_weights(layer):
            self.flops[self.name] = 2.0 * own[0].numel() * self._mapped(own, inputs, output)
            return
        self.flops[self.name] = (
            2.0 * sum(p.numel() for p in layer.parameters() if p.ndim > 1) * self._places(layer, inputs, output)
        )

    @staticmethod
    def _mapped(own: list[nn.Parameter], inputs: Any, output: Any) -> int:
        """How often a module's only matrix is used for one example, if it maps the last dimension; else 0: nobody knows."""
        x = inputs[0] if inputs else None
        if len(own) != 1 or not isinstance(x, Tensor) or not isinstance(output, Tensor) or x.ndim != output.ndim:
            return 0
        if not x.is_floating_point() or sorted(own[0].shape) != sorted((x.shape[-1], output.shape[-1])):
            return 0
        return math.prod(output.shape[1:-1])

    @staticmethod
    def _places(layer: Any, inputs: Any, output: Any) -> int:
        """How often each weight is used for one example."""
        if isinstance(layer, nn.modules.conv._ConvNd):
            return math.prod((inputs[0] if layer.transposed else output).shape[2 - layer.weight.ndim :])
        if isinstance(layer, nn.Linear):
            return math.prod(output.shape[1:-1])
        return int(output[0].shape[1 if layer.batch_first else 0])  # of attention and of recurrent layers: a tuple


class LayerFlops:
    """FLOPs of each layer's forward pass on one example, read off the first pass of a model.

    `share(needed)` is what a training step needs over what a dense one does: `needed(name)` is the number of forward passes'
    worth of FLOPs of a thinned layer, of which a dense layer takes 3, and the first to run, which passes no gradient on, 2.
    Products that no layer holds, such as attention's, are counted as thinned like the rest. A module with a matrix of its
    own counts where that maps the last dimension of its input, and else is left out: see `uncounted`. The hooks stay:
    without them torch's short cut for transformers would read the weights of finished models past the layers.
    """

    def __init__(self, model: nn.Module) -> None:
        self.flops: dict[str, float] = {}
        self.own: dict[str, str] = {}  # what kind of module it is that has weights of its own
        inside = _inside_attention(model)
        for name, layer in model.named_modules():
            if own_weights(layer):
                self.own[name] = type(layer).__name__
            elif not isinstance(layer, (nn.Linear, *OTHERS)) or name in inside:
                continue
            layer.register_forward_hook(_Note(self.flops, name))

    @property
    def first(self) -> str:
        """The layer that ran first; "" until a pass was seen."""
        return next((name for name, flops in self.flops.items() if flops), "")

    @property
    def uncounted(self) -> dict[str, str]:
        """Modules with weights of their own whose FLOPs no pass has told, and of what kind they are."""
        return {name: kind for name, kind in self.own.items() if not self.flops.get(name)}

    def share(self, needed: Callable[[str], float], thinned: Sequence[str]) -> float:
        """1 until a pass was seen."""
        if not (first := self.first):
            return 1.0
        dense = {name: flops * (2 if name == first else 3) for name, flops in self.flops.items()}
        names = set(thinned)
        spent = sum(self.flops[name] * needed(name) if name in names else whole for name, whole in dense.items())
        return spent / sum(dense.values())


@dataclass
class TellAfterFirstPass:
    """A hook on a model that warns once of a layer that ran before the dense one, and of FLOPs that are not known."""

    counted: LayerFlops
    thinned: list[str]
    told: bool = False

    def __call__(self, model: Any, inputs: Any, output: Any) -> None:
        if self.told:
            return
        self.told = True
        if (first := self.counted.first) in self.thinned:
            warnings.warn(
                f"{first} ran first, and is thinned; what stays dense is another layer, which was registered before it: "
                f"name the layer that reads the input, sparsify(..., first={first!r})",
                stacklevel=2,
            )
        if unknown := self.counted.uncounted:
            warnings.warn(f"`flops` leaves out what it cannot count, the products of {named(unknown)}", stacklevel=2)


def named(layers: dict[str, str]) -> str:
    """Layers and their kinds for a message; the model itself has no name."""
    return ", ".join(f"{name or 'the model itself'} ({kind})" for name, kind in layers.items())
