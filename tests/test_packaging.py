"""What an installation brings: extras that exist, a workspace that can be laid out, help for every word of the command."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from typer.testing import CliRunner

import scrimp
from scrimp.cli import app
from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.workspace_files import PARTS, lay_out

ROOT = Path(__file__).parents[1]


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
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / ".ci" / "run", *(ROOT / "docs").rglob("*.md")]
    named = [
        (page.name, extra) for page in pages for extra in re.findall(r"pip install[^\n]*\[([a-z,]+)\]", page.read_text())
    ]
    assert named
    assert [(page, e) for page, several in named for e in several.split(",") if e not in extras] == []


def test_a_workspace_is_laid_out_and_never_over_another(tmp_path: Path) -> None:
    assert lay_out(tmp_path / "w") == list(PARTS)
    assert Workspace(tmp_path / "w").settings().scale == "mini"
    assert "infobatch" in Workspace(tmp_path / "w").study_names()
    with pytest.raises(ScrimpError, match="has Snakefile, config, envs, profiles, workflow already; nothing was written"):
        lay_out(tmp_path / "w")


def test_a_verb_outside_a_workspace_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["list"])
    assert isinstance(done.exception, ScrimpError)
    assert "is no workspace" in str(done.exception)
    assert "`scrimp init DIR`" in str(done.exception)
