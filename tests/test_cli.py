"""The command line: exit status 2 and one sentence for what a user can mend; lists that others can script against."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from scrimp import cli
from scrimp.config import Workspace
from scrimp.consoles import console
from scrimp.records import read_summary


def scrimp(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process, in the current folder; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["scrimp", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    status = left.value.code
    return status if isinstance(status, int) else 0


def listing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, list[dict[str, Any]]]:
    assert scrimp(monkeypatch, "list", "--json") == 0
    content: dict[str, list[dict[str, Any]]] = json.loads(capsys.readouterr().out)
    return content


def test_the_listing_is_json_with_the_agreed_keys(
    tiny: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = listing(monkeypatch, capsys)
    assert set(content) == {"studies", "arms", "claims", "datasets", "scales", "tasks", "methods", "metrics", "kernels"}
    assert {s["id"]: s["paper"] for s in content["studies"]}["tiny"] == "none"
    assert {s["id"] for s in content["studies"]} == {"tiny", *Workspace(tiny.root).study_names()}  # the built-in ones, too
    content = {key: [row for row in rows if row.get("study", "tiny") == "tiny"] for key, rows in content.items()}
    arms = {(arm["scale"], arm["id"]): arm for arm in content["arms"]}
    assert len(arms) == len(content["arms"]) == 12  # nine and two at smoke, one at mini
    assert arms["smoke", "full@vit"] == {
        "id": "full@vit",
        "study": "tiny",
        "scale": "smoke",
        "label": "full data",
        "seeds": [0, 1],
    }
    assert [{key: s[key] for key in ("id", "runs")} for s in content["scales"]] == [
        {"id": "smoke", "runs": 22},
        {"id": "mini", "runs": 1},
    ]
    assert {dataset["id"] for dataset in content["datasets"]} == {"icons", "icons-2", "colours"}


def test_a_listed_claim_says_what_and_where_and_how_much(
    tiny: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (claim,) = [claim for claim in listing(monkeypatch, capsys)["claims"] if claim["study"] == "tiny"]
    assert {
        "id": "lossless",
        "study": "tiny",
        "number": "1",
        "statement": "Pruning half of the data loses nothing.",
        "published": 0.0,
        "published_unit": "points",
        "metric": "test_accuracy",
        "source": "nowhere",
        "not_run": None,
    }.items() <= claim.items()


def test_the_listing_for_people_names_the_same(
    tiny: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert scrimp(monkeypatch, "list") == 0
    shown = capsys.readouterr().out
    for name in ("tiny", "full@vit", "infobatch-50", "lossless", "icons-2", "smoke"):
        assert name in shown


def test_the_shipped_listing_has_every_study_with_its_claims(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(__file__).parents[1]
    monkeypatch.chdir(root)
    content = listing(monkeypatch, capsys)
    studies = set(Workspace(root).study_names())
    assert {study["id"] for study in content["studies"]} == studies
    assert {claim["study"] for claim in content["claims"]} == studies
    keys = {"id", "study", "number", "statement", "published", "published_unit", "metric", "source", "not_run"}
    assert all(keys <= set(claim) for claim in content["claims"])
    assert len({(claim["study"], claim["id"]) for claim in content["claims"]}) == len(content["claims"])
    known = {dataset["id"] for dataset in content["datasets"]}
    assert {"icons-100", "cifar10", "cifar100"} <= known


MISUSES = [
    (["run", "tiny", "ful", "--scale", "smoke"], "unknown arm 'ful'", "did you mean 'full'"),
    (["run", "tiny", "full", "--scale", "large"], "unknown scale 'large'", "known: mini, smoke"),
    (["run", "tinny", "full"], "unknown study 'tinny'", "did you mean 'tiny'"),
    (["shard", "icon"], "unknown dataset 'icon'", "did you mean 'icons'"),
    (["fetch", "icon"], "unknown dataset 'icon'", "known: colours, icons, icons-2"),
    (["tune", "tiny", "--scale", "mini"], "studies/tiny/study.yaml has no `tuning` for scale mini", ""),
]


@pytest.mark.parametrize(("arguments", "message", "hint"), MISUSES, ids=[" ".join(m[0]) for m in MISUSES])
def test_a_misuse_exits_with_2_and_one_sentence(
    tiny: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
    hint: str,
) -> None:
    assert scrimp(monkeypatch, *arguments) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert message in told.err
    assert hint in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


def test_check_finds_the_mistake(
    tiny: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny.root / "config" / "studies" / "tiny" / "study.yaml"
    assert scrimp(monkeypatch, "check") == 0
    assert capsys.readouterr().out.strip() == "config is valid"
    path.write_text(path.read_text().replace("name: rs2, ratio: 0.5", "name: rs2, ratio: -0.5"))
    assert scrimp(monkeypatch, "check") == 2
    told = capsys.readouterr().err
    assert "studies/tiny/study.yaml: arms.rs2-50.methods: ratio:" in told
    assert "(got -0.5)" in told


def test_data_that_were_not_sharded_name_the_command(
    tiny: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny.root / "config" / "studies" / "tiny" / "study.yaml"
    path.write_text(path.read_text().replace("dataset: colours", "dataset: icons-2"))
    assert scrimp(monkeypatch, "run", "tiny", "full", "--scale", "smoke") == 2
    assert "run `scrimp shard icons-2` first" in capsys.readouterr().err


def test_a_run_prints_its_folder_and_takes_the_scale_of_the_settings(
    tiny: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scrimp(monkeypatch, "run", "tiny", "rs2-50", "--seed", "4") == 0
    folder = Path(capsys.readouterr().out.strip())
    assert folder == Path("results/smoke/tiny/runs/rs2-50/seed4")
    assert read_summary(folder).key == "smoke/tiny/rs2-50/seed4"


def test_help_and_lists_answer_without_torch() -> None:
    program = (
        "import sys\nsys.argv = ['scrimp', '--help']\nfrom scrimp.cli import main\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stderr.strip() == "False"
    verbs = [
        "fetch",
        "shard",
        "run",
        "probe",
        "claims",
        "figures",
        "report",
        "track",
        "ui",
        "status",
        "compare",
        "list",
        "check",
    ]
    for verb in verbs:
        assert f" {verb} " in done.stdout


@pytest.mark.slow
def test_an_unknown_option_or_a_wrong_number_is_refused_by_a_real_process(tiny: Workspace) -> None:
    for arguments in (["run", "tiny", "full", "--sed", "1"], ["run", "tiny", "full", "--seed", "one"]):
        done = subprocess.run([sys.executable, "-m", "scrimp.cli", *arguments], capture_output=True, text=True)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
    assert not (tiny.root / "results").exists()


def test_a_table_in_a_pipe_is_not_cut_at_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    console().print(Table("name", "what happened", *("-" * 20 for _ in range(3))))
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) > 80
    monkeypatch.setenv("COLUMNS", "60")
    console().print(Table("name", "what happened", *("-" * 20 for _ in range(3))))
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) == 60
