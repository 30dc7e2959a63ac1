"""What an installation brings: extras that exist, a workspace that can be laid out, help for every word of the command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml
from typer.testing import CliRunner

import scrimp
from scrimp.__main__ import main
from scrimp.cli import app
from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.workspace_files import PARTS, lay_out

ROOT = Path(__file__).parents[1]
EXTRAS = re.compile(r"(?:scrimp|\.)\[([a-z,]+)\]")  # of this package, by its name or by its folder


def commands(command: Any, name: str = "scrimp") -> list[tuple[str, Any]]:
    if not isinstance(command, click.Group) and not hasattr(command, "commands"):
        return [(name, command)]
    return [pair for word, inner in command.commands.items() for pair in commands(inner, f"{name} {word}")]


def test_every_argument_and_option_says_what_it_is() -> None:
    silent = [
        f"{name}: {parameter.name}"
        for name, command in commands(typer.main.get_command(app))
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]
    assert silent == []


def test_the_version_is_printed() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.stdout.strip() == scrimp.__version__
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == scrimp.__version__


def test_lines_that_install_name_extras_that_exist() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    pages = [*ROOT.glob("*.md"), ROOT / ".ci" / "run"]
    for folder, ending in (
        ("docs", "md"),
        ("examples", "*"),
        ("envs", "*"),
        ("src", "py"),
        ("src", "md"),
        ("results/reference", "md"),
    ):
        pages += [path for path in (ROOT / folder).rglob(f"*.{ending}") if path.is_file()]
    lines = [(page.name, line) for page in pages for line in page.read_text().splitlines() if "pip install" in line]
    named = [(page, extra) for page, line in lines for several in EXTRAS.findall(line) for extra in several.split(",")]
    assert {"README.md", "kernels.md", "run", "scrimp.post-deploy.sh", "__main__.py"} <= {page for page, _ in named}
    assert [(page, extra) for page, extra in named if extra not in extras] == []


def test_a_workspace_is_laid_out_and_never_over_another(tmp_path: Path) -> None:
    assert lay_out(tmp_path / "w") == list(PARTS)
    assert Workspace(tmp_path / "w").settings().scale == "mini"
    assert "infobatch" in Workspace(tmp_path / "w").study_names()
    with pytest.raises(ScrimpError, match="has Snakefile, config, envs, profiles, workflow already; nothing was written"):
        lay_out(tmp_path / "w")


def test_the_conda_environment_names_no_path_and_is_completed_from_the_workspaces_folder(tmp_path: Path) -> None:
    """The commands of the script, as Snakemake runs it: in the workspace's folder, here with a `python` that tells them."""
    lay_out(tmp_path / "w")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    (tmp_path / "bin" / "python").chmod(0o755)
    for root in (ROOT, tmp_path / "w"):
        assert yaml.safe_load((root / "envs" / "scrimp.yaml").read_text())["dependencies"] == ["python=3.11", "pip"]
        script = root / "envs" / "scrimp.post-deploy.sh"
        environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", str(script)], cwd=root, env=environment, capture_output=True, text=True, check=True)
        *words, package = done.stdout.splitlines()
        assert words == ["-m", "pip", "install", "-c", "envs/lock.txt", "-e"]
        assert (root / "envs" / "lock.txt").is_file()
        assert (root / package.removesuffix("[suite]")).resolve() == ROOT


NEEDS_NO_WORKSPACE = {
    "scrimp audit",
    "scrimp compare",
    "scrimp init",
    "scrimp kernels build",
    "scrimp kernels check",
    "scrimp kernels bench",
    "scrimp scaling coverage",
    "scrimp scaling fit",
    "scrimp try",
}
VERBS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("verb", sorted(set(VERBS) - NEEDS_NO_WORKSPACE))
def test_every_verb_outside_a_workspace_says_how_to_make_one(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["x" for parameter in VERBS[verb].params if parameter.param_type_name == "argument"]
    done = CliRunner().invoke(app, [*verb.split()[1:], *arguments])
    assert isinstance(done.exception, ScrimpError)
    assert str(done.exception).startswith(f"{tmp_path} is no workspace")
    assert "`scrimp init DIR`" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_windows_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(SystemExit, match=r"runs on Linux and macOS \(on Windows inside WSL\); its drop-ins run anywhere"):
        main()


def test_the_command_without_the_suite_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "scrimp.cli")
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit, match=r"the module typer is missing: the command needs `pip install 'scrimp\[suite\]'`"):
        main()


def test_no_two_test_modules_have_one_name() -> None:
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))  # pytest could not collect both
