"""Turns inputs into what the template prints: every number already text, every list in its final order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from scrimp.claims.judge import ClaimResult
from scrimp.claims.rules import rule_class
from scrimp.claims.verdicts import beside_published
from scrimp.config import Rule
from scrimp.report.inputs import StudyInputs
from scrimp.report.plot import Plot, Point, interval_plot, sparkline
from scrimp.report.provenance import Provenance, read_provenance
from scrimp.report.tables import (
    NOT_AVAILABLE,
    VERDICTS,
    format_estimate,
    format_interval,
    format_number,
    format_published,
    plain_text,
    scaled_column,
    shared_decimals,
    significant,
    verdict_rank,
    verdict_slug,
)

_ROWS_SHOWN = 25  # a longer table starts closed


@dataclass(frozen=True)
class Cell:
    """A table cell: what is read, what is sorted by, and where it leads."""

    text: str
    numeric: bool = False
    link: str | None = None


@dataclass(frozen=True)
class TableView:
    """A plain table with its caption; `content` null: not written yet."""

    name: str
    caption: str
    columns: list[str]
    rows: list[list[Cell]]
    missing: bool = False

    @property
    def long(self) -> bool:
        return len(self.rows) > _ROWS_SHOWN


@dataclass(frozen=True)
class FigureView:
    """A figure with its number on the page and the claims that rest on it; `source` null: not drawn yet."""

    anchor: str
    number: int
    name: str
    caption: str
    source: str | None
    claims: list[ClaimResult]


@dataclass(frozen=True)
class ConfigView:
    """Resolved configuration of a claim's arms: what they share, and what sets each apart."""

    common: list[tuple[str, str]]
    apart: list[tuple[str, list[tuple[str, str]]]]


@dataclass(frozen=True)
class ClaimView:
    """One claim, ready to print."""

    result: ClaimResult
    anchor: str
    slug: str
    rank: int
    published: str
    beside: str
    measured: str
    interval: str
    spark: Markup
    plot: Markup
    figure: FigureView | None
    config: ConfigView
    runs: list[tuple[str, list[Cell]]]
    headline: str | None

    @property
    def quiet(self) -> bool:
        return self.result.verdict == "not run"

    @property
    def direction(self) -> str:
        """`direction` in words: the side of the measured number that speaks for the claim."""
        rule = rule_of(self.result)
        if rule is None or rule.of_effect:
            return f"claimed {'above' if self.result.direction == 'higher' else 'below'} no effect"
        return f"{self.result.direction} is better"


@dataclass(frozen=True)
class StudyView:
    """One study, ready to print."""

    inputs: StudyInputs
    anchor: str
    note: str
    tally: list[tuple[str, str, int]]
    claims: list[ClaimView]
    figures: list[FigureView]
    tables: list[TableView]
    runs: TableView
    provenance: Provenance

    @property
    def judged(self) -> list[ClaimView]:
        return [claim for claim in self.claims if not claim.quiet]

    @property
    def not_run(self) -> list[ClaimView]:
        return [claim for claim in self.claims if claim.quiet]

    @property
    def tracked(self) -> bool:
        """Whether any run has a place in MLflow."""
        return any(run.link for run in self.inputs.runs)


def tally(verdicts: Iterable[str]) -> list[tuple[str, str, int]]:
    """(verdict, slug, count) in the page's order, without those that do not occur."""
    counts = Counter(verdicts)
    return [(verdict, verdict_slug(verdict), counts[verdict]) for verdict in VERDICTS if counts[verdict]]


def study_view(inputs: StudyInputs, scale: str, first_figure: int) -> StudyView:
    """All views of one study; its figures are numbered from `first_figure`."""
    name = inputs.config.study
    figures = {
        figure: FigureView(
            anchor=f"figure-{name}-{figure}",
            number=first_figure + place,
            name=figure,
            caption=inputs.config.figures[figure],
            source=source,
            claims=[claim for claim in inputs.claims if claim.figure == figure],
        )
        for place, (figure, source) in enumerate(inputs.figures.items())
    }
    return StudyView(
        inputs=inputs,
        anchor=f"study-{name}",
        note=inputs.config.scale(scale).note,
        tally=tally(claim.verdict for claim in inputs.claims),
        claims=[claim_view(claim, inputs, figures) for claim in inputs.claims],
        figures=list(figures.values()),
        tables=[table_view(table, inputs.config.tables[table], rows) for table, rows in inputs.tables.items()],
        runs=runs_table(inputs),
        provenance=read_provenance([run.provenance for run in inputs.runs]),
    )


