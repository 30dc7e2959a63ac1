"""What a run leaves behind: one long table of curves, one summary, one provenance file. All that follows reads these."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pandas as pd

from scrimp.config import Closed, StudyConfig, Workspace, parse_model
from scrimp.data.digests import check_digest
from scrimp.errors import ScrimpError, no_damage
from scrimp.files import json_text, read_json, replacing, sha256_of, write_json, write_text

CURVES = "curves.parquet"  # as `scrimp publish` writes it: the curves of all runs of a study
CURVE_COLUMNS = ["study", "arm", "seed", "scale", "step", "examples", "flops", "seconds", "metric", "value"]


class Meters(Closed):
    """What a run spent. Null means not measured, never zero.

    `updates`, `examples`, `flops` and `seconds` are the four costs that runs are compared on: learner, selection and
    proxies together. Times are wall seconds on the machine named in the provenance; `seconds` is what a user waits for,
    training plus selection plus reference. Of a cooldown, `_reference` is its constant-LR run's part. Evaluation and
    set-up (loading, warm-up, compilation) are kept apart.
    """

    updates: int
    updates_reference: int  # of them, those of proxy models that a selector needs
    examples: int  # trained on: forward and backward
    examples_reference: int  # of them, those that proxy models were trained on
    examples_scored: int  # forward only, for the sake of selection
    flops_train: float
    flops_scoring: float
    flops_reference: float  # training proxy models that a selector needs
    flops: float
    seconds_train: float
    seconds_selection: float
    seconds_reference: float
    seconds: float
    seconds_evaluation: float
    seconds_setup: float
    # What the process's threads computed, training, selection and reference together: repeats on a busy machine.
    cpu_seconds: float | None = None
    cpu_seconds_reference: float | None = None
    peak_memory_bytes: int | None
    energy_joules: float | None

    @classmethod
    def nothing(cls) -> Meters:
        """Of a run that did not begin."""
        return cls(**dict.fromkeys(cls.model_fields, 0) | {"peak_memory_bytes": None, "energy_joules": None})


class Diverged(Closed):
    """The end of a run whose numbers ceased to be finite: after which update, at which learning rate, and what did."""

    step: int
    learning_rate: float
    what: str


class Summary(Closed):
    """One run: its key, what it was told, what it spent, what it reached (`metrics`, accuracies in percent).

    `facts` are sizes that follow from the configuration, counted by named conventions: parameters, tokens. A run that
    diverged has no metrics.
    """

    study: str
    arm: str
    seed: int
    scale: str
    config: dict[str, Any]
    config_digest: str
    command: str
    meters: Meters
    metrics: dict[str, float]
    facts: dict[str, float] = {}  # noqa: RUF012 - pydantic copies it
    diverged: Diverged | None = None

    @property
    def key(self) -> str:
        return f"{self.scale}/{self.study}/{self.arm}/seed{self.seed}"


def write_run(folder: Path, curve: pd.DataFrame, summary: Summary, provenance: dict[str, Any]) -> None:
    """Write a run's three files, the summary last: its presence says the run is whole.

    The provenance gains `files`, the SHA-256 of the other two.
    """
    if list(curve.columns) != CURVE_COLUMNS:
        raise ValueError(f"a curve has the columns {CURVE_COLUMNS}, not {list(curve.columns)}")
    with replacing(folder / "curve.parquet") as temporary:
        curve.to_parquet(temporary, index=False)
        digest = sha256_of(temporary)
        (folder / "summary.json").unlink(missing_ok=True)  # an earlier run's does not belong to what comes now
    text = json_text(summary.model_dump(mode="json"))
    digests = {"curve.parquet": digest, "summary.json": hashlib.sha256(text.encode()).hexdigest()}
    write_json(folder / "provenance.json", {**provenance, "files": digests})
    write_text(folder / "summary.json", text)


def read_summary(folder: Path) -> Summary:
    """A run's summary; ScrimpError for one that is torn, or another than was written."""
    path = folder / "summary.json"
    content = read_json(path)
    _check(folder, path.name)
    return parse_model(content, Summary, str(path))


def read_curve(folder: Path) -> pd.DataFrame:
    """A run's curve; ScrimpError for one that is torn, or another than was written."""
    _check(folder, "curve.parquet")
    return read_table(folder / "curve.parquet")


def read_provenance(folder: Path) -> dict[str, Any]:
    """A run's provenance; empty where it left none."""
    path = folder / "provenance.json"
    content = read_json(path) if path.exists() else {}
    if not isinstance(content, dict):
        raise ScrimpError(f"{path} holds no provenance; delete {folder} and run its stage again")
    return content


def _check(folder: Path, name: str) -> None:
    """Hold a run's file against the digest that its provenance has of it; earlier versions wrote none."""
    digests = read_provenance(folder).get("files")
    if isinstance(digests, dict) and name in digests:
        check_digest(folder / name, str(digests[name]), f"delete {folder} and run its stage again")


def read_table(path: Path) -> pd.DataFrame:
    """A parquet file of results; one that is missing or torn is an error that names it."""
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        no_damage(error, path)
        why = str(error).splitlines()[0]
        raise ScrimpError(f"{path} is missing or damaged ({why}); delete it and run its stage again") from error


def read_rows(path: Path, remedy: str) -> pd.DataFrame:
    """A CSV file of results; one that is missing, cut off or no table is an error that ends in `remedy`."""
    try:
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            raise ValueError("its last line is cut off")
        return pd.read_csv(io.BytesIO(content))
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        no_damage(error, path)
        raise ScrimpError(f"{path} is not a table ({error}); {remedy}") from error


def run_folders(workspace: Workspace, scale: str, study: str) -> list[Path]:
    """Folders of the finished runs of a study at a scale, in a stable order."""
    root = workspace.results(scale, study) / "runs"
    return sorted(path.parent for path in root.glob("*/seed*/summary.json"))


def read_summaries(workspace: Workspace, scale: str, study: str) -> list[Summary]:
    """Summaries of the finished runs, those of arms that the study no longer has among them."""
    return [read_summary(folder) for folder in run_folders(workspace, scale, study)]


def current_summaries(workspace: Workspace, config: StudyConfig, scale: str, diverged: bool = False) -> list[Summary]:
    """Summaries of the finished runs of the arms that a study has at a scale, trained as its file says now.

    A run of an earlier configuration is left out: it is as good as missing until it is run again. Runs that `diverged` are
    for who counts misses: the judge. Figures and tables of numbers do without them.
    """
    specs = {arm: config.run_spec(scale, arm) for arm in config.arm_ids(scale)}
    return [
        run
        for run in read_summaries(workspace, scale, config.study)
        if specs.get(run.arm) == run.config and (diverged or run.diverged is None)
    ]


def read_curves(workspace: Workspace, scale: str, study: str, arms: list[str] | None = None) -> pd.DataFrame:
    """All curves of a study as one long table (columns: CURVE_COLUMNS).

    A folder of published results has no runs; its curves are one table already.
    """
    if (published := workspace.results(scale, study) / CURVES).exists():
        table = read_table(published)
        return table if arms is None else table[table["arm"].isin(arms)].reset_index(drop=True)
    tables = [
        read_curve(folder) for folder in run_folders(workspace, scale, study) if arms is None or folder.parent.name in arms
    ]
    frames = [table for table in tables if len(table)]  # without rows: of a run that diverged before its first
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=CURVE_COLUMNS)
