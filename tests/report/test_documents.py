"""Tables of verdicts in the README and in docs/: equal to the committed results, and made of nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.report.documents import with_tables, write_documents

ROOT = Path(__file__).parents[2]


def test_no_table_is_out_of_date() -> None:
    assert write_documents(Workspace(ROOT), check=True) == []


def test_every_study_with_results_has_its_table_and_headlines_have_a_page() -> None:
    studies = {path.parent.name for path in (ROOT / "results" / "reference").glob("mini-cpu/*/claims.json")}
    marks = {
        path.stem: re.findall(r"<!-- table: (.+) -->", path.read_text()) for path in (ROOT / "docs/results").glob("*.md")
    }
    assert marks == {study: [f"claims mini-cpu/{study}"] for study in studies}
    page = (ROOT / "docs" / "headlines.md").read_text()
    assert re.findall(r"<!-- table: (.+) -->", page) == ["headlines mini-cpu"]
    table = page.partition("<!-- table: headlines")[2].partition("<!-- end of table")[0]
    assert 5 <= table.count("\n|") - 2 <= 42


def test_a_row_says_what_the_results_file_says(tiny: Workspace) -> None:
    results = [
        {
            "claim": "one",
            "measured": 0.94,
            "low": 0.85,
            "high": "inf",
            "censored": "above",
            "published_unit": "times",
            "n": 5,
            "verdict": "inconclusive",
        }
    ]
    folder = tiny.root / "results/reference/here/tiny"
    folder.mkdir(parents=True)
    (folder / "claims.json").write_text(json.dumps(results))
    claims = (
        "claims:\n"
        "  - {id: one, number: '1', headline: It | saves, statement: It saves., source: Table 1, "
        "metric: test_accuracy, published: 1.67, "
        "published_unit: times, direction: higher, rule: {kind: ratio, method: full, axis: examples}}\n"
        "  - {id: two, number: '2', statement: Two., source: Table 2, metric: test_accuracy, published: null, "
        "published_unit: share, direction: higher, not_run: no such task}\n"
    )
    (tiny.study_folder("tiny") / "claims.yaml").write_text(claims)
    text = "Before.\n<!-- table: claims here/tiny -->\nold\n<!-- end of table -->\nAfter.\n"
    made = with_tables(tiny, text, "x.md").splitlines()
    assert made[0] == "Before."
    assert made[-1] == "After."
    assert made[4] == "| `one` | **It saves.** | Table 1 | 1.67× | > 0.94× (> 0.85) | 5 | inconclusive |"
    assert made[5] == "| `two` | Two. | Table 2 | none given | not run | | not run: no such task |".replace("| |", "|  |")
    headlines = with_tables(tiny, "<!-- table: headlines here -->\n<!-- end of table -->", "x.md").splitlines()
    assert headlines[3:] == ["| It \\| saves | 1.67× | > 0.94× (> 0.85) | inconclusive |", "<!-- end of table -->"]
    (tiny.study_folder("tiny") / "claims.yaml").write_text(
        claims.replace("published: 1.67,", "published: 1.67, origin: derived,")
    )
    assert "| 1.67× (derived) |" in with_tables(tiny, text, "x.md")
    (tiny.study_folder("tiny") / "claims.yaml").write_text(claims)
    again = folder.parent.parent / "there" / "tiny"
    again.mkdir(parents=True)
    results[0] |= {"measured": 1.5, "low": 1.25, "high": 1.75, "censored": "", "verdict": "supported"}
    (again / "claims.json").write_text(json.dumps(results))
    twice = with_tables(tiny, "<!-- table: twice here,there -->\n<!-- end of table -->", "x.md").splitlines()
    assert twice[1] == "| claim | published | `here` | `there` |"
    sides = "> 0.94× (> 0.85), inconclusive | 1.50× (1.25 to 1.75), supported"
    assert twice[3:] == [f"| It \\| saves | 1.67× | {sides} |", "<!-- end of table -->"]
    results[0] |= {"high": 1.6}
    (again / "claims.json").write_text(json.dumps(results))
    twice = with_tables(tiny, "<!-- table: twice here,there -->\n<!-- end of table -->", "x.md").splitlines()
    assert twice[3].endswith("supported; short of the published number |")


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        (
            "claim mini-cpu/jest",
            "x.md: a table is made of `headlines HARDWARE`, `claims HARDWARE/STUDY`, `speedups HARDWARE` or "
            "`twice HARDWARE,HARDWARE`, not of 'claim'",
        ),
        ("twice mini-cpu", "not of 'twice'"),
        ("twice mini-cpu,", "have no study in common; name two folders of results/reference"),
        ("twice mini-cpu,mini-cpu/jest", "have no study in common; name two folders of results/reference"),
        ("claims mini/jest", "results/reference/mini/jest does not exist; `scrimp publish` writes it"),
    ],
)
def test_a_mark_that_names_nothing_is_an_error(mark: str, message: str) -> None:
    with pytest.raises(ScrimpError, match=re.escape(message)):
        with_tables(Workspace(ROOT), f"<!-- table: {mark} -->\n<!-- end of table -->", "x.md")
