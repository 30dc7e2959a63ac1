"""The study of cascades on texts: the rule by hand, FLOPs by hand, planted readers in closed form, and all that is drawn."""

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
from scrimp.models.language import build
from scrimp.models.language_heads import TextHead
from scrimp.studies.cascade_text.probes import SeedOfTexts
from scrimp.studies.cascade_text.stages import KeyTokens, Reader
from scrimp.studies.outputs import draw_figures

COSTS = {"small": 1e5, "medium": 4e5, "large": 1e6}
COUNT, VOCABULARY = 500, 20


def text(*tokens: int, room: int = 4) -> list[int]:
    """Tokens, filled up with token 0, and how many there are."""
    return [*tokens, *[0] * (room - len(tokens)), len(tokens)]


def test_the_most_telling_token_decides() -> None:
    training = torch.tensor([text(1, 2), text(1, 2), text(1, 3), text(3, 2), text(0, 4, 4)])
    rule = KeyTokens(training, np.array([0, 0, 0, 1, 1]), classes=2, vocabulary=VOCABULARY)
    found = rule(torch.tensor([text(1, 2, 3), text(3), text(4, 3), text(7)]))
    # Token 1: three texts, all of class 0. Token 3: one of each. Token 4 is in one text, however often. None knows token 7.
    assert found == pytest.approx(np.array([[3 / 4, 0], [1 / 3, 1 / 3], [0, 1 / 2], [0, 0]]))
    # The filling is token 0, which the last training text has: it is not read behind a text's end.
    assert rule(torch.tensor([text(1)])) == pytest.approx(np.array([[3 / 4, 0]]))
    assert rule.flops(torch.tensor([text(1, 2, 3), text(3)])) == 2


def test_flops_are_those_of_texts_read_alone() -> None:
    width, depth = 8, 2
    body = build(VOCABULARY, 8, 0, {"width": width, "depth": depth, "heads": 2, "causal": False})
    reader = Reader(SimpleNamespace(), TextHead(body, 2, pooling="mean", head_width=None, dropout=0).eval())  # type: ignore[arg-type]

    def by_hand(tokens: int) -> float:
        weights = depth * (4 * width**2 + 3 * width * body.inner)
        attention = depth * 2 * tokens * width  # products of every pair, and their sum
        return 2.0 * tokens * (weights + attention) + 2.0 * width * 2

    texts = torch.tensor([text(1, 2, 3), text(5)])
    assert reader.flops(texts) == pytest.approx((by_hand(3) + by_hand(1)) / 2)


class Planted:
    """A made-up reader: a text's first token says what is right, the second whether it is easy."""

    def __init__(self, name: str) -> None:
        self.task, self.name = task_of(), name

    def __call__(self, texts: Tensor) -> Tensor:
        """The small and the medium reader are right on easy texts alone, and sure there; the large is right on all."""
        label, easy = texts[:, 0], texts[:, 1] > 0
        told = torch.where(easy | (self.name == "large"), label, 1 - label)
        sure = torch.where(easy, 0.95, 0.6)[:, None]
        return torch.zeros(len(texts), 2).scatter_(1, told[:, None], sure).scatter_(1, 1 - told[:, None], 1 - sure)

    def flops(self, texts: Tensor) -> float:
        return COSTS[self.name]


def task_of(easy: int = 3) -> Any:
    """Texts of two tokens; of five, so many are easy."""
    labels = torch.arange(COUNT) % 2
    ids = torch.stack([labels, (torch.arange(COUNT) // 2 % 5 < easy).long()], dim=1)
    data = {split: (ids, torch.full((COUNT,), 2), labels.float()) for split in ("train", "validation", "test")}
    return SimpleNamespace(
        data=data, train_split="train", classes=["bad", "good"], text=SimpleNamespace(vocabulary=VOCABULARY)
    )


def rows_of(seed: int = 0) -> pd.DataFrame:
    """Of two labelled sets, one of which has another to be held on, where one text of five is easy."""
    planted: Any = {name: Planted(name) for name in COSTS}
    return pd.DataFrame(
        [
            {"seed": seed, "set": name, **row}
            for name, other in (("films", task_of(easy=1)), ("spam", None))
            for row in SeedOfTexts(planted, other).rows(latency=2)
        ]
    )


def test_planted_readers_give_the_cascade_of_closed_form() -> None:
    found = rows_of().set_index(["set", "what", "name"])
    assert found.loc[("films", "single", "small"), "accuracy"] == pytest.approx(60)
    two = found.loc[("spam", "equal", "two")]
    assert two["cost"] == pytest.approx(1e5 + 0.4 * 1e6)
    assert two["speedup"] == pytest.approx(2)
    assert two["gain"] == 0
    # Where a fifth is easy, the rest goes through all three.
    shift = found.loc[("films", "shift", "three")]
    assert shift["cost"] == pytest.approx(1e5 + 0.8 * (4e5 + 1e6))
    assert shift["gain"] == 0
    assert "shift" not in found.loc["spam"].index.get_level_values("what")


def run_of(arm: Arm, name: str, seed: int) -> tuple[dict[str, Any], float, pd.DataFrame]:
    examples = round(26_000 * arm.horizon.amount)
    final = 70 + 5 * float(np.log2(arm.horizon.amount)) + 0.1 * seed
    costs = {"seconds": examples / 3000, "cpu_seconds": examples / 3000, "flops": 1.0 * examples}
    curve = pd.DataFrame({"step": [1], "examples": [examples], "value": [final], "flops": [1.0], "seconds": [1.0]})
    return {**costs, "updates": examples // 32, "examples": examples}, final, curve


def test_everything_is_drawn_and_tabled(tmp_path: Any) -> None:
    made: Workspace = made_up(tmp_path, "cascade-text", run_of)
    folder = made.results("mini", "cascade-text") / "probes"
    folder.mkdir(parents=True)
    pd.concat([rows_of(seed) for seed in range(3)]).to_parquet(folder / "answers.parquet")
    drawn = draw_figures(made, "cascade-text", "mini")
    assert {path.stem for path in drawn.glob("*.png")} == set(made.study("cascade-text").figures)
    assert set(pd.read_csv(drawn.parent / "tables" / "answers.csv")["set"]) == {"films", "spam"}


def test_claims_read_columns_that_there_are() -> None:
    found = rows_of()
    for claim in load_claims(Workspace(package_root().parents[1]), "cascade-text"):
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
    known = pd.read_csv(workspace.study_folder("cascade-text") / "published" / "savings.csv").set_index("claim")
    claims = {claim.id: claim for claim in load_claims(workspace, "cascade-text")}
    for claim, row in known.iterrows():
        of = claims[str(claim)]
        # Of a range a claim asks for the lesser end; of "up to" there is the greater alone.
        least = row["most"] if np.isnan(row["least"]) else row["least"]
        assert (of.published, of.published_unit) == (least, row["unit"]), claim
    assert {claim.id for claim in claims.values() if claim.published_unit in ("times", "share") and claim.published} - {
        "worst-case"
    } == set(known.index)
