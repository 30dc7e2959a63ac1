"""Judging published results again: today's rules give the published verdicts, and another number gives another one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from fake_study import make_claim, make_curve, make_study, make_summary

from scrimp.claims.again import again_table, judge_again, print_again
from scrimp.claims.judge import judge, write_claims
from scrimp.claims.loading import load_claims
from scrimp.config import StudyConfig, Workspace
from scrimp.errors import ScrimpError
from scrimp.records import CURVE_COLUMNS, write_run
from scrimp.report.publish import publish

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "results/reference/mini-cpu"
STUDIES = sorted(path.parent for path in PUBLISHED.parent.glob("*/*/claims.json"))


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_todays_rules_give_the_published_verdicts(folder: Path) -> None:
    workspace, name = Workspace(ROOT), folder.name
    results, before, _ = judge_again(workspace, workspace.study(name), load_claims(workspace, name), folder)
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


def test_todays_verdicts_replace_the_published_ones_only_when_told_to(tmp_path: Path) -> None:
    folder = tmp_path / "sparse"
    shutil.copytree(PUBLISHED / "sparse", folder)
    rows = pd.read_csv(folder / "runs.csv")
    rows.loc[rows["arm"] == "swat-uniform-80", "test_accuracy"] += 4
    rows.to_csv(folder / "runs.csv", index=False)
    workspace, before = Workspace(ROOT), (folder / "claims.json").read_bytes()
    study, claims = workspace.study("sparse"), load_claims(workspace, "sparse")
    print_again(workspace, study, claims, folder)
    assert (folder / "claims.json").read_bytes() == before
    print_again(workspace, study, claims, folder, write=True)
    written = {result.claim: result.verdict for result in judge_again(workspace, study, claims, folder)[1]}
    assert written["accuracy-lost"] != "contradicted"
    table = pd.read_csv(folder / "claims.csv").set_index("claim")["verdict"]
    assert table["accuracy-lost"] == written["accuracy-lost"]


def test_folders_that_hold_no_such_results_are_named(tmp_path: Path) -> None:
    workspace = Workspace(ROOT)
    study, claims = workspace.study("jest"), load_claims(workspace, "jest")
    with pytest.raises(ScrimpError, match="is called scaling, not jest"):
        judge_again(workspace, study, claims, PUBLISHED / "scaling")
    (tmp_path / "jest").mkdir()
    with pytest.raises(ScrimpError, match=r"has no runs\.csv"):
        judge_again(workspace, study, claims, tmp_path / "jest")


# ---------------------------------------------------------------------------------------------------- published with curves
BY_CURVES = {"kind": "ratio", "method": "method", "axis": "flops", "way": "curves", "baseline": "full"}


class Fakes(Workspace):
    """A workspace whose one study is made up."""

    def study(self, study: str) -> StudyConfig:
        return make_study()


def run(workspace: Workspace, arm: str, seed: int, reached_at: float, **changed: object) -> None:
    """A run that is at 70 points after half of its cost of 1, or whenever it is said to be."""
    summary = make_summary(arm, seed, 1.0, test_accuracy=75.0).model_copy(update=changed)
    curve = make_curve(arm, seed, [0.1, reached_at, 1.0], [10, 70, 75])
    provenance = {"written": "2026-01-01T00:00:00"}
    write_run(workspace.run_folder("mini", "fake", arm, seed), curve, summary, provenance)


@pytest.fixture
def with_curves(tmp_path: Path) -> tuple[Fakes, Path]:
    """A workspace of two seeds of every arm, judged and published, and where it was published."""
    workspace = Fakes(tmp_path)
    for arm in make_study().arm_ids("mini"):
        for seed in range(2):
            run(workspace, arm, seed, 0.25 + 0.01 * seed if arm == "method" else 0.9)
    run(workspace, "method", 7, 0.9, config={"arm": {}})  # trained by another configuration: not published
    write_claims(workspace, "fake", "mini", judge(workspace, make_study(), "mini", [make_claim(BY_CURVES, published=2.0)]))
    publish(workspace, "mini", ["fake"], "here")
    return workspace, tmp_path / "results/reference/here/fake"


def test_the_curves_of_the_runs_that_count_are_published(with_curves: tuple[Fakes, Path]) -> None:
    _, folder = with_curves
    curves, rows = pd.read_parquet(folder / "curves.parquet"), pd.read_csv(folder / "runs.csv")
    assert list(curves.columns) == CURVE_COLUMNS
    keys = set(curves[["arm", "seed"]].itertuples(index=False, name=None))
    assert keys == set(rows[["arm", "seed"]].itertuples(index=False, name=None))
    assert ("method", 7) not in keys
    mine = curves[(curves["arm"] == "method") & (curves["seed"] == 1)]
    assert mine["value"].tolist() == [10, 70, 75]


def test_a_claim_about_curves_is_judged_again_from_published_ones(
    with_curves: tuple[Fakes, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, folder = with_curves
    claims = [make_claim(BY_CURVES, published=2.0)]
    (result,), (before,), _ = judge_again(workspace, make_study(), claims, folder)
    assert result.model_dump() == before.model_dump()
    # 75 points, where both end, cost the same: the ratio is read at the target that `full` reaches at its end.
    curves = pd.read_parquet(folder / "curves.parquet")
    late = (curves["arm"] == "method") & (curves["step"] == 1000)
    curves.loc[late, ["flops", "value"]] = [500.0, 75.0]
    curves.to_parquet(folder / "curves.parquet")
    (result,), _, _ = judge_again(workspace, make_study(), claims, folder)
    assert result.measured == pytest.approx(2 * (before.measured or 0))
    print_again(workspace, make_study(), claims, folder)
    assert "since curves are not" not in capsys.readouterr().out


def test_without_curves_such_a_claim_stays_as_published(
    with_curves: tuple[Fakes, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, folder = with_curves
    (folder / "curves.parquet").unlink()
    claims = [make_claim(BY_CURVES, published=2.0)]
    (result,), (before,), _ = judge_again(workspace, make_study(), claims, folder)
    assert result == before
    print_again(workspace, make_study(), claims, folder)
    assert "as published, since curves are not: a-claim" in capsys.readouterr().out
