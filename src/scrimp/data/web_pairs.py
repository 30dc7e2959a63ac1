"""Image-text pairs whose pictures stay on disk: read by offset, decoded and scaled by threads when they are asked for.

To training they look as pairs in memory do. Threads do, since Pillow decodes and scales without the interpreter's lock.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from scrimp.data.loading import CORRUPT, as_rgb
from scrimp.data.mapped import rows_of
from scrimp.data.pairs import SPLITS, PairData, check_base, read_tokenizer, read_tokens
from scrimp.data.shards import read_manifest, read_samples
from scrimp.data.tables import PLACE, Array, Frame, Mapped, Rows, Table
from scrimp.errors import ScrimpError

MOST_ROWS = 2**31  # a row's number below this takes four bytes


@dataclass(frozen=True)
class StreamedPairs:
    """Pictures in tars, and captions; pair i is row `rows[i]` of what lies on disk, and of a range no row is held.

    `places`, a PLACE a row [M], says where in which of `tars` its picture lies; `tokens` integers [M, L], padded with 0.
    `size` is the side in pixels at which pictures are seen; `dataset` names them.
    """

    dataset: str
    tars: list[Path]
    places: Array
    tokens: Tensor | Array
    size: int
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def length(self) -> int:
        """Tokens of a caption."""
        return int(self.tokens.shape[1])

    def images(self, at: Tensor) -> Tensor:
        """The pictures of the pairs `at` (int64 [n]): uint8 [n, S, S, 3]. ScrimpError for one that cannot be read."""
        pixels = torch.empty(len(at), self.size, self.size, 3, dtype=torch.uint8)
        places = self.places[self._rows(at).numpy()]
        found = zip(places["tar"].tolist(), places["offset"].tolist(), places["size"].tolist(), strict=True)
        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
            for row, picture in enumerate(threads.map(self._picture, found)):
                pixels[row] = picture
        return pixels

    def captions(self, at: Tensor) -> Tensor:
        """The token ids of the pairs `at` (int64 [n]): int64 [n, L]."""
        return rows_of(self.tokens, self._rows(at))

    def subset(self, at: Rows) -> StreamedPairs:
        """The pairs `at` (int64 [n], or a range), in that order: four bytes a pair are held, and none of a range."""
        rows: Rows
        if isinstance(at, range) and isinstance(self.rows, range):
            rows = self.rows[at.start : at.stop]
        else:
            rows = self._rows(torch.arange(at.start, at.stop) if isinstance(at, range) else at)
            rows = rows.int() if len(self.places) <= MOST_ROWS else rows
        return replace(self, rows=rows)

    def _rows(self, at: Tensor) -> Tensor:
        if isinstance(self.rows, range):
            inside = len(at) == 0 or (int(at.min()) >= 0 and int(at.max()) < len(self.rows))
            if not inside:
                raise IndexError(f"pairs {int(at.min())} to {int(at.max())} were asked for, of {len(self.rows)}")
            return at + self.rows.start
        return self.rows[at].long()

    def _picture(self, place: tuple[int, int, int]) -> Tensor:
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


def streamed(folder: Path, rows: pd.DataFrame, tokens: Tensor | Array, size: int) -> StreamedPairs:
    """The given rows of a dataset's table, whose columns `shard`, `offset` and `size` say where pictures lie."""
    numbers, shards = pd.factorize(rows["shard"])
    places = np.empty(len(rows), dtype=PLACE)
    places["tar"], places["offset"], places["size"] = numbers, rows["offset"], rows["size"]
    tars = [folder / shard for shard in shards]
    return StreamedPairs(folder.name, tars, places, tokens, size, range(len(rows)))


def load_web_pairs(folder: Path, size: int) -> PairData:
    """Every split of an image-text dataset, its pictures left on disk and seen at `size` x `size` pixels.

    What it holds in memory does not grow with the pairs, where the dataset has its columns on disk: those from tars do.
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
    table: Table
    if "columns" in manifest:
        table = columns = Mapped.of(folder, manifest, SPLITS)
        places = columns.columns["place"]
        tars = [folder / tar["file"] for tar in manifest["tars"]]
        pairs = StreamedPairs(folder.name, tars, places, read_tokens(folder, len(places)), size, range(len(places)))
    else:
        samples = read_samples(folder)
        table, pairs = Frame(samples), streamed(folder, samples, read_tokens(folder, len(samples)), size)
    splits = {split: pairs.subset(table.rows(split)) for split in SPLITS}
    return PairData(pairs, table, read_tokenizer(folder), dict(splits))
