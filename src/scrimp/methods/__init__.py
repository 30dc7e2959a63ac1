"""Selectors by name: the selector `infobatch` is the class `SELECTOR` of the file `infobatch.py` in this folder."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from scrimp.config import parse_model, unknown
from scrimp.errors import ScrimpError

if TYPE_CHECKING:
    from scrimp.methods.base import EpochSelector

NOT_SELECTORS = {"__init__", "base", "batch", "drawing", "dropin", "pairs"}


def method_names() -> list[str]:
    """The names a study's YAML may use."""
    stems = {path.stem for path in Path(__file__).parent.glob("*.py")} - NOT_SELECTORS
    return sorted(stem.replace("_", "-") for stem in stems)


def method_module(name: str) -> str:
    """The module that holds a selector; an unknown name is an error that lists the known."""
    if name not in method_names():
        raise ScrimpError(unknown("selector", name, method_names(), "an arm's `selector`"))
    return f"{__name__}.{name.replace('-', '_')}"


def method_class(name: str) -> Any:
    """The class of a selector, of epochs or of batches, imported when first asked for."""
    return importlib.import_module(method_module(name)).SELECTOR


def check_method(spec: dict[str, Any], where: str, task: str | None = None) -> None:
    """Validate an arm's `selector` mapping; a wrong name, key or value is an error that says where.

    With a `task`, also that the selector is one for it: of epochs for classification, of batches for image-text pairs.
    """
    chosen = method_class(spec["name"])
    if task is not None and chosen.task != task:
        raise ScrimpError(f"{where}: {spec['name']} chooses no examples of {task} studies")
    params = {key: value for key, value in spec.items() if key != "name"}
    parse_model(params, chosen.Params, where)


def build_selector(spec: dict[str, Any], size: int, seed: int) -> EpochSelector:
    """An epoch selector over `size` examples from an arm's `selector` mapping."""
    check_method(spec, f"selector {spec['name']}", "classification")
    params = {key: value for key, value in spec.items() if key != "name"}
    return cast("EpochSelector", method_class(spec["name"])(size, seed, **params))
