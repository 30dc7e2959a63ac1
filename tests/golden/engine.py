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
from scrimp.data.loading import Images
from scrimp.training import language, pairs_runner
from scrimp.training.language_runner import run_language_arm
from scrimp.training.pairs_runner import run_pairs_arm
from scrimp.training.reference import train_reference
from scrimp.training.runner import run_arm

RUN = {"images": run_arm, "pairs": run_pairs_arm, "words": run_language_arm}


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
    return RUN[study](workspace, study, arm, 0, "smoke", "cpu")


def reference(workspace: Workspace, study: str, name: str) -> Path:
    return train_reference(workspace, study, name, "smoke", "cpu")


@contextmanager
def watching(choices: Callable[[Tensor], None]) -> Iterator[None]:
    """Show `choices` the examples of every update of the learner (and of proxies), in their order."""
    visits, shares, drawn = Images.visits, pairs_runner.SetShares.__call__, language.candidates_of

    def seen_visits(self: Images, order: Tensor, *rest: Any) -> Any:
        choices(order)
        return visits(self, order, *rest)

    def seen_shares(self: Any, indices: Tensor, fraction: float) -> dict[str, float]:
        choices(indices)
        return shares(self, indices, fraction)

    def seen_drawn(*arguments: Any) -> Tensor:
        found = drawn(*arguments)
        choices(found)
        return found

    with (
        mock.patch.object(Images, "visits", seen_visits),
        mock.patch.object(pairs_runner.SetShares, "__call__", seen_shares),
        mock.patch.object(language, "candidates_of", seen_drawn),
    ):
        yield
