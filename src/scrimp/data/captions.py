"""Captions of image-text data: cleaning them, filtering them by their words alone, and turning them into tokens.

The tokenizer is a byte-level BPE (Sennrich et al. 2016; bytes as in GPT-2) trained on the captions that are trained on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tokenizers import Encoding, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, from_numpy

from scrimp.data.icon_classes import concept
from scrimp.files import sha256_of

PADDING = "[PAD]"  # id 0
# How the curated sets say that a drawing is another style of the same thing. Fewer than the classes' STYLE_WORDS, of
# which a set with canonical names means many: `wifi-off` and `traffic-light` are no styles of wifi and traffic.
DRAWN = frozenset(["alt", "duotone", "fill", "filled", "outline", "outlined", "outlines", "solid", "variant"])
BRANDS = frozenset(["brand", "brands", "ibm", "logo", "logos"])  # words that mark a name as a company's
LINE_SHARE = 0.1
CAPTIONS_AT_A_TIME = 100_000  # an encoding takes some kB: those of millions of captions would not fit into memory


# ------------------------------------------------------------------------------------------------------------- cleaning
def cleaned(name: str, without: Sequence[str] = ()) -> str:
    """The caption of an icon of a curated set: its name without style, size and number of variant; "" if none is left.

    `without` holds the words that are a style of this set when they come last (see `style_endings`). A number inside a
    name means something that the other words do not say, and a company's name is no description: both give "".

    >>> cleaned("traffic-light-2-fill"), cleaned("line-chart-line", ["line"]), cleaned("card-2-clubs"), cleaned("wifi-off")
    ('traffic light', 'line chart', '', 'wifi off')
    """
    first, *others = name.split("-")
    words = [first, *(word for word in others if word not in DRAWN)]
    while len(words) > 1 and (words[-1] in without or re.fullmatch(r"\d+(px)?", words[-1])):
        words.pop()
    if BRANDS.intersection(words) or any(not word.isalpha() for word in words):
        return ""
    return " ".join(words)


def style_endings(names: Iterable[str]) -> list[str]:
    """`["line"]` for a set that ends a tenth of its names or more in `-line`; elsewhere a line is what is drawn."""
    ends = [name.endswith("-line") for name in names]
    return ["line"] if ends and sum(ends) >= LINE_SHARE * len(ends) else []


# ------------------------------------------------------------------------------------------------------------- filtering
def descriptive(captions: pd.Series, designers: pd.Series, least_designers: int, most_words: int = 5) -> pd.Series:
    """A filter on the caption alone: bool, with the index of `captions` (raw, words with blanks between).

    A caption passes when it has no digit and names no brand, when one to `most_words` words are left without the words
    of style (`icon_classes.concept`), and when each of these is used by at least `least_designers` of the designers.
    """
    shown = captions.map(lambda caption: concept(caption.replace(" ", "-")).split())
    used = pd.DataFrame({"word": shown, "designer": designers}).explode("word")
    by = used.groupby("word")["designer"].nunique()
    common = frozenset(by.index[by >= least_designers])
    told = shown.map(
        lambda words: 1 <= len(words) <= most_words and common.issuperset(words) and not BRANDS.intersection(words)
    )
    return told & ~captions.str.contains(r"\d", regex=True)


# --------------------------------------------------------------------------------------------------------------- tokens
def train_tokenizer(captions: Iterable[str], vocabulary: int, length: int) -> Tokenizer:
    """A byte-level BPE of at most `vocabulary` tokens that pads and cuts to `length`; the same captions, the same one.

    The padding and the 256 bytes are always in it.
    """
    tokenizer = Tokenizer(models.BPE())
    # With the prefix a word is the same token at a caption's start and inside it.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PADDING],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=0, pad_token=PADDING)
    return tokenizer


def encoded(tokenizer: Tokenizer, captions: Sequence[str]) -> np.ndarray:
    """Token ids, cut and padded with 0: int16 [N, length]."""
    assert tokenizer.truncation is not None  # train_tokenizer sets it
    ids = np.zeros((len(captions), tokenizer.truncation["max_length"]), dtype=np.int16)
    for row, encoding in enumerate(_encodings(tokenizer, captions)):
        ids[row] = encoding.ids
    return ids


def tokens_of(tokenizer: Tokenizer, captions: Sequence[str]) -> Tensor:
    """The same as int64, as embeddings look them up."""
    return from_numpy(encoded(tokenizer, captions).astype(np.int64))


class Encoder:
    """Token ids of captions, block after block, and what a manifest tells of all of them.

    `tokenizer` is one of `train_tokenizer`'s, which cuts and pads to its length.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        assert tokenizer.truncation is not None  # train_tokenizer sets it
        self.length: int = tokenizer.truncation["max_length"]
        self.whole = Tokenizer.from_str(tokenizer.to_str())
        self.whole.no_truncation()
        self.whole.no_padding()
        self.count = self.cut = self.total = 0
        self.tokenizer_sha256 = ""

    @classmethod
    def saved(cls, tokenizer: Tokenizer, folder: Path) -> Encoder:
        """An encoder whose tokenizer is written to `tokenizer.json` of the folder."""
        tokenizer.save(str(folder / "tokenizer.json"))
        encoder = cls(tokenizer)
        encoder.tokenizer_sha256 = sha256_of(folder / "tokenizer.json")
        return encoder

    def ids(self, texts: Sequence[str]) -> np.ndarray:
        """The ids of the next captions, cut and padded with 0: int16 [n, length]."""
        ids = np.zeros((len(texts), self.length), dtype=np.int16)
        for row, encoding in enumerate(_encodings(self.whole, texts)):
            found = encoding.ids
            ids[row, : len(found)] = found[: self.length]
            self.total += len(found)
            self.cut += len(found) > self.length
        self.count += len(texts)
        return ids

    def facts(self, tokens_sha256: str) -> dict[str, Any]:
        """What a manifest tells, `tokens.npy` having this digest; `mean` is of captions before they are cut."""
        return {
            "vocabulary": self.whole.get_vocab_size(),
            "length": self.length,
            "captions_cut": self.cut,
            "mean": round(self.total / self.count, 3),
            "tokens_sha256": tokens_sha256,
            "tokenizer_sha256": self.tokenizer_sha256,
        }


def write_tokens(folder: Path, texts: pd.Series, trained: pd.Series, vocabulary: int, length: int) -> dict[str, Any]:
    """Write `tokenizer.json`, trained on the texts marked in `trained`, and `tokens.npy` of all; facts for a manifest."""
    encoder = Encoder.saved(train_tokenizer(texts[trained], vocabulary, length), folder)
    np.save(folder / "tokens.npy", encoder.ids(list(texts)))
    return encoder.facts(sha256_of(folder / "tokens.npy"))


def _encodings(tokenizer: Tokenizer, captions: Sequence[str]) -> Iterator[Encoding]:
    for begin in range(0, len(captions), CAPTIONS_AT_A_TIME):
        yield from tokenizer.encode_batch_fast(list(captions[begin : begin + CAPTIONS_AT_A_TIME]))
