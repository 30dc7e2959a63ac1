"""The MLflow view: the same files give the same view however often, and whatever was there before."""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scrimp import tracking
from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.files import read_json
from scrimp.records import CURVE_COLUMNS, Meters, Summary, write_run
from scrimp.tracking import track, ui
from scrimp.ui_port import ui_port

POINTS = 2300  # more than two batches of MLflow's


def write_seed(workspace: Workspace, study: str, arm: str, seed: int, accuracy: float = 90.0, scale: str = "smoke") -> Path:
    meters = Meters(
        updates=100,
        updates_reference=0,
        examples=12_800,
        examples_reference=0,
        examples_scored=0,
        flops_train=1e12,
        flops_scoring=0.0,
        flops_reference=0.0,
        flops=1e12,
        seconds_train=8.0,
        seconds_selection=2.0,
        seconds_reference=0.0,
        seconds=10.0,
        seconds_evaluation=1.0,
        seconds_setup=0.5,
        peak_memory_bytes=None,
        energy_joules=None,
    )
    summary = Summary(
        study=study,
        arm=arm,
        seed=seed,
        scale=scale,
        config={"recipe": {"learning_rate": 0.1, "note": "n" * 7000}, "layers": [1, 2], "ema": None, "odd@key": True},
        config_digest="abc",
        command=f"scrimp run {study} {arm} --seed {seed} --scale {scale}",
        meters=meters,
        metrics={"accuracy": accuracy},
    )
    rows = [(study, arm, seed, scale, k, k, 0.0, k / 10, "loss", 1 / (k + 1)) for k in range(POINTS)]
    rows.append((study, arm, seed, scale, POINTS, POINTS, 0.0, float("nan"), "accuracy", accuracy))
    folder = workspace.run_folder(scale, study, arm, seed)
    write_run(folder, pd.DataFrame(rows, columns=CURVE_COLUMNS), summary, {"commit": "c0ffee", "cpu": {"threads": 1}})
    return folder


def write_results(workspace: Workspace) -> None:
    for arm in ("full", "half@vit"):
        for seed in (0, 1):
            write_seed(workspace, "jest", arm, seed)
    folder = workspace.results("smoke", "jest")
    (folder / "claims.csv").write_text("id,verdict\nsaving,supported\n")
    (folder / "figures").mkdir()
    (folder / "figures" / "sweep.svg").write_text("<svg/>")


def client_of(workspace: Workspace) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{workspace.root / 'results' / 'mlflow' / 'mlflow.db'}")


def tracked(workspace: Workspace, scale: str = "smoke") -> dict[str, dict[str, str]]:
    entries: dict[str, dict[str, str]] = read_json(workspace.results(scale) / "tracked.json")
    return entries


