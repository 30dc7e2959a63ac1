"""The report: one HTML file per scale that needs nothing beside it, neither network nor folder nor scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.files import write_text
from scrimp.report.inputs import StudyInputs, read_reference, read_study
from scrimp.report.tables import prose
from scrimp.report.views import ClaimView, StudyView, study_view, tally

_LEADING = 8  # claims at the head of a page on which none is marked as a headline


def write_report(workspace: Workspace, scale: str, studies: Sequence[str]) -> Path:
    """Write `results/SCALE/report/index.html` from the files of `studies`, and return its path.

    A study without its `claims.json` is said to be still to come; one of them must have it. Whatever else is missing is
    said on the page. Raises ScrimpError that names the file or key at fault.
    """
    if not studies:
        raise ScrimpError("no study to report on: name one, or list some under `studies` in config/config.yaml")
    ready = judged(workspace, scale, studies)
    inputs = [read_study(workspace, scale, study) for study in ready or studies[:1]]  # the first tells what is missing
    pending = [workspace.study(study).title for study in studies if study not in ready]
    path = workspace.results(scale) / "report" / "index.html"
    origin = f"scrimp report --scale {scale}", f"results/{scale}"
    write_text(path, render(_views(inputs, scale), scale, origin, pending))
    return path


def judged(workspace: Workspace, scale: str, studies: Sequence[str]) -> list[str]:
    """Those of some studies that have verdicts."""
    return [study for study in studies if (workspace.results(scale, study) / "claims.json").exists()]


def write_reference_report(workspace: Workspace, folder: Path) -> Path:
    """Write `results/report-NAME/index.html` from the reference results in a folder called NAME, and return its path.

    Raises ScrimpError where there are none, and where they are of more than one scale.
    """
    studies = [name for name in workspace.study_names() if (folder / name / "claims.json").exists()]
    if not studies:
        raise ScrimpError(f"{folder} holds no study's claims.json: name a folder that `scrimp publish` wrote")
    read = [read_reference(workspace, folder / study) for study in studies]
    scales = sorted({scale for _, scale in read})
    if len(scales) > 1:
        raise ScrimpError(f"{folder} holds results of the scales {', '.join(scales)}: a page has one")
    name = folder.resolve().name
    path = workspace.root / "results" / f"report-{name}" / "index.html"
    origin = f"scrimp report --from {folder.as_posix()}", folder.as_posix()
    write_text(path, render(_views([inputs for inputs, _ in read], scales[0]), scales[0], origin))
    return path


def _views(inputs: Sequence[StudyInputs], scale: str) -> list[StudyView]:
    views: list[StudyView] = []
    for one in inputs:
        views.append(study_view(one, scale, 1 + sum(len(view.figures) for view in views)))
    return views


def render(studies: Sequence[StudyView], scale: str, origin: tuple[str, str], pending: Sequence[str] = ()) -> str:
    """The whole page as text; equal inputs give equal bytes, so it carries no time of its own.

    `origin` is the command that makes it and the folder that it is made from, `pending` the titles of studies to come.
    """
    loader = PackageLoader("scrimp", "report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["prose"] = prose
    claims = [claim for study in studies for claim in study.claims]
    notes = {study.note for study in studies}
    return environment.get_template("page.html.jinja").render(
        scale=scale,
        note=notes.pop() if len(notes) == 1 else None,
        studies=studies,
        claims=claims,
        tally=tally(claim.result.verdict for claim in claims),
        lead=lead_sentence(claims),
        leading=leading(claims),
        pending=pending,
        command=origin[0],
        folder=origin[1],
        css=Markup(loader.get_source(environment, "page.css")[0]),
        js=Markup(loader.get_source(environment, "page.js")[0]),
    )


def leading(claims: Sequence[ClaimView]) -> list[ClaimView]:
    """What the page begins with: claims that are marked as headlines, else the first that were judged."""
    marked = [claim for claim in claims if claim.headline is not None]
    return marked or [claim for claim in claims if not claim.quiet][:_LEADING]


def lead_sentence(claims: Sequence[ClaimView]) -> str:
    """How many claims could be judged, and how they fell."""
    judged = [claim for claim in claims if not claim.quiet]
    noun = "claim" if len(claims) == 1 else "claims"
    if not judged:
        return f"None of the {len(claims)} {noun} could be judged at this scale."
    counts = [f"{count} {verdict}" for verdict, _, count in tally(claim.result.verdict for claim in judged)]
    listed = counts[0] if len(counts) == 1 else f"{', '.join(counts[:-1])} and {counts[-1]}"
    rest = len(claims) - len(judged)
    tail = f"; {rest} {'was' if rest == 1 else 'were'} not run" if rest else ""
    return f"{len(judged)} of {len(claims)} {noun} could be judged at this scale: {listed}{tail}."
