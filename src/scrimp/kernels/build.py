"""Compiling the CUDA C++ sources, on any machine: NVRTC through `cuda.core` needs no GPU, no nvcc and no host compiler.

Cubins are kept on disk, by source, architecture and compiler, in SCRIMP_CACHE or the user's cache folder; several processes
may start at once, since the files are replaced as a whole (`cuda.core.utils.FileStreamProgramCache`).
"""

from __future__ import annotations

import io
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from scrimp.errors import ScrimpError

if TYPE_CHECKING:
    from cuda.core import ObjectCode, Program

SOURCES = Path(__file__).parent
# The oldest that the kernels run on, Hopper with its own instructions, and Blackwell.
ARCHITECTURES = ["sm_80", "sm_90a", "sm_100"]
ONLY_FOR = {"hopper": "sm_90a"}  # by stem: a file's name here would put it into the digest of every kernel
INSTALL = "pip install 'scrimp[cuda]'"


class Report(NamedTuple):
    """What the assembler says of one kernel: bytes, but for the registers of a thread."""

    source: str
    architecture: str
    kernel: str
    registers: int
    shared: int
    stack: int
    spill_stores: int
    spill_loads: int


def compiler_missing() -> str | None:
    """Why nothing can be compiled here; None where it can."""
    missing = [name for name in ("cuda.core", "cuda.bindings") if not _installed(name)]
    return f"{' and '.join(missing)} not installed: {INSTALL}" if missing else None


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # a parent package
        return False


def sources(architecture: str) -> list[str]:
    """The names of the files that are compiled for an architecture, each a cubin of its own."""
    files = sorted(SOURCES.glob("*.cu"))
    return [file.name for file in files if ONLY_FOR.get(file.stem, architecture) == architecture]


def source_of(name: str) -> str:
    """One file's text with its `#include "..."` put in, each once: NVRTC then needs no folder, and a cache sees all."""
    seen: set[str] = set()

    def text(file: str) -> str:
        if file in seen:
            return ""
        seen.add(file)
        lines = (SOURCES / file).read_text().replace("#pragma once\n", "")
        return re.sub(r'^#include "([^"]+)"$', lambda match: text(match[1]), lines, flags=re.MULTILINE)

    return text(name)


def _program(name: str, architecture: str, verbose: bool) -> Program:
    from cuda.core import Program, ProgramOptions

    options: dict[str, Any] = {"std": "c++17", "arch": architecture, "name": name}
    if verbose:
        options["ptxas_options"] = ["-v"]
    return Program(source_of(name), "c++", ProgramOptions(**options))


def cubin(name: str, architecture: str) -> ObjectCode:
    """A source compiled for an architecture, from the cache where it has been before.

    Raises ScrimpError where nothing can be compiled.
    """
    if (reason := compiler_missing()) is not None:
        raise ScrimpError(reason)
    from cuda.core.utils import FileStreamProgramCache

    folder = Path(
        os.environ.get("SCRIMP_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scrimp"
    )
    with FileStreamProgramCache(folder / "cubins") as cache:
        return _program(name, architecture, verbose=False).compile("cubin", cache=cache)


def build(name: str, architecture: str) -> list[Report]:
    """Compile a source afresh and report on its kernels. Raises ScrimpError, with the compiler's words, where it fails."""
    if (reason := compiler_missing()) is not None:
        raise ScrimpError(reason)
    log = io.StringIO()
    try:
        _program(name, architecture, verbose=True).compile("cubin", logs=log)
    except Exception as error:  # NVRTC's and the linker's share no base
        raise ScrimpError(f"{name} does not build for {architecture}: {error}") from error
    return parsed(log.getvalue(), name, architecture)


def parsed(log: str, source: str, architecture: str) -> list[Report]:
    """The reports in what `ptxas -v` says. Raises ScrimpError where they are not of a known form."""
    reports = []
    for part in re.split(r"Compiling entry function '", log)[1:]:
        kernel = part.split("'", 1)[0]
        frame = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part)
        registers = re.search(r"Used (\d+) registers", part)
        if frame is None or registers is None:
            raise ScrimpError(f"what the assembler said of {kernel} in {source} is not understood: {part.strip()}")
        shared = re.search(r"(\d+) bytes smem", part)
        stack, stores, loads = (int(number) for number in frame.groups())
        reports.append(
            Report(source, architecture, kernel, int(registers[1]), int(shared[1]) if shared else 0, stack, stores, loads)
        )
    if not reports:
        raise ScrimpError(f"the assembler named no kernel of {source} for {architecture}: {log.strip()}")
    return reports
