"""The provenance panel: what the runs of a study have in common, and a warning where they should and do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scrimp.report.tables import NOT_AVAILABLE, plain_text

_FACTS = (
    ("commit", "Commit"),
    ("code_digest", "Code digest"),
    ("lock_digest", "Lock-file digest"),
    ("platform", "Platform"),
    ("cpu", "CPU"),
    ("cpu_count", "CPU cores"),
    ("gpu", "GPU"),
    ("driver", "GPU driver"),
    ("device", "Device"),
    ("threads", "Threads per run"),
    ("kernels", "Kernels"),
)
_MACHINE = ("platform", "cpu", "cpu_count", "gpu", "driver")
_ONE_EXPECTED = {"commit", "lock_digest", *_MACHINE}


@dataclass(frozen=True)
class Fact:
    """One line of the provenance panel: distinct values, each with the number of runs that have it."""

    name: str
    values: list[tuple[str, int]]
    flagged: bool = False


@dataclass(frozen=True)
class Provenance:
    """Where a study's runs came from, and warnings where they should agree and do not."""

    facts: list[Fact]
    versions: list[Fact]
    data: list[Fact]
    warnings: list[str]


def read_provenance(records: Sequence[Mapping[str, Any]]) -> Provenance:
    """Distinct values over the runs' provenance records; an empty record is a run that left none."""
    known = [record for record in records if record]
    facts = [_fact(label, [record.get(key) for record in known], key in _ONE_EXPECTED) for key, label in _FACTS]
    started = sorted(str(record["started"]) for record in known if record.get("started"))
    if started:
        span = started[0] if started[0] == started[-1] else f"{started[0]} to {started[-1]}"
        facts.append(Fact("Started", [(span, len(started))]))
    versions, data = _facts_below("versions", known), _facts_below("data_digests", known)
    return Provenance(facts if known else [], versions, data, _warnings(records, known, [*versions, *data]))


def _fact(label: str, values: Iterable[Any], flag: bool) -> Fact:
    counts = Counter(NOT_AVAILABLE if value is None else plain_text(value) for value in values)
    return Fact(label, sorted(counts.items(), key=lambda item: (-item[1], item[0])), flag and len(counts) > 1)


def _facts_below(key: str, records: Sequence[Mapping[str, Any]]) -> list[Fact]:
    """Facts of a nested record; runs that do not have a name (another data set) do not count against it."""
    nested = [record.get(key) or {} for record in records]
    names = sorted({name for values in nested for name in values})
    return [_fact(name, [values[name] for values in nested if name in values], flag=True) for name in names]


def _warnings(records: Sequence[Mapping[str, Any]], known: Sequence[Mapping[str, Any]], nested: Sequence[Fact]) -> list[str]:
    warnings = []
    commits = {record.get("commit") for record in known}
    machines = {tuple(str(record.get(key)) for key in _MACHINE) for record in known}
    dirty = sum(bool(record.get("dirty")) for record in known)
    silent = len(records) - len(known)
    if len(commits) > 1:
        warnings.append(f"The runs were made by {len(commits)} different commits.")
    if len(machines) > 1:
        warnings.append(f"The runs were made on {len(machines)} different machines: their seconds do not compare.")
    if dirty:
        warnings.append(f"{_count(dirty, 'run')} of {len(known)} came from a tree with uncommitted changes.")
    if silent:
        warnings.append(f"{_count(silent, 'run')} of {len(records)} left no provenance.")
    mixed = [fact.name for fact in nested if fact.flagged]
    if mixed:
        warnings.append(f"More than one version was used of: {', '.join(mixed)}.")
    return warnings


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
