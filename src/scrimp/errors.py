"""What is meant for the person at the keyboard: the one exception, and what a machine lacks in words."""

from __future__ import annotations

import errno

PERMISSIONS, SPACE = "mend the permissions", "free some space"
MACHINE = {
    errno.ENOSPC: SPACE,
    errno.EDQUOT: SPACE,
    errno.EACCES: PERMISSIONS,
    errno.EPERM: PERMISSIONS,
    errno.EROFS: PERMISSIONS,
    errno.EIO: "look at the disk",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
}


class ScrimpError(Exception):
    """Something the user can mend: the message names the thing at fault (file, key, name) and the remedy.

    The command line prints it without a traceback; library callers may catch it.
    """


def trouble(error: Exception) -> str | None:
    """What the machine lacks, in a sentence; None for what is a fault of the program."""
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "can't allocate memory" in str(error):
        return "the memory does not suffice: give the process more, run fewer at a time, or give the recipe a `micro_batch`"
    if not isinstance(error, OSError) or error.errno not in MACHINE:
        return None
    return f"{error.filename or 'a file'}: {error.strerror}: {MACHINE[error.errno]}, then run the same command again"
