"""What fails for want of space, permission or memory, or on a torn file, says so in a sentence and exits with status 2."""

from __future__ import annotations

import errno
import os
import re
import resource
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from scrimp import cli
from scrimp.config import Workspace
from scrimp.data.digests import check_digest
from scrimp.data.loading import _mapped
from scrimp.data.mapped import mapped
from scrimp.errors import ScrimpError, no_damage, trouble
from scrimp.files import held, read_json, write_json
from scrimp.records import read_curves, read_summaries, read_summary, read_table
from scrimp.stages.run import run_arm
from scrimp.tracking import must_be_free, ui
from scrimp.training.checkpoint import load_checkpoint

LACKS = [
    (OSError(errno.ENOSPC, "No space left on device", "results/a"), "results/a: No space left on device: free some space"),
    (OSError(errno.EROFS, "Read-only file system", "results/a"), "results/a: Read-only file system: mend the permissions"),
    (PermissionError(errno.EACCES, "Permission denied", "results/a"), "results/a: Permission denied: mend the permissions"),
    (OSError(errno.ENOSPC, "No space left on device"), "a file: No space left on device: free some space"),
    (MemoryError(), "the memory does not suffice"),
    (
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        "the memory does not suffice",
    ),
    (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "the memory does not suffice"),
]


@pytest.mark.parametrize(("error", "sentence"), LACKS, ids=[type(error).__name__ + told[:20] for error, told in LACKS])
@pytest.mark.parametrize("verb", ["list", "check"])
def test_what_the_machine_lacks_is_told_whatever_the_stage(
    tiny: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    sentence: str,
    verb: str,
) -> None:
    def lacking(*_: object) -> None:
        raise error

    monkeypatch.setattr("scrimp.listing.listing", lacking)
    monkeypatch.setattr("scrimp.listing.check_config", lacking)
    monkeypatch.setattr(sys, "argv", ["scrimp", verb])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {sentence}")
    assert "Traceback" not in told


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), FileNotFoundError(errno.ENOENT, "No such file", "x")])
def test_a_fault_of_the_program_keeps_its_traceback(error: Exception) -> None:
    assert trouble(error) is None


def test_a_system_error_under_a_limit_of_memory_is_no_fault_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    error = SystemError("error return without exception set")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert trouble(error) is None
    monkeypatch.setattr(resource, "getrlimit", lambda _: (300_000_000, resource.RLIM_INFINITY))
    assert str(trouble(error)).startswith("the memory does not suffice")


@pytest.mark.parametrize(
    "read",
    [
        read_table,
        read_json,
        lambda path: mapped(path, "0", "delete it"),
        _mapped,
        lambda path: check_digest(path, "0", "delete it"),
        lambda path: load_checkpoint(path, None),
    ],
    ids=["table", "json", "mapped", "pixels", "digest", "checkpoint"],
)
def test_too_few_file_handles_are_no_damage(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"whole")
    before, held_open = resource.getrlimit(resource.RLIMIT_NOFILE), []
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, before[1]))
    try:
        with suppress(OSError):
            while True:
                held_open.append(os.open(path, os.O_RDONLY))
        with pytest.raises(ScrimpError) as told:
            read(path)
    finally:
        for handle in held_open:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert re.search(r"file: Too many open files: raise the limit of open files", str(told.value))
    assert "delete" not in str(told.value)


def test_a_librarys_error_is_told_in_the_systems_words() -> None:
    """pyarrow puts file, detail and number into `strerror` where it opens the file itself."""
    theirs = OSError(errno.EMFILE, "Failed to open local file 'x'. Detail: [errno 24] Too many open files")
    with pytest.raises(ScrimpError, match="cannot read x: Too many open files: raise the limit"):
        no_damage(theirs, Path("x"))
    theirs.filename = "x"
    assert str(trouble(theirs)).startswith("x: Too many open files: raise the limit")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(40) + b"PAR1", b"torn"])
def test_torn_parquet_is_named(tiny: Workspace, content: bytes) -> None:
    folder = tiny.run_folder("smoke", "tiny", "full", 0)
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("{}")
    (folder / "curve.parquet").write_bytes(content)
    for read in (lambda: read_table(folder / "curve.parquet"), lambda: read_curves(tiny, "smoke", "tiny")):
        with pytest.raises(ScrimpError, match=r"seed0/curve\.parquet is missing or damaged .*; delete it and run its stage"):
            read()


def test_a_summary_of_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"study": "s"}')
    with pytest.raises(ScrimpError, match=r"summary\.json: arm: Field required"):
        read_summary(tmp_path)


def test_json_nested_beyond_reason_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * 10**5)
    with pytest.raises(ScrimpError, match=r"a\.json is not valid JSON .*delete it"):
        read_json(tmp_path / "a.json")


def test_results_that_cannot_be_written_to_are_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "results").touch()  # as a read-only folder: nothing can be made in it
    told = r"cannot write in .*results/checkpoints: .*; mend the folder's permissions"
    with pytest.raises(ScrimpError, match=told), held(tmp_path / "results" / "checkpoints" / "run.lock"):
        pytest.fail("held")


def test_a_second_run_of_one_arm_and_seed_leaves_with_a_word(tiny: Workspace) -> None:
    lock = tiny.checkpoint("smoke", "tiny", "full", 0).with_suffix(".lock")
    with held(lock), pytest.raises(ScrimpError, match=r"another process is at the same work .*: wait for it, or stop it"):
        run_arm(tiny, "tiny", "full", 0, "smoke")
    assert not tiny.run_folder("smoke", "tiny", "full", 0).exists()


def test_a_port_that_is_taken_is_told(tiny: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("started"))
    (tiny.root / "results" / "mlflow").mkdir(parents=True)
    (tiny.root / "results" / "mlflow" / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ScrimpError, match=rf"port {port} of this machine cannot be had .*`scrimp ui --port {port + 1}`"):
            ui(tiny, port)
    must_be_free(port)


@pytest.mark.parametrize("name", ["curve.parquet", "summary.json"])
def test_a_flipped_byte_of_a_run_s_file_is_found_when_it_is_read(tiny: Workspace, name: str) -> None:
    folder = run_arm(tiny, "tiny", "full", 0, "smoke")
    path = folder / name
    content = bytearray(path.read_bytes())
    at = content.index(b'"seconds_setup": ') + 17 if name == "summary.json" else len(content) // 2
    content[at] ^= 1  # of a digit: another digit
    path.write_bytes(content)
    read = read_curves if name == "curve.parquet" else read_summaries
    with pytest.raises(ScrimpError, match=rf"seed0/{name} is missing or damaged .*; delete .*seed0 and run its stage again"):
        read(tiny, "smoke", "tiny")
    made = read_json(folder / "provenance.json")
    del made["files"]  # as earlier versions left it
    write_json(folder / "provenance.json", made)
    assert len(read_summaries(tiny, "smoke", "tiny")) == 1
