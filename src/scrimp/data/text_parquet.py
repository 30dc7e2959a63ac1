"""Documents out of parquet files, some rows at a time: large public text sets, or a folder of one's own."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from scrimp.config.datasets import ParquetSource
from scrimp.data.sources import expanded
from scrimp.data.text_clean import cleaned
from scrimp.data.text_documents import Document
from scrimp.data.text_packing import Options, pack
from scrimp.errors import ScrimpError
from scrimp.files import digest_of

ROWS_AT_A_TIME = 1024
BYTES_PER_BUCKET = 2**26  # of parquet files, which hold about two and a half times as much text


def parquet_files(pattern: Path, obtain: str) -> list[Path]:
    """The files that a folder, a glob, or a pattern with braces such as `web/{000..013}.parquet` stands for."""
    text = str(pattern)
    if pattern.is_dir():
        found = sorted(pattern.glob("*.parquet"))
    elif "{" in text:
        found = [Path(path) for path in expanded(text, "--path")]
    else:
        found = [Path(path) for path in sorted(glob.glob(text))]
    if not found or not all(path.is_file() for path in found):
        missing = next((path for path in found if not path.is_file()), pattern)
        raise ScrimpError(
            f"no parquet file at {missing}: --path takes a folder of *.parquet, a glob, or a pattern with braces. {obtain}"
        )
    return found


def files_digest(files: list[Path]) -> str:
    """Which files a dataset was made from, by name and size."""
    return digest_of([[file.name, file.stat().st_size] for file in files])


def build(folder: Path, name: str, files: list[Path], source: ParquetSource, options: Options) -> dict[str, Any]:
    """Pack the documents of all files into `folder`; returns facts for the manifest.

    Rows without text are left out and counted. Raises ScrimpError for a damaged file or one without the columns named.
    """
    counts = {"rows": 0, "empty_dropped": 0}
    buckets = 1 + sum(file.stat().st_size for file in files) // BYTES_PER_BUCKET
    packed = pack(folder, name, documents(name, files, source, counts), options, buckets)
    return {**packed, **counts, "files": [{"file": file.name, "bytes": file.stat().st_size} for file in files]}


def documents(name: str, files: list[Path], source: ParquetSource, counts: dict[str, int]) -> Iterator[Document]:
    """Cleaned documents of the files, in their order; `counts` gains the rows seen and those that were empty.

    A document without a column that names it is named by the digest of its text.
    """
    for file in track(files, "parquet files", console=Console(stderr=True)):
        for text, document in _rows(file, source):
            counts["rows"] += 1
            kept = cleaned(text or "")
            if not kept:
                counts["empty_dropped"] += 1
                continue
            identity = document or hashlib.blake2b(kept.encode(), digest_size=16).hexdigest()
            yield Document(f"{name}/{identity}", name, "", kept)


def _rows(file: Path, source: ParquetSource) -> Iterator[tuple[str | None, str | None]]:
    columns = [source.text] if source.document is None else [source.text, source.document]
    try:
        with pq.ParquetFile(file) as opened:
            if missing := [column for column in columns if column not in opened.schema_arrow.names]:
                raise ScrimpError(
                    f"{file} has no column {missing[0]!r} (it has {', '.join(opened.schema_arrow.names)}); name another in "
                    "`text` or `document` of its source in config/datasets.yaml"
                )
            for batch in opened.iter_batches(ROWS_AT_A_TIME, columns=columns):
                texts = batch.column(source.text).to_pylist()
                named = [None] * len(texts) if source.document is None else batch.column(source.document).to_pylist()
                yield from zip(texts, (None if one is None else str(one) for one in named), strict=True)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise ScrimpError(f"{file} is no readable parquet file ({error}); delete it and bring it again") from error
