"""The study of pruned pairs: planted differences are judged as they were planted, and all is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up_runs import made_up

from scrimp.claims.judge import judge
from scrimp.claims.loading import load_claims
from scrimp.config import Arm, Workspace
from scrimp.studies.outputs import draw_figures

STUDY = "prototypes-pairs"
PAIRS = 96_000
# Points above a random half.
PLANTED = {"full": 0.1, "farthest-20": -2.0, "farthest-50": 1.0, "nearest-50": -1.0, "semdedup-50": 0.2}


def run_of(arm: Arm, name: str, seed: int) -> tuple[dict[str, Any], float, pd.DataFrame]:
    """Two points a doubling of all pairs; an embedding costs as much as a quarter of the run."""
    amount = arm.horizon.amount
    final = 20 + PLANTED.get(name, 0.1 + 2 * float(np.log2(amount)) if name.startswith("full") else 0.0) + 0.02 * seed
    earlier = 0.25 * PAIRS if arm.leading["name"] in ("prototypes", "semdedup") else 0.0
    examples = round(PAIRS * amount)
    costs = {"seconds": examples / 3000, "cpu_seconds": examples / 3000, "flops": examples + earlier}
    curve = pd.DataFrame({"step": [750], "examples": [examples], "value": [final], "flops": [1.0], "seconds": [1.0]})
    return {**costs, "updates": 750, "examples": examples}, final, curve


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return made_up(tmp_path_factory.mktemp("pairs"), STUDY, run_of, metrics=("test_r5", "unseen_average"))


def test_planted_differences_are_judged_as_planted(made: Workspace) -> None:
    found = {result.claim: result for result in judge(made, made.study(STUDY), "mini", load_claims(made, STUDY))}
    assert found["semdedup"].measured == pytest.approx(0.1)
    assert found["semdedup"].verdict == "supported"
    assert found["farthest"].verdict == found["farthest-unseen"].verdict == "supported"
    assert found["hard-or-easy"].measured == pytest.approx(2.0)
    assert found["lossless-80"].measured == pytest.approx(-2.1)
    assert found["lossless-80"].verdict == "contradicted"
    assert found["semdedup-random"].verdict == "not supported"  # .2 is inside the band of no effect
    # A twentieth of a doubling above the full run, at 1.25 times its cost.
    assert found["speedup-semdedup"].measured == pytest.approx(2**0.05 / 1.25)


def test_everything_is_drawn_and_tabled(made: Workspace) -> None:
    drawn = draw_figures(made, STUDY, "mini")
    assert {path.stem for path in drawn.glob("*.png")} == set(made.study(STUDY).figures)
    assert set(pd.read_csv(drawn.parent / "tables" / "arms.csv")["arm"]) == set(made.study(STUDY).arms)
