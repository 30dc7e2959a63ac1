"""Tables of verdicts in docs, made from the committed reference results: nobody copies a number.

A table stands between two marks, which say what it is made from, and all else in a file is its author's:

    <!-- table: headlines mini-cpu -->        one row a headline claim of every study, for docs/headlines.md
    <!-- table: claims mini-cpu/jest -->      every claim of a study
    <!-- table: speedups mini-cpu -->         every method of all studies, ranked by what it saves at equal quality
    <!-- table: twice mini-cpu,another -->    the headline claims that two folders of results have, side by side
    <!-- end of table -->
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from scrimp.claims.loading import load_claims
from scrimp.claims.pilot import RESTORE
from scrimp.claims.verdicts import beside_published
from scrimp.config import Workspace
from scrimp.config.claims import Claim
from scrimp.errors import ScrimpError
from scrimp.files import read_json, replacing
from scrimp.report import speedups
from scrimp.report.tables import format_published, format_with_interval

MARKED = re.compile(r"<!-- table: (\S+) (\S+) -->\n.*?<!-- end of table -->", re.DOTALL)
END = "<!-- end of table -->"


def documents(workspace: Workspace) -> list[Path]:
    """The files that may hold tables: the README and everything in docs/."""
    return [workspace.root / "README.md", *sorted((workspace.root / "docs").glob("**/*.md"))]


def write_documents(workspace: Workspace, check: bool = False) -> list[Path]:
    """Make every marked table again; returns the files that changed, or with `check` would change.

    Raises ScrimpError for a mark of another kind, or for results that are not there.
    """
    changed = []
    for path in documents(workspace):
        before = path.read_text() if path.exists() else ""
        after = with_tables(workspace, before, str(path))
        if after == before:
            continue
        changed.append(path)
        if not check:
            with replacing(path) as temporary:
                temporary.write_text(after)
    return changed


def with_tables(workspace: Workspace, text: str, where: str) -> str:
    """A document with its tables as the results say now; messages name `where`."""

    def made(mark: re.Match[str]) -> str:
        kind, source = mark.groups()
        if kind == "headlines":
            table = headlines(workspace, source)
        elif kind == "claims":
            table = every_claim(workspace, source)
        elif kind == "speedups":
            rows = speedups.ranked(workspace, _reference(workspace, source), workspace.studies(None))
            table = _table(speedups.COLUMNS, rows)
        elif kind == "twice" and source.count(",") == 1:
            table = measured_twice(workspace, *source.split(","))
        else:
            known = "`headlines HARDWARE`, `claims HARDWARE/STUDY`, `speedups HARDWARE` or `twice HARDWARE,HARDWARE`"
            raise ScrimpError(f"{where}: a table is made of {known}, not of {kind!r}")
        return f"<!-- table: {kind} {source} -->\n{table}\n{END}"

    return MARKED.sub(made, text)


def headlines(workspace: Workspace, hardware: str) -> str:
    """A row a headline claim of all studies with results from that hardware, in the order of the built-in studies."""
    folder = _reference(workspace, hardware)
    rows = []
    for study in (name for name in workspace.studies(None) if (folder / name / "claims.json").exists()):
        results = _results(folder / study)
        rows += [
            [claim.headline, *_numbers(claim, results), _verdict(claim, results)]
            for claim in load_claims(workspace, study)
            if claim.headline is not None
        ]
    return _table(["claim", "published", "measured (95 % interval)", "verdict"], rows)


def measured_twice(workspace: Workspace, one: str, other: str) -> str:
    """A row a headline claim of the studies that both folders have: what each measured, with its verdict."""
    folders = [_reference(workspace, name) for name in (one, other)]
    both = [name for name in workspace.studies(None) if all((folder / name / "claims.json").exists() for folder in folders)]
    if not both:
        raise ScrimpError(f"{folders[0]} and {folders[1]} have no study in common; name two folders of results/reference")
    rows = []
    for study in both:
        found = [_results(folder / study) for folder in folders]
        for claim in load_claims(workspace, study):
            if claim.headline is not None:
                sides = [", ".join((_numbers(claim, results)[1], _verdict(claim, results))) for results in found]
                rows.append([claim.headline, _numbers(claim, found[0])[0], *sides])
    return _table(["claim", "published", f"`{one}`", f"`{other}`"], rows)


def every_claim(workspace: Workspace, source: str) -> str:
    """A row a claim of one study, in the order of its file; what was not run says why."""
    folder = _reference(workspace, source)
    results = _results(folder)
    rows = []
    for claim in load_claims(workspace, folder.name):
        statement = f"**{claim.statement}**" if claim.headline is not None else claim.statement
        n = results.get(claim.id, {}).get("n")
        cells = [f"`{claim.id}`", statement, claim.source, *_numbers(claim, results)]
        rows.append([*cells, "" if n is None else str(n), _verdict(claim, results)])
    return _table(["id", "claim", "source", "published", "measured (95 % interval)", "n", "verdict"], rows)


def _reference(workspace: Workspace, name: str) -> Path:
    folder = workspace.root / "results" / "reference" / name
    if not folder.is_dir():
        raise ScrimpError(f"{folder} does not exist; `scrimp publish` writes it")
    return folder


def _results(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / "claims.json"
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "claim" in entry for entry in entries):
        raise ScrimpError(f"{path} holds no verdicts; {RESTORE}")
    return {result["claim"]: result for result in entries}


def _numbers(claim: Claim, results: dict[str, dict[str, Any]]) -> list[str]:
    """What was published and what was measured, with its interval."""
    unit = _unit(claim.published_unit)
    published = "none given" if claim.published is None else format_published(claim.published, unit, claim.origin)
    result = results.get(claim.id)
    if result is None or result["measured"] is None:
        return [published, "not run"]
    measured, low, high = (_number(result, key) for key in ("measured", "low", "high"))
    unit = _unit(result["published_unit"])
    return [published, format_with_interval(measured, low, high, unit, result["censored"])]


def _unit(unit: str) -> str:
    """A share is a number without a unit."""
    return "" if unit == "share" else unit


def _verdict(claim: Claim, results: dict[str, dict[str, Any]]) -> str:
    if claim.not_run is not None:
        return f"not run: {claim.not_run}"
    if claim.id not in results:
        return "not run"
    result = results[claim.id]
    name, low, high = result["verdict"], _number(result, "low"), _number(result, "high")
    if low is None or high is None:
        return str(name)
    beside = beside_published(name, low, high, claim.published, claim.origin, claim.direction, claim.rule)
    return f"{name}; {beside}" if beside else str(name)


def _number(result: dict[str, Any], key: str) -> float | None:
    """A number of a verdict; infinities are written as words in the file."""
    return None if result[key] is None else float(result[key])


def _table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; what would end a cell is escaped, and blanks that do not break become plain."""
    lines = [columns, ["---"] * len(columns), *rows]
    clean = [[" ".join(cell.replace("\u00a0", " ").replace("|", "\\|").split()) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in clean)
