"""The cascade study: the rule by hand, planted models whose cascade is known in closed form, and all that is drawn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_up_runs import made_up
from torch import Tensor

from scrimp.claims.loading import load_claims
from scrimp.config import Arm, Workspace
from scrimp.measure.code import package_root
from scrimp.studies.cascade.probes import Seed
from scrimp.studies.cascade.stages import KnownIcons, hashes
from scrimp.studies.outputs import draw_figures

COSTS = {"small": 1e5, "medium": 4e5, "large": 1e6}
COUNT = 500


class Planted:
    """A made-up model: a picture's first pixel says whether it is right, the second how sure it is."""

    def __init__(self, name: str, task: Any) -> None:
        self.task, self.name, self.kept = task, name, torch.arange(COUNT // 2)

    def __call__(self, pixels: Tensor) -> Tensor:
        """The small and the medium model are right on easy pictures alone, and sure there; the large is right on all."""
        label = pixels[:, 0, 0, 0].long()
        easy = pixels[:, 0, 0, 1] > 0
        right = easy | (self.name == "large")
        told = torch.where(right, label, 1 - label)
        sure = torch.where(easy, 0.95, 0.6)
        return (
            torch.zeros(len(pixels), 2)
            .scatter_(1, told[:, None], sure[:, None])
            .scatter_(1, 1 - told[:, None], 1 - sure[:, None])
        )


def task_of(name: str) -> Any:
    """Three splits of pictures that share no hash with each other; three of five are easy."""
    draws = torch.Generator().manual_seed(0)
    data = {}
    for split in ("train", "validation", "test"):
        pixels = torch.randint(0, 256, (COUNT, 16, 16, 3), generator=draws, dtype=torch.uint8)
        labels = torch.randint(0, 2, (COUNT,), generator=draws)
        pixels[:, 0, 0, 0] = labels.to(torch.uint8)
        pixels[:, 0, 0, 1] = (torch.arange(COUNT) % 5 < 3).to(torch.uint8)
        data[split] = (pixels, labels)
    return SimpleNamespace(
        examples=COUNT,
        classes=2,
        train_split="train",
        flops=SimpleNamespace(forward=COSTS[name]),
        size=lambda split: COUNT,
        batch=lambda split, rows: tuple(tensor[rows] for tensor in data[split]),
    )


def rows_of(seed: int = 0) -> pd.DataFrame:
    planted: Any = {name: Planted(name, task_of(name)) for name in COSTS}
    return pd.DataFrame([{"seed": seed, **row} for row in Seed(planted).rows(latency=2)])


def test_planted_models_give_the_cascade_of_closed_form() -> None:
    found = rows_of().set_index(["what", "name"])
    assert found.loc[("single", "small"), "accuracy"] == pytest.approx(60)
    assert found.loc[("single", "large"), "accuracy"] == 100
    two = found.loc[("equal", "two")]
    # The small model answers its three fifths; the rest pays for both.
    assert two["cost"] == pytest.approx(1e5 + 0.4 * 1e6)
    assert two["speedup"] == pytest.approx(2)
    assert two["gain"] == 0
    assert two["before_large"] == pytest.approx(0.6)
    assert two["worst"] == pytest.approx(1.1)
    # At random, .4 of the large model's cost above the small one's would buy .4 of its accuracy.
    assert two["over_random"] == pytest.approx(100 - (0.6 * 60 + 0.4 * 100))
    oracle = found.loc[("oracle", "oracle")]
    assert oracle["accuracy"] == 100
    assert oracle["cost"] == pytest.approx(0.6 * 1e5 + 0.4 * 1e6)
    three = found.loc[("equal", "three")]
    # The medium model knows no more than the small one; whoever answers, it is asked in vain.
    assert three["cost"] == pytest.approx(1e5 + 0.4 * 4e5 + 0.4 * 1e6)
    # A single model of two models' cost, on the line over log cost from medium (60) to large (100).
    between = 60 + 40 * np.log(5e5 / 4e5) / np.log(1e6 / 4e5)
    assert two["over_front"] == pytest.approx(100 - between)


def test_the_rule_knows_what_it_has_seen() -> None:
    dark, light = torch.zeros(16, 16, 3, dtype=torch.uint8), torch.full((16, 16, 3), 9, dtype=torch.uint8)
    half = dark.clone()
    half[:, 8:] = 255
    other = half.flip(1)
    assert hashes(torch.stack([dark])) == hashes(torch.stack([light]))  # no place is lighter than the mean
    rule = KnownIcons(torch.stack([half, half, half, other]), torch.tensor([0, 0, 1, 2]), 3)
    found = rule(torch.stack([half, other, dark]))
    assert found.tolist() == [[2 / 4, 1 / 4, 0], [0, 0, 1 / 2], [0, 0, 0]]


def run_of(arm: Arm, name: str, seed: int) -> tuple[dict[str, Any], float, pd.DataFrame]:
    examples = round(156_060 * arm.horizon.amount)
    final = 70 + 5 * float(np.log2(arm.horizon.amount)) + 0.1 * seed
    costs = {"seconds": examples / 3000, "cpu_seconds": examples / 3000, "flops": 1.0 * examples}
    curve = pd.DataFrame({"step": [1], "examples": [examples], "value": [final], "flops": [1.0], "seconds": [1.0]})
    return {**costs, "updates": examples // 128, "examples": examples}, final, curve


def test_everything_is_drawn_and_tabled(tmp_path: Any) -> None:
    made: Workspace = made_up(tmp_path, "cascade", run_of)
    folder = made.results("mini", "cascade") / "probes"
    folder.mkdir(parents=True)
    pd.concat([rows_of(seed) for seed in range(3)]).to_parquet(folder / "answers.parquet")
    drawn = draw_figures(made, "cascade", "mini")
    assert {path.stem for path in drawn.glob("*.png")} == set(made.study("cascade").figures)


def test_claims_read_columns_that_there_are(tmp_path: Any) -> None:
    found = rows_of()
    workspace = Workspace(package_root().parents[1])
    for claim in load_claims(workspace, "cascade"):
        rule: Any = claim.rule
        if rule is None:
            continue
        rows = found
        for column, wanted in rule.where.items():
            rows = rows[rows[column] == wanted]
        assert len(rows) == 1, claim.id
        assert np.isfinite(rows[rule.column].item()), claim.id


def test_claims_have_the_numbers_of_the_published_table() -> None:
    workspace = Workspace(package_root().parents[1])
    known = pd.read_csv(workspace.study_folder("cascade") / "published" / "savings.csv").set_index("claim")
    claims = {claim.id: claim for claim in load_claims(workspace, "cascade")}
    for claim, row in known.iterrows():
        of = claims[str(claim)]
        # Of a range a claim asks for the lesser end; of "up to" there is the greater alone.
        least = row["most"] if np.isnan(row["least"]) else row["least"]
        assert (of.published, of.published_unit) == (least, row["unit"]), claim
    assert {claim.id for claim in claims.values() if claim.published_unit in ("times", "share") and claim.published} - {
        "worst-case"
    } == set(known.index)
