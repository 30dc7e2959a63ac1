"""What every training stage needs: a run to itself, a key of all that shapes it, its three files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from scrimp.config.training import Workload
from scrimp.config.workspace import Workspace
from scrimp.data.shards import read_manifest
from scrimp.files import digest_of, held
from scrimp.measure.provenance import provenance
from scrimp.records import CURVE_COLUMNS, Meters, Summary, write_run
from scrimp.stages import training_code
from scrimp.training import parallel
from scrimp.training.place import Place

Progress = Callable[[str, float], None]


def no_progress(stage: str, fraction: float) -> None:
    """For callers that show nothing."""


def alone(checkpoint: Path) -> AbstractContextManager[None]:
    """Keep other commands away from a run: they would take turns at its checkpoint. One torchrun's processes are one."""
    return held(checkpoint.with_suffix(".lock")) if parallel.is_first() else nullcontext()


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
    **details: Any,
) -> None:
    """Write a finished run's curve, summary and provenance, which takes `details` too; of torchrun's processes, one does."""
    if not parallel.is_first():
        return
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
    )
    about = {**key.digests, "seed": key.seed, "command": key.command, "bf16": place.bf16, **details}
    folder = workspace.run_folder(key.scale, key.study, key.arm, key.seed)
    named = pd.DataFrame(rows).assign(study=key.study, arm=key.arm, seed=key.seed, scale=key.scale)
    write_run(folder, named[CURVE_COLUMNS], summary, provenance(workspace.root, place.device, **about))
