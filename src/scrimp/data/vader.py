"""Sentences graded by people from -4 (most negative) to 4: the data of VADER (Hutto & Gilbert 2014), in its own sdist.

Inside `vaderSentiment`'s source distribution lies a second archive with one table a source: number, mean grade, text.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from scrimp.data.archives import iter_members
from scrimp.data.text_clean import address_text, cleaned
from scrimp.errors import ScrimpError

INNER = re.compile(r"vaderSentiment-[\d.]+/additional_resources/hutto_ICWSM_2014\.tar\.gz")
TABLE = re.compile(r"hutto_ICWSM_2014/(amazonReview|movieReview|nytEditorial|tweets)(?:Snippets)?_GroundTruth\.txt")
SOURCES = {"amazonReview": "products", "movieReview": "films", "nytEditorial": "editorials", "tweets": "tweets"}


class Graded(NamedTuple):
    """`document` is its name for life, as vader/films/17; `source` is products, films, editorials or tweets."""

    document: str
    source: str
    grade: float
    text: str


def graded(archive: Path) -> Iterator[Graded]:
    """Every sentence, source by source. Raises ScrimpError for an archive of another layout."""
    inner = [content for _, content in iter_members(archive, wanted=lambda name: INNER.fullmatch(name) is not None)]
    if len(inner) != 1:
        raise ScrimpError(f"{archive} holds no hutto_ICWSM_2014.tar.gz: it is not vaderSentiment's source distribution")
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / "hutto_ICWSM_2014.tar.gz"
        unpacked.write_bytes(inner[0])
        for name, content in iter_members(unpacked, wanted=lambda name: TABLE.fullmatch(name) is not None):
            found = TABLE.fullmatch(name)
            assert found is not None  # the archive's reader let it through
            source = SOURCES[found[1]]
            for line in content.decode("utf-8", "replace").splitlines():
                fields = line.split("\t")
                try:
                    number, grade, text = fields[0].lstrip("\ufeff"), float(fields[1]), "\t".join(fields[2:])
                except (IndexError, ValueError) as error:
                    raise ScrimpError(f"{archive}: {name}: {line[:40]!r} is no graded sentence ({error})") from error
                if plain := cleaned(address_text(text).replace("''", '"')):
                    yield Graded(f"vader/{source}/{number}", source, grade, plain)
