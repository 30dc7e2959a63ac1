"""What every training stage needs, whatever it trains: a place to compute on, a trace to keep, a run to itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from scrimp.config import Workspace
from scrimp.data.shards import read_manifest
from scrimp.errors import ScrimpError
from scrimp.files import digest_of, held
from scrimp.kernels.dispatch import has_fast_bf16
from scrimp.measure.code import code_digest
from scrimp.measure.provenance import provenance
from scrimp.methods import method_module
from scrimp.records import CURVE_COLUMNS, Meters, Summary, write_run
from scrimp.training import parallel
from scrimp.training.budget import Spent

Progress = Callable[[str, float], None]


def no_progress(stage: str, fraction: float) -> None:
    """For callers that show nothing."""


@dataclass
class Trace:
    """What a run has to tell: curve rows (step, examples, flops, seconds, metric, value) and what was spent.

    Of that, a branch's trunk spent what is `inherited`.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)
    inherited: Spent = field(default_factory=Spent)
    resumed: bool = False

    def note(self, **metrics: float) -> None:
        """Add one row per metric at the present point of the run."""
        at = {"step": self.spent.steps, "examples": self.spent.examples, "flops": self.spent.flops}
        self.rows += [{**at, "seconds": self.spent.seconds, "metric": m, "value": v} for m, v in metrics.items()]


@dataclass(frozen=True)
class Place:
    """Where and how precisely a run computes."""

    device: torch.device
    bf16: bool = False

    @classmethod
    def of(cls, device: torch.device, precision: Literal["auto", "fp32", "bf16"]) -> Place:
        """`auto` is bf16 on a GPU that has it, and fp32 on every CPU: what its flags offer must not change a number."""
        return cls(device, precision == "bf16" or (precision == "auto" and device.type == "cuda" and has_fast_bf16(device)))

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


def choose_device(wanted: Literal["auto", "cpu", "cuda"], gpus: int) -> torch.device:
    """The device a run computes on; `auto` takes CUDA where the scale asks for a GPU and one is there."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ScrimpError(
            "device is cuda, but torch sees no GPU: set `device: auto` in config/config.yaml, or use --device cpu"
        )
    use_cuda = wanted == "cuda" or (wanted == "auto" and gpus > 0 and torch.cuda.is_available())
    if not use_cuda:
        return torch.device("cpu")
    torch.cuda.set_device(parallel.rank() % torch.cuda.device_count())
    return torch.device("cuda", torch.cuda.current_device())


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


def run_key(workspace: Workspace, study: str, arm_name: str, seed: int, scale: str, runner: str) -> RunKey:
    """What shapes a run of an arm, of which the module `runner` is the stage."""
    config = workspace.study(study)
    arm, workload = config.resolve(scale, arm_name)
    modules = [runner, *map(method_module, arm.method_names)]
    data = {workload.dataset: read_manifest(workspace.shards(workload.dataset))["samples_sha256"]}
    return RunKey(study, arm_name, seed, scale, config.run_spec(scale, arm_name), code_digest(*modules), data)


def write_results(
    workspace: Workspace,
    key: RunKey,
    place: Place,
    curve: pd.DataFrame,
    meters: Meters,
    metrics: dict[str, float],
    facts: dict[str, float] | None = None,
    **details: Any,
) -> None:
    """Write a finished run's curve, summary and provenance, which takes `details` too; of torchrun's processes, one does.

    `curve` has a row per point and metric, as `Trace.rows`.
    """
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
        facts=facts or {},
    )
    about = {**key.digests, "seed": key.seed, "command": key.command, "bf16": place.bf16, **details}
    folder = workspace.run_folder(key.scale, key.study, key.arm, key.seed)
    named = curve.assign(study=key.study, arm=key.arm, seed=key.seed, scale=key.scale)
    write_run(folder, named[CURVE_COLUMNS], summary, provenance(workspace.root, place.device, **about))
