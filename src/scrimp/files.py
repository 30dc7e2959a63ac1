"""Small files on disk, written so that no reader ever meets half of one."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from scrimp.errors import MACHINE, ScrimpError, no_damage


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path` in one rename, on failure it is removed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        remedy = MACHINE.get(error.errno or 0, "free some space or mend the folder's permissions")
        raise ScrimpError(
            f"cannot write {path}: {error.strerror or error}; {remedy}, then run the same command again"
        ) from error
    finally:
        with suppress(NotADirectoryError):  # the parent is a file: said above
            temporary.unlink(missing_ok=True)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for a `with` block; ScrimpError if another process does. A killed process lets go of it."""
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ScrimpError(f"another process is at the same work (it holds {path}): wait for it, or stop it") from error
    except OSError as error:
        raise ScrimpError(f"cannot write in {path.parent}: {error.strerror}; mend the folder's permissions") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def holding(lock: Path) -> Iterator[None]:
    """Hold the lock file `lock`, waiting for whichever process has it; the system frees it when a process dies."""
    waiting = FileLock(lock)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        waiting.acquire()
    except OSError as error:
        raise ScrimpError(f"cannot write in {lock.parent}: {error.strerror}; mend the folder's permissions") from error
    try:
        yield
    finally:
        waiting.release()


def sweep(path: Path) -> None:
    """Remove what killed processes left of `path` half-written: only for who holds the lock that its writers hold."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(value: Any) -> str:
    """`value` as indented JSON with sorted keys, so that equal values give equal bytes."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write the `json_text` of a value, atomically."""
    write_text(path, json_text(value))


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or torn one is an error that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ScrimpError(f"{path} does not exist; make it with the stage before this one") from error
    except OSError as error:
        no_damage(error, path)
        raise ScrimpError(f"cannot read {path}: {error.strerror}; mend its permissions") from error
    except (ValueError, RecursionError) as error:
        raise ScrimpError(f"{path} is not valid JSON ({error}); delete it and run its stage again") from error


def digest_of(value: Any, length: int = 16) -> str:
    """Hex digest of a JSON-able value, independent of key order."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