def content(workspace: Workspace, scale: str = "smoke") -> dict[str, Any]:
    """All that a user sees of a scale, without the identifiers that MLflow draws."""
    client = client_of(workspace)
    keys = {entry["run_id"]: key for key, entry in tracked(workspace, scale).items()}
    seen = {}
    for run_id, key in keys.items():
        run = client.get_run(run_id)
        tags = dict(run.data.tags)
        if "mlflow.parentRunId" in tags:
            tags["mlflow.parentRunId"] = keys[tags["mlflow.parentRunId"]]
        curves = {
            name: [(point.step, point.value) for point in client.get_metric_history(run_id, name)]
            for name in run.data.metrics
            if name.startswith("curve/")
        }
        folder = tracking._artifacts(workspace.root / "results" / "mlflow", run)
        artifacts = {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*")
            if path.is_file()
        }
        seen[key] = (run.info.run_name, run.info.status, run.data.params, run.data.metrics, tags, curves, artifacts)
    return seen


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty workspace with a database: making one takes MLflow seconds."""
    root = tmp_path_factory.mktemp("store")
    track(Workspace(root), "smoke", [])
    return root


@pytest.fixture
def workspace(tmp_path: Path, store: Path) -> Workspace:
    workspace = Workspace(tmp_path / "work")
    shutil.copytree(store, workspace.root)
    write_results(workspace)
    return workspace


KEYS = [
    "smoke/jest",
    "smoke/jest/full",
    "smoke/jest/full/seed0",
    "smoke/jest/full/seed1",
    "smoke/jest/half@vit",
    "smoke/jest/half@vit/seed0",
    "smoke/jest/half@vit/seed1",
]


def test_a_run_shows_what_its_files_say(workspace: Workspace) -> None:
    track(workspace, "smoke", ["jest"])
    entries = tracked(workspace)
    assert sorted(entries) == KEYS
    client = client_of(workspace)
    run = client.get_run(entries["smoke/jest/half@vit/seed1"]["run_id"])
    assert client.get_experiment(run.info.experiment_id).name == "scrimp/jest"
    assert run.info.experiment_id == entries["smoke/jest/half@vit/seed1"]["experiment_id"]
    assert run.data.tags["mlflow.parentRunId"] == entries["smoke/jest/half@vit"]["run_id"]
    assert run.data.tags["scrimp.key"] == "smoke/jest/half@vit/seed1"
    assert run.data.tags["scrimp.arm"] == "half@vit"
    assert run.data.tags["provenance.cpu.threads"] == "1"
    assert run.data.params == {
        "recipe.learning_rate": "0.1",
        "recipe.note": "n" * 6000,
        "layers": "[1, 2]",
        "ema": "null",
        "odd_key": "true",
    }
    assert run.data.metrics["final/accuracy"] == 90.0
    assert run.data.metrics["meters/seconds"] == 10.0
    assert "meters/energy_joules" not in run.data.metrics  # not measured is not zero
    assert run.info.end_time - run.info.start_time == 11_500  # 10 s, 1 s of evaluation, .5 s of set-up
    losses = client.get_metric_history(run.info.run_id, "curve/loss")
    assert [(point.step, point.value) for point in losses] == [(k, 1 / (k + 1)) for k in range(POINTS)]
    assert losses[20].timestamp - run.info.start_time == 2000  # its `seconds` is 2


def test_artifacts_are_copies_at_no_address_of_this_machine(workspace: Workspace) -> None:
    track(workspace, "smoke", ["jest"])
    seen = content(workspace)
    assert sorted(seen["smoke/jest/full/seed0"][-1]) == ["curve.parquet", "provenance.json", "summary.json"]
    assert sorted(seen["smoke/jest"][-1]) == ["claims.csv", "figures/sweep.svg"]
    database = (workspace.root / "results" / "mlflow" / "mlflow.db").read_bytes()
    assert str(workspace.root).encode() not in database


def test_tracking_again_adds_nothing(workspace: Workspace) -> None:
    track(workspace, "smoke", ["jest"])
    before = tracked(workspace), content(workspace)
    track(workspace, "smoke", ["jest"])
    assert (tracked(workspace), content(workspace)) == before
    client = client_of(workspace)
    experiment = client.get_experiment_by_name("scrimp/jest")
    assert len(client.search_runs([experiment.experiment_id], run_view_type=3)) == len(KEYS)  # 3: deleted ones too


def test_a_changed_run_is_replaced_and_the_others_left_alone(workspace: Workspace) -> None:
    track(workspace, "smoke", ["jest"])
    before = tracked(workspace)
    write_seed(workspace, "jest", "full", 1, accuracy=91.0)
    (workspace.results("smoke", "jest") / "claims.csv").write_text("id,verdict\n")
    track(workspace, "smoke", ["jest"])
    after = tracked(workspace)
    assert sorted(after) == KEYS
    assert {key for key in KEYS if after[key] != before[key]} == {"smoke/jest", "smoke/jest/full/seed1"}
    seen = content(workspace)
    assert seen["smoke/jest/full/seed1"][3]["final/accuracy"] == 91.0
    kept = {path.name for path in (workspace.root / "results" / "mlflow" / "artifacts" / "jest").iterdir()}
    assert kept == {after[key]["run_id"] for key in KEYS if seen[key][-1]}  # the replaced run's are gone


def test_runs_without_a_folder_go_from_their_scale_only(workspace: Workspace) -> None:
    write_seed(workspace, "jest", "full", 0, scale="mini")
    write_seed(workspace, "infobatch", "full", 0)
    track(workspace, "mini", ["jest"])
    track(workspace, "smoke", ["jest", "infobatch"])
    shutil.rmtree(workspace.results("smoke", "jest") / "runs" / "half@vit")
    shutil.rmtree(workspace.run_folder("smoke", "infobatch", "full", 0))
    track(workspace, "smoke", ["jest"])  # infobatch was not asked for: its runs stay
    others = ["smoke/infobatch/full", "smoke/infobatch/full/seed0"]
    assert sorted(tracked(workspace)) == others + KEYS[:4]
    track(workspace, "smoke", ["jest", "infobatch"])
    assert sorted(tracked(workspace)) == KEYS[:4]
    track(workspace, "mini", ["jest"])
    assert sorted(tracked(workspace, "mini")) == ["mini/jest/full", "mini/jest/full/seed0"]


def test_a_run_cut_off_while_it_was_written_is_made_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", killed)
        with pytest.raises(KeyboardInterrupt):
            track(workspace, "smoke", ["jest"])
    track(workspace, "smoke", ["jest"])
    assert sorted(tracked(workspace)) == KEYS
    assert {status for _, status, *_ in content(workspace).values()} == {"FINISHED"}


def test_what_was_deleted_in_the_ui_comes_back(workspace: Workspace) -> None:
    track(workspace, "smoke", ["jest"])
    before = content(workspace)
    client = client_of(workspace)
    client.delete_run(tracked(workspace)["smoke/jest/full"]["run_id"])
    client.delete_run(tracked(workspace)["smoke/jest/half@vit/seed0"]["run_id"])
    track(workspace, "smoke", ["jest"])
    assert content(workspace) == before
    client.delete_experiment(client.get_experiment_by_name("scrimp/jest").experiment_id)
    track(workspace, "smoke", ["jest"])
    assert content(workspace) == before


def test_a_deleted_database_is_made_again_from_the_files(workspace: Workspace) -> None:
    track(workspace, "smoke", ["jest"])
    before = content(workspace)
    mlflow_folder = workspace.root / "results" / "mlflow"
    (mlflow_folder / "mlflow.db").unlink()
    # A process of its own, as on the command line: MLflow keeps the old database open in this one.
    script = (
        "import sys; from scrimp.config import Workspace; from scrimp.tracking import track; "
        "track(Workspace(sys.argv[1]), 'smoke', ['jest'])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(workspace.root)], capture_output=True, text=True, check=True)
    assert "INFO" not in done.stderr  # no talk of migrations
    moved = workspace.root.with_name("moved")
    workspace.root.rename(moved)
    assert content(Workspace(moved)) == before
    runs = {entry["run_id"] for entry in tracked(Workspace(moved)).values()}
    folders = {path.name for path in (moved / "results" / "mlflow" / "artifacts" / "jest").iterdir()}
    assert folders <= runs  # nothing is left of the first database's


def test_values_that_are_no_numbers(workspace: Workspace) -> None:
    folder = workspace.run_folder("smoke", "jest", "full", 0)
    curve = pd.read_parquet(folder / "curve.parquet").head(2)
    curve["value"] = [math.nan, math.inf]
    curve.to_parquet(folder / "curve.parquet", index=False)
    provenance = json.loads((folder / "provenance.json").read_text())
    del provenance["files"]  # the digests of the file that was there
    (folder / "provenance.json").write_text(json.dumps(provenance))
    track(workspace, "smoke", ["jest"])
    run_id = tracked(workspace)["smoke/jest/full/seed0"]["run_id"]
    first, second = client_of(workspace).get_metric_history(run_id, "curve/loss")
    assert math.isnan(first.value)
    assert second.value > 1e300


def test_a_run_with_a_missing_file_is_named(workspace: Workspace) -> None:
    (workspace.run_folder("smoke", "jest", "full", 0) / "curve.parquet").unlink()
    with pytest.raises(ScrimpError, match=r"full/seed0/curve\.parquet"):
        track(workspace, "smoke", ["jest"])


def test_the_store_of_another_mlflow_is_named(workspace: Workspace) -> None:
    import sqlite3

    with sqlite3.connect(workspace.root / "results" / "mlflow" / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'fromthefuture'")
    with pytest.raises(ScrimpError, match=r"mlflow\.db cannot be used .* delete"):
        track(workspace, "smoke", ["jest"])


def test_a_locked_database_is_to_be_waited_for(workspace: Workspace) -> None:
    track(workspace, "smoke", ["jest"])
    database = workspace.root / "results" / "mlflow" / "mlflow.db"
    with sqlite3.connect(database) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ScrimpError, match=r"mlflow\.db is in use by another process: wait") as told:
            track(workspace, "smoke", ["jest"])
        assert "delete" not in str(told.value)


def test_a_limit_on_the_size_of_files_is_told_in_a_sentence(workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    room = (workspace.root / "results" / "mlflow" / "mlflow.db").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(
            ScrimpError, match=r"cannot write .*mlflow\.db \(.*\): the disk is full, a quota or a limit"
        ) as told:
            track(workspace, "smoke", ["jest"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "delete" not in str(told.value)
    assert "Traceback" not in capfd.readouterr().err


def test_importing_tracking_does_not_import_mlflow() -> None:
    script = "import sys, scrimp.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_ui_opens_on_the_runs_in_columns_that_matter(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    track(workspace, "smoke", ["jest"])
    monkeypatch.setattr(os, "execv", lambda *_: None)
    capsys.readouterr()
    ui(workspace, 5123)
    number = read_json(workspace.root / "results" / "mlflow" / "experiments.json")["jest"]
    page = f"http://127.0.0.1:5123/#/experiments/{number}/runs?viewStateShareKey=scrimp"
    assert f"jest: {page}" in capsys.readouterr().out.splitlines()
    experiment = tracking._open_store(workspace.root / "results" / "mlflow").get_experiment(number)
    columns = json.loads(experiment.tags["mlflow.sharedViewState.scrimp"])["selectedColumns"]
    assert columns == ["tags.`scrimp.arm`", "tags.`scrimp.seed`"] + [
        f"metrics.`meters/{name}`" for name in ("flops", "examples", "seconds")
    ]


def test_the_ui_is_mlflows_on_this_store(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: given.append(arguments))
    ui(workspace, 5123)
    folder = workspace.root / "results" / "mlflow"
    assert given[0][1:4] == ["-m", "mlflow", "ui"]
    assert f"sqlite:///{folder / 'mlflow.db'}" in given[0]
    assert str(folder / "artifacts") in given[0]
    assert given[0][-2:] == ["--port", "5123"]
    assert ui_port(workspace) == 5123  # what pages link to
    (folder / "mlflow.db").unlink()
    with pytest.raises(ScrimpError, match="scrimp track"):
        ui(workspace, 5123)
