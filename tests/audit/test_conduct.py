"""An audit as it is run: by Snakemake, in a workspace of its own, to its verdict."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from scrimp.audit.design import Design, Traits, candidates
from scrimp.audit.folder import Audited, write_folder
from scrimp.audit.plan import outline, pace_of, resolution, words
from scrimp.audit.verdict import conclude
from scrimp.audit.work import Machine, Work
from scrimp.errors import ScrimpError
from scrimp.measure.clock import Clock
from scrimp.methods.combined import Methods
from scrimp.training.budget import Budget
from scrimp.training.loop import train


def work_of(audited: Audited, folder: Path) -> Work:
    """The smallest design: two lengths, one method, two seeds."""
    design = Design(candidates(Traits.of(audited.task), ["rs2"]), sweep=(0.5, 1.0), seeds=2)
    pace = pace_of(audited, 0.1)
    return Work(audited, write_folder(folder, audited, design), design, pace, Machine(2, 1, "cpu"))


def test_the_pace_is_measured_and_outlined(audited: Audited) -> None:
    pace = pace_of(audited, setup_seconds=1.0)
    assert pace.steps == 4 * 8
    assert pace.start > 1.0
    assert 0 < pace.step < 1
    assert pace.hours(0.5) < pace.hours(1.0)
    design = Design(candidates(Traits.of(audited.task), ["rs2"]), seeds=2)
    told = "\n".join(outline(design, pace, audited, at_a_time=2))
    assert "my_line.py: 128 examples, 5 parameters, sgd at 0.05, batches of 16, 32 steps a run" in told
    assert "12 runs (2 seeds), 2 at a time" in told
    assert pace.hours_of(design, 2) == pytest.approx(pace.hours_of(design, 1) / 2)


def test_training_goes_on_in_training_mode_after_an_evaluation_that_left_it(audited: Audited) -> None:
    task, modes = audited.task, []
    model = task.model(0)
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    budget = Budget("steps", 6)

    def evaluate(learner: nn.Module) -> dict[str, float]:
        learner.eval()
        return {"test_mse": 1.0}

    clock = Clock(task.place.device)
    train(task, model, Methods({}), task.workload.recipe, budget, 0, clock=clock, evaluate=evaluate, evaluate_times=3)
    assert modes == [True] * 6


@pytest.mark.slow
def test_an_audit_runs_to_its_verdict_and_again_trains_nothing(
    audited: Audited, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    work = work_of(audited, tmp_path / "audit")
    assert work.missing == 6
    work.pilot([])
    assert work.missing == 2
    resolved = resolution(work.workspace, audited, work.design)
    assert resolved is not None
    assert resolved.loss > 0
    assert "2 seeds show a loss of" in words(resolved, audited, work.design)[0]
    work.everything([])
    assert work.missing == 0
    verdict = conclude(work.workspace, audited, work.design, work.pace, 2, work.missing)
    assert verdict.complete
    assert [method.seeds for method in verdict.methods] == [2]
    assert verdict.methods[0].speedup["examples"].value is not None
    for name in ("verdict.json", "report.html"):
        assert (tmp_path / "audit" / name).stat().st_size > 0
    assert (tmp_path / "audit" / "results" / "audit" / "my-line" / "figures" / "speedups.svg").exists()
    runs = sorted((tmp_path / "audit" / "results" / "audit" / "my-line" / "runs").glob("*/seed*/summary.json"))
    made = [path.stat().st_mtime_ns for path in runs]
    work.everything([])
    assert [path.stat().st_mtime_ns for path in runs] == made
    assert "of 6 runs" in capfd.readouterr().err


@pytest.mark.slow
def test_a_run_that_fails_is_told_with_its_last_lines(audited: Audited, task_file: Path, tmp_path: Path) -> None:
    work = work_of(audited, tmp_path / "audit")
    task_file.write_text(task_file.read_text().replace("inputs, targets = batch", "raise RuntimeError('no such luck')"))
    with pytest.raises(ScrimpError, match="no such luck"):
        work.everything([])
    assert work.missing == 6
