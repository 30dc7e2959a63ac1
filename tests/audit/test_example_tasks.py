"""Every file in examples/audit loads, says its metric, and trains a few steps with a method; some want the extra."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scrimp.audit.folder import load
from scrimp.config import Workspace
from scrimp.measure.clock import Clock
from scrimp.methods.combined import Methods
from scrimp.methods.rs2 import RS2
from scrimp.metrics import better_side
from scrimp.training.budget import Budget
from scrimp.training.loop import train

EXAMPLES = Path(__file__).parents[2] / "examples" / "audit"
# name: its metric, the better side, what it needs
FILES = {
    "captions": ("test_r5", "higher", None),
    "diabetes": ("test_rmse", "lower", None),
    "digits": ("test_accuracy", "higher", None),
    "docstrings": ("test_accuracy", "higher", "transformers"),
    "folder": ("test_accuracy", "higher", None),
    "lightning_module": ("test_loss", "lower", "lightning"),
    "scenes": ("test_f1", "higher", None),
    "silhouettes": ("test_miou", "higher", None),
}


def test_all_examples_are_here() -> None:
    assert set(FILES) == {path.stem for path in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("name", FILES)
def test_an_example_trains(name: str, tmp_path: Path) -> None:
    metric, better, needs = FILES[name]
    if needs is not None:
        pytest.importorskip(needs)
    audited = load(EXAMPLES / f"{name}.py", Workspace(tmp_path / "audit"), "cpu", 1)
    task = audited.task
    assert audited.metric == metric
    assert better_side(metric) == better
    first, again = (task.model(seed) for seed in (1, 1))
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    before = task.measure(first, ["test"])[metric]
    selector = RS2(task.examples, 0, ratio=0.5)
    session = train(
        task, first, Methods({"rs2": selector}), task.workload.recipe, Budget("steps", 6), 0, clock=Clock(task.place.device)
    )
    assert session.spent.steps == 6
    assert task.measure(first, ["test"])[metric] != before
