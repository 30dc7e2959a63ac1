"""The page in a real browser, where one is installed: the controls come to life, and a phone never scrolls sideways."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from fake_results import SCALE, STUDY

from scrimp.config import Workspace
from scrimp.report.page import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",  # as on a phone, where they take no room
    "--allow-file-access-from-files",
    "--virtual-time-budget=4000",
    "--dump-dom",
]

# Runs in a page that holds the report in a frame as wide as a small phone, and writes what it finds into the DOM.
HARNESS = """<!doctype html><iframe id="phone" src="{page}" width="360" height="800"></iframe><pre id="found"></pre>
<script>
const frame = document.getElementById("phone");
frame.onload = () => {{
  const page = frame.contentDocument;
  const rows = () => [...page.querySelectorAll("#claims-table tbody tr")].filter((row) => !row.hidden);
  const numbers = () => rows().map((row) => row.cells[0].textContent).join(" ");
  const found = [];
  page.querySelectorAll("details").forEach((details) => (details.open = true));
  const over = [...page.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > 360.5);
  const free = over.filter((element) => !element.closest(".scroll, .paper-white, pre"));
  const names = free.map((element) => element.tagName + "." + element.getAttribute("class"));
  found.push(["width " + page.documentElement.scrollWidth, ...names].join(" "));
  const header = page.querySelector("#claims-table th");
  header.firstElementChild.click();
  found.push(header.getAttribute("aria-sort") + " " + numbers());
  header.firstElementChild.click();
  found.push(header.getAttribute("aria-sort") + " " + numbers());
  const form = page.getElementById("filters");
  form.elements.verdict.value = "contradicted";
  form.dispatchEvent(new Event("input"));
  found.push("filtered " + numbers() + "; " + page.getElementById("count").textContent);
  found.push("address " + frame.contentWindow.location.hash);
  form.reset();
  form.dispatchEvent(new Event("input"));
  const measured = [...page.querySelectorAll("#claims-table th")].find((th) => th.textContent.startsWith("Measured"));
  measured.firstElementChild.click();
  const told = rows().filter((row) => !row.classList.contains("quiet")).map((row) => row.dataset.unit);
  const units = told.filter((unit, place) => unit !== told[place - 1]);
  found.push("units " + units.length + " of " + new Set(units).size);
  document.getElementById("found").textContent = found.join("\\n");
}};
</script>"""


def dumped(page: Path, profile: Path) -> str:
    return dumped_at(page.as_uri(), profile)


def dumped_at(address: str, profile: Path) -> str:
    """A page's DOM after its scripts ran."""
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_the_script_starts(workspace: Workspace, tmp_path: Path) -> None:
    html = dumped(write_report(workspace, SCALE, [STUDY]), tmp_path / "profile")
    assert 'data-scrimp="ready"' in html
    assert re.search(r'<output id="count"[^>]*>6 claims</output>', html)
    assert not re.search(r'<form id="filters"[^>]* hidden', html)


def test_a_phone_sorts_filters_and_never_scrolls_sideways(workspace: Workspace, tmp_path: Path) -> None:
    page = write_report(workspace, SCALE, [STUDY])
    harness = tmp_path / "harness.html"
    harness.write_text(HARNESS.format(page=page.as_uri()), encoding="utf-8")
    found = re.search(r'<pre id="found">(.*?)</pre>', dumped(harness, tmp_path / "profile"), re.DOTALL)
    assert found is not None
    assert found.group(1).splitlines() == [
        "width 360",
        "ascending 1 2 3 4a 5 10",
        "descending 10 5 4a 3 2 1",
        "filtered 10; 1 of 6 claims",
        "address #claims?verdict=contradicted",
        "units 2 of 2",
    ]


def test_an_address_restores_a_filter_and_unfolds_what_it_points_at(workspace: Workspace, tmp_path: Path) -> None:
    page = write_report(workspace, SCALE, [STUDY])
    page.write_text(
        page.read_text().replace('<details class="study" id="study-demo" open>', '<details class="study" id="study-demo">')
    )
    filtered = dumped_at(page.as_uri() + "#claims?verdict=contradicted", tmp_path / "filtered")
    assert re.search(r'<output id="count"[^>]*>1 of 6 claims</output>', filtered)
    revealed = dumped_at(page.as_uri() + "#claim-demo-gain", tmp_path / "revealed")
    assert '<details class="study" id="study-demo" open="">' in revealed
    assert re.search(r'id="claim-demo-gain" open=""', revealed)
    assert not re.search(r'id="claim-demo-worse" open=""', revealed)
