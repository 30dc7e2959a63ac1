"""Methods by name: the method `infobatch` is the class `METHOD` of the file `infobatch.py` in this folder.

Files without a `METHOD` hold what methods share."""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrimp.config.base import parse_model, unknown
from scrimp.errors import ScrimpError

if TYPE_CHECKING:
    from scrimp.methods.base import Method


@cache
def method_names() -> list[str]:
    """The names that an arm's `methods` may use."""
    files = Path(__file__).parent.glob("*.py")
    has = [path.stem for path in files if re.search(r"(?m)^METHOD = ", path.read_text(encoding="utf-8"))]
    return sorted(stem.replace("_", "-") for stem in has)


def method_module(name: str) -> str:
    """The module that holds a method; an unknown name is an error that lists the known."""
    if name not in method_names():
        raise ScrimpError(unknown("method", name, method_names(), "an arm's `methods`"))
    return f"{__name__}.{name.replace('-', '_')}"


def method_class(name: str) -> type[Method]:
    """The class of a method, imported when first asked for."""
    method: type[Method] = importlib.import_module(method_module(name)).METHOD
    return method


def parameters_of(spec: dict[str, Any]) -> dict[str, Any]:
    """A method's keys in the YAML, without its name."""
    return {key: value for key, value in spec.items() if key != "name"}


def check_method(spec: dict[str, Any], where: str, task: str | None = None) -> None:
    """Validate one of an arm's `methods`; a wrong name, key or value is an error that says where.

    With a `task`, also that the method serves it.
    """
    chosen = method_class(spec["name"])
    if task is not None and chosen.tasks is not None and task not in chosen.tasks:
        raise ScrimpError(f"{where}: {spec['name']} serves {', '.join(chosen.tasks)}, not {task}")
    parse_model(parameters_of(spec), chosen.Params, where)
