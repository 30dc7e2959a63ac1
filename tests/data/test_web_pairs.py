"""Pairs read from tars by offset: each picture with its caption, training as on pairs in memory, and what goes wrong."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from tar_worlds import SIDE, a_pair, indexed, picture, pixels_of, scored, two_tars, write_tar

from scrimp.config.tasks import ImageTextRecipe, ImageTextWorkload
from scrimp.data.pairs import Pairs, load_pairs
from scrimp.data.shards import read_manifest
from scrimp.data.web_pairs import StreamedPairs, load_web_pairs, squared
from scrimp.errors import ScrimpError
from scrimp.flops import TowerFlops
from scrimp.measure.clock import Clock
from scrimp.methods.combined import Methods
from scrimp.models.contrastive import TwoTowers, build_two_towers
from scrimp.seeding import stream
from scrimp.tasks.image_text import ImageText
from scrimp.training.budget import Budget
from scrimp.training.loop import train
from scrimp.training.place import Place

if TYPE_CHECKING:
    from conftest import PairsWorld


@pytest.fixture
def web(tmp_path: Path) -> Path:
    return scored(tmp_path)


def test_every_pair_is_the_picture_and_the_caption_of_its_key(web: Path, tmp_path: Path) -> None:
    pairs = two_tars(tmp_path / "again")
    data = load_web_pairs(web, SIDE)
    images = data.pairs.images(torch.arange(len(data.pairs)))
    assert images.shape == (40, SIDE, SIDE, 3)
    assert images.dtype == torch.uint8
    for at, row in enumerate(data.samples.itertuples()):
        encoded = next(content for name, content in pairs[str(row.key)].items() if name.endswith(("jpg", "png", "webp")))
        np.testing.assert_array_equal(images[at].numpy(), pixels_of(encoded))
        assert row.caption == f"a drawing of thing {int(str(row.key))}"
    assert torch.equal(data.encode(data.samples["caption"].tolist()), data.pairs.captions(torch.arange(40)))
    assert sorted(data.samples["key"]) == sorted(pairs)
    assert data.samples["index"].tolist() == list(range(40))


def test_pictures_are_scaled_to_the_size_asked_for(tmp_path: Path) -> None:
    wide = {f"{number}.png": picture(number, width=20) for number in range(9)}
    wide |= {f"{number}.txt": f"thing {number}".encode() for number in range(9)}
    data = load_web_pairs(indexed(tmp_path / "web", [write_tar(tmp_path / "a.tar", wide)]), 4)
    for at, key in enumerate(data.samples["key"]):
        wanted = Image.open(io.BytesIO(wide[f"{key}.png"])).resize((4, 4), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(data.pairs.images(torch.tensor([at]))[0].numpy(), np.asarray(wanted))
    same = Image.open(io.BytesIO(picture(1)))
    assert squared(same, SIDE) is same


def test_images_come_in_the_order_asked_for_and_neighbours_share_memory(web: Path) -> None:
    pairs = load_web_pairs(web, SIDE).pairs
    images = pairs.images(torch.tensor([5, 0, 5]))
    assert torch.equal(images[0], images[2])
    assert not torch.equal(images[0], images[1])
    some = pairs.subset(torch.tensor([7, 5]))
    assert torch.equal(some.images(torch.tensor([1]))[0], images[0])
    assert torch.equal(some.captions(torch.tensor([1])), pairs.captions(torch.tensor([5])))
    run = pairs.subset(torch.tensor([4, 5, 6]))
    assert torch.equal(run.images(torch.tensor([1]))[0], images[0])
    assert np.shares_memory(run.tokens, pairs.tokens)
    assert np.shares_memory(some.tokens, pairs.tokens)


def test_a_view_of_icons_can_be_streamed_too(pairs_world: PairsWorld) -> None:
    pairs_world.build()
    held, streamed = load_pairs(pairs_world.root / "pairs"), load_web_pairs(pairs_world.root / "pairs", 32)
    for split, pairs in held.splits.items():
        every = torch.arange(len(pairs))
        assert torch.equal(streamed.splits[split].images(every), pairs.images(every))
        assert torch.equal(streamed.splits[split].captions(every), pairs.captions(every))


# -------------------------------------------------------------------------------------------------------------- training
def towers() -> TwoTowers:
    tower = (16, 1, 2)
    options = {"size": SIDE, "length": 6, "patch": 2, "finest_patch": 2, "image": tower, "text": tower, "width_out": 8}
    return build_two_towers(300, 0, options)


def weights(model: TwoTowers) -> torch.Tensor:
    return torch.cat([value.flatten() for value in model.state_dict().values()])


@pytest.mark.parametrize(
    ("selector", "candidates"),
    [({"name": "uniform"}, 8), ({"name": "jest", "ratio": 0.5, "method": "hard-learner", "chunks": 4}, 16)],
)
def test_training_on_tars_is_training_on_the_same_pictures_in_memory(
    web: Path, selector: dict[str, Any], candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = load_web_pairs(web, SIDE).splits["pool"]
    every = torch.arange(len(pool))
    in_memory = Pairs(pool.images(every), every, pool.captions(every))
    recipe = ImageTextRecipe(optimizer="adamw", learning_rate=0.01, batch_size=8)
    place, trained, read = Place(torch.device("cpu")), [], list[int]()
    images = StreamedPairs.images

    def watched(pairs: StreamedPairs, at: torch.Tensor) -> torch.Tensor:
        read.append(len(at))
        return images(pairs, at)

    monkeypatch.setattr(StreamedPairs, "images", watched)
    for pairs in (pool, in_memory):
        model = towers()
        task = ImageText(ImageTextWorkload(recipe=recipe, steps=3, arms=[]), place)
        task.data, task.patch, task.towers = {"pool": pairs}, 2, TowerFlops({2: 1.0}, 1.0, 8)
        task.on_choice = lambda: None  # type: ignore[method-assign]
        methods = Methods.of([selector], len(pairs), 8, 0)
        train(task, model, methods, recipe, Budget("steps", 3), 0, clock=Clock(place.device))
        trained.append(weights(model))
    assert torch.equal(*trained)
    assert not torch.equal(trained[0], weights(towers()))
    # The first step's, of which a sub-batch is read again; each other step's once, and those of one that does not come.
    coming = [len(stream(len(pool), step * candidates, candidates, 0).unique()) for step in (1, 2, 3)]
    assert read == [candidates, *([8] if candidates > 8 else []), *coming]


# -------------------------------------------------------------------------------------------------------------- mistakes
def test_a_corrupt_picture_is_named_when_it_is_read(tmp_path: Path) -> None:
    files = {name: content for number in range(12) for name, content in a_pair(number).items()}
    files |= {"bad.png": picture(3)[:100], "bad.txt": b"alas", "worse.jpg": b"?", "worse.txt": b"!"}
    files |= {"other.jpg": picture(3, "GIF"), "other.txt": b"another format"}
    tar = write_tar(tmp_path / "a.tar", files)
    data = load_web_pairs(indexed(tmp_path / "web", [tar]), SIDE)
    assert len(data.pairs) == 15
    for key in ("bad", "worse", "other"):
        at = int(np.flatnonzero(data.samples["key"] == key)[0])
        with pytest.raises(ScrimpError, match=r"the picture at byte [\d,]+ of .*a\.tar is corrupt .*`scrimp shard web`"):
            data.pairs.images(torch.tensor([0, at, 1]))
    manifest = read_manifest(indexed(tmp_path / "web", [tar], decode=True))
    assert manifest["left_out"] == {"a corrupt picture": 3}
    checked = load_web_pairs(tmp_path / "web", SIDE)
    assert checked.pairs.images(torch.arange(12)).shape == (12, SIDE, SIDE, 3)


def test_tars_that_are_gone_or_have_changed_since_are_found(web: Path, tmp_path: Path) -> None:
    data = load_web_pairs(web, SIDE)
    tar = tmp_path / "own" / "00001.tar"
    with tar.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ScrimpError, match=r"00001\.tar ends at byte [\d,]+, but a picture reaches to"):
        data.pairs.images(torch.arange(40))
    with pytest.raises(ScrimpError, match=r"00001\.tar had [\d,]+ bytes and now has 1,000; put it back, or run"):
        load_web_pairs(web, SIDE)
    tar.unlink()
    with pytest.raises(ScrimpError, match=r"00001\.tar cannot be read \(No such file"):
        data.pairs.images(torch.arange(40))
    with pytest.raises(ScrimpError, match=r"00001\.tar is missing"):
        load_web_pairs(web, SIDE)


def test_pairs_from_the_web_need_an_image_size(web: Path) -> None:
    with pytest.raises(ScrimpError, match=r"web has pictures of many sizes: give the workload an `image_size`"):
        load_pairs(web)


def test_a_dataset_without_captions_is_refused(pairs_world: PairsWorld) -> None:
    with pytest.raises(ScrimpError, match="base has no captions"):
        load_web_pairs(pairs_world.root / "base", SIDE)
