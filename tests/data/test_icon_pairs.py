"""The image-text view: who is trained on and who is held out, that no held-out picture is trained on, the captions."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from scrimp.config import Workspace
from scrimp.data.captions import train_tokenizer
from scrimp.data.icon_classes import normalised_ink
from scrimp.data.icon_pairs import SCHEMA, luma
from scrimp.data.loading import load_pixels
from scrimp.data.pairs import SPLITS, load_pairs
from scrimp.data.shards import read_images, read_manifest, read_samples
from scrimp.data.stage import shard
from scrimp.errors import ScrimpError
from scrimp.listing import check_config

if TYPE_CHECKING:
    from conftest import PairsWorld

HELD_OUT = ["validation", "test", "test-unseen", "test-emoji"]


def of(table: pd.DataFrame, *splits: str) -> pd.DataFrame:
    return table[table["split"].isin(splits)]


# ------------------------------------------------------------------------------------------------------------ the splits
def test_splits_share_nothing_and_come_in_order(pairs_world: PairsWorld) -> None:
    pairs_world.build()
    table = pairs_world.table()
    assert list(table.columns) == [*SCHEMA, "name"]
    assert table["index"].tolist() == list(range(len(table)))
    assert table["base_index"].is_unique
    assert list(dict.fromkeys(table["split"])) == [split for split in SPLITS if split != "test-unseen"]
    assert all(rows["base_index"].is_monotonic_increasing for _, rows in of(table, "curated", "pool").groupby("split"))


def test_held_out_icons_are_the_first_by_hash_with_captions_of_their_own(pairs_world: PairsWorld) -> None:
    pairs_world.build()
    table = pairs_world.table()
    # The specification, over: sort by the hash of set and name, keep each caption's first, take eleven.
    candidates = sorted(
        (icon for icon in pairs_world.icons if icon.set in ("clear", "plain") and icon.name not in ("3d-box", "logo-acme")),
        key=lambda icon: hashlib.sha256(f"{icon.set}:{icon.name}".encode()).digest(),
    )
    first = list({icon.name.split("-")[0]: icon for icon in reversed(candidates)}.values())
    first.sort(key=candidates.index)
    for split, expected in (("test", first[:6]), ("validation", first[6:11])):
        rows = of(table, split)
        assert set(zip(rows["set"], rows["name"], strict=True)) == {(icon.set, icon.name) for icon in expected}
    held = of(table, "test", "validation")["caption"]
    assert held.is_unique
    assert all(held)


def test_what_is_held_out_does_not_hang_on_the_order_of_rows(
    pairs_world: PairsWorld, shuffled_world: Callable[[int], PairsWorld]
) -> None:
    other = shuffled_world(3)
    pairs_world.build()
    other.build()
    columns = ["split", "set", "name", "caption", "curated", "descriptive", "extended"]
    tables = [world.table()[columns].sort_values(columns, ignore_index=True) for world in (pairs_world, other)]
    pd.testing.assert_frame_equal(*tables)


def test_icons_that_look_alike_are_not_both_held_out(pairs_world: PairsWorld) -> None:
    # Every picture counts as every other's near-duplicate from a cosine of .05, so that one can be held out alone.
    with pytest.raises(
        ScrimpError, match=r"pairs: options: only 1 icons of curated_sets .* but test and validation want 11"
    ):
        pairs_world.build(near_duplicate=0.05)


def test_unseen_designers_are_tested_set_by_set_and_trained_on_nowhere(pairs_world: PairsWorld) -> None:
    details = pairs_world.build(
        curated_sets=["clear"], test_unseen_sets=["plain", "wide"], extended_sets=[], test_unseen=4, test=6, gallery=4
    )
    table = pairs_world.table()
    unseen = of(table, "test-unseen")
    # Of ten captions of `plain` the first four by the hash of set and name; of `wide` both that have no number, once.
    by_gallery = unseen.groupby("gallery")["set"].agg(["first", "nunique", "size"]).to_numpy().tolist()
    assert by_gallery == [["plain", 1, 4], ["wide", 1, 2]]
    candidates = sorted(
        {icon.name for icon in pairs_world.icons if icon.set == "plain"},
        key=lambda name: hashlib.sha256(f"plain:{name}".encode()).digest(),
    )
    assert set(unseen.loc[unseen["set"] == "plain", "name"]) == set(candidates[:4])
    assert set(unseen.loc[unseen["set"] == "wide", "caption"]) <= {"arrow left", "sole arrow"}
    assert not {"Abe", "Cid"} & set(of(table, "curated", "pool", "test", "validation")["designer"])
    assert details["galleries"] == {"validation": 1, "test": 2, "test-unseen": 2, "test-emoji": 1}
    data = load_pairs(pairs_world.root / "pairs")
    assert [len(rows) for rows in data.galleries("test")] == [4, 2]
    for number, rows in enumerate(data.galleries("test-unseen")):
        assert (unseen.iloc[rows.numpy()]["gallery"] == number).all()
    # The first four by hash are one gallery of the test, in whatever order the table has them.
    test = of(table, "test")
    hashed = sorted(
        zip(test["set"], test["name"], test["gallery"], strict=True),
        key=lambda row: hashlib.sha256(f"{row[0]}:{row[1]}".encode()).digest(),
    )
    assert [gallery for *_, gallery in hashed] == [0, 0, 0, 0, 1, 1]


def test_too_few_icons_to_hold_out_is_an_error(pairs_world: PairsWorld) -> None:
    with pytest.raises(ScrimpError, match=r"only 24 icons .* want 25: name more sets, or hold out fewer"):
        pairs_world.build(test=20)


# ------------------------------------------------------------------------------------------------------ near-duplicates
def test_copies_of_held_out_pictures_leave_the_pool_and_others_stay(pairs_world: PairsWorld) -> None:
    details = pairs_world.build()
    table = pairs_world.table()
    split_of = {f"copy-{row.set}-{row.name}": row.split for row in of(table, "curated", "pool", *HELD_OUT).itertuples()}
    copies = [icon.name for icon in pairs_world.icons if icon.name.startswith("copy-")]
    there = set(of(table, "pool")["name"])
    gone = {name for name in copies if name not in there}
    assert gone == {name for name in copies if split_of[name] in HELD_OUT}
    assert len(gone) == 11
    # Those of the emoji test and of the zero-shot test go too; a redrawing by the emoji's designer is no test.
    assert "stolen-heart" not in there
    assert "copied-class" not in there
    assert "stolen-mono" in there
    assert details["left_out"]["near_duplicates"] == {"curated": 0, "pool": 13}


def test_no_trained_picture_is_near_a_held_out_one(pairs_world: PairsWorld) -> None:
    pairs_world.build()
    folder, table = pairs_world.root / "pairs", pairs_world.table()
    trained, held = (normalised_ink(read_images(folder, of(table, *part))) for part in (["curated", "pool"], HELD_OUT))
    assert float((trained @ held.T).max()) < 0.98


def test_curated_copies_leave_too(pairs_world: PairsWorld) -> None:
    # The raw set's captions are good enough here for it to be curated; its copies of held-out icons are no candidates.
    details = pairs_world.build(curated_sets=["clear", "plain", "raw"])
    assert details["left_out"]["near_duplicates"]["curated"] > 0
    folder, table = pairs_world.root / "pairs", pairs_world.table()
    trained, held = (normalised_ink(read_images(folder, of(table, *part))) for part in (["curated", "pool"], HELD_OUT))
    assert float((trained @ held.T).max()) < 0.98


def test_luma_is_what_pillow_makes_of_a_picture(pairs_world: PairsWorld) -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    grey = np.stack([np.asarray(Image.fromarray(picture).convert("L")) for picture in pixels])
    np.testing.assert_array_equal(luma(torch.from_numpy(pixels)).numpy(), grey)


# ------------------------------------------------------------------------------------------------------------- captions
def test_curated_captions_are_clean_and_pool_captions_raw(pairs_world: PairsWorld) -> None:
    pairs_world.build()
    table = pairs_world.table()
    icons = of(table, "curated", "validation", "test")
    icons = icons[icons["set"].isin(["clear", "plain"])]
    assert (icons["caption"] == icons["name"].str.split("-").str[0]).all()
    assert {"-fill", "-outline-24px", "-line"} <= {name[name.index("-") :] for name in icons["name"] if "-" in name}
    pool = of(table, "pool")
    assert (pool["caption"] == pool["name"].str.replace("-", " ")).all()
    assert {"3d-box", "logo-acme", "unheard-of"} <= set(pool["name"])  # no caption of their own is left


def test_emoji_carry_the_words_of_the_cldr(pairs_world: PairsWorld) -> None:
    pairs_world.build()
    table = pairs_world.table()
    curated = of(table, "curated").query("set == 'smile'").set_index("name")["caption"]
    assert curated.to_dict() == {
        "grinning-face": "grinning face cheerful happy",
        "red-heart": "red heart love",
        "flag-norway": "flag norway",
        "fire-engine": "fire engine truck",
    }
    # The test asks for the names alone and not for countries' flags; nothing of its designer is trained on.
    assert sorted(of(table, "test-emoji")["caption"]) == ["fire engine", "grinning face", "red heart"]
    assert set(of(table, "test-emoji")["set"]) == {"moji"}
    assert "Emil" not in set(of(table, "curated", "pool", "test", "validation")["designer"])


def test_the_zero_shot_test_is_left_out(pairs_world: PairsWorld) -> None:
    details = pairs_world.build()
    assert "seen-class" not in set(pairs_world.table()["name"])
    assert details["left_out"]["zero_shot_test"] == 1
    # Of the seven of the designer two are left that are no test: the flag and the unknown; and the five of moji-mono.
    assert details["left_out"]["unseen_designers"] == 7


def test_what_is_descriptive_and_what_extended(pairs_world: PairsWorld) -> None:
    pairs_world.build()
    table = pairs_world.table()
    descriptive = table[table["descriptive"]]
    # "arrow" and "left" have two designers, "sole" one, "arrow left 24" a number; curated rows are not in the pool.
    assert sorted(zip(descriptive["set"], descriptive["caption"], strict=True)) == [
        ("raw", "arrow left"),
        ("wide", "arrow left"),
    ]
    extended = table[table["extended"]]
    assert sorted(extended.loc[~extended["curated"], "set"]) == ["wide"]
    assert (table["curated"] == (table["split"] == "curated")).all()
    assert table.loc[table["curated"], "extended"].all()


# ------------------------------------------------------------------------------------------------------------- the files
def test_the_manifest_counts_what_is_there(pairs_world: PairsWorld) -> None:
    details = pairs_world.build()
    table = pairs_world.table()
    assert details["counts"] == {split: int((table["split"] == split).sum()) for split in SPLITS}
    assert details["counts"]["test"] == 6
    assert details["counts"]["validation"] == 5
    assert details["counts"]["test-emoji"] == 3
    # 40 icons of curated sets with good names, less 11 that are held out, and 4 emoji with a label.
    assert details["counts"]["curated"] == 40 - 11 + 4
    gone = details["left_out"]
    left_out = sum(gone["near_duplicates"].values()) + gone["zero_shot_test"] + gone["unseen_designers"]
    assert sum(details["counts"].values()) + left_out == len(pairs_world.icons)
    assert details["trained_on_by"] == {"curated": 33, "descriptive": 2, "extended": 34}
    assert details["distinct_captions"]["test"] == 6
    assert details["base"]["dataset"] == "base"
    assert details["also_read"]["classes"] == read_manifest(pairs_world.root / "classes")["samples_sha256"]


def test_the_same_input_gives_the_same_bytes(pairs_world: PairsWorld) -> None:
    pairs_world.build("one")
    pairs_world.build("two")
    files = sorted(path.name for path in (pairs_world.root / "one").iterdir())
    assert files == ["manifest.json", "samples.parquet", "tokenizer.json", "tokens.npy"]
    for file in files[1:]:
        assert (pairs_world.root / "one" / file).read_bytes() == (pairs_world.root / "two" / file).read_bytes()


def test_rows_point_at_their_pictures_in_the_shards_of_the_base(pairs_world: PairsWorld) -> None:
    pairs_world.build()
    folder, table = pairs_world.root / "pairs", pairs_world.table()
    decoded = load_pixels(pairs_world.root / "base", read_samples(pairs_world.root / "base"))
    for row, encoded in zip(table.itertuples(), read_images(folder, table), strict=True):
        icon = pairs_world.icons[int(row.base_index)]  # type: ignore[arg-type]
        assert (row.set, row.designer) == (icon.set, icon.designer)
        np.testing.assert_array_equal(decoded[int(row.base_index)].numpy(), icon.picture)  # type: ignore[arg-type]
        assert encoded.startswith(b"\x89PNG")


def test_the_tokenizer_learns_from_what_is_trained_on_alone(pairs_world: PairsWorld) -> None:
    details = pairs_world.build(vocabulary=1000, length=2)
    data = load_pairs(pairs_world.root / "pairs")
    seen = data.samples.loc[data.samples["split"].isin(["curated", "pool"]), "caption"]
    assert data.tokenizer.to_str() == train_tokenizer(seen, 1000, 2).to_str()
    assert data.tokenizer.to_str() != train_tokenizer(data.samples["caption"], 1000, 2).to_str()
    assert details["tokens"]["vocabulary"] == data.vocabulary
    assert details["tokens"]["length"] == 2
    data.tokenizer.no_truncation()
    data.tokenizer.no_padding()
    lengths = [len(data.tokenizer.encode(caption)) for caption in data.samples["caption"]]
    assert details["tokens"]["captions_cut"] == sum(length > 2 for length in lengths) > 0


# ------------------------------------------------------------------------------------------------------------- mistakes
MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"curated_sets": ["claer"]}, "unknown icon set 'claer' in .*pairs: options.curated_sets: did you mean 'clear'"),
    ({"test_emoji_sets": ["mojis"]}, "unknown icon set 'mojis' in .*options.test_emoji_sets: did you mean 'moji'"),
    ({"extended_sets": ["clear"]}, "pairs: options: an icon set plays one part, but clear is named more than once"),
    ({"extended_sets": ["moji-mono"]}, "options.extended_sets: moji-mono has the designer of a set of test_unseen_sets or"),
    ({"zero_shot": "class"}, "unknown dataset 'class' in .*pairs: options.zero_shot .also_reads.: did you mean 'classes'"),
    ({"emoji_labels": None}, "pairs: options: emoji sets need `emoji_labels`, a dataset of also_reads"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_mistakes_in_the_options_are_named(pairs_world: PairsWorld, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ScrimpError, match=message):
        pairs_world.build(**changes)
    assert not (pairs_world.root / "pairs").exists()


def test_a_zero_shot_view_of_other_data_is_refused(
    pairs_world: PairsWorld, shuffled_world: Callable[[int], PairsWorld]
) -> None:
    classes = shuffled_world(1).root / "classes" / "manifest.json"
    (pairs_world.root / "classes" / "manifest.json").write_bytes(classes.read_bytes())
    with pytest.raises(
        ScrimpError, match=r"zero_shot: classes is not a view of base as it is now; .*`scrimp shard classes`"
    ):
        pairs_world.build()


def test_without_emoji_and_zero_shot_the_rest_is_cut_all_the_same(pairs_world: PairsWorld) -> None:
    none: dict[str, Any] = {"curated_emoji_sets": [], "test_emoji_sets": [], "emoji_labels": None, "zero_shot": None}
    details = pairs_world.build(**none)
    assert details["counts"]["test-emoji"] == 0
    assert details["counts"]["test"] == 6
    assert "seen-class" in set(pairs_world.table()["name"])
    assert len(load_pairs(pairs_world.root / "pairs").splits["test-emoji"]) == 0


# ------------------------------------------------------------------------------------------------------------ the stage
@pytest.fixture
def with_pairs(
    tiny: Workspace,
    mirror: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_emoji_package: Callable[..., Path],
) -> Workspace:
    """The tiny workspace with a view `pairs` of its icons, and the labels' package in the mirror."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for package in mirror.iterdir():
        (packages / package.name).symlink_to(package)
    emoji = write_emoji_package(packages / "emojibase-data-1.0.0.tgz")
    monkeypatch.setenv("SCRIMP_MIRROR", str(packages))
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(emoji.read_bytes()).digest()).decode()
    path = tiny.root / "config" / "datasets.yaml"
    datasets = yaml.safe_load(path.read_text())
    about = {"title": "T", "licence": "none", "used_for": "tests"}
    source = {"kind": "npm", "package": "emojibase-data", "version": "1.0.0", "integrity": integrity}
    datasets["labels"] = {**about, "builder": "emoji_labels", "source": source}
    options = {
        "emoji_labels": "labels",
        "zero_shot": "icons-2",
        "curated_sets": ["alpha", "beta"],
        "curated_emoji_sets": ["emoji"],
        "test": 1,
        "validation": 1,
        "vocabulary": 300,
        "length": 4,
    }
    also = ["labels", "icons-2"]
    datasets["pairs"] = {**about, "builder": "icon_pairs", "view_of": "icons", "also_reads": also, "options": options}
    path.write_text(yaml.safe_dump(datasets))
    return tiny


