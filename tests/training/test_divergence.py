"""A run whose numbers cease to be finite ends there, says where, and is recorded; what is made from runs goes on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.records import current_summaries, read_curves, read_summary
from scrimp.stages.run import run_arm
from scrimp.stages.tune import Trial, run_trial
from scrimp.studies.outputs import draw_figures
from scrimp.training import session
from scrimp.training.session import DivergedError

ARMS = ["full", "full-x0.5", "rs2-50"]


def with_rate(workspace: Workspace, arm: str, rate: float) -> None:
    path = workspace.root / "config" / "studies" / "tiny" / "study.yaml"
    study = yaml.safe_load(path.read_text())
    study["arms"][arm]["recipe"] = {"learning_rate": rate}
    path.write_text(yaml.safe_dump(study))


def test_it_ends_with_arm_step_and_rate_and_is_recorded(
    tiny: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[dict[str, Any]] = []
    monkeypatch.setattr(session, "save_checkpoint", lambda path, tensors, told: written.append(tensors))
    monkeypatch.setattr(session.time, "monotonic", iter(range(0, 10**7, 30)).__next__)  # a checkpoint every epoch
    with_rate(tiny, "full", 1e25)
    folder = run_arm(tiny, "tiny", "full", 0, "smoke")
    summary = read_summary(folder)
    assert summary.diverged is not None
    step, rate = summary.diverged.step, summary.diverged.learning_rate
    assert 1 <= step < 4 * 5  # five steps an epoch
    assert 0 < rate <= 1e25
    assert summary.metrics == {}
    assert summary.meters.updates == step
    told = capsys.readouterr().err
    assert f"full seed 0: diverged at step {step}, learning rate {rate:.4g}: the loss is" in told
    assert all(bool(weight.isfinite().all()) for tensors in written for weight in tensors["model"].values())
    assert not tiny.checkpoint("smoke", "tiny", "full", 0).exists()


def test_what_is_made_from_runs_survives_it(tiny: Workspace) -> None:
    path = tiny.root / "config" / "studies" / "tiny" / "study.yaml"
    study = yaml.safe_load(path.read_text())
    study["scales"]["smoke"] |= {"seeds": [0], "workloads": {"colours": study["scales"]["smoke"]["workloads"]["colours"]}}
    study["scales"]["smoke"]["workloads"]["colours"]["arms"] = ARMS
    study["figures"], study["tables"] = {}, {}
    path.write_text(yaml.safe_dump(study))
    with_rate(tiny, "rs2-50", 1e25)
    for arm in ARMS:
        run_arm(tiny, "tiny", arm, 0, "smoke")
    config = tiny.study("tiny")
    assert {run.arm for run in current_summaries(tiny, config, "smoke")} == set(ARMS[:2])
    assert {run.arm for run in current_summaries(tiny, config, "smoke", diverged=True)} == set(ARMS)
    assert math.isfinite(read_curves(tiny, "smoke", "tiny")["value"].sum())
    folder = draw_figures(tiny, "tiny", "smoke")
    assert list(Path(folder).glob("*.svg"))


def test_a_trial_of_a_grid_goes_on_to_the_next(tiny: Workspace) -> None:
    row = run_trial(tiny, Trial("tiny", "smoke", "colours", "full", 1e25, 100))
    assert "validation_accuracy" not in row


def test_losses_on_a_gpu_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device that is not the processor: here `meta` stands for it, and losses are put in its place."""
    watched = session.Session(*[None] * 8)  # type: ignore[arg-type]
    for step in range(1, session.LOSSES_AT_ONCE):
        watched.trace.spent.steps, watched.rate = step, 0.1 * step
        watched.watch(torch.zeros((), device="meta"))
    watched.unseen = [(step, rate, torch.tensor(math.nan if step >= 5 else 1.0)) for step, rate, _ in watched.unseen]
    with pytest.raises(DivergedError, match=r"diverged at step 5, learning rate 0\.5: the loss is nan") as raised:
        watched.watch(torch.tensor(math.nan))
    assert raised.value.session is watched
    assert isinstance(raised.value, ScrimpError)


def test_scores_that_are_no_numbers_come_from_weights_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = session.Session(*[None] * 8)  # type: ignore[arg-type]
    watched.model = torch.nn.Linear(2, 1)
    watched.check_weights()
    with torch.no_grad():
        watched.model.weight[0, 1] = math.inf
    with pytest.raises(DivergedError, match="a weight is not finite"):
        watched.check_weights()
