"""Which card a run takes. The cards are made up, as many as CARDS says; their lock files and the processes are real."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from scrimp.errors import ScrimpError
from scrimp.training import cards, parallel
from scrimp.training.place import choose_device

# A process that takes a card, tells which, and has it until its input ends.
HOLDER = """
import os, sys
from types import SimpleNamespace
import torch
visible = os.environ["CARDS"].split(",")
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: len(visible)
torch.cuda.get_device_properties = lambda index: SimpleNamespace(uuid=visible[index])
torch.cuda.set_device = lambda index: None
from scrimp.training.place import choose_device
print(visible[choose_device("auto", 1).index], flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of lock files for this test; what it has taken is let go of."""
    monkeypatch.setenv(cards.FOLDER, str(tmp_path / "cards"))
    monkeypatch.setattr(cards, "_held", {})
    yield tmp_path / "cards"
    for lock in cards._held.values():
        lock.release()


def made_up(monkeypatch: pytest.MonkeyPatch, visible: list[str]) -> list[int]:
    """Let torch see the cards `visible`; the list is of the indices that become its current device."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(visible))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=visible[index]))
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    return chosen


def start(visible: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "CARDS": visible}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", HOLDER], env=environment, text=True, **pipes)  # type: ignore[call-overload,no-any-return]


def card_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.slow
def test_every_process_gets_a_card_of_its_own_and_one_too_many_waits_for_a_killed_one() -> None:
    processes = [start("a,b,c") for _ in range(3)]
    try:
        taken = list(map(card_of, processes))
        assert sorted(taken) == ["a", "b", "c"]
        processes.append(start("c,a,b"))  # they are numbered otherwise here
        assert processes[3].stderr is not None
        assert processes[3].stderr.readline() == "waiting for a card: other runs are on all 3\n"
        time.sleep(1)
        assert processes[3].poll() is None
        processes[1].kill()
        assert card_of(processes[3]) == taken[1]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.slow
def test_processes_that_see_different_cards_agree_on_which_is_which() -> None:
    processes = []
    try:
        for visible, free in (("b", "b"), ("a,b", "a"), ("b,c", "c")):
            processes.append(start(visible))
            assert card_of(processes[-1]) == free
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_a_process_keeps_its_card(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    current = made_up(monkeypatch, ["x", "y"])
    elsewhere = cards.FileLock(folder / "x.lock")
    folder.mkdir()
    elsewhere.acquire()
    assert [choose_device("auto", 1), choose_device("cuda", 0)] == [torch.device("cuda", 1)] * 2
    elsewhere.release()
    assert choose_device("auto", 1) == torch.device("cuda", 1)  # though the first is free now
    assert current == [1, 1, 1]
    assert cards.count() == 2


def test_who_only_looks_takes_none(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    made_up(monkeypatch, ["x"])
    assert choose_device("auto", 1, take=False) == torch.device("cuda", 0)
    assert not folder.exists()


def test_a_process_of_torchrun_has_the_card_of_its_number_and_does_not_wait(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    made_up(monkeypatch, ["x", "y"])
    monkeypatch.setattr(parallel, "local_rank", lambda: 1)
    folder.mkdir()
    elsewhere = cards.FileLock(folder / "y.lock")
    elsewhere.acquire()
    with pytest.raises(ScrimpError, match=r"another process computes on y: wait for it, or .* CUDA_VISIBLE_DEVICES"):
        choose_device("auto", 1)
    elsewhere.release()
    assert choose_device("auto", 1) == torch.device("cuda", 1)


def test_a_folder_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    made_up(monkeypatch, ["x"])
    folder.write_text("a file")
    with pytest.raises(ScrimpError, match="name another folder in SCRIMP_CARDS"):
        choose_device("auto", 1)