def test_all_that_a_view_reads_is_sharded_first(with_pairs: Workspace) -> None:
    check_config(with_pairs)
    folder = shard(with_pairs, "pairs")
    for name in ("icons", "icons-2", "labels"):
        assert (with_pairs.shards(name) / "manifest.json").exists()
    manifest = read_manifest(folder)
    assert manifest["view_of"] == "icons"
    assert manifest["base"]["samples_sha256"] == read_manifest(with_pairs.shards("icons"))["samples_sha256"]
    assert sorted(manifest["also_read"]) == ["icons-2", "labels"]
    assert read_manifest(with_pairs.shards("labels"))["labels"] == 6
    data = load_pairs(folder)
    assert {split: len(pairs) for split, pairs in data.splits.items()} == manifest["counts"]
    # Only `wave` and `hands` are there, for neither of which the package has a label.
    assert set(data.samples.query("set == 'emoji'")["split"]) <= {"pool"}


def change(workspace: Workspace, edit: Callable[[dict[str, Any]], object]) -> None:
    path = workspace.root / "config" / "datasets.yaml"
    datasets = yaml.safe_load(path.read_text())
    edit(datasets)
    path.write_text(yaml.safe_dump(datasets))


WRONG: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (
        lambda d: d["pairs"].update(also_reads=["label", "icons-2"]),
        "unknown dataset 'label' in config/datasets.yaml: pairs: also_reads: did you mean 'labels'",
    ),
    (lambda d: d["icons-2"].update(also_reads=["pairs"]), "icons-2 is made from itself: icons-2 -> pairs -> icons-2"),
    (lambda d: d["pairs"].update(view_of="icon"), "unknown dataset 'icon' in config/datasets.yaml: pairs: view_of"),
    (lambda d: d["icons"].update(also_reads=["labels"]), "icons: .*`also_reads` is for a view"),
]


@pytest.mark.parametrize(("edit", "message"), WRONG)
def test_datasets_that_cannot_be_made_are_found_before_any_work(
    with_pairs: Workspace, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    change(with_pairs, edit)
    with pytest.raises(ScrimpError, match=message):
        check_config(with_pairs)
    with pytest.raises(ScrimpError, match=message):
        shard(with_pairs, "pairs")
    assert not with_pairs.shards("icons").exists()


def test_a_builder_that_makes_no_views_is_named(with_pairs: Workspace) -> None:
    with pytest.raises(
        ScrimpError, match=r"unknown builder of views 'cifar' in config/datasets.yaml: colours: .*icon_pairs"
    ):
        shard(with_pairs, "colours")
