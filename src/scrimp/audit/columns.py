"""Columns of a table of a user's: CSV or TSV by its header, or parquet. Every cell is text as it stands, `NA` too."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from scrimp.errors import ScrimpError

DELIMITERS = ",\t;|"
LONGEST = 2**31 - 1  # characters of a cell; Python's own limit is shorter than many a mail
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def columns(path: Path, wanted: list[str]) -> list[list[str]]:
    """The cells of some columns, each list as long as the table.

    Raises ScrimpError for a missing, empty or damaged file, for one that is not UTF-8, for a missing column, for lines that
    have more or fewer fields than the header, and for empty cells.
    """
    if not path.is_file():
        raise ScrimpError(f"{path} does not exist")
    if path.stat().st_size == 0:
        raise ScrimpError(f"{path} is empty")
    return _of_parquet(path, wanted) if path.suffix == ".parquet" else _of_lines(path, wanted)


def _of_parquet(path: Path, wanted: list[str]) -> list[list[str]]:
    import pandas as pd

    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are kinds of these
        raise ScrimpError(f"{path} is no parquet file, or damaged ({str(error).splitlines()[0]}): bring it again") from error
    for column in wanted:
        _require(column, [str(name) for name in rows.columns], path)
        empty = (rows[column].isna() | (rows[column].astype(str).str.strip() == "")).to_numpy()
        if empty.any():
            raise ScrimpError(f"{path}: column {column!r} is empty in row {int(empty.argmax()) + 1}")
    return [rows[column].astype(str).tolist() for column in wanted]


def _of_lines(path: Path, wanted: list[str]) -> list[list[str]]:
    csv.field_size_limit(LONGEST)
    content = _text(path)
    first = content.split("\n", 1)[0].rstrip("\r")
    headers = {mark: next(csv.reader([first], delimiter=mark), []) for mark in DELIMITERS}
    # The mark that gives the columns asked for; else the one that gives most, for the message.
    mark = max(DELIMITERS, key=lambda one: (set(wanted) <= set(headers[one]), len(headers[one])))
    rows = csv.reader(io.StringIO(content, newline=""), delimiter=mark)
    found: list[list[str]] = [[] for _ in wanted]
    try:
        header = next(rows, [])
        for column in wanted:
            _require(column, header, path)
        places = [header.index(column) for column in wanted]
        for fields in rows:
            if not fields:
                continue
            if len(fields) != len(header):
                raise ScrimpError(
                    f"{path}: line {rows.line_num} has {len(fields)} fields, and the header {len(header)}: put a text with "
                    f'{mark!r} in it between quotation marks ("), and write one inside as two'
                )
            for cells, place in zip(found, places, strict=True):
                if not fields[place].strip():
                    raise ScrimpError(f"{path}: column {header[place]!r} is empty in line {rows.line_num}")
                cells.append(fields[place])
    except csv.Error as error:
        raise ScrimpError(f"{path}: line {rows.line_num}: {error}") from error
    return found


def _text(path: Path) -> str:
    content = path.read_bytes()
    if content.startswith(UTF_16):
        raise ScrimpError(f"{path} is UTF-16: save it as UTF-8, `iconv -f UTF-16 -t UTF-8 {path.name} > utf8-{path.name}`")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ScrimpError(
            f"{path} is not UTF-8: byte {content[error.start]:#x} in line {line}. If it is Latin-1, `iconv -f LATIN1 -t "
            f"UTF-8 {path.name} > utf8-{path.name}`"
        ) from error


def _require(column: str, header: list[str], path: Path) -> None:
    if column not in header:
        raise ScrimpError(
            f"{path}: no column {column!r}; it has {', '.join(header)}: name yours with --text-column and --label-column"
        )
