"""Reads what the report shows: verdicts, runs, figures, tables, links. Only the verdicts must be there."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from scrimp.claims.judge import ClaimResult, read_claims
from scrimp.claims.loading import load_claims
from scrimp.claims.pilot import rows_of
from scrimp.config import StudyConfig, Workspace, parse_model
from scrimp.errors import ScrimpError
from scrimp.files import read_json
from scrimp.records import Summary, run_folders
from scrimp.ui_port import ui_port


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
    return _inputs(workspace, config, folder, _read_claims(workspace, study, scale), runs)


def read_reference(workspace: Workspace, folder: Path) -> tuple[StudyInputs, str]:
    """The same of a study that `scrimp publish` left in a folder called after it, and its scale; of runs it has rows."""
    config = workspace.study(folder.name)
    provenance = read_json(folder / "provenance.json")
    path, scale = folder / "claims.json", str(provenance["scale"])
    claims = [parse_model(entry, ClaimResult, str(path)) for entry in read_json(path)]
    # Published provenance lists the different values of all runs, of which the page shows one record.
    told = {key: _one(values) for key, values in provenance.items() if isinstance(values, list) and values}
    runs = [Run(summary, told, None) for summary in rows_of(folder, config.study, scale)]
    return _inputs(workspace, config, folder, claims, runs), scale


def _one(values: list[Any]) -> Any:
    """Several values as one: those of nested records are joined by their names."""
    if all(isinstance(value, dict) for value in values):
        names = {name: None for value in values for name in value}
        return {name: _one(list(dict.fromkeys(value[name] for value in values if name in value))) for name in names}
    return values[0] if len(values) == 1 else ", ".join(map(str, values))


def _inputs(
    workspace: Workspace, config: StudyConfig, folder: Path, claims: list[ClaimResult], runs: list[Run]
) -> StudyInputs:
    headlines = {claim.id: claim.headline for claim in load_claims(workspace, config.study) if claim.headline is not None}
    return StudyInputs(
        config=config,
        claims=claims,
        runs=runs,
        figures={name: _figure(folder / "figures", name) for name in config.figures},
        tables={name: _table(folder / "tables" / f"{name}.csv") for name in config.tables},
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
    order = {arm: place for place, arm in enumerate(config.arm_ids(scale))}
    runs = []
    for folder in run_folders(workspace, scale, config.study):
        path = folder / "summary.json"
        summary = parse_model(read_json(path), Summary, str(path))
        if summary.arm in order:
            provenance = folder / "provenance.json"
            link = _link(links.get(summary.key), port)
            runs.append(Run(summary, read_json(provenance) if provenance.exists() else {}, link))
    return sorted(runs, key=lambda run: (order[run.summary.arm], run.summary.seed))


def _link(entry: Mapping[str, str] | None, port: int) -> str | None:
    if entry is None:
        return None
    return f"http://127.0.0.1:{port}/#/experiments/{entry['experiment_id']}/runs/{entry['run_id']}"


def _figure(folder: Path, name: str) -> str | None:
    """A figure as a data URI. As an <img> it can neither run scripts nor clash with another figure's ids."""
    for suffix, media in (("svg", "image/svg+xml"), ("png", "image/png")):
        path = folder / f"{name}.{suffix}"
        if path.exists():
            return f"data:{media};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
    return None


def _table(path: Path) -> pd.DataFrame | None:
    if not path.exists():
        return None
    try:
        return pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ScrimpError(f"{path} is not a table ({error}); delete it and run its stage again") from error
