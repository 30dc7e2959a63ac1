"""WebDataset shards with an index beside them: every sample has a number for life and can be read by it.

A dataset's folder holds `SPLIT-00000.tar` ..., `samples.parquet` (one row a sample: where its image lies) and
`manifest.json`. The same input gives the same bytes. A *view* has no tars of its own: its rows point into its base.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import webdataset

from scrimp.data.digests import check_digest
from scrimp.errors import ScrimpError, no_damage
from scrimp.files import holding, read_json, sha256_of, sweep, write_json

SAMPLES_PER_SHARD = 10_000
TAR_BLOCK = 512


class ShardWriter:
    """Writes samples in the order given, `SAMPLES_PER_SHARD` to a tar, and keeps the row of each."""

    def __init__(self, folder: Path, samples_per_shard: int = SAMPLES_PER_SHARD) -> None:
        self.folder = folder
        self.samples_per_shard = samples_per_shard
        self.rows: list[dict[str, Any]] = []
        self.shards: list[dict[str, Any]] = []
        self._writer: webdataset.TarWriter | None = None
        self._split = ""

    def write(self, split: str, image: bytes, extension: str, fields: dict[str, Any]) -> int:
        """Append one sample: an encoded image and its JSON fields (which gain `index`). Returns the index.

        The splits must come one after the other. Fields also become columns of `samples.parquet`.
        """
        if self._writer is None or split != self._split or self.shards[-1]["count"] == self.samples_per_shard:
            self._open(split)
        assert self._writer is not None
        index = len(self.rows)
        text = json.dumps({"index": index, **fields}, sort_keys=True, ensure_ascii=False).encode()
        start = self._writer.tarstream.offset
        self._writer.write({"__key__": f"{index:08d}", "json": text, extension: image})
        # webdataset writes the members sorted by extension, so the JSON lies before or behind the image.
        before = TAR_BLOCK + _padded(len(text)) if extension > "json" else 0
        offset = start + before + TAR_BLOCK
        shard = self.shards[-1]
        shard["count"] += 1
        self.rows.append(
            {"index": index, "split": split, "shard": shard["file"], "offset": offset, "size": len(image), **fields}
        )
        return index

    def close(self) -> pd.DataFrame:
        """Finish the last tar and write `samples.parquet`; returns its table."""
        self._close_shard()
        samples = pd.DataFrame(self.rows)
        samples.to_parquet(self.folder / "samples.parquet", index=False)
        return samples

    def _open(self, split: str) -> None:
        self._close_shard()
        number = sum(shard["split"] == split for shard in self.shards)
        name = f"{split}-{number:05d}.tar"
        # mtime 0 and fixed owners: the same samples give the same bytes.
        self._writer = webdataset.TarWriter(str(self.folder / name), mtime=0, user="scrimp", group="scrimp", encoder=False)
        self._split = split
        self.shards.append({"file": name, "split": split, "count": 0})

    def _close_shard(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self.shards[-1]["sha256"] = sha256_of(self.folder / self.shards[-1]["file"])


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` on success and disappears on failure. Two at once wait in turn."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with holding(folder.with_name(f".{folder.name}.lock")):
        sweep(folder)
        yield from _built(folder, temporary)


def _built(folder: Path, temporary: Path) -> Iterator[Path]:
    try:
        temporary.mkdir(parents=True)
        yield temporary
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    except OSError as error:
        free = shutil.disk_usage(folder.parent if folder.parent.exists() else Path("/")).free
        raise ScrimpError(
            f"cannot write the shards in {folder}: {error.strerror or error} ({free / 1e6:.0f} MB free there); "
            "free some space and run the same command again, nothing half-written was kept"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_manifest(folder: Path, name: str, source_digest: str, schema: Iterable[str], **details: Any) -> None:
    """Write `manifest.json`: what the folder holds, from which bytes, and the digest that later stages record."""
    samples = sha256_of(folder / "samples.parquet")
    content = {"dataset": name, "source_digest": source_digest, "schema": list(schema), **details}
    write_json(folder / "manifest.json", {**content, "samples_sha256": samples})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a sharded dataset; a missing one says which command makes it."""
    path = folder / "manifest.json"
    if not path.exists():
        raise ScrimpError(f"{path} does not exist: run `scrimp shard {folder.name}` first")
    manifest: dict[str, Any] = read_json(path)
    return manifest


