"""Digests of code: of files, all of Scrimp that they import, and the data files that those load.

A stage's rule carries the digest of what it runs, so that an edit re-runs what it can change, and nothing else:

- An import through a package's `__init__.py` is followed to the module that the name comes from. An `__init__.py` of
  nothing but imports adds nothing of its own; one that defines something counts whole where that, or the package, is
  imported.
- Imports under `if TYPE_CHECKING:` never run and do not count. Nor does one whose line says `# not in digests: WHY`: of what
  checks and makes no number, or of alternatives of which a rule names its own.
- A file beside a module, whose name stands in the module as a string, belongs to it: CUDA sources, templates, tables. So
  does what such a file names by `#include "..."`. A pattern (`*.cu`) names no file.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from scrimp.files import sha256_of

PACKAGE = "scrimp"
FILE_NAME = re.compile(r"(?:[\w-][\w.-]*/)*[\w-][\w.-]*\.[A-Za-z]\w*")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
LEFT_OUT = b"# not in digests:"


class Import(NamedTuple):
    """`from MODULE import NAME`, or `import MODULE` (no name); `level` counts the dots before a relative module."""

    module: str
    name: str | None
    level: int = 0


class Source(NamedTuple):
    """What matters of one file: its digest, what it imports, and the names of files that it may load.

    `gives` says where the names come from that a module takes from elsewhere at its top level; `only_gives` whether it is
    nothing but that; `defines` holds the other names of its top level.
    """

    digest: str
    imports: frozenset[Import] = frozenset()
    named: frozenset[str] = frozenset()
    gives: dict[str, Import] = {}  # noqa: RUF012 - never changed
    only_gives: bool = False
    defines: frozenset[str] = frozenset()


def package_root() -> Path:
    """The folder of the package that is imported now."""
    return Path(__file__).parents[1]


def code_digest(*starts: str | Path) -> str:
    """Hex digest of everything that modules (by dotted name) or Python files (by path) depend on.

    The same sources in another folder have the same digest. Raises ValueError for what is no module of ours.
    """
    digest = hashlib.sha256()
    root = f"{package_root()}{os.sep}"
    for file in files_of(*starts):
        label = file.removeprefix(root) if file.startswith(root) else os.path.basename(file)
        digest.update(f"{label}\0{_source(file).digest}\0".encode())
    return digest.hexdigest()[:16]


def lock_digest(root: Path) -> str | None:
    """Digest of the pinned versions, if the lock file is there."""
    lock = root / "envs" / "lock.txt"
    return sha256_of(lock)[:16] if lock.exists() else None


def files_of(*starts: str | Path) -> list[str]:
    """The files of the modules and of all that they depend on, directly or not, sorted."""
    root = str(package_root())
    waiting = [_start(start, root) for start in starts]
    reached: set[str] = set()
    known: dict[tuple[str, Import], frozenset[str]] = {}
    while waiting:
        file = waiting.pop()
        if file in reached:
            continue
        reached.add(file)
        folder, source = os.path.dirname(file), _source(file)
        waiting.extend(path for name in source.named if os.path.isfile(path := os.path.normpath(os.path.join(folder, name))))
        for wanted in source.imports:
            # What a relative import means depends on the folder, as does every import in a file outside the package.
            place = folder if wanted.level or not _within(file, root) else root
            if (place, wanted) not in known:
                known[place, wanted] = frozenset(_targets(wanted, place, root))
            waiting.extend(known[place, wanted])
    return sorted(reached)


def _start(start: str | Path, root: str) -> str:
    if isinstance(start, Path):
        return str(start.resolve())
    parts = start.split(".")
    file = _module_file(root, parts[1:]) if parts[0] == PACKAGE else None
    if file is None:
        raise ValueError(f"{start} is not a module of {PACKAGE}")
    return file


def _within(file: str, root: str) -> bool:
    return file.startswith(root + os.sep)


def _module_file(base: str, parts: list[str]) -> str | None:
    path = os.path.join(base, *parts)
    for candidate in (os.path.join(path, "__init__.py"), f"{path}.py"):
        if os.path.isfile(candidate):
            return candidate
    return None


def _targets(wanted: Import, folder: str, root: str, following: frozenset[str] = frozenset()) -> Iterator[str]:
    """The files that an import in a file of `folder` depends on; none where it is somebody else's."""
    parts = wanted.module.split(".") if wanted.module else []
    if wanted.level:
        base = os.path.normpath(os.path.join(folder, *[os.pardir] * (wanted.level - 1)))
    elif parts[0] == PACKAGE:
        base, parts = root, parts[1:]
    elif _within(os.path.join(folder, ""), root):
        return
    else:
        base = folder
    file, name = _module_file(base, parts), wanted.name
    inside = None if name is None else _module_file(base, [*parts, name])
    if file is None or name is None or os.path.basename(file) != "__init__.py":
        # A folder without `__init__.py` is a package too.
        yield from {file or inside} - {None}  # type: ignore[misc]
        return
    package = _source(file)
    if name in package.gives and package.only_gives and file not in following:
        yield from _targets(package.gives[name], os.path.dirname(file), root, following | {file})
    elif inside is None or name in package.gives or name in package.defines:
        yield file
    if inside is not None and name not in package.gives:
        yield inside


