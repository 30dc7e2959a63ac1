"""The classification view: concepts, a split by hand of the designer, no copies of training icons in the held-out parts."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from PIL import Image

from scrimp.config import Workspace
from scrimp.data.icon_classes import SCHEMA, Options, build, concept, near_duplicates, normalised_ink, split_by_designer
from scrimp.data.loading import load_classification
from scrimp.data.shards import ShardWriter, building, read_images, read_manifest, read_samples, write_manifest
from scrimp.data.stage import shard

Picture = npt.NDArray[np.uint8]


def png(picture: Picture) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "PNG")
    return encoded.getvalue()


def random_picture(seed: int) -> Picture:
    """A picture of which no other seed's is a near-duplicate."""
    coarse = np.random.default_rng(seed).integers(0, 2, (8, 8, 1), dtype=np.uint8) * 255
    return np.tile(coarse.repeat(4, 0).repeat(4, 1), (1, 1, 3))


def write_base(folder: Path, icons: list[tuple[str, str, Picture]]) -> Path:
    """A base of (name, designer, picture)."""
    with building(folder) as temporary:
        writer = ShardWriter(temporary)
        for name, designer, picture in icons:
            writer.write("all", png(picture), "png", {"name": name, "designer": designer})
        writer.close()
        write_manifest(temporary, folder.name, "digest", [])
    return folder


def build_view(
    tmp_path: Path, icons: list[tuple[str, str, Picture]], options: Options
) -> tuple[pd.DataFrame, dict[str, object]]:
    base, view = write_base(tmp_path / "base", icons), tmp_path / "view"
    view.mkdir()
    details = build(view, base, "base", options)
    return pd.read_parquet(view / "samples.parquet"), details


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("arrow-right-24-filled", "arrow right"),
        ("outline-star-2", "star"),
        ("Star_Outline", "star"),
        ("filled", ""),
        ("battery-50", "battery"),
        ("right-arrow", "right arrow"),  # the order of words is kept: it is part of what is shown
        ("h1", ""),
        ("--lock--", "lock"),
    ],
)
def test_concept(name: str, shown: str) -> None:
    assert concept(name) == shown


# ----------------------------------------------------------------------------------------------------------- the split
def test_designers_are_wholly_in_one_part_and_the_shares_are_as_asked() -> None:
    # 50 designers of 1 % each and one of 50 %, who is too large to be held out. Filling stops at the first designer at
    # or above the share: 20 small ones test, 10 validate, the other 20 train.
    designers = pd.Series([f"d{number % 50}" for number in range(500)] + ["large"] * 500)
    split = split_by_designer(designers, Options(classes=2, test_share=0.2, validation_share=0.1, largest_held_out=0.04))
    assert split.value_counts().to_dict() == {"train": 700, "test": 200, "validation": 100}
    assert set(split[designers == "large"]) == {"train"}
    assert designers.groupby(designers).size().index.size == split.groupby(designers).nunique().eq(1).sum() == 51


def test_the_split_does_not_hang_on_the_order_of_rows() -> None:
    designers = pd.Series([f"d{number % 30}" for number in range(90)])
    options = Options(classes=2, largest_held_out=0.1)
    split = split_by_designer(designers, options)
    shuffled = designers.sample(frac=1, random_state=3)
    assert split_by_designer(shuffled, options).sort_index().equals(split)


def test_nobody_above_the_limit_is_held_out() -> None:
    designers = pd.Series(["a"] * 5 + ["b"] * 5)
    assert set(split_by_designer(designers, Options(classes=2, largest_held_out=0.4))) == {"train"}


# ----------------------------------------------------------------------------------------------------- near-duplicates
def test_ink_is_the_unit_vector_of_blurred_darkness() -> None:
    picture = np.full((32, 32, 3), 255, np.uint8)
    picture[0:2, 0:2] = 0  # one cell of the 16 x 16 grid, fully dark
    picture[0, 2] = 0  # a quarter of the next cell
    ink = normalised_ink([png(picture)])
    expected = torch.zeros(256)
    expected[0], expected[1] = 1, 0.25
    torch.testing.assert_close(ink[0], expected / (1 + 0.0625) ** 0.5)


