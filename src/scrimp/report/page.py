"""The report: one HTML file per scale that needs nothing beside it, neither network nor folder nor scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.files import write_text
from scrimp.report.inputs import read_study
from scrimp.report.tables import prose
from scrimp.report.views import ClaimView, StudyView, study_view, tally

_SHOWN_PER_FINDING = 3
_FINDINGS = (
    ("Held up", ("supported",)),
    ("Held in part", ("partly supported",)),
    ("Did not hold", ("not supported", "contradicted")),
    ("Still open", ("inconclusive",)),
)


@dataclass(frozen=True)
class Finding:
    """One group of the headline findings: its first claims in the source's order, and how many more there are."""

    title: str
    claims: list[ClaimView]
    more: int


def write_report(workspace: Workspace, scale: str, studies: Sequence[str]) -> Path:
    """Write `results/SCALE/report/index.html` from the files of `studies`, and return its path.

    Needs each study's `claims.json`; whatever else is missing is said on the page. Raises ScrimpError that names the
    file or key at fault.
    """
    if not studies:
        raise ScrimpError("no study to report on: name one, or list some under `studies` in config/config.yaml")
    views: list[StudyView] = []
    for study in studies:
        first_figure = 1 + sum(len(view.figures) for view in views)
        views.append(study_view(read_study(workspace, scale, study), scale, first_figure))
    path = workspace.results(scale) / "report" / "index.html"
    write_text(path, render(views, scale))
    return path


def render(studies: Sequence[StudyView], scale: str) -> str:
    """The whole page as text; equal inputs give equal bytes, so it carries no time of its own."""
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
        findings=findings(claims),
        css=Markup(loader.get_source(environment, "page.css")[0]),
        js=Markup(loader.get_source(environment, "page.js")[0]),
    )


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


def findings(claims: Sequence[ClaimView]) -> list[Finding]:
    """The judged claims in four groups, as far as they occur."""
    groups = []
    for title, verdicts in _FINDINGS:
        members = [claim for claim in claims if claim.result.verdict in verdicts]
        if members:
            shown = members[:_SHOWN_PER_FINDING]
            groups.append(Finding(title, shown, len(members) - len(shown)))
    return groups
