"""The page as a file: complete, self-contained, escaped, and honest about what is missing."""

from __future__ import annotations

import base64
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from fake_results import SCALE, STUDY, SVG, demo_claims, demo_summary

from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.files import read_json, write_json
from scrimp.report.inputs import read_study
from scrimp.report.page import render, write_reference_report, write_report
from scrimp.report.views import compare_configs, study_view
from scrimp.ui_port import remember

CLAIMS = """
claims:
- {id: c, number: "1", source: s, statement: t, metric: test_accuracy, published: null, published_unit: "",
   direction: higher, not_run: never}
"""
VOID = {"meta", "link", "br", "img", "input", "wbr"}


class Page(HTMLParser):
    """Elements with their attributes, ids, and the text of every table cell; raises on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.cells: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes nothing at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "td" in self._open:
            self.cells[-1] += data

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]


def page_of(workspace: Workspace) -> str:
    return write_report(workspace, SCALE, [STUDY]).read_text(encoding="utf-8")


def change_claim(workspace: Workspace, **changes: Any) -> None:
    path = workspace.results(SCALE, STUDY) / "claims.json"
    first, *rest = read_json(path)
    write_json(path, [first | changes, *rest])


def test_the_page_is_where_the_design_says_and_equal_inputs_give_equal_bytes(workspace: Workspace) -> None:
    path = write_report(workspace, SCALE, [STUDY])
    assert path == workspace.results(SCALE) / "report" / "index.html"
    before = path.read_bytes()
    assert write_report(workspace, SCALE, [STUDY]).read_bytes() == before


def test_nothing_is_loaded_from_anywhere(workspace: Workspace) -> None:
    html = page_of(workspace)
    for tag, attributes in Page(html).elements:
        for name in ("src", "srcset", "poster", "data", "action", "href", "xlink:href"):
            if tag == "a" and name == "href":
                continue
            if name in attributes:
                assert attributes[name].startswith(("#", "data:")), (tag, name)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", html)


def test_links_inside_the_page_lead_somewhere_and_ids_are_unique(workspace: Workspace) -> None:
    page = Page(page_of(workspace))
    assert len(set(page.ids)) == len(page.ids)
    targets = [a["href"][1:] for _, a in page.elements if a.get("href", "").startswith("#")]
    assert set(targets) <= set(page.ids)
    assert {f"claim-{STUDY}-{claim['claim']}" for claim in demo_claims()} <= set(targets)


def test_the_table_is_complete_without_scripts(workspace: Workspace) -> None:
    page = Page(page_of(workspace))
    cells = [" ".join(cell.split()) for cell in page.cells]
    for claim in demo_claims():
        assert claim["verdict"] in cells
        assert claim["number"] in cells
    assert "> 2.8×" in cells  # the speedup: censored, decimals from the half-width (2.75 - 1.5) / 2
    assert any("0.12 to 0.50 points" in cell for cell in cells)
    assert ("form", "filters") in [(tag, a.get("id")) for tag, a in page.elements if "hidden" in a]


def test_what_others_wrote_is_escaped(workspace: Workspace) -> None:
    html = page_of(workspace)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; more" in html
    assert "a&lt;b" in html  # from a table's CSV


def test_figures_are_embedded_once_and_missing_ones_name_their_stage(workspace: Workspace) -> None:
    html = page_of(workspace)
    assert html.count(base64.b64encode(SVG.encode()).decode()) == 1
    assert html.count("scrimp figures demo --scale mini") == 2  # figure `undrawn` and table `unwritten`


def test_verdicts_are_counted_in_words(workspace: Workspace) -> None:
    html = page_of(workspace)
    assert (
        "5 of 6 claims could be judged at this scale: 1 supported, 1 partly supported, 1 not supported, 1 contradicted "
        "and 1 inconclusive; 1 was not run." in html
    )
    assert "speaks for the scale <em>mini</em> only" in html
    assert "needs a cluster" in html


def test_what_was_not_measured_is_not_zero(workspace: Workspace) -> None:
    cells = Page(page_of(workspace)).cells
    assert cells.count("n/a") > 6  # peak memory of six runs, and the claim that was not run


def test_runs_link_to_mlflow_where_tracked(workspace: Workspace) -> None:
    html = page_of(workspace)
    assert 'href="http://127.0.0.1:5000/#/experiments/7/runs/abc"' in html
    (workspace.results(SCALE) / "tracked.json").unlink()
    assert "127.0.0.1" not in page_of(workspace)


def test_links_follow_the_port_of_the_ui(workspace: Workspace) -> None:
    page = workspace.results(SCALE) / "report" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(page_of(workspace), encoding="utf-8")
    before = page.stat().st_mtime_ns
    remember(workspace, 5123)
    assert page.stat().st_mtime_ns == before  # Snakemake has nothing to do
    html = page.read_text(encoding="utf-8")
    assert 'href="http://127.0.0.1:5123/#/experiments/7/runs/abc"' in html
    assert html == page_of(workspace)  # a page that is made again links there, too
    assert ":5000/" not in html


def test_provenance_flags_what_should_have_been_one(workspace: Workspace) -> None:
    html = page_of(workspace)
    assert "made by 2 different commits" in html
    assert "2 runs of 6 came from a tree with uncommitted changes" in html
    assert "different machines" not in html


def test_configurations_are_compared() -> None:
    shared = {"epochs": 12, "recipe": {"rate": 0.2}}
    view = compare_configs(
        {
            "full": [shared | {"selector": "full"}] * 2,
            "half": [shared | {"selector": "half", "seed": k} for k in (0, 1)],
        }
    )
    assert view.common == [("epochs", "12"), ("recipe.rate", "0.2")]
    assert view.apart == [("full", [("selector", "full")]), ("half", [("selector", "half"), ("seed", "0, 1")])]


def test_runs_of_dropped_arms_are_left_out(workspace: Workspace) -> None:
    runs = workspace.results(SCALE, STUDY) / "runs"
    gone = read_json(runs / "half" / "seed0" / "summary.json") | {"arm": "gone"}
    write_json(runs / "gone" / "seed0" / "summary.json", gone)
    assert "gone" not in Page(page_of(workspace)).cells


def test_only_the_verdicts_are_needed(workspace: Workspace) -> None:
    folder = workspace.results(SCALE, STUDY)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.name != "claims.json":
            path.rmdir() if path.is_dir() else path.unlink()
    assert "No finished runs of this study at this scale." in page_of(workspace)


def test_missing_verdicts_name_the_file_and_the_stage(workspace: Workspace) -> None:
    (workspace.results(SCALE, STUDY) / "claims.json").unlink()
    with pytest.raises(ScrimpError, match=r"claims\.json does not exist; write it with `scrimp claims demo --scale mini`"):
        page_of(workspace)


def test_bad_verdicts_name_the_file_and_the_key(workspace: Workspace) -> None:
    change_claim(workspace, verdict="perhaps")
    with pytest.raises(ScrimpError, match=r"claims\.json: verdict"):
        page_of(workspace)


def test_an_unreadable_table_is_named(workspace: Workspace) -> None:
    (workspace.results(SCALE, STUDY) / "tables" / "sizes.csv").write_text("", encoding="utf-8")
    with pytest.raises(ScrimpError, match=r"sizes\.csv is not a table"):
        page_of(workspace)


@pytest.mark.parametrize("content", ["null", "{}", "[]", "[null]"])
def test_verdicts_that_are_none_are_named(workspace: Workspace, content: str) -> None:
    (workspace.study_folder(STUDY) / "claims.yaml").write_text(CLAIMS, encoding="utf-8")
    (workspace.results(SCALE, STUDY) / "claims.json").write_text(content, encoding="utf-8")
    with pytest.raises(ScrimpError, match=r"claims\.json( holds no verdicts; write it again with `scrimp claims demo|: )"):
        page_of(workspace)


@pytest.mark.parametrize("content", [b"size,parameters\nsmall,10", b"size,parameters\nsm\xe4ll,10\n"])
def test_a_table_that_is_cut_off_or_no_text_is_named(workspace: Workspace, content: bytes) -> None:
    (workspace.results(SCALE, STUDY) / "tables" / "sizes.csv").write_bytes(content)
    with pytest.raises(
        ScrimpError, match=r"sizes\.csv is not a table .*; make it again with `scrimp figures demo --scale mini`"
    ):
        page_of(workspace)


def test_a_figure_that_is_cut_off_is_named(workspace: Workspace) -> None:
    path = next((workspace.results(SCALE, STUDY) / "figures").glob("*.svg"))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ScrimpError, match=r"\.svg is cut off; make it again with `scrimp figures demo --scale mini`"):
        page_of(workspace)


def test_provenance_and_links_of_something_else_are_named(workspace: Workspace) -> None:
    path = next(workspace.results(SCALE, STUDY).glob("runs/*/*/provenance.json"))
    before = path.read_text()
    path.write_text("[1]")
    with pytest.raises(ScrimpError, match=r"provenance\.json holds no provenance; delete"):
        page_of(workspace)
    path.write_text(before)
    (workspace.results(SCALE) / "tracked.json").write_text("[]")
    with pytest.raises(ScrimpError, match=r"tracked\.json is not what `scrimp track` writes; delete it"):
        page_of(workspace)


def test_unknown_scales_and_no_studies_are_refused(workspace: Workspace) -> None:
    with pytest.raises(ScrimpError, match=r"unknown scale 'minni'.*did you mean 'mini'"):
        write_report(workspace, "minni", [STUDY])
    with pytest.raises(ScrimpError, match="no study to report on"):
        write_report(workspace, SCALE, [])


# ----------------------------------------------------------------------------------------------------- what comes first
def leading_of(html: str) -> list[str]:
    """The links of the claims at the head of the page."""
    head = html.split('<ol class="leading">')[1].split("</ol>")[0]
    return re.findall(r'<p class="topic"><a href="#claim-demo-(\w+)">([^<]+)</a>', head)


def test_claims_that_are_marked_as_headlines_lead_the_page(workspace: Workspace) -> None:
    claims = [
        {key: entry[key] for key in ("number", "source", "statement", "metric", "published", "published_unit", "direction")}
        | {"id": entry["claim"], "rule": entry["rule"]}
        for entry in demo_claims()
        if entry["rule"] is not None and entry["claim"] != "script"
    ]
    claims[-1]["headline"] = "What matters most"
    (workspace.study_folder(STUDY) / "claims.yaml").write_text(yaml.safe_dump({"claims": claims}))
    assert leading_of(page_of(workspace)) == [(claims[-1]["id"], "What matters most")]


def test_without_headlines_the_first_judged_claims_lead_the_page(workspace: Workspace) -> None:
    assert [claim for claim, _ in leading_of(page_of(workspace))] == ["gain", "speedup", "script", "worse", "open"]


def test_a_page_of_one_finished_study_says_what_is_still_to_come(workspace: Workspace) -> None:
    folder = workspace.study_folder(STUDY)
    shutil.copytree(folder, folder.parent / "later")
    study = yaml.safe_load((folder.parent / "later" / "study.yaml").read_text())
    (folder.parent / "later" / "study.yaml").write_text(yaml.safe_dump({**study, "title": "A later one"}))
    workspace.study_name("./" + os.path.relpath(folder.parent / "later", workspace.root))
    html = write_report(workspace, SCALE, [STUDY, "later"]).read_text()
    assert "Still to come: A later one." in html
    assert "A demonstration" in html


def test_verdicts_of_a_smoke_run_are_greyed(workspace: Workspace) -> None:
    assert '<body class="smoke">' not in page_of(workspace)
    view = study_view(read_study(workspace, SCALE, STUDY), SCALE, 1)
    assert '<body class="smoke">' in render([view], "smoke", ("scrimp report", "results/smoke"))


def test_reference_results_make_the_same_page_without_their_runs(workspace: Workspace) -> None:
    page_of(workspace)
    shutil.rmtree(workspace.root / "results" / "reference", ignore_errors=True)
    source, target = workspace.results(SCALE, STUDY), workspace.root / "results" / "reference" / "mine" / STUDY
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("runs"))
    rows = [{"arm": "full", "seed": 0, **demo_summary("full", 0).metrics, **demo_summary("full", 0).meters.model_dump()}]
    pd.DataFrame(rows).to_csv(target / "runs.csv", index=False)
    write_json(
        target / "provenance.json", {"scale": SCALE, "runs": 1, "commit": ["abc", "def"], "versions": [{"torch": "2"}]}
    )
    page = write_reference_report(workspace, target.parent)
    assert page == workspace.root / "results" / "report-mine" / "index.html"
    html = page.read_text()
    assert leading_of(html) == leading_of(page_of(workspace))
    assert "abc, def" in html
    assert "scrimp report --from" in html
    with pytest.raises(ScrimpError, match=r"holds no study's claims\.json"):
        write_reference_report(workspace, workspace.root / "results")


@pytest.fixture
def published(workspace: Workspace) -> Path:
    """Reference results of `demo`, one row of runs."""
    source, target = workspace.results(SCALE, STUDY), workspace.root / "results" / "reference" / "mine" / STUDY
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("runs"))
    rows = [{"arm": "full", "seed": 0, **demo_summary("full", 0).metrics, **demo_summary("full", 0).meters.model_dump()}]
    pd.DataFrame(rows).to_csv(target / "runs.csv", index=False)
    write_json(target / "provenance.json", {"scale": SCALE, "runs": 1})
    return target


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("claims.json", b"null"),
        ("claims.json", b"[]"),
        ("provenance.json", b"{}"),
        ("provenance.json", b"[1]"),
        ("runs.csv", b"arm,seed\nf\xfcll,0\n"),
        ("runs.csv", b"arm,seed\nfull,0\n"),
        ("runs.csv", b""),
        ("runs.csv", None),
    ],
)
def test_damaged_reference_results_are_named(
    workspace: Workspace, published: Path, name: str, content: bytes | None
) -> None:
    (workspace.study_folder(STUDY) / "claims.yaml").write_text(CLAIMS, encoding="utf-8")
    path = published / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size - 9] if content is None else content)
    with pytest.raises(ScrimpError, match=rf"{name} .*; bring the published file back"):
        write_reference_report(workspace, published.parent)
