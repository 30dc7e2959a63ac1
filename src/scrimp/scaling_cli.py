"""`scrimp scaling fit RUNS.csv`: scaling laws from anybody's table of training runs; `coverage`: how far to trust them.

numpy and plots are imported inside.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.table import Column, Table

from scrimp.consoles import console
from scrimp.errors import ScrimpError

if TYPE_CHECKING:
    import pandas as pd

    from scrimp.scaling import IsoflopFit, ParametricFit

app = typer.Typer(no_args_is_help=True, help="Scaling laws from a table of training runs.")

QUICK_TRIALS = 2
FAR = 10.0  # times beyond the runs' FLOPs: a budget there is called an extrapolation


@app.callback()
def scaling() -> None:
    """Scaling laws from a table of training runs."""


@app.command()
def fit(
    runs: Annotated[Path, typer.Argument(help="CSV (or tab-separated text), a training run a row")],
    params_column: Annotated[str | None, typer.Option(help="parameters N; default: a column with a usual name")] = None,
    tokens_column: Annotated[str | None, typer.Option(help="tokens D; where there are none, FLOPs / (6 N)")] = None,
    flops_column: Annotated[str | None, typer.Option(help="training FLOPs C; where there are none, 6 N D")] = None,
    loss_column: Annotated[str | None, typer.Option(help="final loss, nats a token, each run fully decayed")] = None,
    run_column: Annotated[str | None, typer.Option(help="the run's name; of several rows of a run the last counts")] = None,
    params_unit: Annotated[str | None, typer.Option(help="1, K, M, B or T; default: from the column's name")] = None,
    tokens_unit: Annotated[str | None, typer.Option(help="the same for tokens")] = None,
    drop_worst: Annotated[int, typer.Option(min=0, help="leave out so many runs of the highest loss")] = 0,
    budget: Annotated[list[float] | None, typer.Option(help="FLOPs to spend, such as 1e21; may repeat")] = None,
    tolerance: Annotated[float, typer.Option(min=0.0, help="share by which FLOPs of one isoFLOP budget may differ")] = 0.1,
    bootstrap: Annotated[int, typer.Option(min=10, help="resamplings of the runs for the intervals")] = 400,
    seed: Annotated[int, typer.Option(help="of the resamplings")] = 0,
    out: Annotated[Path | None, typer.Option(help="folder of the figures; default: NAME-scaling beside the CSV")] = None,
    figures: Annotated[bool, typer.Option(help="draw them")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Fit L = E + A / N^alpha + B / D^beta, and parabolas where runs share a budget; say how to spend FLOPs."""
    import numpy as np
    import pandas as pd

    from scrimp.scaling import fit_parametric
    from scrimp.scaling_figures import draw
    from scrimp.scaling_table import misfit_by_kind, read_runs

    named = {"params": params_column, "tokens": tokens_column, "flops": flops_column, "loss": loss_column}
    read = read_runs(runs, {**named, "run": run_column}, {"params": params_unit, "tokens": tokens_unit})
    table, labels, notes = read.runs, pd.Series(read.labels, index=read.runs.index, dtype=object), read.notes
    if drop_worst:
        table = table.sort_values("loss", kind="stable").iloc[: max(0, len(table) - drop_worst)].sort_index()
        notes.append(f"left out: the {drop_worst} runs of the highest loss, as asked")
    budgets = budget or []
    if any(not 0 < flops < float("inf") for flops in budgets):
        raise ScrimpError(f"--budget needs FLOPs above 0, got {budgets}")
    together = None if read.labels is None else labels[table.index].to_list()
    try:
        law = fit_parametric(table["params"], table["tokens"], table["loss"], runs=together, bootstrap=bootstrap, seed=seed)
    except ValueError as error:
        raise ScrimpError(f"{runs}: {error}") from error
    misfit = np.log(table["loss"] / law.predict(table["params"], table["tokens"]))
    notes += [*law.notes, *misfit_by_kind(read.kinds.loc[table.index], misfit), *_far_budgets(budgets, table["flops"])]
    parabolas, reason = _parabolas(table, tolerance)
    notes.append(reason)
    where = out or runs.with_name(f"{runs.stem}-scaling")
    drawn = draw(table, law, parabolas, where) if figures else []
    content = _content(law, parabolas, budgets, notes) | {"figures": [str(path) for path in drawn]}
    if as_json:
        print(json.dumps(content, indent=1))
    else:
        _print(content)


