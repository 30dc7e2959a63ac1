"""What training asks of the table of an image-text dataset: a frame in memory, or columns that stay on disk.

A set of a billion pairs has a table of hundreds of gigabytes. What training looks at of it lies beside it, a file a column,
and is mapped; the table itself is read by people and probes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scrimp.data.mapped import mapped
from scrimp.data.shards import again, read_samples
from scrimp.errors import ScrimpError

Array = np.ndarray[Any, Any]
Rows = Tensor | range  # int64 [n], or neighbours, which take no memory
# Where a picture lies: its tar's number in the manifest, its bytes, and where they begin. One row is one look at the disk.
PLACE = np.dtype([("tar", "<u4"), ("size", "<u4"), ("offset", "<u8")])
SETS_SHOWN = 12  # the largest sets, whose share of what is chosen is worth a curve
COLUMNS = {"place": PLACE, "set": np.dtype("<i4"), "descriptive": np.dtype(bool), "extended": np.dtype(bool)}


class Table(Protocol):
    """Columns of a table whose row i is pair i."""

    @property
    def frame(self) -> pd.DataFrame:
        """All of it, in memory: of a large dataset more than fits."""
        ...

    def rows(self, split: str) -> Rows:
        """Where the pairs of a split stand, in the table's order."""
        ...

    def marks(self, name: str) -> Array:
        """A column of marks, such as `descriptive`: bool [N]."""
        ...

    def sets(self, split: str) -> Array:
        """The set that each pair of a split is from, as a number: integers [n]."""
        ...

    def largest_sets(self, split: str, count: int) -> dict[str, int]:
        """The names of the sets with most pairs of a split, the largest first, and their numbers in `sets`."""
        ...

    def galleries(self, split: str) -> Array | None:
        """The number of each pair's gallery: integers [n]; None where a split is one."""
        ...

    def tokens(self, split: str) -> int | None:
        """How many tokens the captions of a split have in all, cut ones as cut; None where nobody counted."""
        ...


@dataclass(frozen=True)
class Frame:
    """A table in memory."""

    frame: pd.DataFrame

    def rows(self, split: str) -> Rows:
        at = positions(self.frame["split"] == split)
        neighbours = len(at) > 0 and int(at[-1] - at[0]) == len(at) - 1
        return range(int(at[0]), int(at[-1]) + 1) if neighbours else at

    def marks(self, name: str) -> Array:
        return self.frame[name].to_numpy(bool)

    def sets(self, split: str) -> Array:
        return pd.factorize(self._sets(split))[0].astype(np.int64)

    def largest_sets(self, split: str, count: int) -> dict[str, int]:
        sets = self._sets(split)
        number = {name: place for place, name in enumerate(sets.unique())}
        return {str(name): number[name] for name in sets.value_counts().index[:count]}

    def galleries(self, split: str) -> Array | None:
        if "gallery" not in self.frame.columns:
            return None
        return self.frame.loc[self.frame["split"] == split, "gallery"].to_numpy()

    def tokens(self, split: str) -> int | None:
        return None

    def _sets(self, split: str) -> pd.Series:
        return self.frame.loc[self.frame["split"] == split, "set"]


@dataclass(frozen=True)
class Mapped:
    """Columns of a table in a dataset's folder, mapped; `splits` says where the pairs of each begin and end."""

    folder: Path
    splits: Mapping[str, range]
    columns: Mapping[str, Array]
    largest: Mapping[str, Sequence[tuple[str, int]]]
    counted: Mapping[str, int]

    @classmethod
    def of(cls, folder: Path, manifest: Mapping[str, Any], order: Sequence[str]) -> Mapped:
        """The columns that the manifest names, of splits in this order; ScrimpError for one that is not what was written."""
        splits, columns, begin = {}, {}, 0
        for split in order:
            splits[split] = range(begin, begin := begin + manifest["counts"].get(split, 0))
        for name, kind in COLUMNS.items():
            path = folder / f"{name}.npy"
            columns[name] = mapped(path, manifest["columns"][name], again(folder))
            if columns[name].dtype != kind or columns[name].shape != (begin,):
                raise ScrimpError(f"{path} is no column of {begin:,} rows of {kind}; {again(folder)}")
        return cls(folder, splits, columns, manifest["largest_sets"], manifest["tokens"]["of_splits"])

    @property
    def frame(self) -> pd.DataFrame:
        return read_samples(self.folder)

    def rows(self, split: str) -> range:
        return self.splits[split]

    def marks(self, name: str) -> Array:
        return self.columns[name]

    def sets(self, split: str) -> Array:
        rows = self.rows(split)
        return self.columns["set"][rows.start : rows.stop]

    def largest_sets(self, split: str, count: int) -> dict[str, int]:
        return dict(list(self.largest.get(split, []))[:count])

    def galleries(self, split: str) -> Array | None:
        return None

    def tokens(self, split: str) -> int | None:
        return self.counted.get(split, 0)


def positions(marks: pd.Series | Array) -> Tensor:
    """Where booleans are true: int64 [n]."""
    return torch.from_numpy(np.flatnonzero(np.asarray(marks, dtype=bool)))
