"""A plan in a file that the processes of one node map: who fills it, who reads it, and how it goes away. For Linux.

The kernel's lock on a file (`flock`) ends with the process that holds it, however it ends, so a lock says who is alive.
One that fills a file holds its lock alone, those that read it hold it together, and a file that nobody holds is never
read: it was left behind by a run that was killed, and is removed by the next that makes one.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import time
from multiprocessing import util
from pathlib import Path

import numpy as np
import torch

from scrimp.methods.plan import Plan, places_of

FILLED = b"scrimp01"  # the first bytes once all others are there; the number changes with the layout
COUNTS = struct.Struct("<8xQQQ")  # behind them: size, planned, left
RANKS = 64  # from this byte on, one of each local process that has the plan
HEADER = 4096
PATIENCE = 600.0  # seconds; about 1e9 examples are planned in half of it
PAUSE = 0.02  # seconds


class PlanFile:
    """A file that is open and locked: by this process alone until it is `filled`, together with others then.

    Let go of it when the plan is no longer to be found by others; those that have it keep it, since they map it.
    """

    def __init__(self, path: Path, handle: int, filled: bool) -> None:
        self.path = path
        self.filled = filled
        self._handle = handle
        # Not weakref.finalize: forked training processes end without Python's own exit, and copies in forked workers of
        # a loader, which share the lock, must not end it.
        self.release = util.Finalize(self, _release, (path, handle), exitpriority=0)

    def empty(self, size: int, planned: int, left: int) -> Plan:
        """A plan to be filled, which the file then holds. OSError where there is no room for it."""
        os.ftruncate(self._handle, 0)  # one that died while filling it may have left some
        length = HEADER + bytes_of(size, planned, left)
        # A file with holes would be found to have no room when it is written to, which kills the process.
        os.posix_fallocate(self._handle, 0, length)
        os.pwrite(self._handle, COUNTS.pack(size, planned, left), 0)
        return _arrays(mmap.mmap(self._handle, length), size, planned, left)

    def publish(self) -> None:
        """Say that the plan is complete. It is read from now on."""
        os.pwrite(self._handle, FILLED, 0)
        self.filled = True
        _locked(self._handle, fcntl.LOCK_SH)

    def read(self) -> Plan:
        """The plan, from memory that all its readers share; what one of them writes there only it sees.

        The last of the node's processes, where the launcher said how many there are, takes the file's name away: then
        nothing is left whatever becomes of them. OSError or ValueError where it cannot be mapped.
        """
        size, planned, left = COUNTS.unpack(os.pread(self._handle, COUNTS.size, 0))
        length = HEADER + bytes_of(size, planned, left)
        memory = mmap.mmap(self._handle, length, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        rank, count = local_rank(), local_count()
        if rank is not None and count is not None and rank < count <= HEADER - RANKS:
            os.pwrite(self._handle, b"\1", RANKS + rank)
            if os.pread(self._handle, count, RANKS) == b"\1" * count:
                _unlink(self.path, self._handle)
        return _arrays(memory, size, planned, left)


def opened(path: Path, room: int, patience: float = PATIENCE) -> PlanFile | None:
    """The file of this name: to be read if another process fills or has filled it, else to be filled.

    None where it cannot be: no folder, less than `room` bytes in it, no right to it, `patience` seconds waited for another
    process to fill it.
    """
    until = time.monotonic() + patience
    while True:
        try:
            handle = _open(path, room)
            if handle is None:
                return None
            try:
                found = _look(path, handle)
            except BaseException:
                os.close(handle)
                raise
        except OSError:
            return None
        if found is not None:
            return found
        os.close(handle)
        if time.monotonic() >= until:
            return None
        time.sleep(PAUSE)


def sweep(folder: Path, prefix: str) -> None:
    """Remove the files of this prefix that no process holds."""
    for path in folder.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if _locked(handle, fcntl.LOCK_EX):
                    _unlink(path, handle)
            finally:
                os.close(handle)


def bytes_of(size: int, planned: int, left: int) -> int:
    """What the arrays of a plan take."""
    return 8 * planned + places_of(size).itemsize * (left + size) + 4 * size


def local_rank() -> int | None:
    return _number("LOCAL_RANK")


def local_count() -> int | None:
    """How many processes the launcher (torchrun, Lightning, Accelerate) started on this node, where it says so."""
    return _number("LOCAL_WORLD_SIZE")


def _number(name: str) -> int | None:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else None


def _open(path: Path, room: int) -> int | None:
    flags = os.O_RDWR | os.O_NOFOLLOW
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, flags)
    free = os.statvfs(path.parent)
    return os.open(path, flags | os.O_CREAT, 0o600) if free.f_bavail * free.f_frsize >= room else None


def _look(path: Path, handle: int) -> PlanFile | None:
    """The open file with the lock that it needs, or None where it is to be tried again."""
    if os.fstat(handle).st_uid != os.geteuid():
        raise PermissionError(f"{path} is another user's")
    if _locked(handle, fcntl.LOCK_EX):
        if not _is_filled(handle):
            return PlanFile(path, handle, filled=False) if _names(path, handle) else None
        _unlink(path, handle)  # nobody held it
        return None
    if _locked(handle, fcntl.LOCK_SH) and _is_filled(handle) and _names(path, handle):
        return PlanFile(path, handle, filled=True)
    return None


def _is_filled(handle: int) -> bool:
    return os.pread(handle, len(FILLED), 0) == FILLED


def _locked(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _names(path: Path, handle: int) -> bool:
    """Whether the path is still this file's: another process may have removed it between opening and locking."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _unlink(path: Path, handle: int) -> None:
    if _names(path, handle):
        path.unlink(missing_ok=True)


def _release(path: Path, handle: int) -> None:
    with contextlib.suppress(OSError):
        if _locked(handle, fcntl.LOCK_EX):  # nobody else holds it
            _unlink(path, handle)
        fcntl.flock(handle, fcntl.LOCK_UN)  # of forked workers too, which hold the same
    os.close(handle)


def _arrays(memory: mmap.mmap, size: int, planned: int, left: int) -> Plan:
    places = np.int32 if places_of(size) == torch.int32 else np.int64
    at, arrays = HEADER, []
    # The widest first, so that each begins at a multiple of its width.
    for kind, count in ((np.int64, planned), (places, left), (places, size), (np.float32, size)):
        arrays.append(torch.from_numpy(np.frombuffer(memory, kind, count, at)))
        at += arrays[-1].nbytes
    order, to_visit, place, weight_of = arrays
    return Plan(order, weight_of, to_visit, place)
