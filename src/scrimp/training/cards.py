"""Which of a machine's cards a run computes on: one that no other run is on.

Each card has a lock file, which a run holds until its process ends; the system frees it when one is killed. Files are called
by the cards' own identifiers, so that processes that see different cards (CUDA_VISIBLE_DEVICES), or number them otherwise,
agree on which is which. A batch system that gives every job cards of its own needs none of this, and is not in its way.
"""

from __future__ import annotations

import getpass
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from scrimp.errors import ScrimpError

FOLDER = "SCRIMP_CARDS"  # where the lock files are, for containers of one machine that share its cards and no /tmp
_held: dict[str, FileLock] = {}  # until this process ends, by card


def cards() -> list[str]:
    """The identifiers of the cards that this process may use, in the order in which torch numbers them."""
    return [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]


def count() -> int:
    """How many cards this process may use."""
    return torch.cuda.device_count()


def lock_folder() -> Path:
    """The folder of the lock files: one a user, since a user may not open another's in the system's temporary folder."""
    return Path(os.environ.get(FOLDER) or Path(tempfile.gettempdir(), f"scrimp-cards-{getpass.getuser()}"))


def take(names: Sequence[str], wait: bool = True, pause: float = 0.5) -> int:
    """Take the first free one of the cards `names` until this process ends, and return its index.

    A process that has one of them keeps it. Where all are taken it waits for the first that is freed, and says so once;
    without `wait` it raises ScrimpError.
    """
    for index, name in enumerate(names):
        if name in _held:
            return index
    told = False
    while True:
        for index, name in enumerate(names):
            if _locked(name):
                return index
        if not wait:
            raise ScrimpError(
                f"another process computes on {', '.join(names)}: wait for it, or choose other cards with "
                "CUDA_VISIBLE_DEVICES"
            )
        if not told:
            print(f"waiting for a card: other runs are on all {len(names)}", file=sys.stderr, flush=True)
            told = True
        time.sleep(pause)


def _locked(name: str) -> bool:
    """Whether this process could lock a card."""
    folder = lock_folder()
    lock = FileLock(folder / f"{name}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except OSError as error:
        raise ScrimpError(
            f"cannot write in {folder}: {error.strerror}; mend its permissions, or name another folder in {FOLDER}"
        ) from error
    _held[name] = lock
    return True
