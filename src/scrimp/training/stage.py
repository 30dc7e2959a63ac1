"""What every training stage needs, whatever it trains: a place to compute on, a trace to keep, a run to itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from scrimp.errors import ScrimpError
from scrimp.files import held
from scrimp.training import parallel
from scrimp.training.budget import Spent

Progress = Callable[[str, float], None]


def no_progress(stage: str, fraction: float) -> None:
    """For callers that show nothing."""


@dataclass
class Trace:
    """What a run has to tell: curve rows (step, examples, flops, seconds, metric, value) and what was spent."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)
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
