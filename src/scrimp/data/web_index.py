"""The dataset that tars of pictures with captions make: splits, table, tokens, and the columns that training maps.

It is written from the tars' parts, a part at a time: what is held in memory does not grow with the pairs, but for the
names of the hosts, one each. Held-out pairs are found by hashes: captions of one hash count as the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.progress import track

from scrimp.data import captions
from scrimp.data.mapped import ArrayWriter
from scrimp.data.pairs import SPLITS, TRAINED
from scrimp.data.tables import COLUMNS, PLACE, SETS_SHOWN
from scrimp.data.web_parts import Found, Hashes, find
from scrimp.data.web_tars import SCHEMA, Options, shard_name
from scrimp.errors import ScrimpError

ORDER = (*TRAINED, "validation", "test")  # how the splits lie one after the other, as in SPLITS
KINDS = dict.fromkeys(("index", "offset", "size"), pa.int64()) | {"score": pa.float64()}
KINDS |= dict.fromkeys(("descriptive", "extended"), pa.bool_())
TABLE = pa.schema([(name, KINDS.get(name, pa.string())) for name in SCHEMA])
ROWS_TOGETHER = 2**17  # of a row group of the table
MOST_READ = 10_000_000  # captions that a tokenizer is made from; of more, every second or third, and so on
SPARE = 4  # candidates looked at for a held-out pair, since some share their captions with others

Rows = np.ndarray[Any, np.dtype[np.int64]]


def build(folder: Path, name: str, tars: list[Path], options: Options, processes: int, parts: Path) -> dict[str, Any]:
    """Write the table, columns, tokens and tokenizer of all pairs of the tars into `folder`; returns facts for the manifest.

    What a tar holds is kept in the folder `parts` (see `web_parts`). Pairs without a picture or a caption are left out and
    counted, by reason. Raises ScrimpError for a tar that is damaged or holds links or paths that lead out of it, and
    where too few pairs are left to hold out.
    """
    return write(folder, name, find(name, tars, options, processes, parts), options)


def write(folder: Path, name: str, found: Found, options: Options) -> dict[str, Any]:
    """Write what `find` found into `folder`; see `build`."""
    division = Division(name, found, options)
    return Writing(folder, division).all()


class Division:
    """Which pairs belong to which split."""

    def __init__(self, name: str, found: Found, options: Options) -> None:
        self.found, self.options = found, options
        self.first = np.cumsum([0, *found.pairs])  # the number of each part's first pair
        last = self._held_out(name)
        self.held = {"test": np.sort(last[: options.test]), "validation": np.sort(last[options.test :])}
        numbers = range(len(found.parts))
        self.counts = [np.bincount(self.splits(number), minlength=len(ORDER)) for number in numbers]  # [len(ORDER)] a part
        self.without_score = found.total
        if options.score is not None:
            self.without_score = sum(int(np.isnan(self.scores(number)).sum()) for number in numbers)
            if self.without_score == found.total:
                raise ScrimpError(
                    f"config/datasets.yaml: {name}: options.score: no KEY.json has the number {options.score!r}; name "
                    "another, or make the tars with it"
                )

    def count(self, split: str) -> int:
        """How many pairs a split has."""
        return int(sum(counts[ORDER.index(split)] for counts in self.counts)) if split in ORDER else 0

    def rows(self, split: str) -> Iterator[tuple[int, Rows]]:
        """The rows of a split in each part that has some: (number of the part, int64 [n]), in the order of the tars."""
        code = ORDER.index(split)
        for number, counts in enumerate(self.counts):
            if counts[code]:
                yield number, np.flatnonzero(self.splits(number) == code)

    def splits(self, number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The split of each pair of a part, as its place in ORDER: uint8 [n]."""
        codes = np.full(self.found.pairs[number], ORDER.index("pool"), dtype=np.uint8)
        if self.options.curated_from is not None:
            codes[self.scores(number) >= self.options.curated_from] = ORDER.index("curated")
        for split, rows in self.held.items():
            begin, end = np.searchsorted(rows, self.first[number : number + 2])
            codes[rows[begin:end] - self.first[number]] = ORDER.index(split)
        return codes

    def scores(self, number: int) -> np.ndarray[Any, Any]:
        """The scores of a part's pairs: float64 [n], NaN where there is none."""
        return self.found.read(number, ["score"])["score"].to_numpy()

    def _held_out(self, name: str) -> Rows:
        """The pairs with a caption of their own that are the last by their keys' hashes: int64, in that order."""
        total, wanted = self.found.total, self.options.test + self.options.validation
        count = min(total, SPARE * wanted)
        while True:
            rows, hashes = self._last(count)
            alone = rows[self._occur(hashes) == 1]
            if len(alone) >= wanted or count == total:
                break
            count = min(total, 2 * SPARE * count)
        if len(alone) < wanted or total == wanted:
            raise ScrimpError(
                f"{name}: {total:,} pairs, {len(alone):,} of them with a caption of their own, are too few: test and "
                f"validation want {wanted:,} of these; give more tars, or lower config/datasets.yaml: {name}: options"
            )
        return alone[-wanted:]

    def _last(self, count: int) -> tuple[Rows, Hashes]:
        """The last `count` pairs by the hashes of their keys, in that order, and the hashes of their captions."""
        keys, rows, captions_ = np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.uint64)
        for number, first in enumerate(self.first[:-1]):
            keys = np.concatenate([keys, self.found.hashes(number, "key_hash")])
            rows = np.concatenate([rows, np.arange(first, self.first[number + 1])])
            captions_ = np.concatenate([captions_, self.found.hashes(number, "caption_hash")])
            # Stable: of equal keys the later pair is the later one.
            order = np.argsort(keys, kind="stable")[max(0, len(keys) - count) :]
            keys, rows, captions_ = keys[order], rows[order], captions_[order]
        return rows, captions_

    def _occur(self, wanted: Hashes) -> Rows:
        """How often each of the hashes is that of a pair's caption: int64 [n]."""
        known, place = np.unique(wanted, return_inverse=True)
        counts = np.zeros(len(known), dtype=np.int64)
        for number in range(len(self.found.parts)):
            hashes = self.found.hashes(number, "caption_hash")
            at = np.searchsorted(known, hashes).clip(max=max(0, len(known) - 1))
            counts += np.bincount(at[known[at] == hashes], minlength=len(known)) if len(known) else 0
        return counts[place]


