"""Labelled pictures that do not fit into memory: read from their shards by offset and decoded by worker processes.

Because every sample has an offset, a pruned epoch reads and decodes just what it trains on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from scrimp.config import Augmentation
from scrimp.data.loading import Images, Part, Visit, decode, names_of
from scrimp.data.shards import read_images, read_manifest, read_samples
from scrimp.errors import ScrimpError
from scrimp.seeding import derived_generator

NORMALISATION_SAMPLE = 10_000  # pictures whose pixels stand for all in the mean and deviation of the channels
EVALUATION_MARGIN = 8 / 7  # the shorter side is scaled to this times the size before the middle is cut out: 256 for 224


@dataclass(frozen=True)
class ShardedImages:
    """A split on disk; `rows` are its rows of `samples.parquet`, the position is the index, for ever."""

    folder: Path
    rows: pd.DataFrame
    size: int  # pixels a side after cropping and scaling
    device: torch.device
    workers: int
    labels: Tensor = field(init=False)

    def __post_init__(self) -> None:
        labels = torch.from_numpy(self.rows["label"].to_numpy(np.int64, copy=True))
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.rows)

    def visits(
        self, batches: Sequence[Tensor], augmentation: Augmentation, seed: int, number: int, part: Part
    ) -> Iterator[Visit]:
        pictures = _Pictures(self.folder, self.rows, self.size, augmentation, seed, number)
        mine = [batch[part(len(batch))[0]] for batch in batches]
        for at, pixels in self._load(pictures, mine):
            yield pixels.to(self.device, non_blocking=True), self.labels[at].to(self.device)

    def plain(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        pictures = _Pictures(self.folder, self.rows, self.size, None, 0, 0)
        for at, pixels in self._load(pictures, list(torch.arange(len(self)).split(batch_size))):
            yield pixels.to(self.device, non_blocking=True), self.labels[at].to(self.device)

    def sample(self) -> Images:
        """Up to NORMALISATION_SAMPLE pictures, uniformly drawn, in memory and without augmentation."""
        chosen = torch.randperm(len(self), generator=derived_generator(0, 0, "normalisation"))[:NORMALISATION_SAMPLE]
        pictures = _Pictures(self.folder, self.rows, self.size, None, 0, 0)
        pixels = torch.cat([pixels for _, pixels in self._load(pictures, list(chosen.split(256)))])
        return Images(pixels, self.labels[chosen])

    def _load(self, pictures: _Pictures, batches: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        loader = DataLoader(
            pictures,
            batch_sampler=[batch.tolist() for batch in batches],
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
        )
        try:
            yield from loader
        except ScrimpError as error:
            # A loader puts a worker's whole traceback into the message; what the worker said is behind the last name.
            raise ScrimpError(str(error).rsplit(f"{ScrimpError.__name__}: ", 1)[-1].strip()) from None


class _Pictures(Dataset[tuple[int, Tensor]]):
    """Items (index, uint8 [S, S, 3]). An augmented item is a pure function of (seed, epoch, index)."""

    def __init__(
        self, folder: Path, rows: pd.DataFrame, size: int, augmentation: Augmentation | None, seed: int, epoch: int
    ) -> None:
        self.folder, self.rows, self.size = folder, rows, size
        self.augmentation, self.seed, self.epoch = augmentation, seed, epoch

    def __getitem__(self, index: int) -> tuple[int, Tensor]:
        row = self.rows.iloc[index : index + 1]
        (encoded,) = read_images(self.folder, row)
        shard, number = self.folder / row["shard"].iloc[0], int(row["index"].iloc[0])
        picture = decode(encoded, shard, number, names_of(row)[0])
        if self.augmentation is None:
            cut = centred(picture, self.size)
        else:
            draws = torch.rand(5, generator=derived_generator(self.seed, self.epoch, f"picture {index}"))
            cut = randomly_cropped(picture, self.size, self.augmentation, draws)
        return index, torch.from_numpy(np.array(cut))


def centred(picture: Image.Image, size: int) -> Image.Image:
    """The middle of a picture whose shorter side was scaled to 8/7 of `size`."""
    scale = size * EVALUATION_MARGIN / min(picture.size)
    width, height = (max(size, round(side * scale)) for side in picture.size)
    left, top = (width - size) // 2, (height - size) // 2
    scaled = picture.resize((width, height), Image.Resampling.BILINEAR)
    return scaled.crop((left, top, left + size, top + size))


def randomly_cropped(picture: Image.Image, size: int, augmentation: Augmentation, draws: Tensor) -> Image.Image:
    """A random crop, scaled to `size`, and perhaps flipped; `draws`: five numbers in [0, 1)."""
    area, shape, across, down, flip = draws.tolist()
    smallest = augmentation.smallest_crop if augmentation.smallest_crop is not None else 1.0
    aspect = (3 / 4) ** (1 - 2 * shape) if smallest < 1 else 1.0  # log-uniform in 3/4 .. 4/3
    target = (smallest + (1 - smallest) * area) * picture.width * picture.height
    width = min(picture.width, max(1, round((target * aspect) ** 0.5)))
    height = min(picture.height, max(1, round((target / aspect) ** 0.5)))
    left, top = round(across * (picture.width - width)), round(down * (picture.height - height))
    box = (left, top, left + width, top + height)
    cut = picture.resize((size, size), Image.Resampling.BILINEAR, box=box)
    if augmentation.flip and flip < 0.5:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return cut


def open_classification(folder: Path, size: int, device: torch.device) -> tuple[dict[str, ShardedImages], list[str]]:
    """Every split of a labelled dataset, left on disk, and its class names."""
    samples = read_samples(folder)
    if "label" not in samples.columns:
        raise ScrimpError(f"{folder.name} has no labels; a classification study needs a labelled dataset or a view")
    workers = max(1, (os.cpu_count() or 1) - 1)
    splits = {
        str(split): ShardedImages(folder, rows.reset_index(drop=True), size, device, workers)
        for split, rows in samples.groupby("split", sort=False)
    }
    return splits, list(read_manifest(folder)["classes"])
