"""The `shard` stage: a fetched source, or a base dataset, becomes shards and an index."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from PIL import Image

from scrimp.config import Closed, DatasetConfig, FolderSource, TarsSource, Workspace, parse_model, unknown
from scrimp.config.datasets import GeneratedSource, ParquetSource, TableSource
from scrimp.data import (  # not in digests: a dataset's rule names its own builder
    cifar,
    coco,
    emoji_labels,
    icon_classes,
    icon_pairs,
    icons,
    image_folder,
    labelled_text,
    text_documents,
    text_markov,
    text_packing,
    text_parquet,
    web_index,
    web_tars,
)
from scrimp.data.shards import ShardWriter, building, read_manifest, write_manifest
from scrimp.data.sources import check_needs, fetch, fetch_many, source_digest
from scrimp.data.web_parts import kept_parts  # not in digests: as above
from scrimp.errors import ScrimpError
from scrimp.files import digest_of, sha256_of

VIEWS: dict[str, type[Closed]] = {
    "icon_classes": icon_classes.Options,
    "icon_pairs": icon_pairs.Options,
    "text_packing": text_packing.Options,
}
LABELLED_SCHEMA = ["index", "split", "label", "class_name", "shard", "offset", "size"]


def shard(workspace: Workspace, name: str, local_path: Path | None = None) -> Path:
    """Build a dataset's folder under `resources/shards` (what a view is made from first); returns the folder."""
    dataset = workspace.dataset(name)
    folder = workspace.shards(name)
    if dataset.view_of is not None:
        return _shard_view(workspace, name, dataset)
    assert dataset.source is not None
    if isinstance(dataset.source, TarsSource):
        return _index_tars(workspace, name, dataset, dataset.source, local_path)
    if isinstance(dataset.source, ParquetSource):
        return _pack_parquet(workspace, name, dataset, dataset.source, local_path)
    if isinstance(dataset.source, TableSource):
        return _label(workspace, name, dataset, *_table(name, dataset.source, workspace, local_path))
    if isinstance(dataset.source, GeneratedSource):
        return _generate(workspace, name, dataset)
    if isinstance(dataset.source, FolderSource):
        if local_path is None:
            raise ScrimpError(
                f"dataset {name} is a folder of your own: `scrimp shard {name} --path FOLDER`. {dataset.source.obtain}"
            )
        archive, digest = local_path, "a folder of the user's own"
    else:
        archive, digest = fetch(name, dataset, workspace, local_path), source_digest(dataset.source) or ""
    where = f"config/datasets.yaml: {name}: options"
    details: dict[str, Any]
    if dataset.builder == "labelled_text":
        return _label(workspace, name, dataset, archive, digest)
    with building(folder) as temporary:
        if dataset.builder == "emoji_labels":
            parse_model(dataset.options, Closed, where)  # it takes none
            details = emoji_labels.build(temporary, archive)
            write_manifest(temporary, name, digest, emoji_labels.SCHEMA, **details)
            return folder
        if dataset.builder == "text_documents":
            details = text_documents.build(temporary, archive, parse_model(dataset.options, text_documents.Options, where))
            write_manifest(temporary, name, digest, text_documents.SCHEMA, **details)
            return folder
        writer = ShardWriter(temporary)
        if dataset.builder == "coco":
            details, schema = coco.build(archive, parse_model(dataset.options, coco.Options, where), writer), coco.SCHEMA
        elif isinstance(dataset.source, FolderSource):
            parse_model(dataset.options, Closed, where)  # it takes none
            details, schema = image_folder.build(archive, dataset.source, writer), LABELLED_SCHEMA
        elif dataset.builder == "icons":
            options = parse_model(dataset.options, icons.Options, where)
            details = icons.build(archive, writer, options, os.cpu_count() or 1)
            schema = icons.SCHEMA
        else:
            details, schema = _write_labelled(dataset, archive, writer), LABELLED_SCHEMA
        writer.close()
        write_manifest(temporary, name, digest, schema, shards=writer.shards, **details)
    return folder


def _index_tars(
    workspace: Workspace, name: str, dataset: DatasetConfig, source: TarsSource, local_path: Path | None
) -> Path:
    if local_path is None and source.urls is None:
        raise ScrimpError(
            f"dataset {name} is made from tars of your own: `scrimp shard {name} --path PATTERN`. {source.obtain}"
        )
    tars = fetch_many(name, source, workspace) if local_path is None else web_tars.tars_of(local_path, source.obtain)
    options = parse_model(dataset.options, web_tars.Options, f"config/datasets.yaml: {name}: options")
    with kept_parts(workspace.shards(name)) as parts, building(workspace.shards(name)) as temporary:
        details = web_index.build(temporary, name, tars, options, os.cpu_count() or 1, parts)
        write_manifest(temporary, name, web_tars.tars_digest(tars), web_tars.SCHEMA, **details)
    return workspace.shards(name)


