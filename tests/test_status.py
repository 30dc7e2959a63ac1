"""`scrimp status`: counts, FLOPs planned and spent, time left and failures, all by hand."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from scrimp import cli, status
from scrimp.config import Workspace
from scrimp.files import write_json
from scrimp.records import Diverged, Meters, Summary

ARMS = ["full", "full-x0.5", "random-50", "rs2-50"]


@pytest.fixture
def planned(tiny: Workspace) -> Workspace:
    """Four arms with two seeds each."""
    path = tiny.root / "config" / "studies" / "tiny" / "study.yaml"
    study = yaml.safe_load(path.read_text())
    workloads = study["scales"]["smoke"]["workloads"]
    del workloads["vit"]
    workloads["colours"]["arms"] = ARMS
    path.write_text(yaml.safe_dump(study))
    return tiny


def finish(workspace: Workspace, arm: str, seed: int, flops: float, diverged: Diverged | None = None) -> None:
    spent = {"flops": flops, "flops_train": flops, "seconds": flops / 10, "seconds_train": flops / 10}
    summary = Summary(
        study="tiny",
        arm=arm,
        seed=seed,
        scale="smoke",
        config=workspace.study("tiny").run_spec("smoke", arm),
        config_digest="",
        command="",
        meters=Meters.nothing().model_copy(update=spent),
        metrics={},
        diverged=diverged,
    )
    write_json(workspace.run_folder("smoke", "tiny", arm, seed) / "summary.json", summary.model_dump(mode="json"))


def note(workspace: Workspace, arm: str, seed: int, **changes: Any) -> None:
    told = {"host": "here", "stage": "training", "fraction": 0.25, "rate": 0.01, "when": time.time(), **changes}
    write_json(workspace.checkpoint("smoke", "tiny", arm, seed).with_suffix(".progress.json"), told)


def log(workspace: Workspace, arm: str, seed: int, text: str) -> None:
    path = workspace.root / "results" / "logs" / "smoke" / "tiny" / f"{arm}-seed{seed}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def filled(workspace: Workspace) -> Workspace:
    finish(workspace, "full", 0, 1000.0)
    note(workspace, "full", 1)
    note(workspace, "full-x0.5", 0, when=time.time() - 3600)
    log(workspace, "full-x0.5", 1, "full-x0.5 seed 1: training, 3.0%\n\x1b[31merror: the disk is full\x1b[0m\n\n")
    log(workspace, "random-50", 0, "\n")  # begun by the workflow, and silent so far
    finish(workspace, "rs2-50", 0, 40.0, Diverged(step=7, learning_rate=1.0, what="the loss is nan"))
    return workspace


def test_each_run_is_in_its_state(planned: Workspace) -> None:
    jobs = {(job.arm, job.seed): job for job in status.survey(filled(planned), "smoke", ["tiny"])}
    assert {key: job.state for key, job in jobs.items()} == {
        ("full", 0): "done",
        ("full", 1): "running",
        ("full-x0.5", 0): "stopped",
        ("full-x0.5", 1): "failed",
        ("random-50", 0): "waiting",
        ("random-50", 1): "waiting",
        ("rs2-50", 0): "diverged",
        ("rs2-50", 1): "waiting",
    }
    assert jobs["full-x0.5", 1].words == "error: the disk is full"
    assert jobs["full", 1].left == pytest.approx(75)  # at its pace
    assert jobs["full-x0.5", 1].left == pytest.approx(50)  # half of what the other arm of its horizon took


def test_a_study_that_was_begun_counts_though_the_config_leaves_it_out(
    planned: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = planned.studies()
    assert status.at_hand(planned, "smoke") == listed
    (planned.results("smoke", "cascade-text") / "runs").mkdir(parents=True)
    assert status.at_hand(planned, "smoke") == [*listed, "cascade-text"]
    assert status.at_hand(planned, "mini") == listed
    for wanted, told in ([], [*listed, "cascade-text"]), (["--study", listed[0]], [listed[0]]):
        monkeypatch.setattr(sys, "argv", ["scrimp", "status", "--scale", "smoke", "--json", *wanted])
        with pytest.raises(SystemExit):
            cli.main()
        assert list(json.loads(capsys.readouterr().out)["studies"]) == told


def test_flops_and_time_are_summed_up(planned: Workspace) -> None:
    total = status.summed(status.survey(filled(planned), "smoke", ["tiny"]))
    assert [total[state] for state in status.STATES] == [1, 1, 1, 1, 1, 0, 0, 3]
    # full: two runs of 1000; full-x0.5: two of 500; random-50 twice and rs2-50 once of 1000; what diverged spent 40.
    assert total["flops_planned"] == pytest.approx(2000 + 1000 + 3000 + 40)
    assert total["flops_spent"] == pytest.approx(1000 + 250 + 125 + 40)
    assert total["unknown"] == 0
    # One at a time: 75 s of the running one, 75 (at its pace) and 50 of the shorter ones, 100 each of three.
    assert total["seconds_left"] == pytest.approx(75 + 75 + 50 + 300)


def test_before_the_first_run_ends_nothing_is_made_up(planned: Workspace) -> None:
    total = status.summed(status.survey(planned, "smoke", ["tiny"]))
    assert (total["runs"], total["waiting"], total["unknown"]) == (8, 8, 8)
    assert total["seconds_left"] is None
    shown = Console(width=160, record=True, file=io.StringIO())
    shown.print(status.view(status.survey(planned, "smoke", ["tiny"]), "smoke"))
    assert "not known yet" in shown.export_text()


def test_the_verb_prints_what_failed_and_ends_a_watch_when_all_is_done(
    planned: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(planned)
    monkeypatch.setenv("COLUMNS", "160")

    def scrimp(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["scrimp", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert not left.value.code
        return capsys.readouterr().out

    told = scrimp("status")
    assert "failed: tiny full-x0.5 seed 1: error: the disk is full" in told
    assert "running: tiny full seed 1 on here: training, 25.0%, 1 min left" in told
    assert "diverged: tiny rs2-50 seed 0: at step 7: the loss is nan" in told
    content = json.loads(scrimp("status", "--json"))
    assert content["all"]["failed"] == content["studies"]["tiny"]["failed"] == 1
    assert len(content["runs"]) == 8

    def finish_all(seconds: float) -> None:
        for arm in ARMS:
            for seed in (0, 1):
                finish(planned, arm, seed, 1000.0)

    monkeypatch.setattr(time, "sleep", finish_all)
    scrimp("status", "--watch")


@pytest.mark.parametrize("content", ["{", "3"])
def test_a_torn_note_is_none(planned: Workspace, content: str) -> None:
    note(planned, "full", 0)
    path = planned.checkpoint("smoke", "tiny", "full", 0).with_suffix(".progress.json")
    Path(path).write_text(content)
    assert status.survey(planned, "smoke", ["tiny"])[0].state == "waiting"


def test_runs_of_an_earlier_configuration_are_outdated_and_not_failed(planned: Workspace) -> None:
    for seed in (0, 1):
        finish(planned, "full", seed, 1000.0)
        log(planned, "full", seed, "full seed 0: training, 60.0%\nresults/smoke/tiny/runs/full/seed0\n")
    finish(planned, "random-50", 0, 500.0)
    log(planned, "random-50", 0, "error: the disk is full\n")
    os.utime(status.logs(planned, "smoke", "tiny") / "random-50-seed0.log", (0, 0))  # before it was run again by hand
    path = planned.root / "config" / "studies" / "tiny" / "study.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.1\n", "learning_rate: 0.2\n"))
    log(planned, "rs2-50", 0, "Traceback (most recent call last)\n  ...\nKeyError: 'a'\n")
    log(planned, "rs2-50", 1, "error: a: is wrong\nb: is wrong, too\n")
    jobs = {(job.arm, job.seed): job for job in status.survey(planned, "smoke", ["tiny"])}
    assert {key: job.state for key, job in jobs.items() if job.state != "waiting"} == {
        ("full", 0): "outdated",
        ("full", 1): "outdated",
        ("random-50", 0): "outdated",
        ("rs2-50", 0): "failed",
        ("rs2-50", 1): "failed",
    }
    assert jobs["rs2-50", 0].words == "KeyError: 'a'"
    assert jobs["rs2-50", 1].words == "error: a: is wrong"
    assert not status.finished(list(jobs.values()))


@pytest.mark.parametrize("content", ["{", "[]", '{"study": "tiny"}'])
def test_a_damaged_summary_is_counted_and_named(planned: Workspace, content: str) -> None:
    finish(planned, "full", 0, 1000.0)
    finish(planned, "full", 1, 1000.0)
    (planned.run_folder("smoke", "tiny", "full", 1) / "summary.json").write_text(content)
    jobs = status.survey(planned, "smoke", ["tiny"])
    assert [job.state for job in jobs[:3]] == ["done", "damaged", "waiting"]
    assert "runs/full/seed1/summary.json" in jobs[1].words
    assert status.as_json(planned, "smoke", ["tiny"])["all"]["damaged"] == 1
    shown = Console(width=300, record=True, file=io.StringIO())
    shown.print(status.view(jobs, "smoke"))
    assert "damaged: tiny full seed 1: " in shown.export_text()


def test_what_else_failed_is_told_with_its_last_words(planned: Workspace) -> None:
    path = planned.root / "config" / "studies" / "tiny" / "study.yaml"
    study = yaml.safe_load(path.read_text())
    study["scales"]["smoke"]["references"] = {"expert": {"label": "expert", "subset": "raw", "seed": 100, "steps": 5}}
    study["scales"]["smoke"]["probes"] = {"overhead": {}}
    path.write_text(yaml.safe_dump(study))
    folder = status.logs(planned, "smoke", "tiny")
    folder.mkdir(parents=True)
    (planned.root / "results" / "logs" / "shard").mkdir()
    (planned.root / "results" / "logs" / "shard" / "colours.log").write_text("sharding\nerror: it is no archive\n")
    (planned.root / "results" / "logs" / "shard" / "icons-2.log").write_text("error: of a dataset that nothing here needs\n")
    (planned.shards("colours") / "manifest.json").unlink()
    (folder / "probe-overhead.log").write_text("error: the memory does not suffice\n")
    (folder / "claims.log").write_text("a table\n")
    (folder / "reference-expert.log").write_text("error: it diverged\n")
    assert {stage.name: (stage.state, stage.words) for stage in status.stages(planned, "smoke", ["tiny"])} == {
        "shard colours": ("failed", "error: it is no archive"),
        "tiny probe overhead": ("failed", "error: the memory does not suffice"),
        "tiny reference expert": ("failed", "error: it diverged"),
    }
    summary = planned.reference_folder("smoke", "tiny", "expert") / "summary.json"
    write_json(summary, {})
    os.utime(folder / "reference-expert.log", (0, 0))  # it was made again by hand
    note(planned, "reference-expert", 100, stage="embedding")
    told = status.as_json(planned, "smoke", ["tiny"])["stages"]
    assert {"name": "tiny reference expert", "state": "running", "words": "on here: embedding, 25.0%"} in told
    assert not any(stage["state"] == "failed" and "expert" in stage["name"] for stage in told)


def test_a_length_in_flops_tells_what_is_planned_before_a_run_ends(planned: Workspace) -> None:
    path = planned.root / "config" / "studies" / "tiny" / "study.yaml"
    study = yaml.safe_load(path.read_text())
    workload = study["scales"]["smoke"]["workloads"]["colours"]
    del workload["epochs"]
    workload["flops"] = 1e9
    study["arms"]["full"]["horizon"] = {"seconds": 5}
    path.write_text(yaml.safe_dump(study))
    total = status.summed(status.survey(planned, "smoke", ["tiny"]))
    assert total["flops_planned"] == pytest.approx(2 * (0.5 + 1 + 1) * 1e9)
    assert total["unknown"] == 2  # those that end by the clock


def test_runs_with_other_seeds_than_planned_count(planned: Workspace) -> None:
    finish(planned, "full", 7, 1000.0)
    note(planned, "full", 8)
    found = [(job.seed, job.state) for job in status.survey(planned, "smoke", ["tiny"]) if job.arm == "full"]
    assert found == [(0, "waiting"), (1, "waiting"), (7, "done"), (8, "running")]


def test_flops_of_a_run_in_epochs_are_known_as_soon_as_it_is_at_work(planned: Workspace) -> None:
    """One run at work has told what it plans: its arm's other seeds cost as much, a half as long one half."""
    note(planned, "full", 0, flops=8e9)
    found = {(job.arm, job.seed): job.flops for job in status.survey(planned, "smoke", ["tiny"])}
    assert found["full", 0] == found["full", 1] == 8e9
    assert found["full-x0.5", 0] == 4e9
    finish(planned, "full", 1, 6e9)  # what was measured counts for more
    assert {job.flops for job in status.survey(planned, "smoke", ["tiny"]) if job.arm == "full"} == {6e9}
