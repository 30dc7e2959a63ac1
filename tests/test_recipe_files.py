"""Recipe files: what workloads and arms take from them, what goes first, and mistakes that are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scrimp.config.recipes import filled, joined
from scrimp.errors import ScrimpError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text(
        "source: A, table 1\nrecipe: {rate: 1, decay: 2}\nmodel: {options: {width: 768, depth: 12}}\n"
    )
    (tmp_path / "b.yaml").write_text("source: B\nrecipe: {decay: 5}\nmethods: [x]\n")
    (tmp_path / "bare.yaml").write_text("recipe: {rate: 1}\n")
    return tmp_path


def test_an_entry_goes_before_its_files_and_the_last_file_before_the_first(folder: Path) -> None:
    entry = {"from": ["a.yaml", "b.yaml"], "recipe": {"rate": 9}, "model": {"options": {"width": 64}}}
    assert filled({"one": entry, "two": {"recipe": {"rate": 3}}}, folder, "study") == {
        "one": {"recipe": {"rate": 9, "decay": 5}, "model": {"options": {"width": 64, "depth": 12}}, "methods": ["x"]},
        "two": {"recipe": {"rate": 3}},
    }
    assert joined({"a": {"b": 1}}, {"a": None}) == {"a": None}  # null takes away


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (3, "study.one.from: must be a recipe file's path"),
        ("bare.yaml", "a recipe file must have `source`"),
        ("none.yaml", "none.yaml"),
    ],
)
def test_mistakes_are_named(folder: Path, told: Any, message: str) -> None:
    with pytest.raises(ScrimpError, match=message):
        filled({"one": {"from": told}}, folder, "study")
