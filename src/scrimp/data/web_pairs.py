"""Image-text pairs whose pictures stay on disk: read by offset, decoded and scaled by threads when they are asked for.

To training they look as pairs in memory do. Threads do, since Pillow decodes and scales without the interpreter's lock.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from scrimp.data.loading import CORRUPT, as_rgb
from scrimp.data.pairs import SPLITS, PairData, check_base, positions, read_tokenizer, read_tokens
from scrimp.data.shards import read_manifest, read_samples
from scrimp.errors import ScrimpError


@dataclass(frozen=True)
class StreamedPairs:
    """Pictures in tars, and captions. Row i of `places`, int64 [N, 3], is picture i: its tar's number, offset and bytes.

    `tokens` int64 [N, L], padded with 0; `size` is the side in pixels at which pictures are seen; `dataset` names them.
    """

    dataset: str
    tars: list[Path]
    places: Tensor
    tokens: Tensor
    size: int

    def __len__(self) -> int:
        return len(self.places)

    def images(self, at: Tensor) -> Tensor:
        """The pictures of the pairs `at` (int64 [n]): uint8 [n, S, S, 3]. ScrimpError for one that cannot be read."""
        pixels = torch.empty(len(at), self.size, self.size, 3, dtype=torch.uint8)
        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
            for row, picture in enumerate(threads.map(self._picture, self.places[at].tolist())):
                pixels[row] = picture
        return pixels

    def subset(self, at: Tensor) -> StreamedPairs:
        """The pairs `at` (int64 [n]), in that order; a run of neighbours shares the memory of its tokens."""
        run = len(at) > 0 and bool((at.diff() == 1).all())
        chosen = slice(int(at[0]), int(at[-1]) + 1) if run else at
        return StreamedPairs(self.dataset, self.tars, self.places[chosen], self.tokens[chosen], self.size)

    def _picture(self, place: list[int]) -> Tensor:
        number, offset, count = place
        path = self.tars[number]
        again = f"run `scrimp shard {self.dataset}` again"
        try:
            # Opened for each picture: a large set has more tars than a process may hold open.
            with path.open("rb") as file:
                encoded = os.pread(file.fileno(), count, offset)
        except OSError as error:
            raise ScrimpError(f"{path} cannot be read ({error.strerror}); bring it back, or {again}") from error
        if len(encoded) != count:
            raise ScrimpError(
                f"{path} ends at byte {offset + len(encoded):,}, but a picture reaches to {offset + count:,}: it is "
                f"truncated; put a whole copy in its place and {again}"
            )
        try:
            return torch.from_numpy(np.array(squared(as_rgb(encoded), self.size)))
        except CORRUPT as error:
            raise ScrimpError(
                f"the picture at byte {offset:,} of {path} is corrupt ({error}); put a whole copy in its place and {again} "
                "(the dataset's option `decode: true` leaves out pairs whose pictures are corrupt)"
            ) from error


def squared(picture: Image.Image, size: int) -> Image.Image:
    """The whole picture scaled to `size` x `size`, whatever its shape, as SigLIP and JEST see theirs."""
    return picture if picture.size == (size, size) else picture.resize((size, size), Image.Resampling.BILINEAR)


def streamed(folder: Path, rows: pd.DataFrame, tokens: Tensor, size: int) -> StreamedPairs:
    """The given rows of a dataset's table, whose columns `shard`, `offset` and `size` say where pictures lie."""
    numbers, shards = pd.factorize(rows["shard"])
    places = np.stack([numbers, rows["offset"].to_numpy(np.int64), rows["size"].to_numpy(np.int64)], axis=1)
    return StreamedPairs(folder.name, [folder / shard for shard in shards], torch.from_numpy(places), tokens, size)


def load_web_pairs(folder: Path, size: int) -> PairData:
    """Every split of an image-text dataset, its pictures left on disk and seen at `size` x `size` pixels.

    Raises ScrimpError for a dataset without captions, for tokens that are not those of the table, and for tars that are
    missing or have another size than when the dataset was made.
    """
    manifest = read_manifest(folder)
    if "tokens" not in manifest:
        raise ScrimpError(f"{folder.name} has no captions; an image-text study needs pairs, such as web-pairs")
    check_base(folder, manifest)
    for tar in manifest.get("tars", []):
        path = folder / tar["file"]
        actual = path.stat().st_size if path.is_file() else None
        if actual != tar["bytes"]:
            state = "is missing" if actual is None else f"had {tar['bytes']:,} bytes and now has {actual:,}"
            raise ScrimpError(f"{path} {state}; put it back, or run `scrimp shard {folder.name}` on the tars as they are")
    samples = read_samples(folder)
    tokenizer = read_tokenizer(folder)
    tokens = read_tokens(folder, len(samples), tokenizer.get_vocab_size())
    pairs = streamed(folder, samples, tokens, size)
    splits = {split: pairs.subset(positions(samples["split"] == split)) for split in SPLITS}
    return PairData(pairs, samples, tokenizer, dict(splits))
