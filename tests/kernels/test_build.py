"""Compiling the CUDA sources without a GPU, and reading what the assembler says."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scrimp.cli import app
from scrimp.errors import ScrimpError
from scrimp.kernels import build

LOG = """ptxas info    : Compiling entry function 'one' for 'sm_80'
ptxas info    : Function properties for one
ptxas         .     8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 14 registers, used 1 barriers, 256 bytes smem, 372 bytes cmem[0]
ptxas info    : Compiling entry function 'two' for 'sm_80'
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 255 registers
"""
needs_compiler = pytest.mark.skipif(build.compiler_missing() is not None, reason=str(build.compiler_missing()))


def test_reports_are_read_off_the_assemblers_log() -> None:
    one, two = build.parsed(LOG, "some.cu", "sm_80")
    assert one == ("some.cu", "sm_80", "one", 14, 256, 8, 4, 12)
    assert two == ("some.cu", "sm_80", "two", 255, 0, 0, 0, 0)
    for damaged in ("", LOG.replace("stack frame", "frame"), LOG.replace("Used 255", "Using 255")):
        with pytest.raises(ScrimpError):
            build.parsed(damaged, "some.cu", "sm_80")


def test_sources_come_with_what_they_include_once() -> None:
    text = build.source_of("rowwise.cu")
    assert "#include" not in text
    assert text.count("constexpr int TILE_ROWS") == 1
    assert build.sources("sm_80") == ["prune.cu", "rowwise.cu", "topk.cu"]
    assert build.sources("sm_90a") == ["hopper.cu", "prune.cu", "rowwise.cu", "topk.cu"]


def test_without_the_compiler_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_installed", lambda name: False)
    with pytest.raises(ScrimpError, match=r"cuda\.core and cuda\.bindings not installed: pip install"):
        build.build("topk.cu", "sm_80")


@needs_compiler
@pytest.mark.parametrize("name", build.sources("sm_90a"))
def test_a_source_builds_without_spills(name: str) -> None:
    reports = build.build(name, "sm_90a")
    assert reports
    assert all((r.stack, r.spill_stores, r.spill_loads) == (0, 0, 0) for r in reports)


@needs_compiler
def test_spills_and_errors_fail_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    hungry = "\n".join(f"float a{n} = in[{n} * step];" for n in range(64))
    uses = " + ".join(f"a{n} * a{(n * 7) % 64}" for n in range(64))
    source = f'extern "C" __global__ void __launch_bounds__(1024, 2) k(const float* in, float* out, int step) {{ {hungry}\n'
    source += f"__syncthreads(); out[threadIdx.x] = {uses}; }}"
    monkeypatch.setattr(build, "sources", lambda architecture: ["topk.cu"])
    monkeypatch.setattr(build, "source_of", lambda name: source)
    result = CliRunner().invoke(app, ["kernels", "build", "--arch", "sm_80"])
    assert isinstance(result.exception, ScrimpError)
    assert "spill" in str(result.exception)
    monkeypatch.setattr(build, "source_of", lambda name: "no C++")
    with pytest.raises(ScrimpError, match="does not build for sm_80"):
        build.build("topk.cu", "sm_80")


def _compile(folder: str) -> int:
    import os

    os.environ["SCRIMP_CACHE"] = folder
    return len(build.cubin("topk.cu", "sm_80").code)


@needs_compiler
def test_processes_that_start_at_once_share_the_cache(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        sizes = pool.map(_compile, [str(tmp_path)] * 3)
    assert len(set(sizes)) == 1
    files = [path for path in (tmp_path / "cubins").rglob("*") if path.is_file() and path.stat().st_size == sizes[0]]
    assert len(files) == 1
