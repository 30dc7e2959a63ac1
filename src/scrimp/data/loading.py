"""Labelled images addressed by index: small sets live in memory, large ones are read from their shards by offset."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from scrimp.config import Augmentation
from scrimp.data.digests import cached
from scrimp.data.shards import again, check_shards, home, read_images, read_manifest, read_samples
from scrimp.errors import ScrimpError, no_damage
from scrimp.seeding import derived_generator

# Whatever a file is called: some of Pillow's readers run other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
# What Pillow raises for bytes that are no whole picture, or for one too large to be one.
CORRUPT = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    ArithmeticError,
    LookupError,
    TypeError,
)
Visit = tuple[Tensor, Tensor]
Part = Callable[[int], tuple[slice, float]]  # see training/parallel.py


class ImageSource(Protocol):
    """A split that training and evaluation read from, wherever its pictures lie."""

    @property
    def labels(self) -> Tensor:
        """int64 [N]."""
        ...

    def __len__(self) -> int: ...

    def visits(
        self, batches: Sequence[Tensor], augmentation: Augmentation, seed: int, number: int, part: Part
    ) -> Iterator[Visit]:
        """This process's part of each of some batches of indices, augmented by (seed, number), the number of an epoch or
        a step: uint8 [b, S, S, 3], labels [b]."""
        ...

    def plain(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The whole split in order, without augmentation: uint8 [b, S, S, 3], labels [b]."""
        ...


@dataclass(frozen=True)
class Images:
    """A split in memory. `pixels` uint8 [N, S, S, 3], `labels` int64 [N]; the position is the index, for ever."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Images:
        return Images(self.pixels.to(device), self.labels.to(device))

    def visits(
        self, batches: Sequence[Tensor], augmentation: Augmentation, seed: int, number: int, part: Part
    ) -> Iterator[Visit]:
        # Every process draws for the whole batch and takes its part, so that all see the same pictures.
        draws = derived_generator(seed, number, "augmentation")
        for batch in batches:
            at = batch.to(self.pixels.device, non_blocking=True)
            mine, _ = part(len(batch))
            yield augmented(self.pixels.index_select(0, at), augmentation, draws)[mine], self.labels[at][mine]

    def plain(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self.pixels.split(batch_size), self.labels.split(batch_size), strict=True)


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel of the training split, of pixels in [0, 1]: float [3] each."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, images: Images) -> Normalisation:
        # From each channel's counts of the 256 values: exact, and no float copy of a whole split.
        values = torch.arange(256, dtype=torch.float64) / 255
        flat = images.pixels.cpu().reshape(-1, 3)
        shares = torch.stack([torch.bincount(flat[:, channel], minlength=256) for channel in range(3)]).double() / len(flat)
        mean = shares @ values
        variance = (shares * (values - mean[:, None]).square()).sum(dim=1) * len(flat) / (len(flat) - 1)
        return cls(mean.float(), variance.sqrt().float().clamp(min=1e-3))

    def to(self, device: torch.device) -> Normalisation:
        return Normalisation(self.mean.to(device), self.deviation.to(device))

    def __call__(self, pixels: Tensor) -> Tensor:
        """uint8 [B, S, S, 3] to float [B, 3, S, S] in channels-last memory."""
        # The three factors are spread over a picture first: broadcasting an innermost 3 is six times slower.
        scale = (1 / (255 * self.deviation)).expand(pixels.shape[1:]).contiguous()
        offset = (-self.mean / self.deviation).expand(pixels.shape[1:]).contiguous()
        return torch.addcmul(offset, pixels.float(), scale).permute(0, 3, 1, 2)


def load_classification(folder: Path) -> tuple[dict[str, Images], list[str]]:
    """Every split of a labelled dataset, decoded into memory, and its class names.

    Raises ScrimpError for a folder without labels, a missing or truncated shard, or an image that does not decode.
    """
    samples = read_samples(folder)
    if "label" not in samples.columns:
        raise ScrimpError(f"{folder.name} has no labels; a classification study needs a labelled dataset or a view")
    pixels, labels = load_pixels(folder, samples), torch.from_numpy(samples["label"].to_numpy(np.int64, copy=True))
    splits = {}
    for split, rows in samples.reset_index(drop=True).groupby("split", sort=False):
        at = torch.from_numpy(rows.index.to_numpy(np.int64, copy=True))
        splits[str(split)] = Images(pixels.index_select(0, at), labels[at])
    return splits, list(read_manifest(folder)["classes"])


def load_pixels(folder: Path, samples: pd.DataFrame) -> Tensor:
    """All pictures of a sharded dataset in the order of its table `samples`: uint8 [N, S, S, 3].

    Decoding costs more than a short run's imports, so the first reader keeps the pixels beside the table, and later ones
    map that file into memory, which processes side by side share. Its name holds the table's digest, which changes when
    the data does.
    """
    cache = folder / f"pixels-{read_manifest(folder)['samples_sha256'][:16]}.npy"

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, _decoded(folder, samples))

    return _mapped(cache) if cached(cache, write) else torch.from_numpy(_decoded(folder, samples))


def _mapped(cache: Path) -> Tensor:
    try:
        return torch.from_numpy(np.load(cache, mmap_mode="c", allow_pickle=False))  # "c": private, never written back
    except (OSError, ValueError) as error:
        no_damage(error, cache)
        raise ScrimpError(f"{cache} is damaged ({error}); delete it and run the same command again") from error


def _decoded(folder: Path, samples: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.uint8]]:
    check_shards(folder, samples)
    pixels = np.empty(0, dtype=np.uint8)
    encoded = read_images(folder, samples)
    places = zip(encoded, samples["shard"], samples["index"], names_of(samples), strict=True)
    for row, (image, shard, index, name) in enumerate(places):
        picture = np.asarray(decode(image, folder / shard, index, name))
        if row == 0:
            pixels = np.empty((len(samples), *picture.shape), dtype=np.uint8)
        elif picture.shape != pixels.shape[1:]:
            raise ScrimpError(
                f"{folder.name} has images of different sizes; give the workload an `image_size`, to read them at"
            )
        pixels[row] = picture
    return pixels


def decode(encoded: bytes, shard: Path, index: int, name: str = "") -> Image.Image:
    """An encoded picture as RGB; one that does not decode is an error that names its shard and the remedy.

    `name` is CLASS/FILE where the picture was copied from a folder of the user's own: then that file is to be mended.
    """
    try:
        return as_rgb(encoded)
    except CORRUPT as error:
        path = home(shard)
        if name:
            raise ScrimpError(
                f"picture {name} (image {index} in {path}) cannot be decoded ({error}): mend or remove that file in your "
                f"own folder, and run `scrimp shard {path.parent.name} --path FOLDER` again, which mends a damaged shard too"
            ) from error
        raise ScrimpError(f"image {index} in {path} is corrupt ({error}); {again(path.parent)}") from error


def names_of(samples: pd.DataFrame) -> list[str]:
    """CLASS/FILE of pictures that were copied from a user's folder, "" for others; rows of `samples.parquet`."""
    if not {"class_name", "name"} <= set(samples.columns) or "set" in samples.columns:
        return [""] * len(samples)
    return list(samples["class_name"] + "/" + samples["name"])


