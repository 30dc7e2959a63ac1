"""Where tables for people are printed."""

from __future__ import annotations

import os

from rich.console import Console

# Rich takes 80 columns for whatever is no terminal, which cuts names and failures' last lines out of a log.
WIDE = 160


def console() -> Console:
    """Standard output, as wide as its terminal; a pipe or a file has 160 columns, or those that COLUMNS says."""
    found = Console(highlight=False)
    return found if found.is_terminal or "COLUMNS" in os.environ else Console(highlight=False, width=WIDE)


errors = Console(stderr=True, highlight=False)
