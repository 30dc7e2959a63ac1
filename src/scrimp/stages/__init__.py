"""Stages that train: a reference, a run, a grid of learning rates. Each is one text, whatever the task."""

from __future__ import annotations

from pathlib import Path

from scrimp.files import digest_of
from scrimp.measure.code import code_digest
from scrimp.methods import method_module
from scrimp.stages.inputs import named_inputs
from scrimp.tasks import task_module
from scrimp.user_files import is_file


def training_code(stage: str, task: str, methods: list[str], folder: Path | None = None) -> str:
    """A digest of the code that a stage (`run`, `reference`, ...) trains a task with: its own, the task's, the methods'.

    `folder` is the study's, where a task may be a file: then the model's file and the data that it names count, too.
    """
    modules = [f"{__name__}.{stage}", *map(method_module, methods)]
    if not is_file(task):
        return code_digest(*modules, task_module(task))
    file = (folder or Path()) / task
    models, data = named_inputs(file)
    code = code_digest(*modules, file, *models)
    return digest_of([code, data]) if data else code
