"""Selectors by name: the selector `infobatch` is the class `SELECTOR` of the file `infobatch.py` in this folder."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrimp.config import parse_model, unknown
from scrimp.errors import ScrimpError

if TYPE_CHECKING:
    from scrimp.selection.base import EpochSelector

NOT_SELECTORS = {"__init__", "base", "dropin", "jest", "pairs"}  # of epochs: JEST chooses within a step


def selector_names() -> list[str]:
    """The names a study's YAML may use."""
    stems = {path.stem for path in Path(__file__).parent.glob("*.py")} - NOT_SELECTORS
    return sorted(stem.replace("_", "-") for stem in stems)


def selector_module(name: str) -> str:
    """The module that holds a selector; an unknown name is an error that lists the known."""
    if name not in selector_names():
        raise ScrimpError(unknown("selector", name, selector_names(), "an arm's `selector`"))
    return f"{__name__}.{name.replace('-', '_')}"


def selector_class(name: str) -> type[EpochSelector]:
    """The class of a selector, imported when first asked for."""
    chosen: type[EpochSelector] = importlib.import_module(selector_module(name)).SELECTOR
    return chosen


def check_selector(spec: dict[str, Any], where: str) -> None:
    """Validate an arm's `selector` mapping; a wrong name, key or value is an error that says where."""
    params = {key: value for key, value in spec.items() if key != "name"}
    parse_model(params, selector_class(spec["name"]).Params, where)


def build_selector(spec: dict[str, Any], size: int, seed: int) -> EpochSelector:
    """A selector over `size` examples from an arm's `selector` mapping."""
    check_selector(spec, f"selector {spec['name']}")
    params = {key: value for key, value in spec.items() if key != "name"}
    return selector_class(spec["name"])(size, seed, **params)
