"""Several arms from one entry: `grid` names the values, braces say where they go.

    rs2-{ratio:%}: {label: "RS2 {ratio:%} %", methods: [{name: rs2, ratio: "{ratio}"}], grid: {ratio: [0.3, 0.5]}}

stands for the arms `rs2-30` and `rs2-50`. A value that is nothing but braces stays a number. `{ratio}` is the value as it is
written, `{ratio:%}` in percent (30), `{ratio:/}` as a fraction (3/10). Several names make every combination. In a list of
arms, `rs2-*` stands for all that it matches, in the order of `arms`.
"""

from __future__ import annotations

import fnmatch
import itertools
import re
from fractions import Fraction
from typing import Any

from scrimp.config.base import unknown
from scrimp.errors import ScrimpError

BRACES = re.compile(r"\{(\w+)(?::([%/]))?\}")
LARGEST_DENOMINATOR = 1000


def expanded(arms: dict[str, Any], where: str) -> dict[str, Any]:
    """The arms with every grid's in its place, in the grid's order; errors say `where` and the entry."""
    single: dict[str, Any] = {}
    for entry, arm in arms.items():
        for name, each in _each(str(entry), arm, f"{where}.{entry}"):
            if name in single:
                raise ScrimpError(f"{where}.{entry}: there are two arms {name!r}")
            single[name] = each
    return single


def _each(entry: str, arm: Any, where: str) -> list[tuple[str, Any]]:
    """The arms that one entry stands for."""
    if not isinstance(arm, dict) or "grid" not in arm:
        if BRACES.search(entry):
            raise ScrimpError(f"{where}: give the values of what is in braces as `grid`")
        return [(entry, arm)]
    grid = arm["grid"]
    if not isinstance(grid, dict) or not grid or not all(isinstance(values, list) and values for values in grid.values()):
        raise ScrimpError(f"{where}.grid: must map names to lists of values")
    unused = set(grid) - {name for name, _ in BRACES.findall(entry)}
    if unused:
        raise ScrimpError(f"{where}.grid: the arm's name must hold {{{min(unused)}}}, or its values make one arm twice")
    rest = {key: value for key, value in arm.items() if key != "grid"}
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    return [(str(_filled(entry, chosen, where)), _filled(rest, chosen, where)) for chosen in combinations]


def _filled(value: Any, chosen: dict[str, Any], where: str) -> Any:
    """A value with every pair of braces in its strings replaced."""
    if isinstance(value, dict):
        return {key: _filled(inner, chosen, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, chosen, where) for inner in value]
    if not isinstance(value, str):
        return value
    for name, _ in BRACES.findall(value):
        if name not in chosen:
            raise ScrimpError(unknown("value", name, chosen, f"{where}.grid"))
    alone = BRACES.fullmatch(value)
    if alone and alone[2] is None:
        return chosen[alone[1]]
    return BRACES.sub(lambda braces: _written(chosen[braces[1]], braces[2], where), value)


def _written(value: Any, form: str | None, where: str) -> str:
    if form is None:
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScrimpError(f"{where}.grid: {value!r} is no number, which `{{...:{form}}}` writes")
    if form == "%":
        return f"{100 * value:.10g}"
    return str(Fraction(value).limit_denominator(LARGEST_DENOMINATOR))


def listed(names: list[Any], arms: dict[str, Any], where: str) -> list[Any]:
    """A list of arms with every `pattern*` replaced by the arms that it matches and that the list does not name itself."""
    names_of_arms: list[Any] = []
    for name in names:
        if not isinstance(name, str) or "*" not in name:
            names_of_arms.append(name)
            continue
        matching = [arm for arm in arms if fnmatch.fnmatchcase(arm, name)]
        if not matching:
            raise ScrimpError(f"{where}: no arm matches {name!r}; known: {', '.join(arms)}")
        names_of_arms += [arm for arm in matching if arm not in names_of_arms and arm not in names]
    return names_of_arms
