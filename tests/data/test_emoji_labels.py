"""Emoji labels: the package's table, names as icon sets write them, and the label that a set's name stands for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from scrimp.config import Workspace
from scrimp.data.emoji_labels import SCHEMA, build, caption_of, captions, matched, name_of, plain
from scrimp.errors import ScrimpError

Write = Callable[..., Path]


@pytest.fixture
def labels(tmp_path: Path, write_emoji_package: Write) -> pd.DataFrame:
    """The table of six labels that `write_emoji_package` knows."""
    build(tmp_path, write_emoji_package(tmp_path / "emojibase-data-1.tgz"))
    return pd.read_parquet(tmp_path / "samples.parquet")


def test_the_table_has_a_row_for_each_label(tmp_path: Path, write_emoji_package: Write) -> None:
    details = build(tmp_path, write_emoji_package(tmp_path / "emojibase-data-1.tgz"))
    labels = pd.read_parquet(tmp_path / "samples.parquet")
    assert list(labels.columns) == SCHEMA
    assert details == {"labels": 6, "tags": 9}
    assert labels["index"].tolist() == [0, 1, 2, 3, 4, 5]
    assert labels["name"].tolist()[:3] == ["regional-indicator-a", "grinning-face", "blond-haired-person"]
    assert [list(tags) for tags in labels["tags"]][:2] == [[], ["cheerful", "face", "grin", "happy", "smile"]]


def test_another_package_is_refused(tmp_path: Path, write_emoji_package: Write) -> None:
    package = write_emoji_package(tmp_path / "other-1.tgz", member="package/index.json")
    with pytest.raises(ScrimpError, match=r"other-1\.tgz holds no package/en/compact\.json: it is not the emojibase"):
        build(tmp_path, package)


def test_labels_that_icon_sets_could_not_tell_apart_are_refused(tmp_path: Path, write_emoji_package: Write) -> None:
    alike = [{"label": "flag: Norway"}, {"label": "star"}, {"label": "Flag Norway"}]
    package = write_emoji_package(tmp_path / "p.tgz", emoji=alike)
    with pytest.raises(ScrimpError, match="differ in punctuation alone: Flag Norway, flag: Norway"):
        build(tmp_path, package)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("keycap: #", "keycap-pound"),
        ("keycap: *", "keycap-asterisk"),
        ("ON! arrow", "on-exclamation-arrow"),
        ("flag: Curaçao", "flag-curacao"),
        ("flag: Trinidad & Tobago", "flag-trinidad-and-tobago"),
        ("woman’s boot", "womans-boot"),
        ("Mrs. Claus", "mrs-claus"),
        ("Japanese “free of charge” button", "japanese-free-of-charge-button"),
        ("couple with heart: woman, man", "couple-with-heart-woman-man"),
    ],
)
def test_names_are_spelled_as_the_sets_spell_them(label: str, name: str) -> None:
    assert name_of(label) == name
    assert plain(label) == name.replace("-", " ")


def test_a_caption_is_the_label_and_three_tags_that_say_something_new() -> None:
    # "face" is in the label already, and "smile" would be the fourth.
    assert caption_of("grinning face", ["cheerful", "face", "grin", "happy", "smile"]) == "grinning face cheerful grin happy"
    assert caption_of("1st place medal", ["gold", "first place"]) == "1st place medal gold first place"
    assert caption_of("pink heart", ["143", "ily", "OK", "like"]) == "pink heart ily like"
    assert caption_of("waving hand", []) == "waving hand"


def test_captions_go_row_by_row(labels: pd.DataFrame) -> None:
    assert captions(labels)[2:5] == ["blond haired person hair", "flag norway", "fire engine truck"]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("grinning-face", 1),
        ("letter-a", 0),
        ("blonde-haired-person", 2),
        ("flag-for-norway", 3),
        ("flag-for-flag-norway", 3),
        ("flag-norway", 3),
        ("fireengine", 4),
        ("waving-hand-medium-dark-skin-tone", 5),
        ("grinning", None),
        ("letter-ab", None),
    ],
)
def test_a_set_name_stands_for_a_label(labels: pd.DataFrame, name: str, row: int | None) -> None:
    assert matched([name], labels) == [row]


def test_the_shipped_package_is_pinned() -> None:
    shipped = Workspace(Path(__file__).parents[2]).dataset("emojibase")
    assert shipped.builder == "emoji_labels"
    assert shipped.needs == []
