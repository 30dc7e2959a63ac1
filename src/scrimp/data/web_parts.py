"""What each tar of pictures and captions holds, as a file of its own: read by several processes, and never twice.

A part is a parquet file, called by a digest of its tar's path, size and time and of the options that reading depends on. So
what was read before a kill, or before a damaged tar was met, is kept, and only the rest is read by the next command.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import track

from scrimp.data.sources import say
from scrimp.data.web_tars import Options, index_tar
from scrimp.errors import ScrimpError
from scrimp.files import digest_of, holding, replacing

LAYOUT = 1  # of a part; one of another is made anew
COLUMNS = pa.schema(
    {
        **dict.fromkeys(("key", "caption", "set"), pa.string()),
        "score": pa.float64(),
        "offset": pa.uint64(),
        "size": pa.uint32(),
        **dict.fromkeys(("key_hash", "caption_hash"), pa.uint64()),
    }
)
LEFT_OUT = b"left_out"

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


class LeftOut(NamedTuple):
    """How many samples are of no use for one reason, and the first of them with its tar."""

    samples: int
    first: str


class Found(NamedTuple):
    """What some tars hold: a part and its number of pairs for each tar, and what is of no use, by reason."""

    tars: list[Path]
    parts: list[Path]
    pairs: list[int]
    left_out: dict[str, LeftOut]

    @property
    def counts(self) -> dict[str, int]:
        """How many were left out, by reason."""
        return {reason: told.samples for reason, told in sorted(self.left_out.items())}

    @property
    def total(self) -> int:
        """How many pairs there are."""
        return sum(self.pairs)

    @property
    def told(self) -> str:
        """How many were left out, each reason with an example."""
        told = [f"{one.samples:,} with {reason} ({one.first})" for reason, one in sorted(self.left_out.items())]
        return ", ".join(told) or "none"

    def read(self, number: int, columns: list[str]) -> pa.Table:
        """Columns of a part, a row a pair in its tar's order; ScrimpError for a part that is damaged."""
        part = self.parts[number]
        try:
            return pq.read_table(part, columns=columns, page_checksum_verification=True)
        except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
            raise ScrimpError(f"{part} is damaged ({error}); delete it and run the same command again") from error

    def hashes(self, number: int, column: str) -> Hashes:
        """The column `key_hash` or `caption_hash` of a part: uint64 [n]."""
        return np.asarray(self.read(number, [column])[column].to_numpy(), dtype=np.uint64)

    def alone(self) -> int:
        """How many pairs have a caption of their own; it holds 16 bytes a pair meanwhile."""
        hashes = np.sort(np.concatenate([self.hashes(number, "caption_hash") for number in range(len(self.parts))]))
        same = hashes[1:] == hashes[:-1]
        return int((~np.append(same, False) & ~np.append(False, same)).sum()) if len(hashes) else 0


@contextmanager
def kept_parts(folder: Path) -> Iterator[Path]:
    """Yield a folder beside `folder` for the parts that it is made from; removed once it is made, kept after an error.

    Two commands at the same dataset wait for each other.
    """
    parts = folder.with_name(f".{folder.name}.parts")
    with holding(folder.with_name(f".{folder.name}.parts.lock")):
        try:
            parts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ScrimpError(f"cannot make {parts}: {error.strerror}; mend its folder's permissions") from error
        for torn in parts.glob(".*.tmp"):
            torn.unlink(missing_ok=True)
        yield parts
        shutil.rmtree(parts, ignore_errors=True)


def find(name: str, tars: list[Path], options: Options, processes: int, folder: Path) -> Found:
    """Read what the tars hold into parts in `folder`, `processes` tars at a time; those that are there are not read again.

    Raises ScrimpError for a tar that is damaged or holds links or paths that lead out of it.
    """
    parts = [folder / f"{_key(tar, options)}.parquet" for tar in tars]
    missing = [(tar, options, part) for tar, part in zip(tars, parts, strict=True) if not _whole(part)]
    if len(missing) < len(tars):
        say(f"{name}: {len(tars) - len(missing):,} of {len(tars):,} tars were read before")
    with _mapping(min(processes, len(missing))) as mapped:
        for _ in track(mapped(_write, missing), description="reading tars", total=len(missing)):
            pass
    pairs, left_out = [], dict[str, LeftOut]()
    for tar, part in zip(tars, parts, strict=True):
        about = pq.read_metadata(part)
        pairs.append(about.num_rows)
        for reason, (count, first) in json.loads(about.metadata[LEFT_OUT]).items():
            known = left_out.get(reason, LeftOut(0, f"{first} in {tar}"))
            left_out[reason] = known._replace(samples=known.samples + count)
    found = Found(tars, parts, pairs, left_out)
    say(f"{name}: {found.total:,} pairs in {len(tars):,} tars; left out: {found.told}")
    return found


def _key(tar: Path, options: Options) -> str:
    about = tar.stat()
    told = options.model_dump(include={"score", "caption_key", "decode"})
    return digest_of([LAYOUT, str(tar.absolute()), about.st_size, about.st_mtime_ns, told])


def _whole(part: Path) -> bool:
    try:
        return LEFT_OUT in (pq.read_metadata(part).metadata or {})
    except (OSError, ValueError):
        return False


@contextmanager
def _mapping(processes: int) -> Iterator[Any]:
    if processes <= 1:
        yield map
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield pool.imap_unordered


def _write(work: tuple[Path, Options, Path]) -> None:
    tar, options, part = work
    rows, left_out = index_tar(tar, options)
    rows = rows.assign(key_hash=_hashed(rows["key"]), caption_hash=_hashed(rows["caption"]))
    told = {reason: [len(names), names[0]] for reason, names in left_out.items()}
    table = pa.Table.from_pandas(rows, COLUMNS, preserve_index=False)
    with replacing(part) as temporary:
        about = table.replace_schema_metadata({LEFT_OUT: json.dumps(told).encode()})
        pq.write_table(about, temporary, compression="zstd", write_page_checksum=True)


def _hashed(texts: pd.Series) -> Hashes:
    """The first eight bytes of each text's SHA-256, as a number: uint64 [n]. Their order is that of the bytes."""
    digests = b"".join(hashlib.sha256(text.encode()).digest()[:8] for text in texts)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)
