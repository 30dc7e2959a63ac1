"""Reading image-text pairs: each picture with its caption, no copy of the base, and errors that say what to do."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from scrimp.data import loading
from scrimp.data.pairs import SPLITS, Pairs, load_pairs
from scrimp.data.shards import read_manifest, read_samples, write_manifest
from scrimp.errors import ScrimpError

if TYPE_CHECKING:
    from conftest import PairsWorld


@pytest.fixture
def built(pairs_world: PairsWorld) -> PairsWorld:
    pairs_world.build()
    return pairs_world


def test_every_pair_is_the_picture_and_the_caption_of_its_row(pairs_world: PairsWorld) -> None:
    pairs_world.build(
        curated_sets=["clear"], test_unseen_sets=["plain"], extended_sets=["wide"], test_unseen=4, test=6, gallery=4
    )
    data = load_pairs(pairs_world.root / "pairs")
    assert list(data.splits) == list(SPLITS)
    table = pairs_world.table()
    for split, pairs in data.splits.items():
        rows = table[table["split"] == split]
        assert len(pairs) == len(rows) > 0
        images = pairs.images(torch.arange(len(pairs)))
        assert images.dtype == torch.uint8
        assert pairs.captions(torch.arange(len(pairs))).dtype == torch.int64
        for at, row in enumerate(rows.itertuples()):
            np.testing.assert_array_equal(images[at].numpy(), pairs_world.icons[int(row.base_index)].picture)  # type: ignore[arg-type]
            ids = [int(token) for token in pairs.captions(torch.tensor([at]))[0] if token]
            assert str(row.caption).startswith(data.tokenizer.decode(ids).strip())
            assert len(ids) == data.length or data.tokenizer.decode(ids).strip() == row.caption


def test_images_come_in_the_order_asked_for(built: PairsWorld) -> None:
    pool = load_pairs(built.root / "pairs").splits["pool"]
    at = torch.tensor([5, 0, 5])
    images = pool.images(at)
    assert torch.equal(images[0], images[2])
    assert torch.equal(images[1], pool.images(torch.tensor([0]))[0])
    assert not torch.equal(images[0], images[1])
    some = pool.subset(torch.tensor([7, 5]))
    assert torch.equal(some.images(torch.tensor([1]))[0], images[0])
    assert torch.equal(some.captions(torch.tensor([1])), pool.captions(torch.tensor([5])))


def test_no_pixel_of_the_base_is_copied(built: PairsWorld) -> None:
    data = load_pairs(built.root / "pairs")
    parts = [data.pairs.subset(torch.arange(3)), *data.splits.values()]
    assert {pairs.pixels.data_ptr() for pairs in parts} == {data.pairs.pixels.data_ptr()}
    assert len(data.pairs.pixels) == len(built.icons)
    assert len(list((built.root / "base").glob("pixels-*.npy"))) == 1
    assert not list((built.root / "pairs").glob("pixels-*"))


def test_pictures_are_not_decoded_again(built: PairsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "decode", lambda *_: pytest.fail("decoded a second time"))
    load_pairs(built.root / "pairs")


def test_other_captions_are_encoded_as_those_of_the_table(built: PairsWorld) -> None:
    data = load_pairs(built.root / "pairs")
    captions = data.samples["caption"].tolist()
    assert torch.equal(data.encode(captions), data.pairs.captions(torch.arange(len(captions))))
    assert data.encode(["zzz"]).shape == (1, data.length)
    assert int(data.pairs.captions(torch.arange(len(captions))).max()) < data.vocabulary


def test_pairs_are_addressed_without_a_table() -> None:
    pixels = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 2, 2, 3)
    pairs = Pairs(pixels, torch.tensor([3, 1]), torch.tensor([[7], [8]]))
    assert pairs.images(torch.tensor([1, 0]))[:, 0, 0, 0].tolist() == [1, 3]
    assert len(pairs) == 2


# ------------------------------------------------------------------------------------------------------------- mistakes
def test_a_dataset_without_captions_is_refused(built: PairsWorld) -> None:
    with pytest.raises(ScrimpError, match="classes has no captions; an image-text study needs a view such as icon-pairs"):
        load_pairs(built.root / "classes")


def test_a_dataset_that_is_not_there_says_which_command_makes_it(built: PairsWorld) -> None:
    with pytest.raises(ScrimpError, match="run `scrimp shard pears` first"):
        load_pairs(built.root / "pears")


def test_a_missing_base_says_which_command_makes_it(built: PairsWorld) -> None:
    shutil.rmtree(built.root / "base")
    with pytest.raises(ScrimpError, match="run `scrimp shard base` first"):
        load_pairs(built.root / "pairs")


def test_a_missing_shard_of_the_base_is_named(built: PairsWorld) -> None:
    next((built.root / "base").glob("pixels-*.npy")).unlink()
    (built.root / "base" / "all-00000.tar").unlink()
    with pytest.raises(ScrimpError, match=r"all-00000\.tar is missing; run `scrimp shard base` again"):
        load_pairs(built.root / "pairs")


def test_a_base_that_has_changed_is_found(built: PairsWorld, shuffled_world: Callable[[int], PairsWorld]) -> None:
    other = shuffled_world(2)
    shutil.rmtree(built.root / "base")
    shutil.copytree(other.root / "base", built.root / "base")
    with pytest.raises(
        ScrimpError, match=r"base has changed since .*pairs was made from it; run `scrimp shard pairs` again"
    ):
        load_pairs(built.root / "pairs")


@pytest.mark.parametrize("damage", ["rows", "ids", "negative", "torn", "gone"])
def test_tokens_that_are_not_the_tables_are_refused(built: PairsWorld, damage: str) -> None:
    path = built.root / "pairs" / "tokens.npy"
    tokens = np.load(path)
    if damage == "rows":
        np.save(path, tokens[:-1])
    elif damage == "ids":
        np.save(path, tokens + np.int16(300))
    elif damage == "negative":
        np.save(path, -tokens)
    elif damage == "torn":
        path.write_bytes(path.read_bytes()[:-3])
    else:
        path.unlink()
    with pytest.raises(ScrimpError, match=r"tokens\.npy .*delete .*pairs and run `scrimp shard pairs` again"):
        load_pairs(built.root / "pairs")


def test_a_damaged_tokenizer_is_refused(built: PairsWorld) -> None:
    (built.root / "pairs" / "tokenizer.json").write_text("{")
    with pytest.raises(ScrimpError, match=r"tokenizer\.json is missing or damaged .*run `scrimp shard pairs` again"):
        load_pairs(built.root / "pairs")


def test_a_view_may_have_no_pair_of_a_split(built: PairsWorld) -> None:
    samples = read_samples(built.root / "pairs")
    tokens = np.load(built.root / "pairs" / "tokens.npy")
    kept = (samples["split"] != "validation").to_numpy()
    samples[kept].to_parquet(built.root / "pairs" / "samples.parquet", index=False)
    np.save(built.root / "pairs" / "tokens.npy", tokens[kept])
    manifest = read_manifest(built.root / "pairs")
    digest = hashlib.sha256((built.root / "pairs" / "tokens.npy").read_bytes()).hexdigest()
    about = {"tokens": {**manifest["tokens"], "tokens_sha256": digest}, "base": manifest["base"]}
    write_manifest(built.root / "pairs", "pairs", "digest", [], **about)
    splits = load_pairs(built.root / "pairs").splits
    assert len(splits["validation"]) == 0
    assert splits["validation"].images(torch.arange(0)).shape == (0, 32, 32, 3)
