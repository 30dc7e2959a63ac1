"""What a plan takes in memory is measured from outside the processes that hold it."""

from __future__ import annotations

import sys

import pytest

from scrimp.measure.plan_bytes import bytes_per_example
from scrimp.methods.shared_plan import SMALLEST


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_two_processes_hold_of_one_plan() -> None:
    held, peak = bytes_per_example(2 * SMALLEST, 2)
    # Of their own each has 4 bytes of scores and .75 of marks; of the plan, 3/4 * (8 + 4) + 4 + 4 bytes, half. What was
    # freed and not yet given back to the system comes on top: at this size most temporary arrays.
    assert 4.75 + 17 / 2 <= held <= peak < 100
