"""`scrimp compare A B`: which verdicts are the same, which moved, and what cannot be compared."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from scrimp import cli
from scrimp.compare import as_json, compare, counts, equal_runs, read_verdicts
from scrimp.errors import ScrimpError

HERE = Path(__file__).parents[1]


def claim(name: str, verdict: str, low: Any = 1.0, high: Any = 2.0, **more: Any) -> dict[str, Any]:
    about = {"claim": name, "study": "s", "verdict": verdict, "rule": {"kind": "ratio"}, "n": 3, "scale": "mini"}
    return {**about, "measured": 1.5, "low": low, "high": high, **more}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    one = [
        claim("same", "supported"),
        claim("moved", "supported"),
        claim("margins", "supported"),
        claim("gone", "not run", None, None),
        claim("censored", "inconclusive", 1.0, "inf"),
    ]
    other = [
        claim("same", "supported", 1.5, 3.0),
        claim("moved", "contradicted", 0.2, 0.9),
        claim("margins", "inconclusive", rule={"kind": "ratio", "no_effect": 0.5}),
        claim("new", "supported"),
        claim("censored", "inconclusive", 5.0, "inf"),
    ]
    for name, claims in (("a", one), ("b", other)):
        (tmp_path / name / "s").mkdir(parents=True)
        (tmp_path / name / "s" / "claims.json").write_text(json.dumps(claims))
    return tmp_path / "a", tmp_path / "b"


def test_each_claim_has_its_outcome(folders: tuple[Path, Path]) -> None:
    pairs = compare(*folders)
    assert {pair.claim: (pair.outcome, pair.overlap) for pair in pairs} == {
        "same": ("same", True),
        "moved": ("moved", False),
        "margins": ("other rule", True),
        "gone": ("only in A", None),
        "censored": ("same", True),
        "new": ("only in B", None),
    }
    found = {"same": 2, "moved": 1, "other rule": 1, "only in A": 1, "only in B": 1, "intervals": 4, "overlapping": 3}
    assert counts(pairs) == found
    assert as_json(*folders)["counts"] == found
    assert as_json(*folders)["claims"][0]["other"]["high"] == 3.0


def test_the_verb_shows_what_moved(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["scrimp", "compare", *map(str, folders)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code
    told = capsys.readouterr().out
    assert "2 of 3 verdicts are the same, 1 moved; other rule: 1; only in A: 1; only in B: 1" in told
    assert "3 of 4 pairs of intervals overlap" in told
    assert "supported, 1.5 [1, 2]" in told
    assert "contradicted, 1.5 [0.2, 0.9]" in told
    monkeypatch.setattr(sys, "argv", ["scrimp", "compare", *map(str, folders), "--json"])
    with pytest.raises(SystemExit):
        cli.main()
    assert json.loads(capsys.readouterr().out)["counts"]["moved"] == 1


def test_runs_with_the_same_metrics_are_counted(folders: tuple[Path, Path]) -> None:
    one, other = folders
    assert equal_runs(one, other) == (0, 0)  # nothing was published of the runs
    head = "arm,seed,test_loss,seconds,config_digest\n"
    (one / "s/runs.csv").write_text(f"{head}full,0,1.25,3.0,a\nfull,1,1.5,3.0,a\nfull,2,1.5,3.0,a\n")
    # Other times, a last digit, and a run that one folder has alone.
    (other / "s/runs.csv").write_text(f"{head}full,0,1.25,4.0,b\nfull,1,1.5000000000000002,3.0,a\nless,2,1.5,3.0,a\n")
    assert equal_runs(one, other) == equal_runs(one / "s", other / "s") == (1, 2)
    assert as_json(one, other)["runs"] == {"both": 2, "equal": 1}


def test_reference_results_agree_with_themselves() -> None:
    folder = HERE / "results" / "reference" / "mini-cpu"
    pairs = compare(folder, folder)
    assert len(pairs) == len(read_verdicts(folder)) > 20
    assert {pair.outcome for pair in pairs} == {"same"}
    assert all(pair.overlap in (True, None) for pair in pairs)
    single = read_verdicts(folder / "infobatch")
    assert {study for study, _ in single} == {"infobatch"}


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{}",
        "[]",
        "null",
        '[{"claim": "a", "study": "s", "verdict": "v", "measured": "?", "low": 1, "high": 2}]',
        '[{"claim": "a"}]',
        "{",
    ],
)
def test_a_folder_without_verdicts_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "claims.json").write_text(content)
    with pytest.raises(ScrimpError, match=r"holds no verdicts|is not valid JSON"):
        compare(tmp_path, tmp_path)
