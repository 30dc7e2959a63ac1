"""Commands that a fork does end as by themselves: same files, same words, same status; killed, all of it is gone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from scrimp import fork_server
from scrimp.config import Workspace
from scrimp.records import read_summary

ONE_THREAD = dict.fromkeys(fork_server.THREADS, "1")
COMMAND = [sys.executable, "-m", "scrimp"]
RUN = ["run", "tiny", "full", "--scale", "smoke", "--device", "cpu"]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a process that has imported torch is forked on Linux alone")


def soon(happened: Callable[[], Any]) -> Any:
    """What becomes true within a minute."""
    for _ in range(600):
        if found := happened():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen")


@pytest.fixture(scope="module")
def address() -> Iterator[Path]:
    """The socket of a server that has begun to listen; nothing of it is in this process' environment."""
    with pytest.MonkeyPatch.context() as patch, fork_server.serving(1):
        found = Path(os.environ[fork_server.ADDRESS])
        patch.delenv(fork_server.ADDRESS)
        soon(found.exists)
        yield found
    assert not found.parent.exists()


def environment(address: Path, **others: str) -> dict[str, str]:
    return {**os.environ, **ONE_THREAD, fork_server.ADDRESS: str(address), **others}


def server_of(address: Path) -> psutil.Process:
    processes = [process for process in psutil.Process().children() if not gone(process.pid)]
    return next(process for process in processes if str(address) in process.cmdline())


def gone(process: int) -> bool:
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def forks(address: Path) -> list[psutil.Process]:
    return server_of(address).children()


def endless(workspace: Workspace, address: Path) -> subprocess.Popen[bytes]:
    """A command whose run takes many minutes."""
    study = workspace.study_folder("tiny") / "study.yaml"
    study.write_text(study.read_text().replace("epochs: 4", "epochs: 4000"))
    nowhere = subprocess.DEVNULL
    return subprocess.Popen([*COMMAND, *RUN], env=environment(address), stderr=nowhere, stdout=nowhere)


def test_a_forked_run_writes_what_one_by_itself_does(tiny: Workspace, address: Path, tmp_path: Path) -> None:
    folder = tiny.run_folder("smoke", "tiny", "full", 0)
    found = []
    for where in (address, tmp_path / "none"):
        ended = subprocess.run([*COMMAND, *RUN], env=environment(where), capture_output=True, text=True, check=True)
        summary = read_summary(folder)
        assert summary.meters.cpu_seconds is None or 0 < summary.meters.cpu_seconds < 60  # the fork's own, not the server's
        curve = pd.read_parquet(folder / "curve.parquet").drop(columns="seconds")
        found.append((ended.stdout, curve, summary.metrics, summary.meters.flops, summary.config))
        shutil.rmtree(folder)
    (words, curve, *numbers), (other_words, other_curve, *other_numbers) = found
    pd.testing.assert_frame_equal(curve, other_curve, check_exact=True)
    assert (words, numbers) == (other_words, other_numbers)


def test_it_was_a_fork_that_did_it(tiny: Workspace, address: Path) -> None:
    """Without importing torch, a command's own process takes a fraction of a second of CPU time."""
    before = os.times()
    ended = subprocess.run([*COMMAND, "claims", "nosuch"], env=environment(address), capture_output=True)
    after = os.times()
    assert ended.returncode == 2
    assert b"error: " in ended.stderr
    assert ended.stdout == b""
    used = after.children_user - before.children_user
    begun = os.times()
    subprocess.run([*COMMAND, "claims", "nosuch"], env=environment(Path("none")), capture_output=True)
    assert used < (os.times().children_user - begun.children_user) / 3


def test_a_command_that_is_killed_takes_its_fork_along(tiny: Workspace, address: Path) -> None:
    command = endless(tiny, address)
    soon(lambda: forks(address))
    command.kill()
    command.wait()
    soon(lambda: not forks(address))
    assert not tiny.run_folder("smoke", "tiny", "full", 0).exists()


def test_a_fork_that_is_killed_is_told_as_a_shell_would(tiny: Workspace, address: Path) -> None:
    command = endless(tiny, address)
    soon(lambda: forks(address))[0].send_signal(signal.SIGKILL)
    assert command.wait() == 128 + signal.SIGKILL


def test_a_server_that_is_killed_takes_its_forks_along(tiny: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(fork_server.ADDRESS, raising=False)
    server = fork_server.start(1)
    assert server is not None
    address = Path(os.environ[fork_server.ADDRESS])
    soon(address.exists)
    command = endless(tiny, address)
    fork = soon(lambda: forks(address))[0]
    soon(lambda: fork.cpu_times().user > 0.5)  # it is at work
    server.kill()
    assert command.wait() == 1
    soon(lambda: gone(fork.pid))
    server.wait()
    shutil.rmtree(address.parent)


@pytest.mark.parametrize(
    "what",
    [{"OMP_NUM_THREADS": "2"}, {fork_server.ADDRESS: "/nowhere"}],
    ids=["other threads", "no server"],
)
def test_what_could_differ_is_done_by_the_command_itself(
    what: dict[str, str], address: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(address, **what).items():
        monkeypatch.setenv(name, value)
    assert fork_server.handed_over(["claims", "tiny", "--scale", "smoke"]) is None


def test_other_commands_are_not_handed_over(address: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(address).items():
        monkeypatch.setenv(name, value)
    assert fork_server.handed_over(["list"]) is None
    assert fork_server.handed_over([]) is None


def test_an_edited_module_is_not_run_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "module.py").write_text("x = 1\n")
    address = tmp_path / "server" / "socket"
    address.parent.mkdir()
    told = f"from pathlib import Path; from scrimp.fork_server import serve; serve(Path({str(address)!r}), {os.getpid()}"
    told += f", ['json', 'scrimp.cli'], Path({str(package)!r}))"
    server = subprocess.Popen([sys.executable, "-c", told], env={**os.environ, **ONE_THREAD})
    try:
        soon(address.exists)
        for name, value in environment(address).items():
            monkeypatch.setenv(name, value)
        assert fork_server.handed_over(["run", "--help"]) == 0
        (package / "module.py").write_text("x = 22\n")
        assert fork_server.handed_over(["run", "--help"]) is None
    finally:
        server.terminate()
        server.wait()
    assert not address.parent.exists()


def test_an_empty_address_asks_for_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fork_server.ADDRESS, "")
    assert fork_server.start(1) is None


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    told = "import os; from scrimp import fork_server; print(fork_server.start(1).pid, os.environ[fork_server.ADDRESS])"
    words = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout.split()
    process, address = int(words[0]), Path(words[1])
    soon(lambda: gone(process))
    assert not address.parent.exists()
