"""Cycles of a training step on an accelerator that skips zeros: a small model whose assumptions are its parameters.

Sparse training papers report the speed of simulated hardware. This model says what such a number rests on. A product's
multiply-adds are split evenly over processing elements, each of which takes its next piece, of `tile` dense
multiply-adds, when the slowest element has finished: zeros lie at random, so the slowest has about d t + sqrt(2
ln(elements) t d (1 - d)) of density d to do. Skipping costs `overhead` of each multiply-add that is left; a number kept
in a sparse format takes `index_bits` beside its own. Memory moves at `bandwidth` while elements compute, and the slower
of both counts. No layer's reuse of what is on the chip is modelled: each operand is read once and each result written
once.
Source: the comparison is with SWAT's simulator (Raihan & Aamodt 2020, arXiv 2001.01969, section 5); the model is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from scrimp.config.base import Closed


class Accelerator(Closed):
    """Hardware: sizes in elements, multiply-adds a cycle, bytes a cycle, bytes and bits a number."""

    elements: PositiveInt = 256
    multiply_adds: PositiveFloat = 1.0
    tile: PositiveInt = 1024
    overhead: NonNegativeFloat = 0.05
    bandwidth: PositiveFloat = 128.0
    value_bytes: PositiveFloat = 2.0
    index_bits: NonNegativeFloat = 4.0


@dataclass(frozen=True)
class Layer:
    """A layer's forward pass on a batch: dense multiply-adds, and how many numbers its weights, input and output have."""

    multiply_adds: float
    weights: float
    inputs: float
    outputs: float


def slowest(tile: float, density: float, elements: int) -> float:
    """Multiply-adds of the slowest of some elements, each with `tile` of them, of which a random `density` is left."""
    spread = math.sqrt(2 * math.log(elements) * tile * density * (1 - density)) if elements > 1 else 0.0
    return min(tile, tile * density + spread)


def compute_cycles(multiply_adds: float, density: float, on: Accelerator) -> float:
    """Cycles of a product's multiply-adds of which a share `density` is not skipped; dense products have no overhead."""
    of_element = multiply_adds / on.elements
    tile = min(on.tile, of_element)
    overhead = 0.0 if density >= 1 else on.overhead
    return of_element / tile * slowest(tile, density, on.elements) * (1 + overhead) / on.multiply_adds


def bytes_of(numbers: float, density: float, on: Accelerator) -> float:
    """Bytes of some numbers of which a share is kept: in a dense format at density 1, else each with its index."""
    if density >= 1:
        return numbers * on.value_bytes
    return numbers * density * (on.value_bytes + on.index_bits / 8)


def step_cycles(layer: Layer, weights: float, activations: float, on: Accelerator, first: bool = False) -> float:
    """Cycles of a layer's forward and backward pass at some densities of weights and of kept activations.

    Forward and the input's gradient skip zero weights, the weights' gradient zero activations; gradients of the output are
    dense. The `first` layer passes no gradient on. Raises ValueError for densities outside of (0, 1].
    """
    if not (0 < weights <= 1 and 0 < activations <= 1):
        raise ValueError(f"densities must be above 0 and at most 1, got {weights} and {activations}")
    of_weights, kept = bytes_of(layer.weights, weights, on), bytes_of(layer.inputs, activations, on)
    inputs, outputs, gradient = (bytes_of(size, 1.0, on) for size in (layer.inputs, layer.outputs, layer.weights))
    # Where activations are thinned, the kept ones are written beside the dense input that the next product reads.
    written = kept if activations < 1 else 0.0
    products = [
        (weights, of_weights + inputs + outputs + written),  # forward
        (activations, kept + outputs + gradient),  # the weights' gradient
    ]
    if not first:
        products.append((weights, of_weights + outputs + inputs))  # the input's gradient
    return sum(max(compute_cycles(layer.multiply_adds, density, on), moved / on.bandwidth) for density, moved in products)


def speedup(layers: Sequence[Layer], weights: float, activations: float, on: Accelerator) -> float:
    """Dense cycles over sparse ones of a training step; the first layer is dense in both."""
    dense = sum(step_cycles(layer, 1.0, 1.0, on, number == 0) for number, layer in enumerate(layers))
    sparse = step_cycles(layers[0], 1.0, 1.0, on, True)
    sparse += sum(step_cycles(layer, weights, activations, on) for layer in layers[1:])
    return dense / sparse


def sensitivity(
    layers: Sequence[Layer], weights: float, activations: float, on: Accelerator, factor: float = 4.0
) -> dict[str, tuple[float, float]]:
    """Each assumption -> the speedup with it `factor` times smaller and larger, all others as they are."""
    found = {}
    for name in type(on).model_fields:
        value = getattr(on, name)
        ends = (value / factor, value * factor)
        if isinstance(value, int):
            ends = (max(1, round(ends[0])), round(ends[1]))
        low, high = (speedup(layers, weights, activations, Accelerator(**{**on.model_dump(), name: end})) for end in ends)
        found[name] = (low, high)
    return found
