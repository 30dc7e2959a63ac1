"""Reads what the report shows: verdicts, runs, figures, tables, links. Only the verdicts must be there."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from scrimp.claims.judge import ClaimResult, read_claims, verdicts_in
from scrimp.claims.loading import load_claims
from scrimp.claims.pilot import RESTORE, read_published, rows_of
from scrimp.config import StudyConfig, Workspace
from scrimp.errors import ScrimpError
from scrimp.files import read_json
from scrimp.records import Summary, read_provenance, read_rows, read_summary, run_folders
from scrimp.ui_port import ui_port

PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class Run:
    """One finished run: its summary, its provenance (empty if it left none) and where MLflow shows it."""

    summary: Summary
    provenance: Mapping[str, Any]
    link: str | None


@dataclass(frozen=True)
class StudyInputs:
    """All that the page says about one study at one scale."""

    config: StudyConfig
    claims: list[ClaimResult]
    runs: list[Run]
    figures: dict[str, str | None]  # name -> data URI; null: not drawn yet
    tables: dict[str, pd.DataFrame | None]  # name -> rows; null: not written yet
    headlines: Mapping[str, str]  # claim -> what it is called at the head of the page


def read_study(workspace: Workspace, scale: str, study: str) -> StudyInputs:
    """Everything about `study` at `scale`; missing verdicts are an error that names the file and the stage."""
    config = workspace.study(study)
    config.scale(scale)  # an unknown scale is named here, with the known ones
    folder = workspace.results(scale, study)
    runs = _read_runs(workspace, scale, config)
    remedy = f"make it again with `scrimp figures {study} --scale {scale}`"
    return _inputs(workspace, config, folder, _read_claims(workspace, study, scale), runs, remedy)


def read_reference(workspace: Workspace, folder: Path) -> tuple[StudyInputs, str]:
    """The same of a study that `scrimp publish` left in a folder called after it, and its scale; of runs it has rows."""
    config = workspace.study(folder.name)
    provenance = read_published(folder)
    scale = str(provenance["scale"])
    claims = verdicts_in(folder / "claims.json", lambda: load_claims(workspace, config.study), RESTORE)
    # Published provenance lists the different values of all runs, of which the page shows one record.
    told = {key: _one(values) for key, values in provenance.items() if isinstance(values, list) and values}
    runs = [Run(summary, told, None) for summary in rows_of(folder, config.study, scale)]
    return _inputs(workspace, config, folder, claims, runs, RESTORE), scale


def _one(values: list[Any]) -> Any:
    """Several values as one: those of nested records are joined by their names."""
    if all(isinstance(value, dict) for value in values):
        names = {name: None for value in values for name in value}
        return {name: _one(list(dict.fromkeys(value[name] for value in values if name in value))) for name in names}
    return values[0] if len(values) == 1 else ", ".join(map(str, values))


def _inputs(
    workspace: Workspace, config: StudyConfig, folder: Path, claims: list[ClaimResult], runs: list[Run], remedy: str
) -> StudyInputs:
    headlines = {claim.id: claim.headline for claim in load_claims(workspace, config.study) if claim.headline is not None}
    return StudyInputs(
        config=config,
        claims=claims,
        runs=runs,
        figures={name: _figure(folder / "figures", name, remedy) for name in config.figures},
        tables={name: _table(folder / "tables" / f"{name}.csv", remedy) for name in config.tables},
        headlines=headlines,
    )


def _read_claims(workspace: Workspace, study: str, scale: str) -> list[ClaimResult]:
    path = workspace.results(scale, study) / "claims.json"
    if not path.exists():
        raise ScrimpError(f"{path} does not exist; write it with `scrimp claims {study} --scale {scale}`")
    return read_claims(workspace, study, scale)


def _read_runs(workspace: Workspace, scale: str, config: StudyConfig) -> list[Run]:
    """Finished runs of the arms that the scale still has, in the order of the study's file."""
    tracked = workspace.results(scale) / "tracked.json"
    links, port = read_json(tracked) if tracked.exists() else {}, ui_port(workspace)
    if not isinstance(links, dict):
        raise ScrimpError(f"{tracked} is not what `scrimp track` writes; delete it and give that command again")
    order = {arm: place for place, arm in enumerate(config.arm_ids(scale))}
    runs = []
    for folder in run_folders(workspace, scale, config.study):
        summary = read_summary(folder)
        if summary.arm in order:
            runs.append(Run(summary, read_provenance(folder), _link(links.get(summary.key), port)))
    return sorted(runs, key=lambda run: (order[run.summary.arm], run.summary.seed))


def _link(entry: Mapping[str, str] | None, port: int) -> str | None:
    if entry is None:
        return None
    return f"http://127.0.0.1:{port}/#/experiments/{entry['experiment_id']}/runs/{entry['run_id']}"


def _figure(folder: Path, name: str, remedy: str) -> str | None:
    """A figure as a data URI. As an <img> it can neither run scripts nor clash with another figure's ids.

    Raises ScrimpError for one that is cut off: a browser would show a broken picture, or none.
    """
    for suffix, media, end in (("svg", "image/svg+xml", b"</svg>"), ("png", "image/png", PNG_END)):
        path = folder / f"{name}.{suffix}"
        if path.exists():
            content = path.read_bytes()
            if not content.rstrip(b"\r\n").endswith(end):
                raise ScrimpError(f"{path} is cut off; {remedy}")
            return f"data:{media};base64,{base64.b64encode(content).decode('ascii')}"
    return None


def _table(path: Path, remedy: str) -> pd.DataFrame | None:
    return read_rows(path, remedy) if path.exists() else None