class Writing:
    """The files of a dataset, written in the order of its table."""

    def __init__(self, folder: Path, division: Division) -> None:
        self.folder, self.division = folder, division
        self.options, self.found = division.options, division.found
        self.names = [shard_name(tar, folder) for tar in self.found.tars]
        self.sets: dict[str, int] = {}
        self.sizes = {split: np.zeros(0, dtype=np.int64) for split in ORDER}  # pairs of each set
        self.begins = {split: np.zeros(0, dtype=np.int64) for split in ORDER}  # its first row, less the number of rows
        self.trained_on_by = {"descriptive": 0, "extended": 0}
        self.of_splits = dict.fromkeys(ORDER, 0)  # tokens

    def all(self) -> dict[str, Any]:
        """Write them; returns facts for the manifest."""
        total, length = self.found.total, self.options.length
        tokenizer = captions.train_tokenizer(self._to_learn_from(), self.options.vocabulary, length)
        encoder = captions.Encoder.saved(tokenizer, self.folder)
        tokens = ArrayWriter(self.folder / "tokens.npy", np.dtype("<i2"), (total, length))
        columns = {name: ArrayWriter(self.folder / f"{name}.npy", kind, (total,)) for name, kind in COLUMNS.items()}
        written, waiting = 0, list[pa.Table]()
        with pq.ParquetWriter(self.folder / "samples.parquet", TABLE, compression="zstd") as table:
            for split, number, rows in track(self._in_order(), description="writing pairs", total=self._steps()):
                part = self._part(split, number, rows, written)
                written += len(rows)
                for name, values in self._columns(split, number, part).items():
                    columns[name].append(values)
                ids = encoder.ids(part["caption"].to_pylist())
                self.of_splits[split] += int((ids != 0).sum())
                tokens.append(ids)
                waiting.append(part)
                if sum(map(len, waiting)) >= ROWS_TOGETHER or written == total:
                    table.write_table(pa.concat_tables(waiting), row_group_size=ROWS_TOGETHER)
                    waiting.clear()
        about = encoder.facts(tokens.close())
        return {
            "counts": {split: self.division.count(split) for split in SPLITS},
            "trained_on_by": self.trained_on_by,
            "without_score": self.division.without_score,
            "left_out": self.found.counts,
            "tars": [
                {"file": name, "bytes": tar.stat().st_size} for name, tar in zip(self.names, self.found.tars, strict=True)
            ],
            "tokens": {**about, "of_splits": self.of_splits},
            "columns": {name: column.close() for name, column in columns.items()},
            "largest_sets": {split: self._largest(split) for split in ORDER},
        }

    def _steps(self) -> int:
        return sum(int((counts > 0).sum()) for counts in self.division.counts)

    def _in_order(self) -> Iterator[tuple[str, int, Rows]]:
        for split in ORDER:
            yield from ((split, number, rows) for number, rows in self.division.rows(split))

    def _to_learn_from(self) -> Iterator[str]:
        """The captions that are trained on, in the table's order; of very many an even share."""
        every = max(1, math.ceil(sum(self.division.count(split) for split in TRAINED) / MOST_READ))
        seen = 0
        for split in TRAINED:
            for number, rows in self.division.rows(split):
                chosen = rows[-seen % every :: every]
                seen += len(rows)
                yield from self.found.read(number, ["caption"])["caption"].take(pa.array(chosen)).to_pylist()

    def _part(self, split: str, number: int, rows: Rows, first: int) -> pa.Table:
        """Some rows of a part as rows of the table, the first of which has the number `first`."""
        part = self.found.read(number, ["key", "caption", "set", "score", "offset", "size"]).take(pa.array(rows))
        # DataComp's basic filter of captions: more than two words and more than five characters (arXiv 2304.14108).
        words = np.asarray(pc.count_substring(part["caption"], " ")) >= 2
        told = words & (np.asarray(pc.utf8_length(part["caption"])) > 5)
        least = math.inf if self.options.extended_from is None else self.options.extended_from
        better = part["score"].to_numpy() >= least
        everyone, nobody = np.ones(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
        columns = {
            "index": np.arange(first, first + len(rows)),
            "split": [split] * len(rows),
            "descriptive": told if split == "pool" else nobody,
            "extended": everyone if split == "curated" else better if split == "pool" else nobody,
            "shard": [self.names[number]] * len(rows),
        }
        given = {name: part[name].cast(TABLE.field(name).type) for name in part.column_names}
        return pa.table({name: columns.get(name, given.get(name)) for name in SCHEMA}, schema=TABLE)

    def _columns(self, split: str, number: int, part: pa.Table) -> dict[str, np.ndarray[Any, Any]]:
        """What is mapped of some rows of the table, by column."""
        places = np.empty(len(part), dtype=PLACE)
        places["tar"], places["offset"], places["size"] = number, part["offset"].to_numpy(), part["size"].to_numpy()
        sets = part["set"].combine_chunks().dictionary_encode()
        codes = np.array(
            [self.sets.setdefault(name, len(self.sets)) for name in sets.dictionary.to_pylist()], dtype=np.int32
        )
        of_rows = codes[np.asarray(sets.indices)]
        sizes, begins = (_grown(held[split], len(self.sets)) for held in (self.sizes, self.begins))
        np.add.at(sizes, of_rows, 1)
        np.minimum.at(begins, of_rows, part["index"].to_numpy() - self.found.total)
        self.sizes[split], self.begins[split] = sizes, begins
        marks = {name: part[name].to_numpy() for name in self.trained_on_by}
        for name, values in marks.items():
            self.trained_on_by[name] += int(values.sum())
        return {"place": places, "set": of_rows, **marks}

    def _largest(self, split: str) -> list[tuple[str, int]]:
        sizes, names = self.sizes[split], list(self.sets)
        order = np.lexsort((self.begins[split], -sizes))[:SETS_SHOWN]  # of equal ones the first is the first
        return [(names[number], int(number)) for number in order if sizes[number]]


def _grown(sizes: Rows, count: int) -> Rows:
    """The same counts with room for `count` sets; doubled, so that growing costs little in all."""
    return sizes if len(sizes) >= count else np.concatenate([sizes, np.zeros(2 * count - len(sizes), dtype=np.int64)])
