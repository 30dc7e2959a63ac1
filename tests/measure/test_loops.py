"""What a loop's time goes into: ops are of the kind that their names say, and shares are of one whole."""

from __future__ import annotations

import pytest

from scrimp.config import Workspace
from scrimp.measure import loops


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        ("aten::addmm", "products"),
        ("aten::mkldnn_convolution", "products"),
        ("aten::convolution_backward", "products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "products"),
        ("aten::native_batch_norm_backward", "norms"),
        ("aten::_foreach_addcmul_", "optimizer"),
        ("aten::index_select", "gathering, copies"),
        ("aten::threshold_backward", loops.REST),
    ],
)
def test_an_op_is_of_a_kind(op: str, kind: str) -> None:
    assert loops.kind_of(op) == kind


def test_a_loop_of_a_study(tiny: Workspace) -> None:
    told = loops.measure(tiny, "tiny", "random-50", steps=3, scale="smoke")
    assert 0 < told["share of the peak"] == told["GFLOP/s"] / told["peak, GFLOP/s"] < 1
    parts = {name: value for name, value in told.items() if name.endswith("of the ops' time")}
    assert len(parts) == len(loops.KINDS) + 1
    assert sum(parts.values()) == pytest.approx(1)
    assert parts["products, of the ops' time"] > 0.02
