"""The files that a workspace starts from, and laying them out: what `scrimp init` does."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from scrimp import __version__
from scrimp.errors import ScrimpError

PARTS = ("Snakefile", "config", "envs", "profiles", "workflow")
CHECKOUT = "-e '.[suite]'"  # how envs/scrimp.post-deploy.sh installs the package in a checkout, which is a workspace itself


def packaged() -> Path:
    """The folder that holds a workspace's files: in an installed package, or the checkout that is imported."""
    package = Path(__file__).parent
    for folder in (package / "workspace", package.parents[1]):
        if all((folder / part).exists() for part in PARTS):
            return folder
    raise ScrimpError(f"{package} was installed without the workspace's files: install a wheel or a checkout of scrimp")


def lay_out(folder: Path) -> list[str]:
    """Copy the files of a workspace into `folder`, which is made where it is missing; their names.

    Raises ScrimpError where one of them is there already: nothing is overwritten.
    """
    there = [part for part in PARTS if (folder / part).exists()]
    if there:
        raise ScrimpError(f"{folder} has {', '.join(there)} already; nothing was written: choose an empty folder")
    source = packaged()
    try:
        for part in PARTS:
            if (source / part).is_dir():
                shutil.copytree(source / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / part, folder / part)
        environment = folder / "envs" / "scrimp.post-deploy.sh"
        environment.write_text(
            environment.read_text(encoding="utf-8").replace(CHECKOUT, _requirement(source)), encoding="utf-8"
        )
    except OSError as error:
        raise ScrimpError(f"cannot write {folder}: {error.strerror or error}") from error
    return list(PARTS)


def _requirement(source: Path) -> str:
    """What installs the package that a workspace was laid out by: a workspace of its own has no package at its root."""
    if (source / "pyproject.toml").is_file():
        return f"-e {shlex.quote(f'{source}[suite]')}"
    return f"'scrimp[suite]=={__version__}'"


def require_workspace(root: Path) -> None:
    """Raise ScrimpError, which says how to make one, where `root` is no workspace."""
    if not (root / "config" / "config.yaml").is_file():
        raise ScrimpError(
            f"{root.resolve()} is no workspace: it has no config/config.yaml; go to the folder of one, or make one with "
            "`scrimp init DIR`"
        )
