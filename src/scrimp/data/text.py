"""Tokens for language models: a dataset's splits in memory or mapped into it, and windows of them.

Window i of a split with context C has the tokens iC ... iC + C - 1 as inputs and those one further on as targets. The
order in which an epoch visits windows is left to the loop that trains.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from scrimp.data.digests import cached, check_digest
from scrimp.data.shards import again, check_bases, home, read_images, read_manifest, read_samples
from scrimp.data.text_tokens import FILE, LEARNED, SPLITS, ByteTokenizer, TextTokenizer
from scrimp.errors import ScrimpError


@dataclass(frozen=True)
class Text:
    """A tokenised dataset.

    `splits` holds uint16 ids in the bits of int16 (which torch can index on every device) [tokens]; read them through
    `windows` or `ids`. `bytes_per_token` turns a loss in nats per token into bits per byte: loss / (ln 2 * it).
    `entropy` is what no model's expected loss goes below, in nats per token, where it is known.
    """

    splits: dict[str, Tensor]
    vocabulary: int
    bytes_per_token: dict[str, float]
    end_of_text: int
    entropy: float | None
    tokenizer: TextTokenizer | None  # None for generated symbols

    def decode(self, tokens: Tensor) -> str:
        """The text of ids (int64 [n]); end-of-text stands for nothing. Generated symbols are shown as numbers."""
        found: list[int] = tokens.tolist()
        return " ".join(map(str, found)) if self.tokenizer is None else self.tokenizer.decode(found)


def load_text(folder: Path) -> Text:
    """Every split of a text dataset, of any size: the tokens are mapped from a file that the first reader writes.

    Raises ScrimpError for a folder without tokens, and for a run of tokens that is damaged or missing.
    """
    manifest = read_manifest(folder)
    if "end_of_text" not in manifest:
        raise ScrimpError(f"{folder.name} has no tokens; a language study needs a text dataset, such as `texts`")
    check_bases(folder, manifest)
    tokens = torch.from_numpy(_tokens(folder, manifest["samples_sha256"]))
    sizes = [manifest["tokens"][split] for split in SPLITS]
    return Text(
        splits=dict(zip(SPLITS, tokens.split(sizes), strict=True)),
        vocabulary=manifest["vocabulary"],
        bytes_per_token={split: manifest["bytes"][split] / manifest["tokens"][split] for split in SPLITS},
        end_of_text=manifest["end_of_text"],
        entropy=manifest.get("entropy"),
        tokenizer=_tokenizer(folder, manifest),
    )


def _tokenizer(folder: Path, manifest: dict[str, Any]) -> TextTokenizer | None:
    kind = manifest["tokenizer"]
    if kind in LEARNED:
        check_digest(folder / FILE, manifest["tokenizer_sha256"], again(folder))
        return LEARNED[kind].read(folder)
    return ByteTokenizer() if kind == "bytes" else None


def ids(tokens: Tensor) -> Tensor:
    """The ids in a part of a split: int64, of the same shape."""
    return tokens.long() & 0xFFFF


def window_count(split: Tensor, context: int) -> int:
    """How many windows of `context` inputs, each with all its targets, a split has; the rest at its end is not used."""
    return max(len(split) - 1, 0) // context


def windows(split: Tensor, context: int, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and targets of windows (`indices` int64 [b], each below `window_count`): int64 [b, context] each.

    They lie on the split's device.
    """
    places = indices.to(split.device)[:, None] * context + torch.arange(context + 1, device=split.device)  # [b, C + 1]
    found = ids(split[places])
    return found[:, :-1], found[:, 1:]


def _tokens(folder: Path, digest: str) -> npt.NDArray[np.int16]:
    """All splits, one after the other: int16 [tokens].

    The first reader checks each run of tokens and keeps all of them in one file, which later ones map into memory and
    processes side by side share. Its name holds the digest of the table of runs, which changes when a token does.
    """
    cache = folder / f"tokens-{digest[:16]}.npy"

    def write(path: Path) -> None:
        samples = read_samples(folder)
        shape = (int(samples["tokens"].sum()),)
        mapped: Any = np.lib.format.open_memmap(path, mode="w+", dtype=np.int16, shape=shape)
        _filled(mapped, folder, samples).flush()

    if not cached(cache, write):
        samples = read_samples(folder)
        return _filled(np.empty(int(samples["tokens"].sum()), dtype=np.int16), folder, samples)
    try:
        tokens: npt.NDArray[np.int16] = np.load(cache, mmap_mode="c", allow_pickle=False)  # "c": never written back
    except (OSError, ValueError) as error:
        raise ScrimpError(f"{cache} is damaged ({error}); delete it and run the same command again") from error
    return tokens


def _filled(tokens: Any, folder: Path, samples: pd.DataFrame) -> Any:
    """Write the runs into `tokens` (int16 [their tokens together], an array or a memory map), and return it."""
    end = 0
    for run, shard, digest in zip(read_images(folder, samples), samples["shard"], samples["sha256"], strict=True):
        if hashlib.sha256(run).hexdigest() != digest:
            path = home(folder / shard)
            raise ScrimpError(
                f"{path} is damaged: a run of tokens has another digest than when it was written; {again(path.parent)}"
            )
        found = np.frombuffer(run, "<u2").view(np.int16)
        tokens[end : end + len(found)] = found
        end += len(found)
    return tokens