def again(folder: Path) -> str:
    """What to do about a damaged file of a dataset's folder."""
    return f"delete {folder} and run `scrimp shard {folder.name}` again"


def read_samples(folder: Path) -> pd.DataFrame:
    """The index table of a sharded dataset, one row a sample.

    Raises ScrimpError for a table that is not the one that was written, and for a view whose base has changed since.
    """
    manifest = read_manifest(folder)
    check_bases(folder, manifest)
    path = folder / "samples.parquet"
    check_digest(path, manifest["samples_sha256"], again(folder))
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        no_damage(error, path)
        raise ScrimpError(f"{path} cannot be read ({error}); {again(folder)}") from error


def check_bases(folder: Path, manifest: dict[str, Any]) -> None:
    """Raise ScrimpError where a dataset that a view was made from is another one now.

    One that is gone is none: a text view, for one, holds all that it needs.
    """
    made_from = {name: about["samples_sha256"] for name, about in manifest.get("bases", {}).items()}
    if "base" in manifest:
        made_from[manifest["base"]["dataset"]] = manifest["base"]["samples_sha256"]
    for name, digest in {**made_from, **manifest.get("also_read", {})}.items():
        base = folder.parent / name
        if (base / "manifest.json").exists() and read_manifest(base)["samples_sha256"] != digest:
            raise ScrimpError(f"{base} has changed since {folder} was made from it; run `scrimp shard {folder.name}` again")


def check_shards(folder: Path, samples: pd.DataFrame) -> None:
    """Raise ScrimpError for a shard, of the folder or of a view's base, that is not the one that was written.

    A JPEG damaged in one byte mostly decodes, to other pixels. Tars of the user's own have no digest to hold them to.
    """
    digests: dict[Path, dict[str, str]] = {}
    for name in samples["shard"].unique():
        path = home(folder / str(name))
        if path.parent not in digests:
            known = read_manifest(path.parent).get("shards", []) if (path.parent / "manifest.json").exists() else []
            digests[path.parent] = {shard["file"]: shard["sha256"] for shard in known}
        if path.name in digests[path.parent]:
            check_digest(path, digests[path.parent][path.name], again(path.parent))


def home(shard: Path) -> Path:
    """A shard's path in the dataset that it belongs to; a view names its base's as `../BASE/SHARD`."""
    return Path(os.path.normpath(shard))


def read_images(folder: Path, samples: pd.DataFrame) -> Iterator[bytes]:
    """Encoded images of the given rows of `samples.parquet`, in the rows' order, read by offset."""
    files: dict[str, Any] = {}
    try:
        for shard, offset, size in zip(samples["shard"], samples["offset"], samples["size"], strict=True):
            if shard not in files:
                files[shard] = _open_shard(home(folder / shard))
            image = os.pread(files[shard].fileno(), size, offset)
            if len(image) != size:
                path = home(folder / shard)
                raise ScrimpError(
                    f"{path} ends at byte {offset + len(image)}, but a sample reaches to {offset + size}: "
                    f"the shard is truncated; {again(path.parent)}"
                )
            yield image
    finally:
        for file in files.values():
            file.close()


def _open_shard(path: Path) -> Any:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise ScrimpError(f"{path} is missing; run `scrimp shard {path.parent.name}` again") from error


def writable(text: str) -> str:
    """Text as a table can hold it: what is no Unicode (bytes in names of files, halves escaped in JSON) is spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _padded(size: int) -> int:
    return -(-size // TAR_BLOCK) * TAR_BLOCK
