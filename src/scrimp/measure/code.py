"""Digests of code: of a module and all of Scrimp that it imports. A stage's rule carries the digest of what it runs."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = "scrimp"


def package_root() -> Path:
    """The folder of the package that is imported now."""
    return Path(__file__).parents[1]


def module_path(module: str) -> Path | None:
    """The file of a module of ours, or None for a module of somebody else's, or a name inside a module."""
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return None
    base = package_root().joinpath(*parts[1:])
    for candidate in (base / "__init__.py", base.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


@cache
def imports_of(module: str) -> frozenset[str]:
    """Our own modules that a module's source imports, anywhere in it."""
    path = module_path(module)
    return frozenset() if path is None else imports_in(path)


def imports_in(path: Path) -> frozenset[str]:
    """Our own modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from scrimp.data import icons` may name a module or something inside one.
            found.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    return frozenset(name for name in found if module_path(name) is not None)


def closure(*modules: str) -> list[str]:
    """The modules and everything of ours that they import, directly or not, sorted."""
    reached: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module_path(module) is None:
            raise ValueError(f"{module} is not a module of {PACKAGE}")
        if module not in reached:
            reached.add(module)
            waiting.extend(imports_of(module))
    return sorted(reached)


def code_digest(*modules: str) -> str:
    """Hex digest of the sources of the modules' closure; whatever cannot change a stage's result stays out of it."""
    digest = hashlib.sha256()
    for module in closure(*modules):
        path = module_path(module)
        assert path is not None
        digest.update(module.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
