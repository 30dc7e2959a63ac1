"""The batch study: published numbers follow from published schedules, probes find what is planted, all is drawn."""

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

PROBES = offered(package_root() / "studies" / "batch", "probe")
# Points of accuracy against the small batch, which reaches 80.
APART = {
    "decay-x0.5": -4.0,
    "decay-x2": 2.0,
    "grow": 0.25,
    "grow-momentum": -1.0,
    "large": -8.0,
    "large-sqrt": -4.0,
    "large-ghost": -2.0,
    "large-longer": 0.0,
}


def run_of(arm: Arm, name: str, seed: int) -> tuple[dict[str, Any], float, pd.DataFrame]:
    """Accuracy rises on a straight line; three thousand examples take a second."""
    examples = round(36_122 * arm.horizon.amount)
    updates = examples // {"grow": 88, "large": 1024}.get(name.partition("-")[0], 32)
    final = 80 + APART.get(name, 0.0) + 0.1 * seed * (1 if name == "decay" else 1.1)
    at = np.arange(1, 7)
    curve = pd.DataFrame({"step": updates * at // 6, "examples": examples * at // 6, "value": final * at / 6})
    if name == "grow":  # before the end it lies half a point above decay
        curve.loc[:4, "value"] = (80 + 0.1 * seed) * at[:5] / 6 + 0.5
    costs = {"seconds": examples / 3000, "cpu_seconds": examples / 3000, "flops": 1.0 * examples}
    return {**costs, "updates": updates, "examples": examples}, final, curve.assign(flops=1.0, seconds=1.0 * at)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return made_up(tmp_path_factory.mktemp("batch"), "batch", run_of)


def probe(workspace: Workspace, name: str, **options: Any) -> pd.DataFrame:
    return PROBES[name](workspace, "mini", options)


def test_published_updates_and_noise_follow_from_the_schedules(made: Workspace) -> None:
    found = probe(made, "published-runs").set_index("run")
    assert found.loc["decay", "counted"] == pytest.approx(78_125)
    assert found.loc["growth", "counted"] == pytest.approx(28_875)
    # 60 epochs of 640, 60 of 3,200, 80 of 5,120; and 60 of 3,200, 140 of 5,120.
    assert found.loc["growth after a larger rate", "counted"] == pytest.approx(6_406.25)
    assert found.loc["growth after a larger rate and momentum", "counted"] == pytest.approx(2_304.6875)
    assert found["noise_over_decay"].tolist() == pytest.approx([1] * 4)
    assert found.loc["growth", "saved"] == pytest.approx(0.6304)


def test_bounds_are_a_tenth_of_the_examples(made: Workspace) -> None:
    """14,449 icons: 1,445, from batches of 32, 160 and 800."""
    config = made.study("batch")
    for arm, first in (("grow", 1), ("grow-smooth", 1), ("grow-initial", 5), ("grow-momentum", 25)):
        largest = config.arms[arm].leading["largest"]
        assert largest * first * 32 == pytest.approx(1445, rel=0.01)


def test_the_gap_and_the_share_that_a_remedy_closes(made: Workspace) -> None:
    found = probe(made, "gap").set_index(["remedy", "seed"])
    assert found.loc[("large-sqrt", 0), "gap"] == pytest.approx(8)
    assert found.loc[("large-sqrt", 0), "closed"] == pytest.approx(0.5)
    assert found.loc[("large-ghost", 0), "closed"] == pytest.approx(0.75)
    assert set(found.loc["large-longer"].index) == {0, 1, 2}


def test_curves_are_held_against_each_other_at_as_many_examples(made: Workspace) -> None:
    found = probe(made, "overlap").set_index("seed")
    assert len(found) == 10
    assert found["difference"].tolist() == pytest.approx([0.5] * 10)
    assert found.loc[0, "largest"] == pytest.approx(0.5)


def write_probes(workspace: Workspace) -> None:
    """Tables of the probes that train or serve, made up."""
    steps = [1, 3, 8, 22, 61, 172, 483, 1354]
    along = pd.DataFrame({"seed": 0, "step": steps, "distance": np.log(steps) + 1, "growths_batch": [32] * 6 + [160, 1440]})
    along = along.assign(rate=[1.0] * 6 + [0.2, 0.008], noise_scale=np.array(steps) * 2.0)
    along = along.assign(noise_scale_low=along["noise_scale"] / 2, noise_scale_high=[*along["noise_scale"][:-1] * 2, np.inf])
    sizes = [16, 64, 256, 1024]
    fit = {"critical": 100.0, "critical_low": 50.0, "critical_high": 200.0, "least_steps": 40.0, "r_squared": 1.0}
    hyperbola = pd.DataFrame({"batch": sizes, "steps": [40 * (1 + 100 / size) for size in sizes], "seed": 0})
    hyperbola = hyperbola.assign(examples=hyperbola["batch"] * hyperbola["steps"], last=[False] * 3 + [True], **fit)
    serving = pd.DataFrame([(load, most, wait) for load in (0.4, 0.8) for most in (1, 16) for wait in (0, 5)])
    serving = serving.set_axis(["load", "largest", "wait_ms"], axis=1).assign(latency_ms=3.0, cpu_ms=1.0)
    tables = {"along": along, "hyperbola": hyperbola, "serving": serving, "gap": probe(workspace, "gap")}
    tables["published-runs"] = probe(workspace, "published-runs")
    folder = workspace.results("mini", "batch") / "probes"
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")


def test_everything_is_drawn_and_tabled(made: Workspace) -> None:
    write_probes(made)
    folder = draw_figures(made, "batch", "mini")
    config = made.study("batch")
    assert {path.stem for path in folder.glob("*.png")} == set(config.figures)
    arms = pd.read_csv(folder.parent / "tables" / "arms.csv").set_index("arm")
    assert len(arms) == len(config.arm_ids("mini"))
    # At the same accuracy as decay-x1 plus a quarter of the two points to decay-x2, in 2^(1/8) times its examples.
    assert arms.loc["grow", "speedup_examples"] == pytest.approx(2**0.125, rel=0.02)