def _pack_parquet(
    workspace: Workspace, name: str, dataset: DatasetConfig, source: ParquetSource, local_path: Path | None
) -> Path:
    options = parse_model(dataset.options, text_packing.Options, f"config/datasets.yaml: {name}: options")
    if local_path is None:
        files = fetch_many(name, source, workspace)
    else:
        files = text_parquet.parquet_files(local_path, source.obtain)
    with building(workspace.shards(name)) as temporary:
        details = text_parquet.build(temporary, name, files, source, options)
        write_manifest(temporary, name, text_parquet.files_digest(files), text_packing.SCHEMA, **details)
    return workspace.shards(name)


def _table(name: str, source: TableSource, workspace: Workspace, local_path: Path | None) -> tuple[Path, str]:
    """The zip, or the folder, of a table, and what says which one it is."""
    if local_path is not None:
        return local_path, "the user's own copy"
    files = fetch_many(name, source, workspace)
    return files[0] if len(files) == 1 else files[0].parent, digest_of([sha256_of(file) for file in files])


def _label(workspace: Workspace, name: str, dataset: DatasetConfig, archive: Path, digest: str) -> Path:
    options = parse_model(dataset.options, labelled_text.Options, f"config/datasets.yaml: {name}: options")
    with building(workspace.shards(name)) as temporary:
        details = labelled_text.build(temporary, name, archive, options)
        write_manifest(temporary, name, digest, labelled_text.SCHEMA, **details)
    return workspace.shards(name)


def _generate(workspace: Workspace, name: str, dataset: DatasetConfig) -> Path:
    options = parse_model(dataset.options, text_markov.Options, f"config/datasets.yaml: {name}: options")
    with building(workspace.shards(name)) as temporary:
        details = text_markov.build(temporary, options)
        write_manifest(temporary, name, digest_of(options.model_dump()), text_packing.SCHEMA, **details)
    return workspace.shards(name)


def _shard_view(workspace: Workspace, name: str, dataset: DatasetConfig) -> Path:
    assert dataset.view_of is not None
    where = f"config/datasets.yaml: {name}"
    if dataset.builder not in VIEWS:
        raise ScrimpError(unknown("builder of views", dataset.builder, VIEWS, where))
    options = parse_model(dataset.options, VIEWS[dataset.builder], f"{where}: options")
    check_needs(workspace.datasets())
    for needed in dataset.needs:
        if not (workspace.shards(needed) / "manifest.json").exists():
            shard(workspace, needed)
    base, also = workspace.shards(dataset.view_of), {other: workspace.shards(other) for other in dataset.also_reads}
    with building(workspace.shards(name)) as temporary:
        if isinstance(options, icon_pairs.Options):
            details, schema = icon_pairs.build(temporary, name, base, also, options), icon_pairs.SCHEMA
        elif isinstance(options, text_packing.Options):
            bases = {dataset.view_of: base, **also}
            details, schema = text_packing.build_view(temporary, name, bases, options), text_packing.SCHEMA
        else:
            assert isinstance(options, icon_classes.Options)
            details, schema = icon_classes.build(temporary, base, dataset.view_of, options), icon_classes.SCHEMA
        source_digest = read_manifest(base)["samples_sha256"]
        write_manifest(temporary, name, source_digest, schema, view_of=dataset.view_of, **details)
    return workspace.shards(name)


def _write_labelled(dataset: DatasetConfig, archive: Path, writer: ShardWriter) -> dict[str, Any]:
    """Write (image, label) samples as PNG, which is lossless: the training part first, then the test part."""
    names: dict[int, str] = {}
    for sample in cifar.samples(dataset, archive):
        encoded = io.BytesIO()
        Image.fromarray(sample.image).save(encoded, "PNG", compress_level=1)
        names[sample.label] = sample.class_name
        fields = {"label": sample.label, "class_name": sample.class_name}
        writer.write(sample.split, encoded.getvalue(), "png", fields)
    if sorted(names) != list(range(len(names))):
        raise ScrimpError(f"{archive}: labels {sorted(names)} are not 0..{len(names) - 1}; it is not the expected archive")
    counts = {split: sum(row["split"] == split for row in writer.rows) for split in ("train", "test")}
    return {"classes": [names[label] for label in range(len(names))], "counts": counts}
