"""Python files of a user's own: tasks and methods that live outside of the package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from scrimp.files import digest_of


def is_file(name: str) -> bool:
    """Whether a task or a method is named by a file."""
    return name.endswith(".py")


def loaded(path: Path) -> ModuleType:
    """The module in a file, imported once a process. Imports in it find what lies beside it, after everything else."""
    path = path.resolve()
    name = f"scrimp_user_{path.stem}_{digest_of(str(path), 8)}"
    if name not in sys.modules:
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