# ---------------------------------------------------------------------------------------------------------- one claim
def claim_view(result: ClaimResult, inputs: StudyInputs, figures: Mapping[str, FigureView]) -> ClaimView:
    """One claim: numbers with matching decimals, its drawings, its figure, its arms' configuration and runs."""
    drawn = claim_plot(result)
    unit, places = result.published_unit, drawn.decimals
    runs_of = {arm: [run for run in inputs.runs if run.summary.arm == arm] for arm in result.arms}
    return ClaimView(
        result=result,
        anchor=f"claim-{result.study}-{result.claim}",
        slug=verdict_slug(result.verdict),
        rank=verdict_rank(result.verdict),
        published=format_published(result.published, unit, result.origin),
        beside=_beside(result),
        measured=format_estimate(drawn.measured, result.censored, unit, places),
        interval=format_interval(drawn.low, drawn.high, unit, places),
        spark=sparkline(drawn),
        plot=interval_plot(drawn),
        figure=figures.get(result.figure) if result.figure else None,
        config=compare_configs({arm: [run.summary.config for run in runs] for arm, runs in runs_of.items() if runs}),
        runs=[(arm, [Cell(str(run.summary.seed), link=run.link) for run in runs]) for arm, runs in runs_of.items() if runs],
        headline=inputs.headlines.get(result.claim),
    )


def claim_plot(result: ClaimResult) -> Plot:
    """What is drawn for a claim. Where its axis is logarithmic, 0 is a factor's censored lower end."""
    rule = rule_of(result)
    logarithmic, row = (False, "{}") if rule is None else (rule.logarithmic, rule.row)
    low = -math.inf if logarithmic and result.low == 0 else result.low
    sides = {"above": 1, "below": -1, None: 0}
    points = tuple(Point(row.format(point.arm), point.seed, point.value, sides[point.censored]) for point in result.points)
    return Plot(
        measured=result.measured,
        low=low,
        high=result.high,
        published=result.published,
        unit=result.published_unit,
        points=points,
        band=None if rule is None else rule.band(result.published, result.direction),
        logarithmic=logarithmic,
        decimals=shared_decimals(result.measured, low, result.high),
    )


def _beside(result: ClaimResult) -> str:
    if result.low is None or result.high is None:
        return ""
    rule, low, high = rule_of(result), result.low, result.high
    return beside_published(result.verdict, low, high, result.published, result.origin, result.direction, rule)


def rule_of(result: ClaimResult) -> Rule | None:
    """The rule that a claim was judged by, as its result tells it; it was valid when it was judged."""
    return None if result.rule is None else rule_class(result.rule["kind"]).model_construct(**result.rule)


def compare_configs(configs: Mapping[str, Sequence[Mapping[str, Any]]]) -> ConfigView:
    """Dotted keys that all runs share, and per arm the rest; values that change with the seed are listed."""
    flat = {arm: _merged([_flattened(config) for config in seeds]) for arm, seeds in configs.items()}
    keys = list(dict.fromkeys(key for values in flat.values() for key in values))
    shared = [key for key in keys if len({values.get(key) for values in flat.values()}) == 1]
    first: dict[str, str] = next(iter(flat.values()), {})
    apart = [(arm, [(key, value) for key, value in values.items() if key not in shared]) for arm, values in flat.items()]
    return ConfigView([(key, first[key]) for key in shared], [(arm, rest) for arm, rest in apart if rest])


def _flattened(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            flat |= _flattened(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = plain_text(item)
    return flat


def _merged(seeds: Sequence[Mapping[str, str]]) -> dict[str, str]:
    keys = dict.fromkeys(key for config in seeds for key in config)
    return {key: ", ".join(dict.fromkeys(config.get(key, "unset") for config in seeds)) for key in keys}


# ------------------------------------------------------------------------------------------------------------- tables
def table_view(name: str, caption: str, rows: pd.DataFrame | None) -> TableView:
    """A study's own table, its numbers written the page's way."""
    if rows is None:
        return TableView(name, caption, [], [], missing=True)
    cells = [[_cell(value) for value in row] for row in rows.itertuples(index=False, name=None)]
    return TableView(name, caption, [str(column).replace("_", " ") for column in rows.columns], cells)


def _cell(value: Any) -> Cell:
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int | float):
        return Cell(format_number(float(value)), numeric=True)
    return Cell(NOT_AVAILABLE if value is None else str(value))


def runs_table(inputs: StudyInputs) -> TableView:
    """Every finished run: what it reached and what it spent."""
    runs = inputs.runs
    metrics = list(dict.fromkeys(metric for run in runs for metric in run.summary.metrics))
    meters = [run.summary.meters for run in runs]
    flop_unit, flops = scaled_column([meter.flops for meter in meters], "FLOP")
    byte_unit, memory = scaled_column([meter.peak_memory_bytes for meter in meters], "B")
    columns = ["arm", "seed", *(metric.replace("_", " ") for metric in metrics), "examples", flop_unit, "seconds"]
    rows = [
        [
            Cell(run.summary.arm),
            Cell(str(run.summary.seed), numeric=True, link=run.link),
            *(Cell(significant(run.summary.metrics.get(metric), 4), numeric=True) for metric in metrics),
            Cell(format_number(meter.examples), numeric=True),
            Cell(flop_text, numeric=True),
            Cell(significant(meter.seconds), numeric=True),
            Cell(memory_text, numeric=True),
        ]
        for run, meter, flop_text, memory_text in zip(runs, meters, flops, memory, strict=True)
    ]
    return TableView("runs", "", [*columns, f"peak memory, {byte_unit}"], rows)
