"""The combined study: planted speedups of parts and of combinations, the factor between them, and bounds that give none."""

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

PROBES = offered(package_root() / "studies" / "combined", "probe")
# Speedups in FLOPs: of the parts, of pairs as their product, and of one pair and of all three as less than it.
PLANTED = {
    "prune": 1.25, "grow": 1.5, "sparse": 1.6, "prune-grow": 1.25 * 1.5, "prune-sparse": 1.25 * 1.6 * 0.5,
    "grow-sparse": 1.5 * 1.6, "all": 1.5, "prune-half": 1.25, "grow-half": 1.5, "sparse-half": 1.6,
}  # fmt: skip
COST, POINTS = 1e9, 10.0  # FLOPs of an epoch; accuracy a doubling


def run_of(arm: Arm, name: str, seed: int) -> tuple[dict[str, Any], float, pd.DataFrame]:
    """Ten points a doubling of FLOPs; a method reaches what plain training does with its speedup times the FLOPs."""
    flops = COST * arm.horizon.amount
    final = 60 + POINTS * float(np.log2(arm.horizon.amount * PLANTED.get(name, 1.0))) + 0.2 * seed
    costs = {"flops": flops, "cpu_seconds": flops / 1e8, "seconds": flops / 1e8, "examples": 100, "updates": 10}
    curve = pd.DataFrame({"step": [10], "examples": [100], "value": [final], "flops": [flops], "seconds": [1.0]})
    return costs, final, curve


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return made_up(tmp_path_factory.mktemp("combined"), "combined", run_of)


def test_factors_are_those_that_were_planted(made: Workspace) -> None:
    rows = PROBES["products"](made, "mini", {}).set_index(["combination", "axis"])
    assert set(rows["metric"]) == {"test_accuracy"}  # no loss was made up
    for axis in ("flops", "cpu_seconds"):
        # Interpolated between the sweep's points in log cost, on which the accuracy is straight.
        assert rows.loc[("prune-grow", axis), "factor"] == pytest.approx(1.0)
        assert rows.loc[("prune-sparse", axis), "factor"] == pytest.approx(0.5)
        assert rows.loc[("grow-half", axis), "factor"] == pytest.approx(1.0)
        assert rows.loc[("prune-grow", axis), "product"] == pytest.approx(1.25 * 1.5)
    # All three together reach 1.5 where the product of their parts is 3.
    assert rows.loc[("all", "flops"), "factor"] == pytest.approx(0.5)


def test_a_speedup_off_the_sweep_gives_no_factor(made: Workspace) -> None:
    # The sweep ends at two epochs' worth: grow-sparse is planted at 2.4.
    row = PROBES["products"](made, "mini", {}).set_index(["combination", "axis"]).loc[("grow-sparse", "flops")]
    assert np.isnan(row["factor"])
    assert row["note"] == "the speedup of grow-sparse is a bound: off the ends of the sweep"


def test_everything_is_drawn_and_tabled(made: Workspace) -> None:
    folder = made.results("mini", "combined") / "probes"
    folder.mkdir(parents=True)
    PROBES["products"](made, "mini", {}).to_parquet(folder / "products.parquet")
    drawn = draw_figures(made, "combined", "mini")
    assert {path.stem for path in drawn.glob("*.png")} == set(made.study("combined").figures)
    assert len(pd.read_csv(drawn.parent / "tables" / "products.csv")) == 14
