from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from scrimp.audit.design import CANDIDATES, Design, candidates, duration, fitted, hours_of, sweep_arm
from scrimp.errors import ScrimpError


def test_a_growing_batch_has_ghost_batch_norm_where_the_model_has_batch_norm() -> None:
    plain = {one.arm: one for one in candidates(nn.Linear(2, 2), 32)}
    normed = {one.arm: one for one in candidates(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), 32)}
    assert [spec["name"] for spec in plain["growing"].methods] == ["batch-growth"]
    assert normed["growing"].methods[1] == {"name": "ghost-batch-norm", "size": 32}
    assert set(plain) == set(normed) == {one.arm for one in CANDIDATES}


def test_methods_are_picked_by_method_by_arm_and_by_file(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(
        "from scrimp.methods.base import EpochSelector\n\n\nclass Mine(EpochSelector):\n    pass\n\n\nMETHOD = Mine\n"
    )
    chosen = candidates(nn.Linear(2, 2), 32, ["infobatch", "rs2-50", "forgetting", str(own)])
    assert [one.arm for one in chosen] == ["infobatch-50", "infobatch-30", "infobatch-70", "rs2-50", "forgetting", "mine"]
    assert chosen[-2].methods == [{"name": "forgetting", "ratio": 0.5}]
    assert chosen[-1].methods == [{"name": str(own)}]


def test_unknown_methods_and_files_without_one_are_errors_that_help(tmp_path: Path) -> None:
    with pytest.raises(ScrimpError, match="did you mean 'infobatch'"):
        candidates(nn.Linear(2, 2), 32, ["infobach"])
    empty = tmp_path / "empty.py"
    empty.write_text("")
    with pytest.raises(ScrimpError, match="must set METHOD"):
        candidates(nn.Linear(2, 2), 32, [str(empty)])
    with pytest.raises(ScrimpError, match="does not exist"):
        candidates(nn.Linear(2, 2), 32, [str(tmp_path / "none.py")])
    with pytest.raises(ScrimpError, match="scores super-batches"):
        candidates(nn.Linear(2, 2), 32, ["jest"])
    with pytest.raises(ScrimpError, match="it needs size"):
        candidates(nn.Linear(2, 2), 32, ["ghost-batch-norm"])


def test_every_arm_has_every_seed() -> None:
    design = Design(CANDIDATES, seeds=3)
    assert design.runs == 3 * (5 + 6)
    assert design.arms()[sweep_arm(0.25)] == 0.25
    assert list(design.arms())[3] == "plain"


def test_a_short_time_leaves_out_seeds_then_methods_then_lengths_and_says_so() -> None:
    def hours(design: Design) -> float:
        return design.seeds * sum(design.arms().values())

    whole = Design(CANDIDATES)
    same, nothing = fitted(whole, hours, hours(whole))
    assert same == whole
    assert nothing == []
    some, left_out = fitted(whole, hours, hours(whole) * 0.5)
    assert some.seeds == 3
    assert left_out[:2] == ["seed 4", "seed 3"]
    assert left_out[2:] == ["InfoBatch 70 %", "InfoBatch 30 %"]
    assert hours(some) <= hours(whole) * 0.5
    least, left_out = fitted(whole, hours, 5.2)
    assert (least.seeds, len(least.candidates), least.sweep) == (2, 1, (0.25, 0.5, 1.0))
    assert "the plain recipe x 1.5" in left_out
    with pytest.raises(ScrimpError, match="the smallest audit"):
        fitted(whole, hours, 1.0)


@pytest.mark.parametrize(("text", "hours"), [("2h", 2.0), ("30m", 0.5), ("90s", 0.025), ("1.5", 1.5), ("15min", 0.25)])
def test_times(text: str, hours: float) -> None:
    assert hours_of(text) == pytest.approx(hours)


@pytest.mark.parametrize("text", ["", "soon", "-1h", "0", "2d", "inf"])
def test_what_is_no_time_is_an_error(text: str) -> None:
    with pytest.raises(ScrimpError, match="--budget"):
        hours_of(text)


def test_times_in_words() -> None:
    assert [duration(hours) for hours in (0.01, 0.2, 3.0)] == ["36 s", "12 min", "3.0 h"]