def test_near_duplicates_by_cosine() -> None:
    train = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])
    held_out = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 0.8, 0.6], [0.0, 0.0, -1.0]])
    # Largest cosines: 1, .8, .96, 0.
    assert near_duplicates(held_out, train, 0.9).tolist() == [True, False, True, False]
    assert near_duplicates(held_out, train, 0.79).tolist() == [True, True, True, False]


def test_held_out_copies_of_training_icons_are_dropped_and_counted(tmp_path: Path) -> None:
    original = random_picture(0)
    shifted_by_little = original.copy()
    shifted_by_little[0, 0] = 255 - shifted_by_little[0, 0]  # one pixel of 1024
    icons = [("star", "large", original)] + [("lock", "large", random_picture(n)) for n in range(1, 9)]
    icons += [("star", "small", shifted_by_little), ("lock", "small", random_picture(10))]
    options = Options(classes=2, test_share=0.1, validation_share=0.0, largest_held_out=0.3)
    table, details = build_view(tmp_path, icons, options)
    assert details["near_duplicates_dropped"] == 1
    assert details["counts"] == {"train": 9, "validation": 0, "test": 1}
    assert table[table["split"] == "test"]["base_index"].tolist() == [10]
    kept_all, details = build_view(tmp_path / "again", icons, options.model_copy(update={"near_duplicate": 1.01}))
    assert (len(kept_all), details["near_duplicates_dropped"]) == (11, 0)


# ------------------------------------------------------------------------------------------------------------ the view
def test_the_most_frequent_concepts_become_classes_and_ties_go_by_name(tmp_path: Path) -> None:
    names = ["lock"] * 3 + ["zebra"] * 2 + ["apple"] * 2 + ["moon"] * 2 + ["filled"] * 5 + ["sun"]
    icons = [(name, "d", random_picture(number)) for number, name in enumerate(names)]
    table, details = build_view(tmp_path, icons, Options(classes=3))
    # lock (3), then apple and moon before zebra by name (2 each); `filled` shows nothing.
    assert details["classes"] == ["apple", "lock", "moon"]
    assert table["label"].value_counts().to_dict() == {1: 3, 0: 2, 2: 2}
    assert list(table.columns) == SCHEMA


def test_rows_point_at_the_right_picture_of_the_base(tmp_path: Path) -> None:
    icons = [
        (f"{name}-{number}", f"designer-{number % 7}", random_picture(number))
        for number, name in enumerate(["star", "lock", "moon"] * 14)
    ]
    options = Options(classes=2, test_share=0.3, validation_share=0.2, largest_held_out=0.2)
    table, details = build_view(tmp_path, icons, options)
    base = read_samples(tmp_path / "base").set_index("index")
    assert list(table["index"]) == list(range(28))
    assert list(table["split"]) == sorted(table["split"], key=["train", "validation", "test"].index)
    assert set(table["split"]) == {"train", "validation", "test"}
    assert details["classes"] == ["lock", "moon"]  # 14 each, by name
    for row, image in zip(table.itertuples(), read_images(tmp_path / "view", table), strict=True):
        name, _, picture = icons[int(row.base_index)]  # type: ignore[arg-type]
        assert image == png(picture)
        assert details["classes"][row.label] == concept(name)  # type: ignore[index]
        assert (row.offset, row.size) == tuple(base.loc[row.base_index, ["offset", "size"]])
    designers = base.loc[table["base_index"], "designer"].reset_index(drop=True)
    assert designers.groupby(designers).size().size == 7
    assert table["split"].groupby(designers).nunique().eq(1).all()


def test_a_view_is_sharded_with_its_base_and_loads_by_its_own_labels(tiny: Workspace) -> None:
    folder = shard(tiny, "icons-2")
    base = read_samples(tiny.shards("icons")).set_index("index")
    view = read_samples(folder)
    # Seven distinct names, one each: the two first by name are the classes.
    assert sorted(base.loc[view["base_index"], "name"]) == ["bar", "hands-dark-skin-tone-light-skin-tone"]
    manifest = read_manifest(folder)
    assert manifest["base"] == {"dataset": "icons", "samples_sha256": read_manifest(tiny.shards("icons"))["samples_sha256"]}
    splits, classes = load_classification(folder)
    assert classes == manifest["classes"] == ["bar", "hands dark skin skin"]  # "light" and "tone" tell of style
    assert sorted(int(label) for split in splits.values() for label in split.labels) == [0, 1]
