from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scrimp.audit.folder import Audited, load
from scrimp.config import Workspace


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    """A user's file, in a folder of its own."""
    return Path(shutil.copyfile(Path(__file__).parent / "user_task.py", tmp_path / "my_line.py"))


@pytest.fixture
def audited(task_file: Path, tmp_path: Path) -> Audited:
    return load(task_file, Workspace(tmp_path / "audit"), "cpu", 1)
