"""From a study's folder to the probes, figures and tables that its files offer, and to the digest of those files."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from scrimp.config.workspace import BUILT_IN
from scrimp.measure.code import code_digest
from scrimp.studies import Kind, offered_by

Part = Literal["probes", "figures"]
PART: dict[Kind, Part] = {"probe": "probes", "figure": "figures", "table": "figures"}


def files_of(folder: Path, part: Part) -> list[Path]:
    """A study's `probes.py`, or `figures.py`, and those that end in one of these names."""
    return sorted(folder.glob(f"*{part}.py"))


def offered(folder: Path, kind: Kind) -> dict[str, Callable[..., Any]]:
    """The probes, figures or tables of the study in a folder, by name; none where no file offers any."""
    package = _package(folder)
    for path in files_of(folder, PART[kind]):
        importlib.import_module(f"{package}.{path.stem}")
    return offered_by(package, kind)


def _package(folder: Path) -> str:
    """The package that a study's files are modules of; for a folder outside Scrimp, one of its own."""
    folder = folder.resolve()
    if folder.parent == BUILT_IN.resolve():
        return f"scrimp.studies.{folder.name}"
    # Two folders of one name are two packages.
    name = f"scrimp_study_{folder.name.replace('-', '_')}_{sha256(str(folder).encode()).hexdigest()[:8]}"
    if name not in sys.modules:
        module = ModuleType(name)
        module.__path__ = [str(folder)]
        sys.modules[name] = module
    return name


def study_code(folder: Path, part: Part) -> str:
    """Digest of a study's files of a part, of those beside them that they import, and of all of Scrimp that these import."""
    shared = ["scrimp.studies.standard"] if part == "figures" else []
    return code_digest(*shared, *(path.resolve() for path in files_of(folder, part)))
