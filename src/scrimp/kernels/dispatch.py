"""Which implementation of a scoring kernel runs, and which did.

Every op has three: `reference` is the float64 specification, for small inputs; `cpu` is blocked torch, which also serves a
GPU that no kernel was made for; `cuda` is CUDA C++, compiled at first use. The environment variable SCRIMP_KERNELS forces
one for all ops; it is an error where that one cannot run.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Literal, get_args

import torch

from scrimp.errors import ScrimpError

Implementation = Literal["reference", "cpu", "cuda"]
VARIABLE = "SCRIMP_KERNELS"
_used: dict[str, str] = {}


def forced() -> Implementation | None:
    """What SCRIMP_KERNELS asks for; None if it is unset or empty. Raises ScrimpError for a name that is none."""
    wanted = os.environ.get(VARIABLE) or None
    if wanted is not None and wanted not in get_args(Implementation):
        raise ScrimpError(f"{VARIABLE}={wanted}: choose one of {', '.join(get_args(Implementation))}")
    return wanted  # type: ignore[return-value]


def implementation_for(op: str, device: torch.device) -> Implementation:
    """Which implementation of `op` serves tensors on `device`; notes it down for `used`."""
    wanted = forced()
    chosen: Implementation = wanted or "cpu"
    if runs_on_gpu(device) and wanted in (None, "cuda"):
        import scrimp.kernels.check as check  # not in digests: it judges a kernel and makes no number
        from scrimp.kernels import cuda  # here, since it and `check` know this module

        why_not = cuda.why_unavailable(device)
        if why_not is None:
            chosen = "cuda" if wanted == "cuda" or check.trusted(op, device) else "cpu"
        elif wanted is not None:
            raise ScrimpError(f"{VARIABLE}=cuda, but {why_not}")
    elif wanted == "cuda":
        raise ScrimpError(f"{VARIABLE}=cuda, but the tensors given to {op} lie on {device}")
    _used[op] = chosen
    return chosen


def runs_on_gpu(device: torch.device) -> bool:
    return device.type == "cuda"


def used() -> dict[str, str]:
    """The implementation that each op last ran by in this process."""
    return dict(sorted(_used.items()))


@functools.cache
def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 arithmetic is native: on CUDA from compute capability 8, on x86 with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    info = Path("/proc/cpuinfo")
    flags = info.read_text() if info.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
