"""Methods by name: the method `infobatch` is the class `METHOD` of the file `infobatch.py` in this folder.

Files without a `METHOD` hold what methods share. An arm may also name a file of the user's own, by its whole path."""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrimp.config.base import parse_model, unknown
from scrimp.errors import ScrimpError
from scrimp.user_files import is_file, loaded

if TYPE_CHECKING:
    from scrimp.methods.base import Method


@cache
def method_names() -> list[str]:
    """The names that an arm's `methods` may use."""
    files = Path(__file__).parent.glob("*.py")
    has = [path.stem for path in files if re.search(r"(?m)^METHOD = ", path.read_text(encoding="utf-8"))]
    return sorted(stem.replace("_", "-") for stem in has)


def method_module(name: str) -> str | Path:
    """The module that holds a method, or the user's file; an unknown name is an error that lists the known."""
    if is_file(name):
        return Path(name)
    if name not in method_names():
        raise ScrimpError(unknown("method", name, method_names(), "an arm's `methods`"))
    return f"{__name__}.{name.replace('-', '_')}"


def method_class(name: str) -> type[Method]:
    """The class of a method, imported when first asked for."""
    module = method_module(name)
    if isinstance(module, Path):
        return _own_class(module)
    method: type[Method] = importlib.import_module(module).METHOD
    return method


def _own_class(path: Path) -> type[Method]:
    from scrimp.methods.base import Method

    if not path.is_file():
        raise ScrimpError(f"{path} does not exist: a method of your own is named by the whole path of its file")
    method = getattr(loaded(path), "METHOD", None)
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise ScrimpError(f"{path} must set METHOD to its class, a subclass of scrimp.methods.base.Method")
    return method


def parameters_of(spec: dict[str, Any]) -> dict[str, Any]:
    """A method's keys in the YAML, without its name."""
    return {key: value for key, value in spec.items() if key != "name"}


def check_method(spec: dict[str, Any], where: str, task: str | None = None) -> None:
    """Validate one of an arm's `methods`; a wrong name, key or value is an error that says where.

    With a `task`, also that the method serves it; one of a user's own says so itself, when it runs.
    """
    chosen = method_class(spec["name"])
    if task is not None and not is_file(task) and chosen.tasks is not None and task not in chosen.tasks:
        raise ScrimpError(f"{where}: {spec['name']} serves {', '.join(chosen.tasks)}, not {task}")
    parse_model(parameters_of(spec), chosen.Params, where)