@app.command()
def coverage(
    trials: Annotated[int, typer.Option(min=1, help="simulated tables or pairs of curves a row")] = 100,
    only: Annotated[str | None, typer.Option(help="crossings, isoflop or parametric; default: all")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="one small setting of each kind, 2 trials, some seconds")] = False,
    seed: Annotated[int, typer.Option(help="of the simulations")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Simulate how often 95 % intervals hold the truth, and how often noise alone makes two curves cross."""
    from dataclasses import asdict

    from scrimp.scaling.coverage import KINDS, simulate

    if only is not None and only not in KINDS:
        raise ScrimpError(f"--only is one of {', '.join(KINDS)}, got {only!r}")
    rows, kinds = [], KINDS if only is None else (only,)
    for row in simulate(QUICK_TRIALS if quick else trials, kinds=kinds, quick=quick, seed=seed):
        rows.append(row)
        print(f"{row.what}, {row.setting}: done", file=sys.stderr)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return
    print("| fit | simulated | trials | with an interval | of these hold the truth | false crossings |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        held = f"{row.held / row.given:.0%}" if row.given else "-"
        false = "" if row.false is None else f"{row.false / row.trials:.0%}"
        print(f"| {row.what} | {row.setting} | {row.trials} | {row.given} | {held} | {false} |")


def _far_budgets(budgets: list[float], spent: pd.Series[Any]) -> list[str]:
    """Budgets that no run is near: the law was not seen there."""
    least, most = float(spent.min()), float(spent.max())
    notes = []
    for flops in budgets:
        beyond, run = (
            (flops / most, f"above the largest run's {most:.2g}")
            if flops > most
            else (least / flops, f"below the smallest run's {least:.2g}")
        )
        if beyond >= FAR:
            notes.append(f"{flops:.3g} FLOPs lie {beyond:.2g} times {run}: an extrapolation that no run here checks")
    return notes


def _parabolas(table: pd.DataFrame, tolerance: float) -> tuple[IsoflopFit | None, str]:
    from scrimp.scaling import fit_isoflop

    try:
        found = fit_isoflop(table["params"], table["flops"], table["loss"], tokens=table["tokens"], tolerance=tolerance)
    except ValueError as error:
        return None, f"no isoFLOP fit: {error}"
    used = sum(budget.used for budget in found.budgets)
    return (
        found,
        f"isoFLOP: {used} of {len(found.budgets)} budgets have a minimum inside; {found.left_out} runs in no budget",
    )


# ------------------------------------------------------------------------------------------------------------- output
def _content(law: ParametricFit, parabolas: IsoflopFit | None, budgets: list[float], notes: list[str]) -> dict[str, Any]:
    """What the verb prints, as JSON-able values; `low` and `high` are 95 %."""
    import numpy as np

    from scrimp.scaling import optimal_allocation

    none = (None, None)
    ends = {name: law.intervals.get(name, none) for name in ("E", "A", "B", "alpha", "beta", "a", "b")}
    parameters = {n: {"value": getattr(law, n), "low": low, "high": high} for n, (low, high) in ends.items()}
    spent = []
    for flops in budgets:
        size, tokens = (float(value) for value in optimal_allocation(law, flops))
        # A resampling may send an exponent to 0, where the optimum is nowhere: percentiles leave such ones at the ends.
        with np.errstate(all="ignore"):
            others = np.array([optimal_allocation(other, flops) for other in law.laws() if min(other.alpha, other.beta) > 0])
        row: dict[str, Any] = {"flops": flops, "params": size, "tokens": tokens}
        for at, name in enumerate(("params", "tokens")):
            low, high = np.percentile(others[:, at], [2.5, 97.5]).tolist() if len(others) else none
            row |= {f"{name}_low": low, f"{name}_high": high}
        spent.append(row | {"loss": float(law.predict(size, tokens))})
    isoflop: dict[str, Any] | None = None
    if parabolas is not None:
        low, high = (None if np.isnan(end) else end for end in parabolas.interval)
        isoflop = {"a": parabolas.a, "low": low, "high": high}
        isoflop["budgets"] = [
            {"flops": b.flops, "runs": len(b.runs), "params": None if np.isnan(b.params) else b.params, "note": b.note}
            for b in parabolas.budgets
        ]
    about = {"runs": law.points, "huber": law.huber, "parameters": parameters}
    return about | {"budgets": spent, "isoflop": isoflop, "notes": notes}


def _print(content: dict[str, Any]) -> None:
    out = console()
    out.print(f"L = E + A / N^alpha + B / D^beta on {content['runs']} runs; N_opt ~ C^a, D_opt ~ C^b", markup=False)
    table = Table("", "value", "95 % interval", box=SIMPLE)
    for name, row in content["parameters"].items():
        about = "none" if row["low"] is None else f"{row['low']:.4g} .. {row['high']:.4g}"
        table.add_row(name, f"{row['value']:.4g}", about)
    out.print(table)
    if content["isoflop"]:
        row = content["isoflop"]
        about = "" if row["low"] is None else f" ({row['low']:.3f} .. {row['high']:.3f})"
        out.print(f"isoFLOP parabolas: a = {row['a']:.3f}{about}")
    if content["budgets"]:
        whole = [Column(name, no_wrap=True) for name in ("FLOPs", "parameters", "95 %", "tokens", "95 %", "loss")]
        table = Table(*whole, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
        for row in content["budgets"]:
            sides = [_range(row[f"{name}_low"], row[f"{name}_high"]) for name in ("params", "tokens")]
            numbers = [_short(row[name]) for name in ("flops", "params", "tokens")]
            table.add_row(*numbers[:2], sides[0], numbers[2], sides[1], f"{row['loss']:.4f}")
        out.print(table)
    for note in [*content["notes"], *(f"figure: {path}" for path in content["figures"])]:
        out.print(note, markup=False, soft_wrap=True)


def _range(low: float | None, high: float | None) -> str:
    return "none" if low is None or high is None else f"{_short(low)} .. {_short(high)}"


def _short(value: float) -> str:
    """Three digits, so that a row fits a terminal: 2.79e9."""
    return f"{value:.3g}".replace("e+0", "e").replace("e+", "e")
