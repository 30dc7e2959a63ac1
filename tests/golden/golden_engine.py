"""How the golden runs are written and started: all that knows the shape of a study's file and where a run's stage lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import study_folders
from torch import Tensor

from scrimp.config import Workspace
from scrimp.stages.reference import train_reference
from scrimp.stages.run import run_arm
from scrimp.training import examples


def arm(method: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"label": "-", **({"methods": [method]} if method else {}), **more}


def cooldown(schedule: dict[str, Any], share: float, shape: str = "1-sqrt") -> dict[str, Any]:
    return {**schedule, "cooldown": share, "cooldown_shape": shape}


def cooldown_arm(of: str, horizon: float, schedule: dict[str, Any]) -> dict[str, Any]:
    return arm(horizon={"flops": horizon}, recipe={"schedule": schedule}, cooldown_of=of)


def study(name: str, task: str, arms: dict[str, Any], workloads: dict[str, Any], **scale: Any) -> dict[str, Any]:
    sizes = {"smoke": {"note": "tiny", "seeds": [0], "workloads": workloads, **scale}}
    about = {"title": "t", "paper": "p", "card": {"question": "?", "method": "-", "reading": "-"}}
    return {
        "study": name,
        "task": task,
        **about,
        "arms": arms,
        "baseline_sweep": [],
        "scales": sizes,
        "figures": {},
        "claims": [],
    }


def write_study(root: Path, content: dict[str, Any]) -> None:
    study_folders.write_study(root, content)


def run(workspace: Workspace, study: str, arm: str) -> Path:
    return run_arm(workspace, study, arm, 0, "smoke", "cpu")


def reference(workspace: Workspace, study: str, name: str) -> Path:
    return train_reference(workspace, study, name, "smoke", "cpu")


@contextmanager
def watching(choices: Callable[[Tensor], None]) -> Iterator[None]:
    """Show `choices` the examples of every update of the learner (and of proxies), in their order."""
    note = {kind: kind.note for kind in (examples.Epochs, examples.Steps)}

    def seen(self: Any, session: Any, before: float, indices: Tensor) -> None:
        choices(indices)
        note[type(self)](self, session, before, indices)

    with mock.patch.object(examples.Epochs, "note", seen), mock.patch.object(examples.Steps, "note", seen):
        yield
