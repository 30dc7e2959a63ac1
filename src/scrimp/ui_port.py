"""At which port of this machine `scrimp ui` was opened last: where report pages link to."""

from __future__ import annotations

import os
import re
from pathlib import Path

from scrimp.config import Workspace
from scrimp.files import read_json, write_json, write_text

DEFAULT = 5000
LINKS = re.compile(r"http://127\.0\.0\.1:\d+(?=/#/experiments/)")


def ui_port(workspace: Workspace) -> int:
    """The port that the UI was opened at last; MLflow's own before that."""
    path = _file(workspace)
    return int(read_json(path)["port"]) if path.exists() else DEFAULT


def remember(workspace: Workspace, port: int) -> None:
    """Let the report pages link to `port`: those that are there, which keep their times, and those to come."""
    write_json(_file(workspace), {"port": port})
    for page in workspace.root.glob("results/*/report/index.html"):
        before, times = page.read_text(encoding="utf-8"), page.stat()
        after = LINKS.sub(f"http://127.0.0.1:{port}", before)
        if after != before:
            write_text(page, after)
            os.utime(page, ns=(times.st_atime_ns, times.st_mtime_ns))  # for Snakemake it is the same page


def _file(workspace: Workspace) -> Path:
    return workspace.root / "results" / "mlflow" / "ui.json"
