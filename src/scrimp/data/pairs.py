"""Image-text pairs addressed by index, read from a view such as `icon-pairs`.

A view holds no pictures: its pairs look at the pixels of its base, decoded once and mapped into memory, which processes
side by side share. So the 1 GB of `icons` is neither copied for a split nor read where nothing looks. Tokens are mapped,
too, in the two bytes that they have on disk: those of a batch become tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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
from scrimp.data.mapped import BLOCK, mapped, rows_of
from scrimp.data.shards import again, check_bases, read_manifest, read_samples
from scrimp.data.tables import Array, Frame, Rows, Table, positions
from scrimp.errors import ScrimpError

TRAINED = ("curated", "pool")  # splits that are trained on
TESTS = ("validation", "test", "test-unseen", "test-emoji")
SPLITS = (*TRAINED, *TESTS)


class PairSource(Protocol):
    """Pairs that training and evaluation read from, wherever their pictures lie."""

    @property
    def length(self) -> int:
        """Tokens of a caption."""
        ...

    def __len__(self) -> int: ...

    def images(self, at: Tensor) -> Tensor:
        """The pictures of the pairs `at` (int64 [n]): uint8 [n, S, S, 3]."""
        ...

    def captions(self, at: Tensor) -> Tensor:
        """The token ids of the pairs `at` (int64 [n]), padded with 0: int64 [n, L]."""
        ...

    def subset(self, at: Rows) -> PairSource:
        """The pairs `at` (int64 [n], or a range), in that order; no picture is copied."""
        ...


@dataclass(frozen=True)
class Pairs:
    """Pictures and captions. `pixels` uint8 [M, S, S, 3] is shared with others; pair i is picture `rows[i]` of it.

    `rows` int64 [N]; `tokens` integers [N, L], padded with 0.
    """

    pixels: Tensor
    rows: Tensor
    tokens: Tensor | Array

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def length(self) -> int:
        """Tokens of a caption."""
        return int(self.tokens.shape[1])

    def images(self, at: Tensor) -> Tensor:
        """The pictures of the pairs `at` (int64 [n]): uint8 [n, S, S, 3], a copy of these alone."""
        return self.pixels.index_select(0, self.rows.index_select(0, at))

    def captions(self, at: Tensor) -> Tensor:
        """The token ids of the pairs `at` (int64 [n]): int64 [n, L]."""
        return rows_of(self.tokens, at)

    def subset(self, at: Rows) -> Pairs:
        """The pairs `at` (int64 [n], or a range), in that order; no picture is copied, and of a range no token."""
        if isinstance(at, range):
            return Pairs(self.pixels, self.rows[at.start : at.stop], self.tokens[at.start : at.stop])
        tokens = self.tokens[at] if isinstance(self.tokens, Tensor) else self.tokens[at.numpy()]
        return Pairs(self.pixels, self.rows[at], tokens)


@dataclass(frozen=True)
class PairData:
    """An image-text dataset: `pairs` are all of it, row for row those of `table`."""

    pairs: PairSource
    table: Table
    tokenizer: Tokenizer
    splits: dict[str, PairSource]

    @cached_property
    def samples(self) -> pd.DataFrame:
        """The whole table, read when first asked for: a large dataset's does not fit into memory."""
        return self.table.frame

    def galleries(self, split: str) -> list[Tensor]:
        """Where the pairs of each gallery of a split stand in it: int64 [n] each, in the order of their numbers.

        A pair is looked for among those of its own gallery. Without a column `gallery` a split is one.
        """
        numbers = self.table.galleries(split)
        if numbers is None:
            count = len(self.table.rows(split))
            return [torch.arange(count)] if count else []
        return [positions(numbers == number) for number in np.unique(numbers)]

    @property
    def vocabulary(self) -> int:
        """How many token ids there are, the padding among them."""
        return int(self.tokenizer.get_vocab_size())

    @property
    def length(self) -> int:
        """Tokens of a caption."""
        return self.pairs.length

    def mean_length(self, split: str) -> float:
        """Tokens of a split's captions on average, the padding left out; NaN where it has no pair."""
        pairs, total = self.splits[split], self.table.tokens(split)
        if total is None:
            blocks = torch.arange(len(pairs)).split(BLOCK)
            total = sum(int((pairs.captions(block) != 0).sum()) for block in blocks)
        return total / len(pairs) if len(pairs) else float("nan")

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
    pairs, table = Pairs(pixels, rows, read_tokens(folder, len(samples))), Frame(samples)
    return PairData(pairs, table, tokenizer, {split: pairs.subset(table.rows(split)) for split in SPLITS})


def check_base(folder: Path, manifest: dict[str, Any]) -> Path | None:
    """The folder of the base of a view, which must be there and as it was; None for what is no view."""
    if "base" not in manifest:
        return None
    base = folder.parent / manifest["base"]["dataset"]
    read_manifest(base)  # must be there
    check_bases(folder, manifest)
    return base


def read_tokens(folder: Path, count: int) -> Array:
    """`tokens.npy` of an image-text dataset of `count` pairs, mapped: int16 [count, L], padded with 0."""
    path, remedy = folder / "tokens.npy", again(folder)
    tokens = mapped(path, read_manifest(folder)["tokens"]["tokens_sha256"], remedy)
    if tokens.ndim != 2 or len(tokens) != count or tokens.dtype != np.int16:
        raise ScrimpError(f"{path} holds {tokens.dtype} {tokens.shape}, but the table has {count} rows of int16; {remedy}")
    return tokens


def read_tokenizer(folder: Path) -> Tokenizer:
    """`tokenizer.json` of an image-text dataset."""
    path = folder / "tokenizer.json"
    check_digest(path, read_manifest(folder)["tokens"]["tokenizer_sha256"], again(folder))
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ScrimpError(f"{path} cannot be read ({error}); {again(folder)}") from error
