"""What `scrimp kernels bench` prints beside the kernels: the same things are done both ways, and each part is told."""

from __future__ import annotations

import os
import sys

import pytest
import torch

from scrimp.fork_server import ADDRESS
from scrimp.measure import speed


def test_both_ways_of_masking_mark_the_same_numbers() -> None:
    ways = speed._mask_ways(1000)
    by_hand, ours = (make() for make in ways.values())
    assert torch.equal(torch.from_numpy(by_hand), ours)
    assert int(ours.sum()) == 100


def test_an_epoch_is_told_in_parts_and_summed() -> None:
    rows = speed.epochs(2000, 1)
    assert [(row["what"].partition(": ")[2], row["way"]) for row in rows] == [
        (part, way) for part in ("plan", "iteration", "update", "summed") for way in ("official algorithm", "ours")
    ]
    for way in ("official algorithm", "ours"):
        seconds = [row["seconds"] for row in rows if row["way"] == way]
        assert seconds[3] == pytest.approx(sum(seconds[:3]))


def test_without_resvg_a_word_stands_in_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "find_spec", lambda name: None)
    assert [row["error"] for row in speed.icons(3)] == ["resvg-py is not installed"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the fork server is Linux's")
def test_a_fork_starts_with_less_work_than_a_process_and_no_server_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ADDRESS, raising=False)
    alone, forked = speed.starts(1, 3)
    assert (alone["way"], forked["way"]) == ("by itself", "forked")
    assert forked["cpu_seconds"] < alone["cpu_seconds"]
    assert ADDRESS not in os.environ
