"""Datasets: where their bytes come from, and how they are built."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic import model_validator as validate_model

from scrimp.config.base import Closed

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class NpmSource(Closed):
    """A package of the npm registry, fetched with the user's own npm workloads."""

    kind: Literal["npm"]
    package: str
    version: str
    integrity: str = Field(pattern=r"^sha512-[A-Za-z0-9+/=]+$")


class PypiSource(Closed):
    """A source distribution on PyPI, fetched with pip and the user's own settings; pip checks its digest first."""

    kind: Literal["pypi"]
    package: str
    version: str
    file: str
    sha256: Sha256


class UrlFile(Closed):
    """A file behind a URL; `$SCRIMP_MIRROR/FILE` and a local `path` are looked at first."""

    url: str
    file: str
    sha256: Sha256 | None = None


class UrlSource(UrlFile):
    """A source of one file, whose digest is pinned."""

    kind: Literal["url"]
    sha256: Sha256


class FolderSource(Closed):
    """A user's own folder, given by `scrimp shard NAME --path FOLDER`: `SPLIT/CLASS/*.{jpg,png,webp,...}`, or COCO's."""

    kind: Literal["folder"]
    obtain: str = Field(description="how a user comes by the data")
    splits: dict[str, str] = Field({"train": "train", "test": "val"}, description="our split -> its folder")


class ManyFiles(Closed):
    """Files by the hundred: one's own (`scrimp shard NAME --path PATTERN`), or behind URLs."""

    obtain: str = Field(description="how a user comes by the data")
    urls: str | None = Field(None, description="with braces for many, as in https://HOST/{00000..00099}.tar")
    sha256: dict[str, Sha256] = Field({}, description="file name -> digest; a file without one is not checked")


class TarsSource(ManyFiles):
    """WebDataset tars of pictures with captions."""

    kind: Literal["tars"]


class ParquetSource(ManyFiles):
    """Parquet files of documents, one a row."""

    kind: Literal["parquet"]
    text: str = Field("text", description="the column that holds the document")
    document: str | None = Field(None, description="the column that names it; null to go by its text")


class TableSource(ManyFiles):
    """Tables of labelled texts: a zip behind a URL, or one's own zip or folder (`scrimp shard NAME --path PATH`)."""

    kind: Literal["table"]


class GeneratedSource(Closed):
    """No file: the builder makes the data from its options alone."""

    kind: Literal["generated"]


Source = Annotated[
    NpmSource | PypiSource | UrlSource | FolderSource | TarsSource | ParquetSource | TableSource | GeneratedSource,
    Field(discriminator="kind"),
]


class DatasetConfig(Closed):
    """One dataset: where its bytes come from (or which dataset it is a view of), and how it is built."""

    title: str
    builder: str = Field(description="module of scrimp.data that shards it")
    source: Source | None = None
    view_of: str | None = None
    also_reads: list[str] = Field([], description="a view's: datasets that its builder reads beside its base")
    licence: str
    used_for: str
    options: dict[str, Any] = {}

    @validate_model(mode="after")
    def _one_origin(self) -> DatasetConfig:
        if (self.source is None) == (self.view_of is None):
            raise ValueError("give exactly one of `source` and `view_of`")
        if self.also_reads and self.view_of is None:
            raise ValueError("`also_reads` is for a view: give `view_of` too, or take it out")
        return self

    @property
    def needs(self) -> list[str]:
        """The datasets that must be sharded before it."""
        return [] if self.view_of is None else [self.view_of, *self.also_reads]
