"""The CUDA kernels on a CPU: `emulated` lets the ops launch the sources themselves, compiled for this machine."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from scrimp.kernels import build, cuda, dispatch

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels' sources and the emulator as a shared library."""
    compiler = os.environ.get("CXX") or next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if compiler is None:
        pytest.skip("no C++ compiler to emulate the kernels with")
    target = tmp_path_factory.mktemp("emulated") / "emulated.so"
    options = ["-std=c++20", "-O2", "-Wno-psabi", "-fPIC", "-shared", f"-I{build.SOURCES}", f"-I{HERE}"]
    subprocess.run([compiler, *options, str(HERE / "emulated.cpp"), "-o", str(target)], check=True)
    return ctypes.CDLL(str(target))


class Processors:
    """What the host code asks of a GPU: three processors, so that even small inputs are split."""

    multi_processor_count = 3


@pytest.fixture
def emulated(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ops on CPU tensors take their CUDA path, host code and kernels both; gives the names of what was launched."""
    launched: list[str] = []

    def run(source: str, name: str, grid: tuple[int, ...], *arguments: Any, device: torch.device, **_: Any) -> None:
        launched.append(name)
        values = []
        for value in arguments:
            if isinstance(value, cuda.Boxes):
                layers, count, width = value.tensor.shape
                described = struct.pack("6Q", value.tensor.data_ptr(), width, count, layers, 64, value.rows)
                values.append(ctypes.create_string_buffer(described.ljust(128, b"\0"), 128))
            elif isinstance(value, torch.Tensor):
                assert value.is_contiguous()
                values.append(ctypes.c_void_p(value.data_ptr()))
            elif isinstance(value, int):
                values.append(ctypes.c_int32(value))
            else:
                values.append(cuda.OF_NUMPY[type(value)](value.item()))
        getattr(library, f"emulate_{name}")(*(*grid, 1, 1)[:3], *values)

    monkeypatch.setattr(cuda, "run", run)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Processors())
    monkeypatch.setattr(dispatch, "runs_on_gpu", lambda device: True)
    monkeypatch.setattr(cuda, "why_unavailable", lambda device: None)
    monkeypatch.setattr(cuda, "has_hopper", lambda device: False)
    return launched
