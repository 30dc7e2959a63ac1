"""The accelerator's cycles by hand, and what its assumptions do."""

from __future__ import annotations

import math

import pytest

from scrimp.measure.accelerator import Accelerator, Layer, compute_cycles, sensitivity, slowest, speedup, step_cycles

# Elements that wait for nobody, and memory that never limits.
IDEAL = Accelerator(elements=1, tile=1000, overhead=0, bandwidth=1e12, index_bits=0)
LAYERS = [Layer(1e6, 1e3, 1e3, 1e3), Layer(9e6, 1e4, 1e3, 1e3)]


def test_ideal_hardware_gains_what_is_skipped() -> None:
    assert compute_cycles(1e6, 0.25, IDEAL) == pytest.approx(2.5e5)
    # The first layer's two products are dense; of the second's, 3 x 9e6, a fifth is left.
    assert speedup(LAYERS, 0.2, 0.2, IDEAL) == pytest.approx((2e6 + 27e6) / (2e6 + 5.4e6))
    assert step_cycles(LAYERS[1], 0.5, 0.2, IDEAL) == pytest.approx(9e6 * (0.5 + 0.5 + 0.2))


def test_the_slowest_element_decides() -> None:
    assert slowest(100, 0.5, 1) == 50
    assert slowest(100, 0.5, 8) == pytest.approx(50 + math.sqrt(2 * math.log(8) * 25))
    assert slowest(100, 1.0, 8) == 100
    assert slowest(2, 0.5, 10**6) == 2  # never more than all


def test_memory_limits_and_a_sparse_format_costs() -> None:
    """One layer of 100 weights, inputs and outputs each, two bytes a number, one byte a cycle, no work to speak of."""
    layer, on = Layer(1, 100, 100, 100), Accelerator(elements=1, bandwidth=1.0, value_bytes=2, index_bits=8, overhead=0)
    assert step_cycles(layer, 1.0, 1.0, on) == 3 * 600
    # Half the weights in 3 bytes each are 150. Forward 150 + 200 + 200 and 150 of kept input; 150 + 400; 150 + 400.
    assert step_cycles(layer, 0.5, 0.5, on) == 700 + 550 + 550
    # Of the first layer there is no gradient to pass on.
    assert step_cycles(layer, 1.0, 1.0, on, first=True) == 2 * 600


def test_each_assumption_moves_the_speedup_as_it_should() -> None:
    found = sensitivity(LAYERS, 0.2, 0.2, Accelerator())
    assert set(found) == set(Accelerator.model_fields)
    assert found["tile"][0] < found["tile"][1]  # larger pieces even out
    assert found["overhead"][0] > found["overhead"][1]
    assert found["elements"][0] > found["elements"][1]
    with pytest.raises(ValueError, match="densities must be above 0"):
        step_cycles(LAYERS[0], 0.0, 1.0, IDEAL)
