"""Reference results: what a complete run measured, small enough to live in the repository beside the hardware's name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.files import replacing, write_json
from scrimp.records import CURVES, current_summaries, read_curves, read_provenance, run_folders

KEPT = ("claims.csv", "claims.json", "tuning.csv", "tables/*.csv", "figures/*.svg", "probes/*.parquet")
SHARED = (
    *("commit", "dirty", "code_digest", "lock_digest", "data_digests", "versions", "platform", "cpu", "cpu_count"),
    *("gpu", "driver", "threads", "device"),
)


def publish(workspace: Workspace, scale: str, studies: list[str], name: str) -> Path:
    """Copy a scale's claims, tables, figures and probes to `results/reference/NAME`, with a row a run, curves, provenance.

    Rows and curves are what the claims are judged from: whoever has them can judge again.

    Raises ScrimpError where a run of the study is missing: half a study is no reference.
    """
    target = workspace.root / "results" / "reference" / name
    for study in studies:
        config, source = workspace.study(study), workspace.results(scale, study)
        summaries = current_summaries(workspace, config, scale, diverged=True)
        missing = set(config.arm_ids(scale)) - {summary.arm for summary in summaries}
        if missing or not (source / "claims.json").exists():
            raise ScrimpError(f"{study} is not finished at {scale} (no runs of: {sorted(missing)}); run `snakemake` first")
        shutil.rmtree(target / study, ignore_errors=True)
        for pattern in KEPT:
            for path in sorted(source.glob(pattern)):
                copy = target / study / path.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
        rows: list[dict[str, object]] = [
            {"arm": s.arm, "seed": s.seed, **s.metrics, **s.meters.model_dump(), "config_digest": s.config_digest}
            | ({} if s.diverged is None else {"diverged_at": s.diverged.step})
            for s in summaries
        ]
        with replacing(target / study / "runs.csv") as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)
        counted = {(summary.arm, summary.seed) for summary in summaries}
        curves = read_curves(workspace, scale, study, config.arm_ids(scale))
        curves = curves.loc[[run in counted for run in zip(curves["arm"], curves["seed"], strict=True)]]
        # A metric's values of a run lie side by side: half the bytes of a run's own order, in which metrics take turns.
        curves = curves.sort_values(["arm", "seed", "metric"], kind="stable")
        with replacing(target / study / CURVES) as temporary:
            curves.to_parquet(temporary, index=False, compression="zstd")
        provenances = [_provenance(folder) for folder in run_folders(workspace, scale, study)]
        distinct = {key: _distinct([provenance.get(key) for provenance in provenances]) for key in SHARED}
        distinct["written"] = sorted(provenance["written"] for provenance in provenances)[:: max(1, len(provenances) - 1)]
        write_json(target / study / "provenance.json", {"scale": scale, "runs": len(provenances), **distinct})
    return target


def _provenance(folder: Path) -> dict[str, Any]:
    content = read_provenance(folder)
    if "written" not in content:
        raise ScrimpError(f"{folder / 'provenance.json'} does not say when the run was written; run its stage again")
    return content


def _distinct(values: list[object]) -> list[object]:
    """The different values in the order of their first appearance."""
    distinct: list[object] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return distinct
