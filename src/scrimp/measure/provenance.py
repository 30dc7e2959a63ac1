"""Where a result comes from: code, data, machine, versions, command."""

from __future__ import annotations

import datetime
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from scrimp.kernels.dispatch import used
from scrimp.measure.code import lock_digest
from scrimp.measure.hardware import describe

VERSIONS_OF = ("scrimp", "torch", "numpy", "pandas", "scipy", "webdataset", "resvg-py", "pillow", "snakemake")


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """The commit checked out in `folder` and whether tracked files differ from it; (None, None) outside a repository."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit, _git(folder, "status", "--porcelain", "--untracked-files=no") != ""
    except (subprocess.CalledProcessError, FileNotFoundError):
        return None, None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def installed_versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    versions = {"python": sys.version.split()[0]}
    for name in VERSIONS_OF:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def provenance(root: Path, device: torch.device, **details: Any) -> dict[str, Any]:
    """Everything a reader needs to make a result again. `details`: seed, digests, command, and so on."""
    commit, dirty = git_state(root)
    return {
        "commit": commit,
        "dirty": dirty,
        "lock_digest": lock_digest(root),
        "versions": installed_versions(),
        **describe(device),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "kernels": used(),
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **details,
    }
