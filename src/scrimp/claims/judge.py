"""Every claim of a study, judged from its run files alone, and written as tables."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict

from scrimp.claims.evidence import Evidence, Number, Observation
from scrimp.claims.loading import check_claims, load_claims
from scrimp.claims.verdicts import VerdictName, check_claim, rule_text
from scrimp.config import Claim, Closed, Rule, StudyConfig, Workspace, parse_model, unknown
from scrimp.config.claims import Direction, Origin
from scrimp.errors import ScrimpError
from scrimp.files import read_json, write_json, write_text
from scrimp.records import Summary, current_summaries
from scrimp.runs import NotRunError, Runs, by_arm_and_seed

CSV_COLUMNS = [
    "claim", "study", "source", "statement", "metric", "published", "published_unit", "origin", "direction",
    "measured", "low", "high", "n", "verdict", "scale", "reason", "deviations",
]  # fmt: skip


class ClaimResult(Closed):
    """One claim at one scale: what was published, what was measured, and what that says.

    `measured`, `low` and `high` are null where there is none (not run; one seed has no interval). Where `censored` is
    set, some points are bounds and `measured`, their mean, is one too: at least (above), at most (below).
    `commands` made the inputs, or would make those that are missing.
    """

    model_config = ConfigDict(allow_inf_nan=True)

    claim: str
    number: str
    study: str
    source: str
    statement: str
    metric: str
    published: Number | None
    published_unit: str
    origin: Origin = "report"
    direction: Direction
    measured: Number | None
    low: Number | None
    high: Number | None
    n: int
    censored: Literal["above", "below", "both"] | None
    verdict: VerdictName
    scale: str
    reason: str
    deviations: str
    workload: str | None
    rule: dict[str, Any] | None
    rule_text: str
    points: list[Observation]
    arms: list[str]
    figure: str | None
    commands: list[str]


# ------------------------------------------------------------------------------------------------------------- judging
def judge(workspace: Workspace, study: StudyConfig, scale: str, claims: list[Claim]) -> list[ClaimResult]:
    """Judge the claims of a study at a scale, in their order.

    Reads `results/SCALE/STUDY/runs` and `probes`; runs of arms that the scale does not name, or that were trained by
    another configuration, are left aside.
    Raises ScrimpError for an unknown scale or workload and for a claim whose numbers contradict each other.
    """
    check_claims(study, claims)
    runs = by_arm_and_seed(current_summaries(workspace, study, scale, diverged=True))
    return [judge_claim(claim, workspace, study, scale, runs) for claim in claims]


def judge_claim(
    claim: Claim, workspace: Workspace, study: StudyConfig, scale: str, runs: dict[str, dict[int, Summary]]
) -> ClaimResult:
    """Judge one claim from runs by arm id and seed; `workspace` is read for curves and probes only."""
    where = study.file("claims.yaml")
    check_claim(claim, where)
    workloads = study.scale(scale).workloads
    workload = claim.at.get(scale, study.scale(scale).main)
    if workload is not None and workload not in workloads:
        raise ScrimpError(unknown("workload", workload, workloads, f"{where}, claims.{claim.id}.at.{scale}"))
    try:
        if claim.rule is None:
            raise NotRunError(str(claim.not_run))  # one of the two is always given
        if workload is None:
            raise NotRunError(f"left out at scale {scale}")
        evidence = claim.rule.measure(claim, Runs(workspace, study, scale, workload, runs))
        outcome = _judged(claim, claim.rule, evidence)
    except NotRunError as missing:
        outcome = _not_run(missing)
    return ClaimResult(
        claim=claim.id,
        number=claim.number,
        study=study.study,
        source=claim.source,
        statement=claim.statement,
        metric=claim.metric,
        published=claim.published,
        published_unit=claim.published_unit,
        origin=claim.origin,
        direction=claim.direction,
        scale=scale,
        deviations=claim.deviations.get(scale, ""),
        workload=workload,
        rule=None if claim.rule is None else claim.rule.model_dump(mode="json"),
        rule_text=rule_text(claim),
        figure=claim.figure,
        **outcome,
    )


def _judged(claim: Claim, rule: Rule, evidence: Evidence) -> dict[str, Any]:
    """The fields of a claim that was measured."""
    interval = evidence.interval
    name, reason = rule.decide(interval, claim)
    sides = sorted({point.censored for point in evidence.points if point.censored is not None})
    return {
        "measured": None if math.isnan(interval.mean) else interval.mean,
        "low": None if math.isnan(interval.low) else interval.low,
        "high": None if math.isnan(interval.high) else interval.high,
        "n": interval.n,
        "censored": "both" if len(sides) == 2 else next(iter(sides), None),
        "verdict": name,
        "reason": "; ".join([reason, *evidence.notes]),
        "points": evidence.points,
        "arms": evidence.arms,
        "commands": evidence.commands,
    }


def _not_run(missing: NotRunError) -> dict[str, Any]:
    """The same fields of a claim that could not be measured."""
    nothing: dict[str, Any] = {"measured": None, "low": None, "high": None, "n": 0, "censored": None}
    return {
        **nothing,
        "verdict": "not run",
        "reason": missing.reason,
        "points": [],
        "arms": [],
        "commands": missing.commands,
    }


# -------------------------------------------------------------------------------------------------------------- tables
def write_claims(workspace: Workspace, study: str, scale: str, results: list[ClaimResult]) -> None:
    """Write `claims.json` (every field; infinities as the strings "inf" and "-inf") and `claims.csv` of a study."""
    write_verdicts(workspace.results(scale, study), results)


def write_verdicts(folder: Path, results: list[ClaimResult]) -> None:
    """The same, in a folder."""
    write_json(folder / "claims.json", [result.model_dump(mode="json") for result in results])
    _write_csv(folder / "claims.csv", results)


def read_claims(workspace: Workspace, study: str, scale: str) -> list[ClaimResult]:
    """What `write_claims` wrote, infinities restored; raises ScrimpError if it was not, or not by this version."""
    path = workspace.results(scale, study) / "claims.json"
    remedy = f"write it again with `scrimp claims {study} --scale {scale}`"
    return verdicts_in(path, lambda: load_claims(workspace, study), remedy)


def verdicts_in(path: Path, claims: Callable[[], list[Claim]], remedy: str) -> list[ClaimResult]:
    """The verdicts of a `claims.json`; ScrimpError, which ends in `remedy`, where there are none, but `claims`.

    The study's claims are loaded only where its file is empty: results may outlive a study.
    """
    entries = read_json(path)
    if not isinstance(entries, list) or (not entries and claims()):
        raise ScrimpError(f"{path} holds no verdicts; {remedy}")
    return [parse_model(entry, ClaimResult, str(path)) for entry in entries]


def collect_claims(workspace: Workspace, scale: str, studies: list[str]) -> list[ClaimResult]:
    """Write `results/SCALE/claims.csv` from the claims of the studies named, in that order, and return them."""
    results = [result for study in studies for result in read_claims(workspace, study, scale)]
    _write_csv(workspace.results(scale) / "claims.csv", results)
    return results


def _write_csv(path: Path, results: list[ClaimResult]) -> None:
    """One row per claim with CSV_COLUMNS; empty where there is no number, infinities as inf and -inf."""
    table = io.StringIO()
    writer = csv.DictWriter(table, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(result.model_dump() for result in results)
    write_text(path, table.getvalue())
