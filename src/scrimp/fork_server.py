"""One process imports torch for many: a fork of it does what a command asks for, and begins at once.

A workflow starts hundreds of short commands, and importing torch and pandas costs each of them more CPU time than much of
what follows. `start` begins a server beside the workflow, which holds the modules; `handed_over`, the first thing that the
`scrimp` command calls, hands it the words of a command, the folder, the environment and where output goes. The fork is a
process of its own: it has its own memory, CPU time and random state, and a command that is killed takes it along.

Where anything could differ from a process started in the usual way, the command does its work itself: another installation,
other numbers of threads (BLAS reads them when it is imported), a module of Scrimp that was edited since, no server at all.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ADDRESS = "SCRIMP_FORK_SERVER"  # names the server's socket in the environment of the workflow's commands
COMMANDS = ("run", "reference", "probe", "claims", "figures")
HELD = (
    "scrimp.cli",
    "scrimp.stages.run",
    "scrimp.stages.reference",
    "scrimp.tasks.classification",
    "scrimp.tasks.image_text",
    "scrimp.tasks.causal_lm",
    "scrimp.tasks.masked_lm",
    "scrimp.tasks.fine_tuning",
)
# What the math libraries read once, when they are imported; Snakemake sets them to a rule's threads.
THREADS = (
    "OMP_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
PACKAGE = Path(__file__).parent
LARGEST = 2**20  # bytes of a request: its words and its environment
ENDING = (signal.SIGTERM,)
TOLD_OF_PARENTS_END = 1  # PR_SET_PDEATHSIG of Linux
ENDED = struct.Struct("!i")


def handed_over(words: Sequence[str]) -> int | None:
    """Let a server do the command of these words; its exit status, or None where this process is to do it.

    The server is the one that the environment variable SCRIMP_FORK_SERVER names.
    """
    address = os.environ.get(ADDRESS)
    if not address or not words or words[0] not in COMMANDS:
        return None
    request = json.dumps(
        {**_installation(), "words": list(words), "folder": str(Path.cwd()), "environment": dict(os.environ)}
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(address)
            outputs = array.array("i", [1, 2])
            connection.sendmsg([request.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, outputs)])
            taken = connection.recv(1)
        except OSError:
            return None
        if taken != b"y":
            return None
        status = connection.recv(ENDED.size)
    if len(status) < ENDED.size:
        print("error: the server that this command was handed to has ended; give it again", file=sys.stderr)
        return 1
    code: int = ENDED.unpack(status)[0]
    return code


@contextlib.contextmanager
def serving(threads: int) -> Iterator[None]:
    """A server for commands that use so many threads, while the block runs; none where there can be none."""
    process = start(threads)
    try:
        yield
    finally:
        if process is not None:
            process.terminate()
            process.wait()


def start(threads: int) -> subprocess.Popen[bytes] | None:
    """Start a server for commands of so many threads and name it in this process' environment; None where there can be none.

    It ends with this process, however that ends, and lets no command that it was given go on. An empty SCRIMP_FORK_SERVER in
    the environment asks for none.
    """
    if os.environ.get(ADDRESS) == "" or sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return None  # elsewhere forking a process that has imported torch is not safe
    folder = Path(tempfile.mkdtemp(prefix="scrimp-"))
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
    environment.pop(ADDRESS, None)
    address = folder / "socket"
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(address), str(os.getpid())],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the commands; what they were doing ends with them
    )
    os.environ[ADDRESS] = str(address)
    return process


def serve(address: Path, owner: int, modules: Sequence[str] = HELD, package: Path = PACKAGE) -> None:
    """Import the modules, then fork for every command that comes, until the process `owner` or this one ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    stamps = _stamps(package)
    try:
        owned = os.pidfd_open(owner)
        for name in modules:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()  # what is here stays: collecting in a fork would copy its pages
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            unready = address.with_name("new")
            listener.bind(str(unready))
            listener.listen(64)
            unready.rename(address)  # who sees it is listened to
            Server(listener, owned, package, stamps).loop()
    finally:
        shutil.rmtree(address.parent, ignore_errors=True)


