"""What every training stage needs: a run to itself, a key of all that shapes it, its three files."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from scrimp.config.training import Workload
from scrimp.config.workspace import Workspace
from scrimp.data.shards import read_manifest
from scrimp.files import digest_of, held, sweep
from scrimp.measure.provenance import provenance
from scrimp.progress import Progress, beating
from scrimp.records import CURVE_COLUMNS, Diverged, Meters, Summary, write_run
from scrimp.stages import training_code
from scrimp.training import parallel
from scrimp.training.place import Place
from scrimp.training.session import DivergedError

KEY_COLUMNS = ("study", "arm", "seed", "scale")


def no_progress(stage: str, fraction: float) -> None:
    """For callers that show nothing."""


@contextmanager
def alone(
    checkpoint: Path, on_progress: Progress, *folders: Path, facts: Mapping[str, Any] | None = None
) -> Iterator[Progress]:
    """Keep other commands away from a run: they would take turns at its checkpoint. One torchrun's processes are one.

    What killed ones left half-written, of the checkpoint and in the `folders`, is removed. Yields what to tell progress to;
    notes of it hold the `facts` too.
    """
    if not parallel.is_first():
        yield no_progress
        return
    with held(checkpoint.with_suffix(".lock")):
        sweep(checkpoint)
        for left in (path for folder in folders for path in folder.glob(".*.tmp")):
            left.unlink(missing_ok=True)
        with beating(checkpoint.with_suffix(".progress.json"), on_progress, facts) as told:
            yield told


@dataclass(frozen=True)
class RunKey:
    """Which run a process is at, and all that shapes its result."""

    study: str
    arm: str
    seed: int
    scale: str
    config: dict[str, Any]
    code_digest: str
    data_digests: dict[str, str]

    @property
    def digests(self) -> dict[str, Any]:
        """Digests of configuration, code and data, as the provenance names them."""
        return {
            "config_digest": digest_of(self.config),
            "code_digest": self.code_digest,
            "data_digests": self.data_digests,
        }

    @property
    def command(self) -> str:
        return f"scrimp run {self.study} {self.arm} --seed {self.seed} --scale {self.scale}"

    def checkpoint_key(self, *more: Any) -> str:
        """A digest of all of it and of `more`: a checkpoint of another key is not gone on with."""
        return digest_of([self.digests, self.seed, *map(str, more)])


def data_digests(workspace: Workspace, workload: Workload) -> dict[str, str]:
    """The digest of each sharded dataset that a workload trains on, by name."""
    names = [] if workload.dataset is None else [workload.dataset]
    return {name: read_manifest(workspace.shards(name))["samples_sha256"] for name in names}


def run_key(workspace: Workspace, study: str, arm_name: str, seed: int, scale: str) -> RunKey:
    """What shapes a run of an arm."""
    config = workspace.study(study)
    arm, workload = config.resolve(scale, arm_name)
    code = training_code("run", config.task, arm.method_names, config.folder)
    return RunKey(study, arm_name, seed, scale, config.run_spec(scale, arm_name), code, data_digests(workspace, workload))


def write_results(
    workspace: Workspace,
    key: RunKey,
    place: Place,
    rows: list[dict[str, Any]],
    meters: Meters,
    metrics: dict[str, float],
    facts: dict[str, float],
    diverged: Diverged | None = None,
    **details: Any,
) -> None:
    """Write a finished run's curve, summary and provenance, which takes `details` too; of torchrun's processes, one does.

    One that `diverged` is finished, too: it is told on standard error, and recorded.
    """
    if not parallel.is_first():
        return
    if diverged is not None:
        print(f"{key.arm} seed {key.seed}: {DivergedError(diverged)}; recorded as diverged", file=sys.stderr)
    summary = Summary(
        study=key.study,
        arm=key.arm,
        seed=key.seed,
        scale=key.scale,
        config=key.config,
        config_digest=key.digests["config_digest"],
        command=key.command,
        meters=meters,
        metrics=metrics,
        facts=facts,
        diverged=diverged,
    )
    about = {**key.digests, "seed": key.seed, "command": key.command, "bf16": place.bf16, **details}
    folder = workspace.run_folder(key.scale, key.study, key.arm, key.seed)
    own = [column for column in CURVE_COLUMNS if column not in KEY_COLUMNS]
    named = pd.DataFrame(rows, columns=own).assign(study=key.study, arm=key.arm, seed=key.seed, scale=key.scale)
    write_run(folder, named[CURVE_COLUMNS], summary, provenance(workspace.root, place.device, **about))
