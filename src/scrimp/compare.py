"""`scrimp compare A B`: the verdicts of two folders of results side by side, and which of them moved."""

from __future__ import annotations

import csv
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from scrimp.claims.pilot import KEYS, ROWS
from scrimp.errors import ScrimpError
from scrimp.files import read_json
from scrimp.records import Meters

NEEDED = ("claim", "study", "verdict", "measured", "low", "high")


@dataclass(frozen=True)
class Pair:
    """One claim in both folders; a side is null where the folder does not have the claim."""

    study: str
    claim: str
    one: dict[str, Any] | None
    other: dict[str, Any] | None

    @property
    def outcome(self) -> str:
        """`same`, `moved`, `other rule` (which says nothing of the results), `only in A` or `only in B`."""
        if self.one is None or self.other is None:
            return "only in A" if self.other is None else "only in B"
        if self.one["verdict"] == self.other["verdict"]:
            return "same"
        return "moved" if self.one.get("rule") == self.other.get("rule") else "other rule"

    @property
    def overlap(self) -> bool | None:
        """Whether the two intervals have a number in common; null where one of them is missing."""
        ends = [_number(side.get(key)) for side in (self.one, self.other) if side for key in ("low", "high")]
        if len(ends) < 4 or any(end is None or math.isnan(end) for end in ends):
            return None
        low, high, other_low, other_high = (float(end or 0.0) for end in ends)
        return low <= other_high and other_low <= high


def compare(one: Path, other: Path) -> list[Pair]:
    """Every claim of two folders of results, in the order of the first."""
    left, right = read_verdicts(one), read_verdicts(other)
    return [Pair(*key, left.get(key), right.get(key)) for key in dict.fromkeys([*left, *right])]


def read_verdicts(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The claims below a folder (of a scale, of reference results, or of one study), by study and claim.

    They may be an earlier version's: only what is compared must be there.
    """
    paths = [folder / "claims.json"] if (folder / "claims.json").exists() else sorted(folder.glob("*/claims.json"))
    if not paths:
        raise ScrimpError(
            f"{folder} holds no verdicts: name a folder such as results/mini or results/reference/mini-cpu, with "
            "STUDY/claims.json in it"
        )
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for path in paths:
        entries = read_json(path)
        for entry in entries if isinstance(entries, list) else [entries]:
            if not isinstance(entry, dict) or not set(NEEDED) <= set(entry) or not _has_numbers(entry):
                raise ScrimpError(f"{path} holds no verdicts; write it with `scrimp claims {path.parent.name}`")
            found[entry["study"], entry["claim"]] = entry
    if not found:
        raise ScrimpError(f"{paths[0]} holds no verdicts; write it with `scrimp claims {paths[0].parent.name}`")
    return found


def _has_numbers(entry: dict[str, Any]) -> bool:
    try:
        for key in ("measured", "low", "high"):
            _number(entry[key])
    except (TypeError, ValueError):
        return False
    return True


def as_json(one: Path, other: Path) -> dict[str, Any]:
    """The same for scripts; the keys are an interface."""
    pairs = compare(one, other)
    rows = [{**asdict(pair), "outcome": pair.outcome, "overlap": pair.overlap} for pair in pairs]
    for row in rows:
        for side in ("one", "other"):
            row[side] = row[side] and {key: row[side].get(key) for key in (*NEEDED[2:], "n", "scale")}
    equal, runs = equal_runs(one, other)
    found = {"both": runs, "equal": equal}
    return {"one": str(one), "other": str(other), "counts": counts(pairs), "runs": found, "claims": rows}


def counts(pairs: list[Pair]) -> dict[str, int]:
    """How many claims have each outcome, and of those in both folders how many intervals overlap."""
    both = [pair.overlap for pair in pairs if pair.overlap is not None]
    outcomes = ("same", "moved", "other rule", "only in A", "only in B")
    return {
        **{outcome: sum(pair.outcome == outcome for pair in pairs) for outcome in outcomes},
        "intervals": len(both),
        "overlapping": sum(both),
    }


def equal_runs(one: Path, other: Path) -> tuple[int, int]:
    """How many runs (arm and seed) of both folders have all metrics equal to the last digit, and how many are in both.

    (0, 0) where one of them has no rows of runs: only `scrimp publish` writes them.
    """
    left, right = _runs(one), _runs(other)
    both = left.keys() & right.keys()
    return sum(left[run] == right[run] for run in both), len(both)


def _runs(folder: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    """The metrics of published runs as they are written, by study, arm and seed."""
    paths = [folder / ROWS] if (folder / ROWS).exists() else sorted(folder.glob(f"*/{ROWS}"))
    found = {}
    for path in paths:
        with path.open(newline="", encoding="utf-8") as rows:
            for row in csv.DictReader(rows):
                metrics = {name: value for name, value in row.items() if name not in (*KEYS, *Meters.model_fields)}
                found[path.parent.name, row["arm"], row["seed"]] = metrics
    return found


def view(one: Path, other: Path) -> Group:
    """The same for people: what did not stay the same, and the counts."""
    pairs = compare(one, other)
    table = Table("study", "claim", "A", "B", "what")
    for pair in pairs:
        if pair.outcome != "same":
            table.add_row(pair.study, pair.claim, _told(pair.one), _told(pair.other), pair.outcome)
    found = counts(pairs)
    judged = found["same"] + found["moved"]
    words = f"{found['same']} of {judged} verdicts are the same, {found['moved']} moved"
    for outcome in ("other rule", "only in A", "only in B"):
        words += f"; {outcome}: {found[outcome]}" if found[outcome] else ""
    told = Text(f"{words}; {found['overlapping']} of {found['intervals']} pairs of intervals overlap")
    equal, runs = equal_runs(one, other)
    same = [Text(f"{equal} of {runs} runs that both have gave the same metrics to the last digit")] if runs else []
    return Group(Text(f"A {one}, B {other}"), *([table] if table.row_count else []), told, *same)


def _told(side: dict[str, Any] | None) -> str:
    if side is None:
        return ""
    measured, low, high = (_number(side.get(key)) for key in ("measured", "low", "high"))
    ends = "" if low is None or high is None else f" [{low:.4g}, {high:.4g}]"
    return str(side["verdict"]) + ("" if measured is None else f", {measured:.4g}{ends}")


def _number(value: Any) -> float | None:
    """A number of a claim; infinities are written as text."""
    return None if value is None else float(value)
