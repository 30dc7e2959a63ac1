"""Judging published results again: today's rules give the published verdicts, and another number gives another one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from scrimp.claims.again import again_table, judge_again
from scrimp.claims.loading import load_claims
from scrimp.config import Workspace
from scrimp.errors import ScrimpError

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "results/reference/mini-cpu"
STUDIES = sorted(path.parent.name for path in PUBLISHED.glob("*/claims.json"))


@pytest.mark.parametrize("name", STUDIES)
def test_todays_rules_give_the_published_verdicts(name: str) -> None:
    workspace = Workspace(ROOT)
    results, before, _ = judge_again(workspace, workspace.study(name), load_claims(workspace, name), PUBLISHED / name)
    table = again_table(results, before)
    moved = table[table["verdict"] != table["published as"]]
    assert moved.empty, moved.to_string()


def test_a_row_that_says_otherwise_moves_its_verdict(tmp_path: Path) -> None:
    folder = tmp_path / "jest"
    shutil.copytree(PUBLISHED / "jest", folder)
    rows = pd.read_csv(folder / "runs.csv")
    rows.loc[rows["arm"] == "easy-reference-80", "flops"] *= 100
    rows.to_csv(folder / "runs.csv", index=False)
    workspace = Workspace(ROOT)
    results, before, stale = judge_again(workspace, workspace.study("jest"), load_claims(workspace, "jest"), folder)
    now, was = ({result.claim: result for result in side} for side in (results, before))
    assert was["easy-reference-flops"].verdict == "supported"
    assert now["easy-reference-flops"].verdict == "contradicted"
    assert now["jestpp-flops"].measured == pytest.approx(was["jestpp-flops"].measured)  # its arms are as they were
    assert stale == 0


def test_folders_that_hold_no_such_results_are_named(tmp_path: Path) -> None:
    workspace = Workspace(ROOT)
    study, claims = workspace.study("jest"), load_claims(workspace, "jest")
    with pytest.raises(ScrimpError, match="is called scaling, not jest"):
        judge_again(workspace, study, claims, PUBLISHED / "scaling")
    (tmp_path / "jest").mkdir()
    with pytest.raises(ScrimpError, match=r"has no runs\.csv"):
        judge_again(workspace, study, claims, tmp_path / "jest")
