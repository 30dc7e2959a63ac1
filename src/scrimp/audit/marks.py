"""A mark at the end of a file that is written for the user, by which a later look knows whether it was edited."""

from __future__ import annotations

from pathlib import Path

from scrimp.files import digest_of

MARK = "# as it was written: "


def marked(content: str) -> str:
    """A text (YAML, Python) with a comment at its end that holds its digest."""
    return f"{content}{MARK}{digest_of(content)}\n"


def is_edited(path: Path) -> bool:
    """Whether a file that was `marked` is another one now; one without a mark, or that is not there, is not known to be."""
    if not path.is_file():
        return False
    content, found, digest = path.read_text(encoding="utf-8").rpartition(MARK)
    return bool(found) and digest_of(content) != digest.strip()


def is_as_written(path: Path) -> bool:
    """Whether a file has a mark and is what was marked."""
    return path.is_file() and MARK in path.read_text(encoding="utf-8") and not is_edited(path)
