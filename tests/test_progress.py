"""Long work without a terminal logs a line every half minute, and leaves a note for as long as it goes on."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scrimp import progress
from scrimp.config import Workspace
from scrimp.progress import Pace, beating, line, shown
from scrimp.records import read_summary
from scrimp.stages.run import run_arm


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress.time, "monotonic", found)
    return found


def test_a_line_every_thirty_seconds(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()  # no terminal
    monkeypatch.setattr(sys, "stderr", log)
    with shown("full seed 0") as tell:
        for second in range(100):
            clock.now = 1000.0 + second
            tell("training, test_accuracy 71.25", 0.2 + second / 1000)
    assert log.getvalue().splitlines() == [
        "full seed 0: training, test_accuracy 71.25, 23.0%, 6 % a minute, 13 min left",
        "full seed 0: training, test_accuracy 71.25, 26.0%, 6 % a minute, 12 min left",
        "full seed 0: training, test_accuracy 71.25, 29.0%, 6 % a minute, 12 min left",
    ]


def test_the_pace_is_this_process_s_own() -> None:
    pace = Pace()
    assert pace.rate(0.5, 10.0) == 0  # it went on from a half: nothing is known yet
    assert pace.rate(0.6, 20.0) == pytest.approx(0.01)
    assert pace.rate(0.1, 30.0) == 0  # another stage begins anew
    assert line("run", "scoring", 0.1, 0.0) == "run: scoring, 10.0%"


def note_with(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first note that is as wanted."""
    for _ in range(2000):
        note: dict[str, Any] = json.loads(path.read_text())
        if wanted(note):
            return note
        time.sleep(0.005)
    pytest.fail("no such note")


def test_lines_go_on_while_nothing_advances(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.02)
    with shown("full seed 0"):
        for _ in range(2000):
            if log.getvalue().count("\n") >= 2:
                break
            time.sleep(0.005)
    assert log.getvalue().splitlines()[:2] == ["full seed 0: setting up, 0.0%"] * 2


def test_a_note_is_there_while_the_work_goes_on(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    path, told = tmp_path / "a" / "seed0.progress.json", []
    monkeypatch.setattr(progress, "BEAT_EVERY", 0.01)
    with beating(path, lambda *what: told.append(what)) as tell:
        first = json.loads(path.read_text())
        assert (first["stage"], first["fraction"]) == ("setting up", 0)
        assert note_with(path, lambda note: note["when"] > first["when"])["stage"] == "setting up"  # nothing advances
        tell("training", 0.1)
        clock.now += 15
        tell("training", 0.25)
        note = note_with(path, lambda note: note["fraction"] == 0.25)
    assert note["rate"] == pytest.approx(0.15 / 15)
    assert told == [("training", 0.1), ("training", 0.25)]
    assert not path.exists()


def test_a_run_tells_its_plan_and_the_metric_that_it_measured_last_and_sweeps(
    tiny: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "BEAT_EVERY", 0.01)
    stages: list[str] = []
    left = [
        tiny.checkpoint("smoke", "tiny", "full", 0).with_name(".seed0.safetensors.1.tmp"),
        tiny.run_folder("smoke", "tiny", "full", 0) / ".curve.parquet.1.tmp",
    ]
    for path in left:
        path.parent.mkdir(parents=True)
        path.touch()
    path, planned = tiny.checkpoint("smoke", "tiny", "full", 0).with_suffix(".progress.json"), []

    def look(stage: str, fraction: float) -> None:
        stages.append(stage)
        planned.append(note_with(path, lambda note: "flops" in note)["flops"])

    run_arm(tiny, "tiny", "full", 0, "smoke", on_progress=look)
    spent = read_summary(tiny.run_folder("smoke", "tiny", "full", 0)).meters.flops
    assert planned[0] == pytest.approx(spent)
    assert stages[0] == "training"
    assert stages[-2].startswith("training, test_accuracy ")
    assert stages[-1] == "evaluating"
    assert not any(path.exists() for path in left)
    assert not path.exists()
