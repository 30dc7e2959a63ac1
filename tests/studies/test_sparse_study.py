"""The sparse study: the modelled accelerator on ResNet-50, memory kept for a backward pass, and all that is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up_runs import made_up

from scrimp.config import Arm, Workspace
from scrimp.measure.code import package_root
from scrimp.studies.loading import offered
from scrimp.studies.outputs import draw_figures

PROBES = offered(package_root() / "studies" / "sparse", "probe")


def run_of(arm: Arm, name: str, seed: int) -> tuple[dict[str, Any], float, pd.DataFrame]:
    """Ten points a doubling of what is trained on; sparse methods need a fifth of the FLOPs and lose four points."""
    sparse = not name.startswith("dense")
    examples = round(28_898 * arm.horizon.amount)
    final = 70 + 10 * float(np.log2(arm.horizon.amount)) - 4 * sparse + 0.1 * seed
    costs = {"seconds": examples / 3000, "cpu_seconds": examples / 3000, "flops": examples / (5.0 if sparse else 1.0)}
    curve = pd.DataFrame({"step": [1, 2], "examples": [examples // 2, examples], "value": [final / 2, final]})
    curve = curve.assign(flops=[costs["flops"] / 2, costs["flops"]], seconds=[1.0, 2.0])
    return {**costs, "updates": examples // 128, "examples": examples}, final, curve


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return made_up(tmp_path_factory.mktemp("sparse"), "sparse", run_of)


def test_resnet_50_on_the_modelled_accelerator(made: Workspace) -> None:
    found = PROBES["accelerator"](made, "mini", {"batch": 32})
    whole = found.set_index(["assumption", "factor"])
    # All layers but the first need a fifth; the first, 2 of 3 x 118 of 4,089 million multiply-adds, all.
    first, rest = 2 * 118.0, 3 * (4089.2 - 118.0)
    assert whole.loc[("none", 1.0), "flops_saved"] == pytest.approx(0.8 * rest / (first + rest), rel=0.002)
    assert 1 < whole.loc[("none", 1.0), "speedup"] < 5
    assert len(found) == 1 + 2 * 7


def test_everything_is_drawn_and_tabled(made: Workspace) -> None:
    folder = made.results("mini", "sparse") / "probes"
    folder.mkdir(parents=True)
    PROBES["accelerator"](made, "mini", {"batch": 32}).to_parquet(folder / "accelerator.parquet")
    memory = pd.DataFrame({"arm": ["dense", "swat-uniform-80"], "weights": [100, 30], "inputs": [500, 300]})
    memory.to_parquet(folder / "memory.parquet")
    drawn = draw_figures(made, "sparse", "mini")
    config = made.study("sparse")
    assert {path.stem for path in drawn.glob("*.png")} == set(config.figures)
    arms = pd.read_csv(drawn.parent / "tables" / "arms.csv").set_index("arm")
    # Four points are what 2^-0.4 of the dense cost loses, and a fifth of it is spent.
    assert arms.loc["swat-uniform-80", "speedup_flops"] == pytest.approx(5 * 2**-0.4, rel=0.02)
