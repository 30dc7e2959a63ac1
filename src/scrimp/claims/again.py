"""Claims judged again by today's rules, from results that `scrimp publish` left: rows of runs and tables of probes."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from scrimp.claims.judge import ClaimResult, judge_claim, verdicts_in, write_verdicts
from scrimp.claims.loading import check_claims
from scrimp.claims.pilot import RESTORE, ROWS, read_published, rows_of
from scrimp.config import Claim, StudyConfig, Workspace
from scrimp.errors import ScrimpError
from scrimp.files import digest_of
from scrimp.records import CURVES, Summary
from scrimp.runs import by_arm_and_seed


class Published(Workspace):
    """A workspace whose results of one study lie in `folder`, without run folders."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        super().__init__(workspace.root)
        self.folder = folder

    def results(self, scale: str, study: str | None = None) -> Path:
        return self.folder if study == self.folder.name else super().results(scale, study)


def judge_again(
    workspace: Workspace, study: StudyConfig, claims: list[Claim], folder: Path
) -> tuple[list[ClaimResult], list[ClaimResult], int]:
    """The claims of today judged from a study's published results, the verdicts published there, and a count of stale runs.

    Rows count whatever configuration they were trained by; stale are those whose arm the study has no longer or
    trains otherwise now. A claim that reads learning curves keeps what was published of it where they were not published.
    Raises ScrimpError where `folder` holds no such results, or those of another study.
    """
    if folder.resolve().name != study.study:
        raise ScrimpError(f"{folder} is called {folder.resolve().name}, not {study.study}: name the study's own folder")
    for name in (ROWS, "claims.json", "provenance.json"):
        if not (folder / name).exists():
            raise ScrimpError(f"{folder} has no {name}: name a folder that `scrimp publish` wrote")
    check_claims(study, claims)
    scale = str(read_published(folder)["scale"])
    before = verdicts_in(folder / "claims.json", lambda: claims, RESTORE)
    summaries = rows_of(folder, study.study, scale, diverged=True)
    view, runs = Published(workspace, folder.resolve()), by_arm_and_seed(summaries)
    known = {result.claim: result for result in before}
    results = [
        known[claim.id]
        if _wants_curves(claim, folder) and claim.id in known
        else judge_claim(claim, view, study, scale, runs)
        for claim in claims
    ]
    return results, before, _stale(study, scale, summaries)


def again_table(results: list[ClaimResult], before: list[ClaimResult]) -> pd.DataFrame:
    """A row a claim: what is measured and judged now, and the verdict that was published ("" for a claim since added)."""
    published = {result.claim: result.verdict for result in before}

    def told(value: float | None) -> str:
        return "" if value is None or math.isnan(value) else f"{value:.4g}"

    return pd.DataFrame(
        {
            "claim": result.claim,
            "measured": told(result.measured),
            "95 % interval": f"{told(result.low)} .. {told(result.high)}" if result.low is not None else "",
            "verdict": result.verdict,
            "published as": published.get(result.claim, ""),
        }
        for result in results
    )


def print_again(workspace: Workspace, study: StudyConfig, claims: list[Claim], folder: Path, write: bool = False) -> None:
    """Print the table of `again_table`, and what a reader has to know to trust it; `write` keeps today's verdicts."""
    results, before, stale = judge_again(workspace, study, claims, folder)
    print(again_table(results, before).to_string(index=False))
    published = {result.claim: result.verdict for result in before}
    moved = sum(published.get(result.claim, result.verdict) != result.verdict for result in results)
    print(f"{len(results)} claims, {moved} judged otherwise than published")
    if kept := [claim.id for claim in claims if _wants_curves(claim, folder)]:
        print(f"as published, since curves are not: {', '.join(kept)}")
    if write:
        write_verdicts(folder, results)
    if stale:
        print(f"{stale} runs were trained by another configuration than {study.where} has now")


def _wants_curves(claim: Claim, folder: Path) -> bool:
    """Whether a claim is judged from learning curves and the folder has none."""
    return getattr(claim.rule, "way", None) == "curves" and not (folder / CURVES).exists()


def _stale(study: StudyConfig, scale: str, summaries: list[Summary]) -> int:
    """How many runs were trained by another configuration than the study's file has now."""
    now = {arm: digest_of(study.run_spec(scale, arm)) for arm in study.arm_ids(scale)}
    return sum(now.get(summary.arm) != summary.config_digest for summary in summaries)
