"""Files that are what they say: digests compared before anything is trained on, and caches that carry their own.

Many processes read one large file: each trusts what another one found within a day, as long as nothing touched the file.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scrimp.errors import ScrimpError, no_damage
from scrimp.files import holding, read_json, replacing, sha256_of, sweep, write_json

SMALL = 2**23  # bytes; hashing fewer takes a hundredth of a second, and is done every time
TRUSTED = 86_400.0  # seconds that a larger file is not read again for, untouched: disks forget, too


def check_digest(path: Path, expected: str, remedy: str) -> None:
    """Raise ScrimpError, which ends in `remedy`, unless a file has the SHA-256 `expected` (hex)."""
    try:
        found = path.stat()
        seen = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
        if found.st_size >= SMALL and _trusted(path, expected, seen):
            return
        actual = sha256_of(path)
    except OSError as error:
        no_damage(error, path)
        raise ScrimpError(f"{path} is missing or damaged ({error.strerror}); {remedy}") from error
    if actual != expected:
        raise ScrimpError(f"{path} is missing or damaged (its digest is not the one it was written with); {remedy}")
    if found.st_size >= SMALL and os.access(path.parent, os.W_OK):
        write_json(_mark(path), {"sha256": expected, "seen": seen, "when": time.time()})


def _mark(path: Path) -> Path:
    return path.with_name(f".{path.name}.checked")


def _trusted(path: Path, expected: str, seen: list[int]) -> bool:
    """Whether the file was found to have the digest not long ago, and was not touched since."""
    try:
        mark: dict[str, Any] = json.loads(_mark(path).read_text())
        return mark["sha256"] == expected and mark["seen"] == seen and 0 <= time.time() - mark["when"] < TRUSTED
    except (OSError, ValueError, KeyError, TypeError):
        return False


def cached(cache: Path, write: Callable[[Path], object]) -> bool:
    """Have the file `cache`, which `write(path)` makes, as it was when it was made; its digest lies beside it.

    One process makes it, others wait, and what killed ones left half-written is removed. False, and nothing is made,
    where the folder cannot be written to. Raises ScrimpError for a cache that has changed since.
    """
    record, remedy = cache.with_name(f"{cache.name}.sha256"), "delete it and run the same command again"
    writable = os.access(cache.parent, os.W_OK)
    if not (cache.exists() and record.exists()):
        if not writable:
            return False
        with holding(cache.with_name(f".{cache.name}.lock")):
            sweep(cache)
            if not (cache.exists() and record.exists()):  # another process may have made it meanwhile
                record.unlink(missing_ok=True)
                with replacing(cache) as temporary:
                    write(temporary)
                    digest = sha256_of(temporary)
                write_json(record, digest)
    check_digest(cache, str(read_json(record)), remedy)
    return True
