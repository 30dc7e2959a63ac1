"""Images in memory: the gather of `augmented` against padding, cropping and flipping; orders; normalisation."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scrimp.config import Augmentation
from scrimp.data import loading
from scrimp.data.loading import Images, Normalisation, augmented, load_classification, load_pixels
from scrimp.data.shards import ShardWriter, building, read_samples, write_manifest
from scrimp.errors import ScrimpError
from scrimp.methods.base import derived_generator
from scrimp.seeding import epoch_order


def naive(pixels: torch.Tensor, shift: int, flip: bool, draws: torch.Tensor) -> torch.Tensor:
    """What `augmented` means: pad by reflection, crop at the drawn place, flip if drawn; one picture at a time."""
    size = pixels.shape[1]
    pictures = []
    for number, picture in enumerate(pixels.numpy()):
        padded = np.pad(picture, [(shift, shift), (shift, shift), (0, 0)], mode="reflect")
        top = int(draws[0, number] * (2 * shift + 1))
        left = int(draws[1, number] * (2 * shift + 1))
        cropped = padded[top : top + size, left : left + size]
        pictures.append(cropped[:, ::-1] if flip and draws[2, number] < 0.5 else cropped)
    return torch.from_numpy(np.stack(pictures))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shift", [0, 1, 3, 4])
def test_augmented_is_reflect_pad_crop_and_flip(shift: int, flip: bool) -> None:
    pixels = torch.randint(256, (50, 9, 9, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(shift))
    draws = torch.rand(3, 50, generator=torch.Generator().manual_seed(7))
    given_ = augmented(pixels, Augmentation(shift=shift, flip=flip), torch.Generator().manual_seed(7))
    assert given_.dtype == torch.uint8
    assert torch.equal(given_, naive(pixels, shift, flip, draws))


def test_shifts_are_uniform_and_half_of_the_pictures_are_flipped() -> None:
    # A picture whose pixels tell their own place: after shifting by (y, x) the middle pixel says where it came from.
    rows, columns = torch.meshgrid(torch.arange(11), torch.arange(11), indexing="ij")
    picture = torch.stack([rows, columns, torch.zeros_like(rows)], dim=2).to(torch.uint8)
    count = 20_000
    shown = augmented(picture.expand(count, -1, -1, -1), Augmentation(shift=2, flip=True), torch.Generator().manual_seed(0))
    down = shown[:, 5, 5, 0].long() - 5
    flipped = shown[:, 5, 6, 1].long() < shown[:, 5, 5, 1].long()
    assert set(down.tolist()) == {-2, -1, 0, 1, 2}
    # Binomial with p = 1/5 and 1/2: standard deviations of 56.6 and 70.7; five of them.
    for value in range(-2, 3):
        assert abs(int((down == value).sum()) - count / 5) < 5 * 56.6
    assert abs(int(flipped.sum()) - count / 2) < 5 * 70.8


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 300), seed=st.integers(0, 2**31), epoch=st.integers(0, 1000))
def test_an_epoch_visits_each_example_once_in_an_order_of_seed_and_epoch_alone(count: int, seed: int, epoch: int) -> None:
    order = epoch_order(count, seed, epoch)
    assert sorted(order.tolist()) == list(range(count))
    torch.manual_seed(epoch)  # the global state neither enters nor is touched
    before = torch.random.get_rng_state()
    assert torch.equal(epoch_order(count, seed, epoch), order)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_orders_differ_between_epochs_and_seeds() -> None:
    orders = {tuple(epoch_order(50, seed, epoch).tolist()) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


@pytest.mark.parametrize("batch_size", [1, 7, 16, 100])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_visits_cover_the_order_and_processes_share_every_batch(batch_size: int, processes: int) -> None:
    count = 50
    pixels = torch.randint(256, (count, 6, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images, order, augmentation = Images(pixels, torch.arange(count) % 4), epoch_order(count, 3, 5), Augmentation(shift=1)

    def visits(rank: int) -> list[tuple[torch.Tensor, ...]]:
        # As training/parallel.py parts a batch: every process-th example, a batch that is too small goes to all.
        def part(size: int) -> tuple[slice, float]:
            return (slice(None) if size < processes else slice(rank, size, processes)), 1.0

        return list(images.visits(order.split(batch_size), augmentation, 3, 5, part))

    shared = [visits(rank) for rank in range(processes)]
    draws = derived_generator(3, 5, "augmentation")
    for number, batch in enumerate(order.split(batch_size)):
        shown = augmented(pixels[batch], augmentation, draws)
        for rank in range(processes):
            here = slice(rank, None, processes) if len(batch) >= processes else slice(None)
            pictures, labels = shared[rank][number]
            assert torch.equal(pictures, shown[here])
            assert torch.equal(labels, batch[here] % 4)
    assert {len(visited) for visited in shared} == {-(-count // batch_size)}


def test_plain_gives_the_split_in_order_and_unchanged() -> None:
    pixels = torch.randint(256, (10, 4, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pieces = list(Images(pixels, torch.arange(10)).plain(4))
    assert [len(labels) for _, labels in pieces] == [4, 4, 2]
    assert torch.equal(torch.cat([picture for picture, _ in pieces]), pixels)
    assert torch.equal(torch.cat([labels for _, labels in pieces]), torch.arange(10))


def test_normalisation_of_a_known_split() -> None:
    # Red: half 0, half 255 (mean .5). Green: 51 everywhere (mean .2, no deviation). Blue: one pixel of 8 is 255.
    pixels = torch.zeros(2, 2, 2, 3, dtype=torch.uint8)
    pixels[0, ..., 0] = 255
    pixels[..., 1] = 51
    pixels[1, 1, 1, 2] = 255
    normalise = Normalisation.of(Images(pixels, torch.zeros(2, dtype=torch.int64)))
    torch.testing.assert_close(normalise.mean, torch.tensor([0.5, 0.2, 0.125]))
    # Deviations with n - 1 = 7: sqrt(8 * .25 / 7); 0, held at .001; sqrt((.875^2 + 7 * .125^2) / 7).
    torch.testing.assert_close(normalise.deviation, torch.tensor([(2 / 7) ** 0.5, 1e-3, (0.875 / 7) ** 0.5]))
    normal = normalise(pixels)
    assert normal.shape == (2, 3, 2, 2)
    assert normal.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(normal[0, 0], torch.full((2, 2), 0.5 / (2 / 7) ** 0.5))
    torch.testing.assert_close(normal[1, 2, 1, 1], torch.tensor(0.875 / (0.875 / 7) ** 0.5))
    torch.testing.assert_close(normal.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)


# ------------------------------------------------------------------------------------------------------- pixels on disk
def shards_of(folder: Path, shades: list[int], side: int = 4) -> Path:
    """A labelled dataset of even pictures: the first half to train on, the others to test on."""
    with building(folder) as temporary:
        writer = ShardWriter(temporary)
        for number, shade in enumerate(shades):
            file = io.BytesIO()
            Image.new("RGB", (side, side), (shade, 0, 0)).save(file, "PNG")
            writer.write("train" if 2 * number < len(shades) else "test", file.getvalue(), "png", {"label": number % 2})
        writer.close()
        write_manifest(temporary, folder.name, "none", ["index"], classes=["a", "b"])
    return folder


def test_pictures_are_decoded_once_and_then_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shards_of(tmp_path / "shaded", [10, 20, 30, 40, 50])
    first, _ = load_classification(folder)
    monkeypatch.setattr(loading, "decode", lambda *_: pytest.fail("decoded a second time"))
    second, _ = load_classification(folder)
    for splits in (first, second):
        assert splits["train"].pixels[:, 1, 2, 0].tolist() == [10, 20, 30]
        assert splits["test"].pixels[:, 0, 0, 0].tolist() == [40, 50]
        assert splits["test"].labels.tolist() == [1, 0]
    # What a reader does to its pixels stays with it.
    mapped = load_pixels(folder, read_samples(folder))
    mapped[0] = 255
    assert int(load_pixels(folder, read_samples(folder))[0, 0, 0, 0]) == 10


def test_changed_data_are_decoded_anew(tmp_path: Path) -> None:
    folder = shards_of(tmp_path / "shaded", [10, 20])
    load_classification(folder)
    kept = next(folder.glob("pixels-*.npy"))
    other = shards_of(tmp_path / "other", [30, 40, 50])
    kept.rename(other / kept.name)
    assert load_classification(other)[0]["train"].pixels[:, 0, 0, 0].tolist() == [30, 40]


def test_damaged_pixels_are_an_error_that_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    folder = shards_of(tmp_path / "shaded", [10, 20])
    load_classification(folder)
    kept = next(folder.glob("pixels-*.npy"))
    kept.write_bytes(kept.read_bytes()[:-7])
    with pytest.raises(
        ScrimpError, match=rf"{kept.name} is missing or damaged .*; delete it and run the same command again"
    ):
        load_classification(folder)
    kept.unlink()
    assert load_classification(folder)[0]["test"].pixels[0, 0, 0, 0] == 20


def test_a_folder_that_cannot_be_written_to_is_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shards_of(tmp_path / "shaded", [10, 20])
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert load_classification(folder)[0]["test"].pixels[0, 0, 0, 0] == 20
    assert not list(folder.glob("pixels-*.npy"))


def test_pictures_of_two_sizes_are_refused(tmp_path: Path) -> None:
    folder = shards_of(tmp_path / "small", [10, 20])
    large = shards_of(tmp_path / "large", [30], side=5)
    samples = pd.concat([read_samples(folder), read_samples(large).assign(shard="../large/train-00000.tar")])
    with pytest.raises(ScrimpError, match="images of different sizes; give the workload an `image_size`"):
        load_pixels(folder, samples)
