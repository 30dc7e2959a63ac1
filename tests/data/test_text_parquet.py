"""Parquet files of documents: columns, names, what is left out, and how they are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from scrimp.config import Workspace
from scrimp.config.datasets import ParquetSource
from scrimp.data.shards import read_manifest
from scrimp.data.sources import fetch
from scrimp.data.stage import shard
from scrimp.data.text_parquet import documents, parquet_files
from scrimp.errors import ScrimpError

SOURCE = ParquetSource(kind="parquet", obtain="Ask a friend.", document="id")


def write(path: Path, columns: dict[str, list[Any]], rows: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=rows)
    return path


def test_rows_of_several_groups_become_documents(tmp_path: Path) -> None:
    texts = ["one  tale", None, " \n ", "two", "three"]
    file = write(tmp_path / "a.parquet", {"id": list("abcde"), "text": texts, "dump": [0] * 5})
    counts = {"rows": 0, "empty_dropped": 0}
    found = list(documents("web", [file], SOURCE, counts))
    assert [(one.document, one.source, one.text) for one in found] == [
        ("web/a", "web", "one tale"),
        ("web/d", "web", "two"),
        ("web/e", "web", "three"),
    ]
    assert counts == {"rows": 5, "empty_dropped": 2}


def test_a_document_without_a_name_goes_by_its_text(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", {"text": ["one", "two", "one"]})
    names = [one.document for one in documents("web", [file], SOURCE.model_copy(update={"document": None}), {"rows": 0})]
    assert names[0] == names[2] != names[1]


def test_a_file_without_the_column_or_without_an_end_is_named(tmp_path: Path) -> None:
    counts = {"rows": 0, "empty_dropped": 0}
    file = write(tmp_path / "a.parquet", {"id": ["a"], "content": ["one"]})
    with pytest.raises(ScrimpError, match=r"a\.parquet has no column 'text' \(it has id, content\)"):
        list(documents("web", [file], SOURCE, counts))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ScrimpError, match=r"a\.parquet is no readable parquet file"):
        list(documents("web", [file], SOURCE, counts))


def test_files_are_found_by_folder_glob_and_braces(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{number}.parquet", {"text": ["x"]}) for number in range(3)]
    assert parquet_files(tmp_path, "") == files
    assert parquet_files(tmp_path / "[01].parquet", "") == files[:2]
    assert parquet_files(tmp_path / "{1..2}.parquet", "") == files[1:]
    assert parquet_files(files[2], "") == files[2:]
    with pytest.raises(ScrimpError, match=r"no parquet file at .*3\.parquet: .* Ask a friend"):
        parquet_files(tmp_path / "{2..3}.parquet", "Ask a friend.")
    with pytest.raises(ScrimpError, match=r"no parquet file at .*empty"):
        parquet_files(tmp_path / "empty", "")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    source = {"kind": "parquet", "obtain": "Ask a friend.", "document": "id"}
    about = {"title": "t", "licence": "l", "used_for": "u"}
    options = {"tokenizer": "bpe", "vocabulary": 280, "validation": 0.2, "test": 0.2}
    datasets = {
        "web": {**about, "builder": "text_parquet", "source": source, "options": options},
        "chain": {
            **about,
            "builder": "text_markov",
            "source": {"kind": "generated"},
            "options": {"symbols": 5, "successors": 2, "train": 50, "validation": 5, "test": 5},
        },
    }
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "datasets.yaml").write_text(yaml.safe_dump(datasets))
    return Workspace(tmp_path)


def test_a_folder_of_one_s_own_becomes_tokens(workspace: Workspace) -> None:
    for half in range(2):
        texts = [f"the tale of number {number % 50}" for number in range(half * 40, half * 40 + 40)]
        ids = [f"{half}-{number}" for number in range(40)]
        write(workspace.root / "own" / f"{half}.parquet", {"id": ids, "text": texts}, rows=7)
    manifest = read_manifest(shard(workspace, "web", workspace.root / "own"))
    assert (manifest["rows"], manifest["empty_dropped"], manifest["duplicates_dropped"]) == (80, 0, 30)
    assert [file["file"] for file in manifest["files"]] == ["0.parquet", "1.parquet"]
    assert manifest["tokenizer"] == "bpe"
    assert sum(sum(by.values()) for by in manifest["bytes_by_source"].values()) == sum(
        len(f"the tale of number {number}") for number in range(50)
    )


def test_without_files_or_addresses_the_remedy_is_said(workspace: Workspace) -> None:
    with pytest.raises(ScrimpError, match="made from parquet files of your own, there is nothing to fetch: Ask a friend"):
        shard(workspace, "web")


def test_generated_data_needs_no_file(workspace: Workspace) -> None:
    assert read_manifest(shard(workspace, "chain"))["tokens"] == {"train": 50, "validation": 5, "test": 5}
    with pytest.raises(ScrimpError, match="chain is generated, there is nothing to fetch: `scrimp shard chain` makes it"):
        fetch("chain", workspace.dataset("chain"), workspace)
