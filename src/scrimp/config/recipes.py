"""Recipe files: a published recipe with its source, which workloads and arms take keys from by `from: recipes/NAME.yaml`.

A file holds `source`, where its numbers are from, and keys of a workload or of an arm. Of several files in a list the last
goes first. What a workload or an arm says itself goes before all, key by key; lists and plain values are replaced whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scrimp.config.base import load_yaml
from scrimp.errors import ScrimpError

FROM = "from"


def filled(entries: Any, folder: Path | None, where: str) -> Any:
    """Entries (workloads or arms by name) with what their recipe files hold put in; errors say `where` and the entry."""
    if not isinstance(entries, dict):
        return entries
    return {name: _filled(entry, folder, f"{where}.{name}") for name, entry in entries.items()}


def _filled(entry: Any, folder: Path | None, where: str) -> Any:
    if not isinstance(entry, dict) or FROM not in entry:
        return entry
    told = entry[FROM] if isinstance(entry[FROM], list) else [entry[FROM]]
    taken: dict[str, Any] = {}
    for path in told:
        if folder is None or not isinstance(path, str):
            raise ScrimpError(f"{where}.from: must be a recipe file's path from the study's folder (got {path!r})")
        recipe = load_yaml(folder / path)
        if not isinstance(recipe, dict) or not isinstance(recipe.get("source"), str):
            raise ScrimpError(f"{folder / path}: a recipe file must have `source`: where its numbers are from")
        taken = joined(taken, {key: value for key, value in recipe.items() if key != "source"})
    return joined(taken, {key: value for key, value in entry.items() if key != FROM})


def joined(shared: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`own` over `shared`, key by key at every depth.

    >>> joined({"recipe": {"a": 1, "b": 2}, "c": [3]}, {"recipe": {"b": 5}, "c": [4]})
    {'recipe': {'a': 1, 'b': 5}, 'c': [4]}
    """
    both = {
        key: joined(shared[key], own[key]) for key in own if isinstance(shared.get(key), dict) and isinstance(own[key], dict)
    }
    return {**shared, **own, **both}