def _source(file: str) -> Source:
    status = os.stat(file)
    return _read(file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _read(file: str, modified: int, size: int) -> Source:
    """A file's `Source`. Its time and size are keys of the cache: an edited file is read anew."""
    content = Path(file).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if not file.endswith(".py"):
        # What includes nothing may be pictures or numbers, and no text.
        return Source(digest, named=frozenset(INCLUDE.findall(content.decode(errors="replace"))))
    tree = ast.parse(content, file)
    imports: set[Import] = set()
    named: set[str] = set()
    left_out = {number for number, line in enumerate(content.split(b"\n"), 1) if LEFT_OUT in line}
    for node in _that_run(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and node.lineno in left_out:
            continue
        imports.update(_imports(node).values())
        named.update(_file_names(node))
    gives: dict[str, Import] = {}
    defines: set[str] = set()
    only_gives = True
    for node in tree.body:
        if (taken := _imports(node)) or isinstance(node, ast.Import | ast.ImportFrom) or _for_types(node):
            gives.update(taken)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        elif _bound(node) != {"__all__"}:
            defines.update(_bound(node))
            only_gives = False
    return Source(digest, frozenset(imports), frozenset(named), gives, only_gives, frozenset(defines))


def _that_run(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node, but what only a type checker reads."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(node.orelse if _for_types(node) else ast.iter_child_nodes(node))  # type: ignore[attr-defined]


def _for_types(node: ast.AST) -> bool:
    if not isinstance(node, ast.If):
        return False
    test = node.test
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _imports(node: ast.AST) -> dict[str, Import]:
    """What a node itself imports, by the name that it binds."""
    if isinstance(node, ast.Import):
        return {alias.asname or alias.name: Import(alias.name, None) for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        # Of a star the names are not known: it takes the whole module.
        return {
            alias.asname or alias.name: Import(node.module or "", None if alias.name == "*" else alias.name, node.level)
            for alias in node.names
        }
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        module = node.args[0].value
        if function in ("import_module", "__import__") and isinstance(module, str) and not module.startswith("."):
            return {module: Import(module, None)}
    return {}


def _file_names(node: ast.AST) -> Iterator[str]:
    """Names of files that a node may stand for: "a.cu", "tables/a.csv", `... / "tables" / "a.csv"`."""
    parts: list[object] = []
    if isinstance(node, ast.Constant):
        parts = [node.value]
    elif isinstance(node, ast.BinOp):
        inner: ast.AST = node
        while isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Div) and isinstance(inner.right, ast.Constant):
            parts.insert(0, inner.right.value)
            inner = inner.left
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "joinpath":
        parts = [argument.value if isinstance(argument, ast.Constant) else None for argument in node.args]
    for first in range(len(parts)):
        name = "/".join(part if isinstance(part, str) else "*" for part in parts[first:])
        # Python files are followed where they are imported.
        if FILE_NAME.fullmatch(name) and not name.endswith(".py"):
            yield name


def _bound(node: ast.stmt) -> set[str]:
    """The names that a statement of a module's top level binds, as far as its outside shows."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)}
