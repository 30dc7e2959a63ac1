"""Files elsewhere that a user's task names at its head, such as `FOLDER, MODEL = "/data/birds", "/home/me/net.py:make"`.

`scrimp try` writes such lines. What they name shapes a run as the task's own file does.
"""

from __future__ import annotations

import ast
import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from scrimp.files import digest_of

HEAD = ("DATA", "FILE", "FOLDER", "MODEL", "TARS")


def named_inputs(task: Path) -> tuple[list[Path], str]:
    """The Python files that HEAD's names stand for in a task's file, and a digest of their data ("": there are none).

    Whole paths count alone. Data go by name, size and time, since to read them all would take hours; patterns of tars stand
    for all files that they match.
    """
    code: list[Path] = []
    data: list[list[object]] = []
    for text in _texts(task):
        kind, _, rest = text.partition(":")
        if kind.endswith(".py"):
            code += [Path(kind)] if os.path.isabs(kind) and os.path.isfile(kind) else []
        elif os.path.isabs(place := rest if kind == "hf" else text):
            data += [row for found in sorted(glob.glob(re.sub(r"{[^}]*}", "*", place))) for row in _rows(found)]
    return code, digest_of(data) if data else ""


def _texts(task: Path) -> Iterator[str]:
    for node in ast.parse(task.read_bytes(), str(task)).body:
        if not isinstance(node, ast.Assign):
            continue
        target, value = node.targets[0], node.value
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=False))
        for name, what in pairs:
            if not isinstance(name, ast.Name) or name.id not in HEAD:
                continue
            for part in what.elts if isinstance(what, ast.List | ast.Tuple) else [what]:
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def _rows(place: str) -> Iterator[list[object]]:
    """Path, size and time of a file, or of each file below a folder, by their names."""
    files = [place]
    if os.path.isdir(place):
        files = sorted(os.path.join(folder, name) for folder, _, names in os.walk(place) for name in names)
    for file in files:
        if os.path.isfile(file):  # no broken link
            status = os.stat(file)
            yield [file, status.st_size, status.st_mtime_ns]
