"""Labelled texts, single or in pairs, with a class or a grade: what a pre-trained model is fine-tuned on.

A table of one row an example: index, split, document, text, other (the second of a pair, or empty), label. The manifest says
the classes (null: a grade), the metrics in their order, the first of which counts, and what the majority reaches. Where a
source has no splits, documents go by a digest of their names: the first to `test`, the next to `validation`, then `train`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt, model_validator

from scrimp.config import Closed
from scrimp.data.labelled_layouts import LAYOUTS, Example, Layout
from scrimp.data.labelled_tables import Columns, read_tables
from scrimp.data.text_packing import place_of
from scrimp.errors import ScrimpError
from scrimp.metrics import metric_of

SCHEMA = ["index", "split", "document", "text", "other", "label"]
CLASS_METRICS = ("accuracy", "f1", "mcc")
GRADE_METRICS = ("pearson", "spearman")


class Options(Closed):
    """`options` of a dataset whose builder is `labelled_text`: a layout with the sizes of its splits, or tables."""

    layout: Literal[
        "spam", "grades", "film-opinions", "product-opinions", "genres", "word-order", "shuffled-words", "cloze",
        "gloss-parts", "supersense", "hypernyms", "table",
    ]  # fmt: skip
    metrics: list[str] = Field(min_length=1, description="the first one counts in averages")
    # of every layout but `table`
    train: PositiveInt | None = None
    validation: PositiveInt | None = None
    test: PositiveInt | None = None
    # of `table`
    files: dict[str, list[str]] = Field({}, description="split -> its files, as paths end; `test` and `train` at least")
    columns: Columns | None = None
    classes: list[str] | None = Field(None, description="labels as the tables write them; null: a grade")

    @model_validator(mode="after")
    def _whole(self) -> Options:
        sizes = (self.train, self.validation, self.test)
        if self.layout == "table":
            if self.columns is None or not {"train", "test"} <= set(self.files) or any(sizes):
                raise ValueError("a `table` needs `columns` and `files` of train and test, and no sizes of splits")
        elif not all(sizes) or self.files or self.columns or self.classes:
            raise ValueError(f"{self.layout} needs sizes of train, validation and test, and nothing of a table")
        return self


class Row(NamedTuple):
    split: str
    document: str
    text: str
    other: str
    label: float


def build(folder: Path, name: str, archive: Path, options: Options) -> dict[str, Any]:
    """Write the table `samples.parquet` of a source into `folder`; returns facts for the manifest.

    Raises ScrimpError for a missing column, a label outside of the classes, a metric that does not fit, too few examples.
    """
    if options.layout == "table":
        assert options.columns is not None  # Options demands them
        classes = options.classes
        rows = [
            Row(split, f"{name}/{split}/{number}", text, other, as_label(label, classes, where))
            for split, files in options.files.items()
            for number, (text, other, label, where) in enumerate(read_tables(archive, files, options.columns))
        ]
    else:
        layout = LAYOUTS[options.layout]
        classes = layout.classes
        # Options demands the sizes.
        sizes = {split: getattr(options, split) or 0 for split in ("test", "validation", "train")}
        rows = list(_split(name, archive, layout, sizes))
    _check_metrics(name, options.metrics, classes)
    table = pd.DataFrame(rows, columns=list(Row._fields))
    table.insert(0, "index", range(len(table)))
    table[SCHEMA].to_parquet(folder / "samples.parquet", index=False)
    tests = [split for split in table["split"].unique() if split.startswith("test")]
    return {
        "counts": {str(split): int(count) for split, count in table["split"].value_counts(sort=False).items()},
        "classes": classes,
        "pairs": bool(table["other"].str.len().gt(0).any()),
        "metrics": options.metrics,
        "majority": {split: majority(table, split, options.metrics, classes) for split in tests},
    }


def as_label(told: str, classes: list[str] | None, where: str) -> float:
    """A class's number, or a grade; a label outside of the classes is an error that begins with `where`."""
    if classes is not None:
        if told not in classes:
            raise ScrimpError(f"{where}: the label {told!r} is none of the classes {', '.join(classes)}")
        return float(classes.index(told))
    try:
        grade = float(told)
    except ValueError as error:
        raise ScrimpError(f"{where}: the label {told!r} is no number: give `classes` if it names one") from error
    if not np.isfinite(grade):
        raise ScrimpError(f"{where}: the label {told!r} is no finite number")
    return grade


def _check_metrics(name: str, metrics: list[str], classes: list[str] | None) -> None:
    known = GRADE_METRICS if classes is None else CLASS_METRICS
    for metric in metrics:
        metric_of(metric)
        if metric not in known:
            kind = "grades" if classes is None else "classes"
            raise ScrimpError(f"{name}: the metric {metric} does not measure {kind}; these do: {', '.join(known)}")


def _split(name: str, archive: Path, layout: Layout, sizes: dict[str, int]) -> Iterator[Row]:
    """Whole documents into one split after the other, in the order of their digests, until each has its examples."""
    by_document: dict[str, list[Example]] = {}
    for example in layout.examples(archive):
        by_document.setdefault(example.document, []).append(example)
    ordered = sorted(by_document, key=lambda document: place_of(document, b"downstream"))
    waiting = iter(ordered)
    for split, size in sizes.items():
        count = 0
        while count < size:
            document = next(waiting, None)
            if document is None:
                raise ScrimpError(f"{name}: {archive} has no more than {count} examples left for {split}, not {size}")
            for example in by_document[document][: size - count]:
                yield Row(split, document, example.text, example.other, float(example.label))
                count += 1


def majority(table: pd.DataFrame, split: str, metrics: list[str], classes: list[str] | None) -> dict[str, float]:
    """What a guess that looks at nothing reaches: the training split's most common class, or its mean grade.

    Accuracy and F1 in percent; correlations of a constant are 0 by convention.
    """
    if classes is None:
        return dict.fromkeys(metrics, 0.0)
    common = Counter(table["label"][table["split"] == "train"]).most_common(1)[0][0]
    labels = table["label"][table["split"] == split]
    right = float((labels == common).mean())
    positives = float((labels == 1).mean())
    f1 = 2 * positives / (1 + positives) if common == 1 else 0.0  # precision is the share of positives, recall 1
    return {metric: {"accuracy": 100 * right, "f1": 100 * f1, "mcc": 0.0}[metric] for metric in metrics}
