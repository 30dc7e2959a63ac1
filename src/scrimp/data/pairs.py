"""Image-text pairs addressed by index, read from a view such as `icon-pairs`.

A view holds no pictures: its pairs look at the pixels of its base, decoded once and mapped into memory, which processes
side by side share. So the 1 GB of `icons` is neither copied for a split nor read where nothing looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer
from torch import Tensor

from scrimp.data.captions import tokens_of
from scrimp.data.loading import load_pixels
from scrimp.data.shards import read_manifest, read_samples
from scrimp.errors import ScrimpError

TRAINED = ("curated", "pool")  # splits that are trained on
TESTS = ("validation", "test", "test-emoji")
SPLITS = (*TRAINED, *TESTS)


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

    pairs: Pairs
    samples: pd.DataFrame
    tokenizer: Tokenizer
    splits: dict[str, Pairs]

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
    base = folder.parent / manifest["base"]["dataset"]
    if read_manifest(base)["samples_sha256"] != manifest["base"]["samples_sha256"]:
        raise ScrimpError(f"{base} has changed since {folder} was made from it; run `scrimp shard {folder.name}` again")
    samples = read_samples(folder)
    rows = torch.from_numpy(samples["base_index"].to_numpy(np.int64, copy=True))
    pixels = load_pixels(base, read_samples(base))
    tokenizer = _tokenizer(folder)
    pairs = Pairs(pixels, rows, _tokens(folder, len(samples), tokenizer.get_vocab_size()))
    splits = {split: pairs.subset(_positions(samples["split"] == split)) for split in SPLITS}
    return PairData(pairs, samples, tokenizer, splits)


def _positions(marks: pd.Series) -> Tensor:
    return torch.from_numpy(np.flatnonzero(marks.to_numpy(bool)))


def _tokens(folder: Path, count: int, vocabulary: int) -> Tensor:
    path = folder / "tokens.npy"
    remedy = f"delete {folder} and run `scrimp shard {folder.name}` again"
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


def _tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ScrimpError(
            f"{path} is missing or damaged ({error}); delete {folder} and run `scrimp shard {folder.name}` again"
        ) from error
