"""Tasks by name: the task `image-text` is the class `TASK` of the file `image_text.py` in this folder.

A study may also name a file of its own, `task: denoising.py`, relative to the study's folder.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from scrimp.config.base import unknown
from scrimp.config.tasks import keys_of
from scrimp.config.training import Recipe, Workload
from scrimp.errors import ScrimpError
from scrimp.user_files import is_file, loaded

if TYPE_CHECKING:
    import torch

    from scrimp.config.workspace import Workspace
    from scrimp.tasks.base import Task


@cache
def task_names() -> list[str]:
    """The built-in tasks."""
    files = Path(__file__).parent.glob("*.py")
    has = [path.stem for path in files if re.search(r"(?m)^TASK = ", path.read_text(encoding="utf-8"))]
    return sorted(stem.replace("_", "-") for stem in has)


def task_module(name: str) -> str:
    """The module of a built-in task; an unknown name is an error that lists the known."""
    if name not in task_names():
        raise ScrimpError(unknown("task", name, task_names(), "a study's `task`, which may also be a file, `my_task.py`"))
    return f"{__name__}.{name.replace('-', '_')}"


def task_class(name: str, folder: Path | None = None) -> type[Task]:
    """The class of a task: a built-in one, or the one in a user's file, relative to `folder`."""
    if not is_file(name):
        task: type[Task] = importlib.import_module(task_module(name)).TASK
        return task
    from scrimp.tasks.base import Task

    path = (folder or Path()) / name
    if not path.is_file():
        raise ScrimpError(f"{path} does not exist: a study's `task` is a built-in one or a file beside its study.yaml")
    module = loaded(path)
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Task) and value.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise ScrimpError(f"{path} must define one subclass of scrimp.tasks.base.Task, but defines {len(own)}")
    return own[0]


def task_keys(name: str, folder: Path | None = None) -> tuple[type[Recipe], type[Workload]]:
    """The models of a task's recipe and workload; of built-in tasks without importing torch."""
    keys = None if is_file(name) else keys_of(name)
    if keys is not None:
        return keys
    task = task_class(name, folder)
    return task.recipe_model, task.workload_model


def load_task(name: str, workspace: Workspace, workload: Workload, device: torch.device, folder: Path | None = None) -> Task:
    """A workload's task on a device, its data read."""
    from scrimp.training.place import Place

    task = task_class(name, folder)(workload, Place.of(device, workload.recipe.precision))
    task.setup(workspace)
    if task.train_split not in task.data:
        raise ScrimpError(f"the task {name} has no split {task.train_split!r} to train on; it has {', '.join(task.data)}")
    return task