class Server:
    """Who is connected, and which fork works for whom."""

    def __init__(self, listener: socket.socket, owned: int, package: Path, stamps: dict[str, tuple[int, int]]) -> None:
        self.listener, self.owned, self.package, self.stamps = listener, owned, package, stamps
        self.watched = selectors.DefaultSelector()
        self.forks: dict[socket.socket, tuple[int, int]] = {}  # a connection's process, and the file that tells its end

    def loop(self) -> None:
        self.watched.register(self.listener, selectors.EVENT_READ, self.accept)
        self.watched.register(self.owned, selectors.EVENT_READ, self.end)
        try:
            while True:
                for key, _ in self.watched.select():
                    if key.fileobj in self.watched.get_map():  # an event before it in the list may have closed it
                        key.data()
        finally:
            for process, _ in self.forks.values():
                _end_group(process)

    def end(self) -> None:
        sys.exit(0)

    def accept(self) -> None:
        connection, _ = self.listener.accept()
        self.watched.register(connection, selectors.EVENT_READ, lambda: self.take(connection))

    def take(self, connection: socket.socket) -> None:
        """A request, or the end of a command: then what works for it ends, too."""
        if connection in self.forks:
            _end_group(self.forks[connection][0])
            self.watched.unregister(connection)
            return
        outputs = array.array("i")
        try:
            told, ancillary, flags, _ = connection.recvmsg(LARGEST, socket.CMSG_SPACE(2 * outputs.itemsize))
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    outputs.frombytes(data)
            request = json.loads(told) if told and not flags & socket.MSG_TRUNC else {}
            fits = len(outputs) == 2 and self.same(request)
            connection.send(b"y" if fits else b"n")
        except (OSError, ValueError):
            fits = False
        if fits:
            self.fork(connection, request, outputs)
        else:
            self.watched.unregister(connection)
            connection.close()
        for output in outputs:
            os.close(output)

    def same(self, request: dict[str, Any]) -> bool:
        """Whether a fork of this process is what the command would have been by itself."""
        told = {name: request.get(name) for name in _installation()}
        threads = [request.get("environment", {}).get(name) for name in THREADS]
        own = [os.environ.get(name) for name in THREADS]
        return told == _installation() and threads == own and _stamps(self.package) == self.stamps

    def fork(self, connection: socket.socket, request: dict[str, Any], outputs: array.array[int]) -> None:
        # A fork that is told to end before it is somebody else must not end as this server would.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        process = os.fork()
        if process == 0:
            _work(request, outputs, [self.watched, self.listener, connection, *self.forks])  # does not return
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        ended = os.pidfd_open(process)
        self.forks[connection] = (process, ended)
        self.watched.register(ended, selectors.EVENT_READ, lambda: self.tell(connection))

    def tell(self, connection: socket.socket) -> None:
        """A fork's end, told to the command that it worked for."""
        process, ended = self.forks.pop(connection)
        _, status = os.waitpid(process, 0)
        code = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(OSError, KeyError):
            self.watched.unregister(connection)
        with contextlib.suppress(OSError):
            connection.send(ENDED.pack(code if code >= 0 else 128 - code))
        self.watched.unregister(ended)
        os.close(ended)
        connection.close()


def _work(request: dict[str, Any], outputs: array.array[int], servers: Sequence[Any]) -> None:
    """In a fork: close what is the server's, be the command, then leave."""
    code = 1
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(TOLD_OF_PARENTS_END, signal.SIGTERM)  # however the server ends, its forks do
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        for opened in servers:
            opened.close()
        os.dup2(outputs[0], 1)
        os.dup2(outputs[1], 2)
        for output in outputs:
            os.close(output)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.argv = ["scrimp", *request["words"]]
        from scrimp.cli import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # what Python itself would print
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _end_group(process: int) -> None:
    """End a fork and what it has started; it leads a session of its own."""
    for end in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            end(process, signal.SIGTERM)


def _installation() -> dict[str, str]:
    return {"prefix": sys.prefix, "python": sys.version, "package": str(PACKAGE)}


def _stamps(package: Path) -> dict[str, tuple[int, int]]:
    """When each source file of a package was written, and its size."""
    found = {}
    for folder, _, names in os.walk(package):
        for name in names:
            if name.endswith(".py"):
                told = os.stat(os.path.join(folder, name))
                found[os.path.join(folder, name)] = (told.st_mtime_ns, told.st_size)
    return found


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
