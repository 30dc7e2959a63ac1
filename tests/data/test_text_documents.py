"""Tables of documents: what each archive's layout gives, what is refused, and an archive that breaks off."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from scrimp.config import Workspace
from scrimp.data.text_documents import SCHEMA, Options, build
from scrimp.errors import ScrimpError

STDLIB = {
    "package/sotu/data/1790_a_n.json": json.dumps(
        {"year": 1790, "name": "A", "party": "none", "text": "Fellow &amp; citizens"}
    ),
    "package/sotu/data/1790_a_n.txt": "Fellow citizens",
    "package/moby-dick/data/chapter_1.json": json.dumps({"chapter": "1", "title": "Loomings.", "text": "Call\r\nme"}),
    "package/moby-dick/data/chapter_2.json": json.dumps({"chapter": "2", "title": "Nothing.", "text": " \n"}),
    "package/moby-dick/data/file_list.json": "[]",
    "package/spam/data/1.json": "{}",
}
BROWN = {
    "package/ca01": "The/at jury/nn ./.",
    "package/cr09": "Ha/uh !/. !/.",
    "package/cats.txt": "ca01 news\ncr09 humor\n",
}
BOOK = "# Title: {}\n\n## Author: B\n\n## Year: 1900\n\n-------\n\n## I\n\n{}\n"


def tar(files: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as opened:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            opened.addfile(member, io.BytesIO(text.encode()))
    return content.getvalue()


def packed(path: Path, files: dict[str, str]) -> Path:
    path.write_bytes(tar(files))
    return path


def table(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "samples.parquet")


def test_addresses_and_chapters_are_documents(tmp_path: Path) -> None:
    details = build(tmp_path, packed(tmp_path / "a.tgz", STDLIB), Options(layout="stdlib"))
    found = table(tmp_path)
    assert list(found.columns) == SCHEMA
    assert found["document"].tolist() == ["moby-dick/chapter_1", "sotu/1790_a_n"]
    assert found["title"].tolist() == ["1. Loomings.", "A, 1790"]
    assert found["text"].tolist() == ["Call\nme", "Fellow & citizens"]
    assert details == {"documents": {"moby-dick": 1, "sotu": 1}, "bytes": 7 + 17, "empty_dropped": 1}


def test_brown_texts_are_documents_with_their_genre(tmp_path: Path) -> None:
    build(tmp_path, packed(tmp_path / "a.tgz", BROWN), Options(layout="brown"))
    found = table(tmp_path)
    assert found[["document", "title", "text"]].values.tolist() == [
        ["brown/ca01", "news", "The jury."],
        ["brown/cr09", "humor", "Ha!"],
    ]


def test_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScrimpError, match="no document of the layout brown: it is not the archive expected"):
        build(tmp_path, packed(tmp_path / "a.tgz", STDLIB), Options(layout="brown"))


@pytest.mark.parametrize("content", ["{", "[]", '{"text": "a", "name": "b"}'])
def test_an_address_that_is_not_as_expected_is_named(tmp_path: Path, content: str) -> None:
    archive = packed(tmp_path / "a.tgz", {"package/sotu/data/1790.json": content})
    with pytest.raises(ScrimpError, match=r"member package/sotu/data/1790\.json is not as expected"):
        build(tmp_path, archive, Options(layout="stdlib"))


def broken_books(path: Path) -> Path:
    """Three books of 5,000 letters, of which the archive's end cuts the last one."""
    files = {f"set/B/{title}.md": BOOK.format(title, title * 5000) for title in "XYZ"}
    whole = tar({"set/README.md": "read me", **files})
    path.write_bytes(lzma.compress(whole[: whole.rindex(b"Z" * 5000) + 1000]))
    return path


def test_of_an_archive_that_is_known_to_break_off_what_is_whole_is_read(tmp_path: Path) -> None:
    details = build(tmp_path, broken_books(tmp_path / "a.tar.xz"), Options(layout="books", breaks_off_of=3))
    found = table(tmp_path)
    assert found["document"].tolist() == ["books/B/X", "books/B/Y"]
    assert found["text"].tolist() == [f"I\n\n{'X' * 5000}", f"I\n\n{'Y' * 5000}"]
    assert details["unreadable"] == 1


def test_an_archive_that_breaks_off_unexpectedly_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScrimpError, match="cannot be read to its end, it is truncated or damaged"):
        build(tmp_path, broken_books(tmp_path / "a.tar.xz"), Options(layout="books"))


def test_an_archive_that_should_break_off_and_does_not_is_refused(tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.tar", {"set/B/X.md": "text"})
    with pytest.raises(ScrimpError, match="is whole, but its options say that it breaks off"):
        build(tmp_path, archive, Options(layout="books", breaks_off_of=3))


def test_a_link_in_a_broken_archive_is_refused_all_the_same(tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as opened:
        member = tarfile.TarInfo("set/B/X.md")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        opened.addfile(member)
    (tmp_path / "a.tar").write_bytes(content.getvalue()[:600])
    with pytest.raises(ScrimpError, match="is a link"):
        build(tmp_path, tmp_path / "a.tar", Options(layout="books", breaks_off_of=3))


def test_the_shipped_sources_are_pinned() -> None:
    datasets = Workspace(Path(__file__).parents[2]).datasets()
    assert {name for name, dataset in datasets.items() if dataset.builder == "text_documents"} == {
        "stdlib-texts",
        "brown",
        "classic-books",
        "wordnet-glosses",
        "graded-sentences",
        "mails",
    }
    assert datasets["texts"].needs == ["stdlib-texts", "brown"]
