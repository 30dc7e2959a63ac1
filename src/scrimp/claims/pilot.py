"""Runs that exist already, for what comes next to be sized by: those of a scale, else a reference result's rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scrimp.config import StudyConfig, Workspace
from scrimp.errors import ScrimpError
from scrimp.files import read_json
from scrimp.records import Diverged, Meters, Summary, read_rows, read_summary
from scrimp.runs import by_arm_and_seed

KEYS = ("arm", "seed", "config_digest")
ROWS = "runs.csv"  # as `scrimp publish` writes it: a row a run
RESTORE = "bring the published file back (`git checkout`), or write it again with `scrimp publish`"


@dataclass(frozen=True)
class Pilot:
    """Finished runs by arm id and seed, and the folder that they are in."""

    source: Path
    runs: dict[str, dict[int, Summary]]


def find_pilot(workspace: Workspace, study: StudyConfig, scale: str, folder: Path | None = None) -> Pilot:
    """The runs of `folder` (a study's results or reference results); by default of the scale, else of a reference.

    Runs count whatever configuration they were trained by: an earlier one says most of how much a later one will scatter.
    Raises ScrimpError where there are none.
    """
    own = workspace.results(scale, study.study)
    references = sorted((workspace.root / "results" / "reference").glob(f"*/{study.study}"))
    for place in [own, *references] if folder is None else [folder]:
        found = _runs_of(place, study.study, scale)
        if found:
            return Pilot(place, by_arm_and_seed(found))
    looked = own / "runs" if folder is None else folder / "runs"
    raise ScrimpError(
        f"no runs to size {study.study} by: neither {looked} nor a {ROWS} of reference results; run a pilot of two seeds or "
        "more, for example with `snakemake`, or name a folder of results with --from"
    )


def _runs_of(place: Path, study: str, scale: str) -> list[Summary]:
    """The run folders under a folder of results, or else the rows of its table."""
    folders = sorted(path.parent for path in (place / "runs").glob("*/seed*/summary.json"))
    if folders or not (place / ROWS).exists():
        return [summary for run in folders if (summary := read_summary(run)).diverged is None]
    return rows_of(place, study, scale)


def read_published(folder: Path) -> dict[str, Any]:
    """The provenance that `scrimp publish` wrote for a study; ScrimpError for what is none."""
    path = folder / "provenance.json"
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("scale"), str):
        raise ScrimpError(f"{path} holds no provenance of published results: it names no `scale`; {RESTORE}")
    return content


def rows_of(place: Path, study: str, scale: str, diverged: bool = False) -> list[Summary]:
    """The runs of a folder of reference results, without their configuration; those that `diverged` for who asks."""
    rows = read_rows(place / ROWS, RESTORE).to_dict("records")
    try:
        return [_summary(row, study, scale) for row in rows if diverged or not row.get("diverged_at", 0) > 0]
    except (KeyError, TypeError, ValueError) as error:  # pydantic's are ValueErrors
        why = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise ScrimpError(f"{place / ROWS} has not a run in every row ({why}); {RESTORE}") from error


def _summary(row: dict[Any, Any], study: str, scale: str) -> Summary:
    """A run's summary out of its row; cells left empty were not measured."""
    told = {str(key): value for key, value in row.items() if not (isinstance(value, float) and math.isnan(value))}
    meters = {field: told.get(field) for field in Meters.model_fields}
    step = told.pop("diverged_at", None)
    return Summary(
        study=study,
        arm=str(told["arm"]),
        seed=int(told["seed"]),
        scale=scale,
        config={},
        config_digest=str(told.get("config_digest", "")),
        command="",
        meters=Meters.model_validate(meters),
        # At which rate it diverged was not published: no number, which a run's own file may not hold.
        diverged=None if step is None else Diverged.model_construct(step=int(step), learning_rate=math.nan, what="loss"),
        metrics={key: float(value) for key, value in told.items() if key not in (*KEYS, *Meters.model_fields)},
    )
