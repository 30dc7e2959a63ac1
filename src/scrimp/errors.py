"""What is meant for the person at the keyboard: the one exception, and what a machine lacks in words."""

from __future__ import annotations

import errno
import os
from pathlib import Path

PERMISSIONS, SPACE = "mend the permissions", "free some space"
MACHINE = {
    errno.ENOSPC: SPACE,
    errno.EDQUOT: SPACE,
    errno.EACCES: PERMISSIONS,
    errno.EPERM: PERMISSIONS,
    errno.EROFS: PERMISSIONS,
    errno.EIO: "look at the disk",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "close other programs: the machine has too many open files",
    errno.EFBIG: "raise the limit on a file's size (`ulimit -f`)",
}
NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "failed to map segment")


class ScrimpError(Exception):
    """Something the user can mend: the message names the thing at fault (file, key, name) and the remedy.

    The command line prints it without a traceback; library callers may catch it.
    """


def trouble(error: BaseException) -> str | None:
    """What the machine lacks, in a sentence; None for what is a fault of the program."""
    if _lacks_memory(error):
        return "the memory does not suffice: give the process more, run fewer at a time, or give the recipe a `micro_batch`"
    if not isinstance(error, OSError) or error.errno not in MACHINE:
        return None
    return f"{error.filename or 'a file'}: {_remedy(error.errno)}"


def no_damage(error: Exception, path: Path) -> None:
    """Raise ScrimpError where an error in reading a file tells of the machine: then nothing is to be deleted."""
    if isinstance(error, OSError) and error.errno in MACHINE:
        raise ScrimpError(f"cannot read {path}: {_remedy(error.errno)}") from error
    if _lacks_memory(error):
        raise ScrimpError(f"cannot read {path}: {trouble(error)}") from error


def _remedy(number: int) -> str:
    # The system's own words: an error of pyarrow has the file, a detail and the number in its `strerror`.
    return f"{os.strerror(number)}: {MACHINE[number]}, then run the same command again"


def _lacks_memory(error: BaseException) -> bool:
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(words in text for words in NO_MEMORY):
        return True
    if isinstance(error, SystemError):
        # Python's own modules end so where an allocation fails; without a limit on memory it is a fault of the program.
        return _memory_is_limited()
    return isinstance(error, OSError) and error.errno == errno.ENOMEM


def _memory_is_limited() -> bool:
    try:
        import resource  # not on Windows
    except ImportError:
        return False
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
