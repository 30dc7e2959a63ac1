"""Tables of labelled texts as GLUE's tasks come: tab- or comma-separated, in a folder or a zip, with a header or without."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from scrimp.config.base import Closed, unknown
from scrimp.data.archives import LARGEST_MEMBER
from scrimp.data.text_clean import cleaned
from scrimp.errors import ScrimpError

Column = str | int


class Columns(Closed):
    """Which columns are read: names of the header, or numbers from 0 where there is none."""

    text: Column
    other: Column | None = None
    label: Column

    @property
    def header(self) -> bool:
        """Whether the first line of a table names its columns."""
        return isinstance(self.text, str)


def read_tables(source: Path, files: list[str], columns: Columns) -> Iterator[tuple[str, str, str, str]]:
    """Text, second text (or nothing), label as written, and the place, of each line of some files of a folder or a zip.

    A file is told by the end of its path, `RTE/dev.tsv`. Lines that lack the text's column at their end are an error, and so
    is a header without a column that is asked for.
    """
    for file in files:
        name, content = _content(source, file)
        where = f"{source}: {name}"
        lines = io.StringIO(content.decode("utf-8-sig", "replace"), newline="")
        # GLUE's tab-separated files quote nothing: a quotation mark is part of a sentence.
        separated = csv.reader(lines) if name.endswith(".csv") else csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        wanted = [columns.text, *([] if columns.other is None else [columns.other]), columns.label]
        places = [int(column) for column in wanted] if not columns.header else _places(next(separated, []), wanted, where)
        for number, fields in enumerate(separated, start=2 if columns.header else 1):
            if not fields:
                continue
            if len(fields) <= max(places):
                raise ScrimpError(f"{where}, line {number}: {len(fields)} columns, but column {max(places) + 1} is needed")
            found = [fields[place] for place in places]
            other = cleaned(found[1]) if columns.other is not None else ""
            yield cleaned(found[0]), other, found[-1].strip(), f"{where}, line {number}"


def _places(header: list[str], wanted: list[Column], where: str) -> list[int]:
    for column in wanted:
        if column not in header:
            raise ScrimpError(unknown("column", str(column), header, where))
    return [header.index(str(column)) for column in wanted]


def _content(source: Path, file: str) -> tuple[str, bytes]:
    """The name and the bytes of the one file whose path ends in `file`."""
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if path.is_file() and f"/{path.as_posix()}".endswith(f"/{file}"))
        if len(found) == 1:
            return file, found[0].read_bytes()
        names = [str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()]
    else:
        try:
            with zipfile.ZipFile(source) as opened:
                names = [name for name in opened.namelist() if not name.startswith("__MACOSX")]
                matching = [name for name in names if f"/{name}".endswith(f"/{file}")]
                if len(matching) == 1:
                    if opened.getinfo(matching[0]).file_size > LARGEST_MEMBER:
                        raise ScrimpError(
                            f"{source}: {matching[0]} has more than {LARGEST_MEMBER:,} bytes: no task is so large"
                        )
                    return matching[0], opened.read(matching[0])
        except FileNotFoundError as error:
            raise ScrimpError(f"{source} does not exist; give --path the zip or the unpacked folder") from error
        except (OSError, zipfile.BadZipFile) as error:
            raise ScrimpError(f"{source} is no readable zip ({error}); delete it and bring it again") from error
    raise ScrimpError(unknown("file", file, names, str(source)))
