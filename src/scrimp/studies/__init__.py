"""Studies, one folder each: `study.yaml`, `claims.yaml`, the card `README.md`, and, where it needs them, Python files.

A file called `probes.py` (or `more_probes.py`) offers probes, one called `figures.py` figures and tables:

    from scrimp.studies import figure, probe, table

    @probe("overhead")
    def overhead(workspace, scale, options) -> pd.DataFrame: ...

    @figure("accuracy-cost")
    def accuracy_cost(workspace, scale) -> Figure: ...

    @table("arms")
    def arms(workspace, scale) -> pd.DataFrame: ...

Nothing lists them. They are two kinds of files so that a change to a figure measures nothing anew. Other files beside them
are imported relatively (`from .points import points`). A folder outside the package works like one in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

Kind = Literal["probe", "figure", "table"]
Maker = TypeVar("Maker", bound=Callable[..., Any])

_OFFERED: dict[tuple[str, Kind], dict[str, Callable[..., Any]]] = {}  # (a study's package, kind) -> name -> function


def probe(name: str) -> Callable[[Maker], Maker]:
    """Offer a function (workspace, scale, options) -> DataFrame as the study's probe `name`; options are the scale's."""
    return _offer("probe", name)


def figure(name: str) -> Callable[[Maker], Maker]:
    """Offer a function (workspace, scale) -> matplotlib Figure as the study's figure `name`."""
    return _offer("figure", name)


def table(name: str) -> Callable[[Maker], Maker]:
    """Offer a function (workspace, scale) -> DataFrame as the study's table `name`."""
    return _offer("table", name)


def offered_by(package: str, kind: Kind) -> dict[str, Callable[..., Any]]:
    """What the files of a study's package that were imported so far offer, by name."""
    return _OFFERED.get((package, kind), {})


def _offer(kind: Kind, name: str) -> Callable[[Maker], Maker]:
    def offer(maker: Maker) -> Maker:
        known = _OFFERED.setdefault((maker.__module__.rpartition(".")[0], kind), {})
        before = known.setdefault(name, maker)
        if (before.__module__, before.__qualname__) != (maker.__module__, maker.__qualname__):
            raise ValueError(f"{kind} {name!r} is offered by {before.__qualname__} and by {maker.__qualname__}")
        known[name] = maker
        return maker

    return offer
