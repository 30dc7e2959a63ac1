"""Image-text pairs addressed by index, read from a view such as `icon-pairs`.

A view holds no pictures: its pairs look at the pixels of its base, decoded once and mapped into memory, which processes
side by side share. So the 1 GB of `icons` is neither copied for a split nor read where nothing looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer
from torch import Tensor

from scrimp.data.captions import tokens_of
from scrimp.data.digests import check_digest
from scrimp.data.loading import load_pixels
from scrimp.data.shards import again, check_bases, read_manifest, read_samples
from scrimp.errors import ScrimpError

TRAINED = ("curated", "pool")  # splits that are trained on
TESTS = ("validation", "test", "test-unseen", "test-emoji")
SPLITS = (*TRAINED, *TESTS)


class PairSource(Protocol):
    """Pairs that training and evaluation read from, wherever their pictures lie."""

    @property
    def tokens(self) -> Tensor:
        """int64 [N, L], padded with 0."""
        ...

    def __len__(self) -> int: ...

    def images(self, at: Tensor) -> Tensor:
        """The pictures of the pairs `at` (int64 [n]): uint8 [n, S, S, 3]."""
        ...

    def subset(self, at: Tensor) -> PairSource:
        """The pairs `at` (int64 [n]), in that order; no picture is copied."""
        ...


@dataclass(frozen=True)
class Pairs:
    """Pictures and captions. `pixels` uint8 [M, S, S, 3] is shared with others; pair i is picture `rows[i]` of it.

    `rows` int64 [N]; `tokens` int64 [N, L], padded with 0.
    """

    pixels: Tensor
    rows: Tensor
    tokens: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, at: Tensor) -> Tensor:
        """The pictures of the pairs `at` (int64 [n]): uint8 [n, S, S, 3], a copy of these alone."""
        return self.pixels.index_select(0, self.rows.index_select(0, at))

    def subset(self, at: Tensor) -> Pairs:
        """The pairs `at` (int64 [n]), in that order; no picture is copied."""
        return Pairs(self.pixels, self.rows[at], self.tokens[at])


@dataclass(frozen=True)
class PairData:
    """An image-text dataset: `pairs` are all of it, row for row those of the table `samples`."""

    pairs: PairSource
    samples: pd.DataFrame
    tokenizer: Tokenizer
    splits: dict[str, PairSource]

    def galleries(self, split: str) -> list[Tensor]:
        """Where the pairs of each gallery of a split stand in it: int64 [n] each, in the order of their numbers.

        A pair is looked for among those of its own gallery. Without a column `gallery` a split is one.
        """
        rows = self.samples[self.samples["split"] == split]
        if "gallery" not in rows.columns:
            return [torch.arange(len(rows))] if len(rows) else []
        return [positions(rows["gallery"] == number) for number in sorted(rows["gallery"].unique())]

    @property
    def vocabulary(self) -> int:
        """How many token ids there are, the padding among them."""
        return int(self.tokenizer.get_vocab_size())

    @property
    def length(self) -> int:
        """Tokens of a caption."""
        return self.pairs.tokens.shape[1]

    def encode(self, captions: list[str]) -> Tensor:
        """Other captions, such as the names of classes, as token ids: int64 [n, length]."""
        return tokens_of(self.tokenizer, captions)


def load_pairs(folder: Path) -> PairData:
    """Every split of an image-text view; one that the view has no pair of is empty.

    Raises ScrimpError for a dataset that is no such view, a base that is missing or has changed since, and for tokens
    that are not those of the table.
    """
    manifest = read_manifest(folder)
    if "tokens" not in manifest:
        raise ScrimpError(f"{folder.name} has no captions; an image-text study needs a view such as icon-pairs")
    base = check_base(folder, manifest)
    if base is None:
        raise ScrimpError(f"{folder.name} has pictures of many sizes: give the workload an `image_size`, to read them at")
    samples = read_samples(folder)
    rows = torch.from_numpy(samples["base_index"].to_numpy(np.int64, copy=True))
    pixels = load_pixels(base, read_samples(base))
    tokenizer = read_tokenizer(folder)
    pairs = Pairs(pixels, rows, read_tokens(folder, len(samples), tokenizer.get_vocab_size()))
    splits = {split: pairs.subset(positions(samples["split"] == split)) for split in SPLITS}
    return PairData(pairs, samples, tokenizer, dict(splits))


def check_base(folder: Path, manifest: dict[str, Any]) -> Path | None:
    """The folder of the base of a view, which must be there and as it was; None for what is no view."""
    if "base" not in manifest:
        return None
    base = folder.parent / manifest["base"]["dataset"]
    read_manifest(base)  # must be there
    check_bases(folder, manifest)
    return base


def positions(marks: pd.Series) -> Tensor:
    """Where a boolean column is true: int64 [n]."""
    return torch.from_numpy(np.flatnonzero(marks.to_numpy(bool)))


def read_tokens(folder: Path, count: int, vocabulary: int) -> Tensor:
    """`tokens.npy` of an image-text dataset of `count` pairs: int64 [count, L]; ids beyond the vocabulary are an error."""
    path, remedy = folder / "tokens.npy", again(folder)
    check_digest(path, read_manifest(folder)["tokens"]["tokens_sha256"], remedy)
    try:
        tokens = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ScrimpError(f"{path} is missing or damaged ({error}); {remedy}") from error
    if tokens.ndim != 2 or len(tokens) != count or (tokens.size and not 0 <= tokens.min() <= tokens.max() < vocabulary):
        raise ScrimpError(
            f"{path} holds {tokens.shape} ids up to {tokens.max(initial=0)}, but the table has {count} rows and the "
            f"tokenizer {vocabulary} ids; {remedy}"
        )
    return torch.from_numpy(tokens.astype(np.int64))


def read_tokenizer(folder: Path) -> Tokenizer:
    """`tokenizer.json` of an image-text dataset."""
    path = folder / "tokenizer.json"
    check_digest(path, read_manifest(folder)["tokens"]["tokenizer_sha256"], again(folder))
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ScrimpError(f"{path} cannot be read ({error}); {again(folder)}") from error
