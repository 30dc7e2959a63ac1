"""A task's own optimiser in the loop: its rate follows each arm's length, and a killed run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scrimp.audit.folder import load
from scrimp.config import Workspace
from scrimp.measure.clock import Clock
from scrimp.methods.combined import Methods
from scrimp.training.budget import Budget
from scrimp.training.loop import train
from scrimp.training.schedules import learning_rate_factor

OWN = """
    def optimizer(self, model):
        return Noted(model.parameters(), lr=2 * self.workload.recipe.learning_rate)


class Noted(torch.optim.NAdam):
    rates = []

    def step(self, closure=None):
        self.rates.append(self.param_groups[0]["lr"])
        super().step()
"""


@pytest.mark.parametrize("steps", [6, 12])
def test_the_rate_of_ones_own_optimiser_follows_the_length(steps: int, task_file: Path, tmp_path: Path) -> None:
    task_file.write_text(task_file.read_text() + OWN)
    task = load(task_file, Workspace(tmp_path / "audit"), "cpu", 1).task
    recipe, model = task.workload.recipe, task.model(0)
    rates = type(task.optimizer(model)).rates
    rates.clear()
    train(task, model, Methods({}), recipe, Budget("steps", steps), 0, clock=Clock(task.place.device))
    peak = 2 * recipe.learning_rate
    assert rates == pytest.approx([peak * learning_rate_factor(recipe.schedule, at / steps, at) for at in range(steps)])


def test_a_run_with_ones_own_optimiser_is_resumed_to_the_bit(task_file: Path, tmp_path: Path) -> None:
    task_file.write_text(task_file.read_text() + OWN)
    task = load(task_file, Workspace(tmp_path / "audit"), "cpu", 1).task
    whole, killed, resumed = (task.model(0) for _ in range(3))

    class KilledError(Exception):
        pass

    def kill(fraction: float) -> None:
        if fraction > 0.5:
            raise KilledError

    def run(model: torch.nn.Module, **options: object) -> None:
        budget, clock = Budget("epochs", 4), Clock(task.place.device)
        train(task, model, Methods({}), task.workload.recipe, budget, 0, clock=clock, **options)  # type: ignore[arg-type]

    run(whole)
    at = {"checkpoint": tmp_path / "c.safetensors", "checkpoint_every": 0.0}
    with pytest.raises(KilledError):
        run(killed, **at, on_progress=kill)
    run(resumed, **at)
    assert (tmp_path / "c.safetensors").exists()
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
