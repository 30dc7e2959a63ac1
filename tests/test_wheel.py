"""A wheel, built as a release is (checkout, sdist, wheel) and taken alone: it lays out a workspace that works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import scrimp
from scrimp.workspace_files import PARTS

ROOT = Path(__file__).parents[1]
SOURCES = (*PARTS, "src", "docs", "examples", "pyproject.toml", "setup.py", "MANIFEST.in")
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
pytestmark = pytest.mark.slow


def python(cwd: Path, *arguments: str, path: Path | None = None) -> str:
    """What Python prints; `path` comes before everything that is installed."""
    environment = os.environ if path is None else {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(tree: Path, what: str, target: Path) -> Path:
    """The one file that a build backend's hook makes of a source tree."""
    target.mkdir()
    python(tree, "-c", BUILD, what, str(target))
    (made,) = target.iterdir()
    return made


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's files, as an installation lays them. Nothing is built in the checkout itself."""
    root = tmp_path_factory.mktemp("wheel")
    tree = root / "tree"
    tree.mkdir()
    for name in (*SOURCES, *(path.name for path in ROOT.glob("*.md")), "LICENSE", "CITATION.cff"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, tree / name)
    with tarfile.open(built(tree, "build_sdist", root / "sdist")) as sdist:
        sdist.extractall(root / "unpacked", filter="data")
    (unpacked,) = (root / "unpacked").iterdir()
    with zipfile.ZipFile(built(unpacked, "build_wheel", root / "wheel")) as wheel:
        wheel.extractall(root / "taken")
    return root / "taken"


def files(folder: Path) -> set[str]:
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.as_posix() for path in paths}


def test_the_wheel_carries_every_file_of_the_package_and_of_a_workspace(taken: Path) -> None:
    package = files(ROOT / "src" / "scrimp")
    workspace = {f"workspace/{part}/{name}" for part in PARTS for name in files(ROOT / part)} | {"workspace/Snakefile"}
    assert files(taken / "scrimp") == package | workspace
    (licence,) = taken.glob("scrimp-*.dist-info/licenses/LICENSE")
    assert licence.read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_a_workspace_laid_out_by_the_wheel_is_valid_and_its_workflow_plans(taken: Path, tmp_path: Path) -> None:
    python(tmp_path, "-m", "scrimp", "init", "w", path=taken)
    workspace = tmp_path / "w"
    where = python(workspace, "-c", "import scrimp; print(scrimp.__file__)", path=taken)
    assert Path(where.strip()) == taken / "scrimp" / "__init__.py"
    assert f" 'scrimp[suite]=={scrimp.__version__}'\n" in (workspace / "envs" / "scrimp.post-deploy.sh").read_text()
    assert "config is valid" in python(workspace, "-m", "scrimp", "check", path=taken)
    few = ("--config", "scale=smoke", "studies=[infobatch]")
    planned = python(workspace, "-m", "snakemake", "-n", "--cores", "2", *few, path=taken)
    assert "results/smoke/report/index.html" in planned