def as_rgb(encoded: bytes) -> Image.Image:
    """An encoded picture, decoded to its end, as RGB; raises one of CORRUPT where that fails.

    Transparent pictures are laid on white. Greys of 16 bits are scaled to 8. ValueError for wider numbers, whose range
    no one states. Of several frames the first counts.
    """
    image: Image.Image = Image.open(io.BytesIO(encoded), formats=FORMATS)
    image.load()  # here, where what is wrong with it can be told
    if image.mode == "RGB" and "transparency" not in image.info:
        return image  # converting would copy
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        # Pillow would clip at 255, which leaves white.
        return Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are numbers of 32 bits (mode {image.mode}): save it with 8 or 16 bits a channel")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if int(np.asarray(image)[..., 3].min()) < 255:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def augmented(pixels: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Shift and flip a batch (uint8 [B, S, S, 3]) at random, each picture by itself; the border is reflected.

    One gather does it all: the same as padding by reflection, cropping and flipping, without the padded copy.
    `generator` lives on the CPU, so that every device sees the same draws.
    """
    count, size = pixels.shape[:2]
    draws = torch.rand(3, count, generator=generator)
    reach = augmentation.shift
    grid = torch.arange(size)
    offsets = (draws[:2] * (2 * reach + 1)).long() - reach  # [2, B]
    rows, columns = (_reflected(grid + offset[:, None], size) for offset in offsets)  # [B, S] each
    if augmentation.flip:
        columns = torch.where(draws[2, :, None] < 0.5, columns.flip(1), columns)
    positions = (torch.arange(count)[:, None, None] * size + rows[:, :, None]) * size + columns[:, None, :]  # [B, S, S]
    # Rows of three bytes are gathered five times faster than by indexing with three tensors.
    return pixels.reshape(-1, 3).index_select(0, positions.view(-1).to(pixels.device)).view(pixels.shape)


def _reflected(position: Tensor, size: int) -> Tensor:
    return (size - 1) - ((size - 1) - position.abs()).abs()
