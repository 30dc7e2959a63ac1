"""Energy, memory and what the machine is. What cannot be read is None, never zero."""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
from pathlib import Path
from typing import Any

import torch


def cpu_model() -> str:
    """The processor's own name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_memory(device: torch.device) -> int:
    """Bytes: the CUDA allocator's peak, or the process's largest resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Linux keeps in `ru_maxrss` what the process was before `exec`: the whole size of who started it.
    try:
        own = re.search(rb"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_bytes(), re.MULTILINE)
    except OSError:  # another system
        own = None
    if own:
        return int(own[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class EnergyCounter:
    """Joules of the GPU since it was made, from NVML's total-energy counter."""

    def __init__(self, device: torch.device) -> None:
        self._handle: Any = None
        self._start = 0
        if device.type == "cuda":
            import pynvml

            try:
                pynvml.nvmlInit()
                uuid = str(torch.cuda.get_device_properties(device).uuid)
                self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
                self._start = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
            except pynvml.NVMLError:
                self._handle = None  # older GPUs and some virtual ones have no counter

    def joules(self) -> float | None:
        """Energy so far, or None where there is no counter."""
        if self._handle is None:
            return None
        import pynvml

        return (pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) - self._start) / 1000


def describe(device: torch.device) -> dict[str, Any]:
    """The machine: platform, processor, cores, GPU and driver (None without one)."""
    gpu = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    driver = None
    if gpu is not None:
        import pynvml

        try:
            pynvml.nvmlInit()
            driver = str(pynvml.nvmlSystemGetDriverVersion())
        except pynvml.NVMLError:
            driver = None
    return {
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cpu_count": os.cpu_count(),
        "gpu": None if gpu is None else f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB",
        "driver": driver,
    }
