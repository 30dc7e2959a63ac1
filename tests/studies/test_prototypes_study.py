"""The prototypes study: planted power laws and a planted crossover are found, and all is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up_runs import made_up

from scrimp.claims.loading import load_claims
from scrimp.config import Arm, Workspace
from scrimp.measure.code import package_root
from scrimp.studies import standard
from scrimp.studies.loading import offered
from scrimp.studies.outputs import draw_figures

PROBES = offered(package_root() / "studies" / "prototypes", "probe")
EXAMPLES = 115_592


def run_of(arm: Arm, name: str, seed: int) -> tuple[dict[str, Any], float, pd.DataFrame]:
    """Random data has an error of 10 size^-1/4. The farthest half has 10 size^-1/2; what is nearest loses to it by two
    points with each doubling of the pool, from a gain of two points at an eighth."""
    method = arm.leading
    pool, ratio = method.get("pool", 1.0), method.get("ratio", 0.0)
    size = pool * (1 - ratio)
    far = 10 * size**-0.5
    error = {
        "random": 10 * size**-0.25,
        "farthest": far,
        "nearest": far - 2 + 2 * (np.log2(pool) + 3),
    }.get(name.partition("-")[0], 10.0)
    if name.startswith("full-x"):
        error = 10 - 2 * float(np.log2(arm.horizon.amount))
    if ratio == 0.75 and name.startswith("farthest"):
        error = 90.0  # never best
    examples = round(EXAMPLES * size * arm.horizon.amount)
    final = 100 - error - 0.01 * seed
    costs = {"seconds": examples / 3000, "cpu_seconds": examples / 3000, "flops": 1.0 * examples}
    curve = pd.DataFrame({"step": [1, 2], "examples": [examples // 2, examples], "value": [final / 2, final]})
    curve = curve.assign(flops=[costs["flops"] / 2, costs["flops"]], seconds=[1.0, 2.0])
    return {**costs, "updates": examples // 128, "examples": examples}, final, curve


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return made_up(tmp_path_factory.mktemp("prototypes"), "prototypes", run_of)


def test_planted_laws_are_found(made: Workspace) -> None:
    found = PROBES["sizes"](made, "mini", {})
    assert found["seed"].tolist() == list(range(8))
    first = found.iloc[0]
    # Random sizes 1, 1/2, ..., 1/16 lie on their law, as does .8.
    assert first["exponent_random"] == pytest.approx(0.25, abs=1e-6)
    assert first["exponent_half"] == pytest.approx(0.5, abs=1e-6)
    assert first["advantage_half"] == pytest.approx(0.25, abs=1e-6)
    assert first["growth"] == pytest.approx(2, abs=1e-6)
    # Of 10 s^-1/4 and 10 s^-1/2 the former is the less for every s below 1: pruning adds nothing to the envelope.
    assert first["exponent_envelope"] == pytest.approx(0.25, abs=0.03)


def test_everything_is_drawn_and_tabled(made: Workspace) -> None:
    folder = made.results("mini", "prototypes") / "probes"
    folder.mkdir(parents=True)
    PROBES["sizes"](made, "mini", {}).to_parquet(folder / "sizes.parquet")
    drawn = draw_figures(made, "prototypes", "mini")
    assert {path.stem for path in drawn.glob("*.png")} == set(made.study("prototypes").figures)
    assert len(pd.read_csv(drawn.parent / "tables" / "sizes.csv")) == 8


def test_claims_follow_from_the_published_table() -> None:
    workspace = Workspace(package_root().parents[1])
    known = pd.read_csv(workspace.study_folder("prototypes") / "published" / "kept.csv").set_index("claim")
    claims = {claim.id: claim for claim in load_claims(workspace, "prototypes")}
    for claim in ("speedup", "speedup-amortised"):
        assert claims[claim].published == pytest.approx(1 / known.loc[claim, "least"])
    config = workspace.study("prototypes")
    for arm, claim in (("farthest-50-few", "fewer-clusters"), ("farthest-50-many", "more-clusters")):
        # Of 100 classes at mini: within the published range.
        clusters = config.arms[arm].leading["clusters"]
        assert known.loc[claim, "least"] <= clusters / 100 <= known.loc[claim, "most"]
    assert config.arms["farthest-50"].leading["balance"] == known.loc["half-of-each-class", "least"]


def test_five_methods_are_told_apart_those_of_headlines_first_then_one_of_each_kind(made: Workspace) -> None:
    of = standard.compared(made, "prototypes", "mini")
    (legend,) = standard.quality_cost(made, "prototypes", "mini").legends
    _, others, *told = (text.get_text() for text in legend.get_texts())
    assert others == f"{len(of.methods) - 5} others"
    assert told == [of.label(arm) for arm in ("farthest-20", "farthest-20-long", "random-20", "semdedup-50", "el2n-50")]
