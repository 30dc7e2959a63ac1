"""`scrimp scaling fit RUNS.csv`: scaling laws from anybody's table of training runs. numpy and plots are imported inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from scrimp.errors import ScrimpError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from scrimp.scaling import IsoflopFit, ParametricFit

app = typer.Typer(no_args_is_help=True, help="Scaling laws from a table of training runs.")

# The names a column may have, in small letters without spaces, dashes and underscores.
KNOWN = {
    "params": ("params", "parameters", "n", "modelsize", "nparams", "numparams", "size", "parametercount"),
    "tokens": ("tokens", "d", "ntokens", "trainingtokens", "traintokens", "tokensseen", "numtokens"),
    "flops": ("flops", "flop", "c", "trainingflop", "trainingflops", "trainflops", "compute", "totalflops"),
    "loss": ("loss", "l", "finalloss", "valloss", "validationloss", "evalloss", "testloss", "trainloss"),
}
MARGIN = 4.0  # how far the plane's frontier reaches beyond the runs' FLOPs, as a factor


@app.callback()
def scaling() -> None:
    """Scaling laws from a table of training runs."""


@app.command()
def fit(
    runs: Annotated[Path, typer.Argument(help="CSV, a training run a row")],
    params_column: Annotated[str | None, typer.Option(help="parameters N; default: a column with a usual name")] = None,
    tokens_column: Annotated[str | None, typer.Option(help="tokens D; where there are none, FLOPs / (6 N)")] = None,
    flops_column: Annotated[str | None, typer.Option(help="training FLOPs C; where there are none, 6 N D")] = None,
    loss_column: Annotated[str | None, typer.Option(help="final loss, nats a token, each run fully decayed")] = None,
    drop_worst: Annotated[int, typer.Option(min=0, help="leave out so many runs of the highest loss")] = 0,
    budget: Annotated[list[float] | None, typer.Option(help="FLOPs to spend, such as 1e21; may repeat")] = None,
    tolerance: Annotated[float, typer.Option(min=0.0, help="share by which FLOPs of one isoFLOP budget may differ")] = 0.1,
    bootstrap: Annotated[int, typer.Option(min=10, help="resamplings of the runs for the intervals")] = 400,
    seed: Annotated[int, typer.Option(help="of the resamplings")] = 0,
    out: Annotated[Path | None, typer.Option(help="folder of the figures; default: NAME-scaling beside the CSV")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Fit L = E + A / N^alpha + B / D^beta, and parabolas where runs share a budget; say how to spend FLOPs."""
    from scrimp.scaling import fit_parametric

    named = {"params": params_column, "tokens": tokens_column, "flops": flops_column, "loss": loss_column}
    table, notes = read_runs(runs, named)
    if drop_worst:
        table = table.sort_values("loss", kind="stable").iloc[: max(0, len(table) - drop_worst)].sort_index()
        notes.append(f"left out: the {drop_worst} runs of the highest loss, as asked")
    budgets = budget or []
    if any(not 0 < flops < float("inf") for flops in budgets):
        raise ScrimpError(f"--budget needs FLOPs above 0, got {budgets}")
    try:
        law = fit_parametric(table["params"], table["tokens"], table["loss"], bootstrap=bootstrap, seed=seed)
    except ValueError as error:
        raise ScrimpError(f"{runs}: {error}") from error
    parabolas, reason = _parabolas(table, tolerance)
    notes.append(reason)
    where = out or runs.with_name(f"{runs.stem}-scaling")
    content = _content(law, parabolas, budgets, notes) | {
        "figures": [str(path) for path in _draw(table, law, parabolas, where)]
    }
    if as_json:
        print(json.dumps(content, indent=1))
    else:
        _print(content)


# -------------------------------------------------------------------------------------------------------------- input
def read_runs(path: Path, named: dict[str, str | None]) -> tuple[pd.DataFrame, list[str]]:
    """The runs of a CSV as params, tokens, flops, loss, and what was derived or left out, in words.

    `named`: the columns to use, by role; None looks for a usual name. Rows that lack one of the numbers are left out; a
    value that is no positive number is an error that names column and line.
    """
    import pandas as pd

    try:
        raw = pd.read_csv(path, dtype=str, skip_blank_lines=False)
    except FileNotFoundError as error:
        raise ScrimpError(f"{path} does not exist: give the path of a CSV with a training run a row") from error
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ScrimpError(f"{path} cannot be read as CSV ({error}): save it as comma-separated UTF-8 text") from error
    unnamed = raw.drop(columns=[given for given in named.values() if given in raw.columns])
    columns = {role: _column(raw if given else unnamed, role, given, path) for role, given in named.items()}
    if columns["tokens"] is None and columns["flops"] is None:
        raise ScrimpError(_missing(raw, "tokens", path) + ", or FLOPs with --flops-column")
    found = pd.DataFrame({role: _numbers(raw, column, path) for role, column in columns.items() if column is not None})
    notes = ["columns: " + ", ".join(f"{role} from {column!r}" for role, column in columns.items() if column is not None)]
    found = found[raw.notna().any(axis=1)]  # blank lines were read, so that the others keep their numbers
    complete = found.dropna()
    if len(complete) < len(found):
        lines = [str(int(index) + 2) for index in found.index[found.isna().any(axis=1)]]
        shown = ", ".join(lines[:8]) + (", ..." if len(lines) > 8 else "")
        notes.append(f"left out: {len(lines)} of {len(found)} rows, incomplete (line {shown})")
    if columns["tokens"] is None:
        complete = complete.assign(tokens=complete["flops"] / (6 * complete["params"]))
        notes.append("tokens are FLOPs / (6 N)")
    if columns["flops"] is None:
        complete = complete.assign(flops=6 * complete["params"] * complete["tokens"])
        notes.append("FLOPs are 6 N D")
    return complete, notes


def _column(raw: pd.DataFrame, role: str, given: str | None, path: Path) -> str | None:
    if given is not None:
        if given not in raw.columns:
            raise ScrimpError(f"{path} has no column {given!r}; it has {_names(raw)}: correct --{role}-column")
        return given
    plain = {str(name): "".join(letter for letter in str(name).lower() if letter.isalnum()) for name in raw.columns}
    matching = [name for name, short in plain.items() if short in KNOWN[role]]
    if len(matching) > 1:
        raise ScrimpError(f"{path} has several columns for {role}: {', '.join(matching)}; choose one with --{role}-column")
    if not matching and role in ("params", "loss"):
        raise ScrimpError(_missing(raw, role, path))
    return matching[0] if matching else None


def _missing(raw: pd.DataFrame, role: str, path: Path) -> str:
    return f"{path} has no column that looks like {role}; it has {_names(raw)}: name it with --{role}-column"


def _names(raw: pd.DataFrame) -> str:
    return ", ".join(repr(str(name)) for name in raw.columns) or "none"


def _numbers(raw: pd.DataFrame, column: str, path: Path) -> pd.Series[Any]:
    """A column as numbers, empty cells as nan; thousands separators and anything else not a number are refused."""
    import numpy as np
    import pandas as pd

    text = raw[column].str.strip()
    text = text.mask(text == "")
    values = pd.to_numeric(text, errors="coerce")
    wrong = text.notna() & ~(np.isfinite(values) & (values > 0))
    if wrong.any():
        at = wrong.idxmax()
        raise ScrimpError(
            f"{path}, line {int(str(at)) + 2}, column {column!r}: {text[at]!r} is no positive number; write it like 1.3e9, "
            "or leave the cell empty to leave the run out"
        )
    return values.astype(float)


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

    parameters = {
        name: {"value": getattr(law, name), "low": law.intervals[name][0], "high": law.intervals[name][1]}
        for name in ("E", "A", "B", "alpha", "beta", "a", "b")
    }
    spent = []
    for flops in budgets:
        size, tokens = (float(value) for value in optimal_allocation(law, flops))
        # A resampling may send an exponent to 0, where the optimum is nowhere: percentiles leave such ones at the ends.
        with np.errstate(all="ignore"):
            others = np.array([optimal_allocation(other, flops) for other in law.laws() if min(other.alpha, other.beta) > 0])
        ends = np.percentile(others, [2.5, 97.5], axis=0)
        row = {"flops": flops, "params": size, "params_low": float(ends[0, 0]), "params_high": float(ends[1, 0])}
        row |= {"tokens": tokens, "tokens_low": float(ends[0, 1]), "tokens_high": float(ends[1, 1])}
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
    console = Console(highlight=False)
    console.print(f"L = E + A / N^alpha + B / D^beta on {content['runs']} runs; N_opt ~ C^a, D_opt ~ C^b", markup=False)
    table = Table("", "value", "95 % interval", box=SIMPLE)
    for name, row in content["parameters"].items():
        table.add_row(name, f"{row['value']:.4g}", f"{row['low']:.4g} .. {row['high']:.4g}")
    console.print(table)
    if content["isoflop"]:
        row = content["isoflop"]
        about = "" if row["low"] is None else f" ({row['low']:.3f} .. {row['high']:.3f})"
        console.print(f"isoFLOP parabolas: a = {row['a']:.3f}{about}")
    if content["budgets"]:
        whole = [Column(name, no_wrap=True) for name in ("FLOPs", "parameters", "95 %", "tokens", "95 %", "loss")]
        table = Table(*whole, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
        for row in content["budgets"]:
            sides = [f"{_short(row[f'{name}_low'])} .. {_short(row[f'{name}_high'])}" for name in ("params", "tokens")]
            numbers = [_short(row[name]) for name in ("flops", "params", "tokens")]
            table.add_row(*numbers[:2], sides[0], numbers[2], sides[1], f"{row['loss']:.4f}")
        console.print(table)
    for note in [*content["notes"], *(f"figure: {path}" for path in content["figures"])]:
        console.print(note, markup=False, soft_wrap=True)


def _short(value: float) -> str:
    """Three digits, so that a row fits a terminal: 2.79e9."""
    return f"{value:.3g}".replace("e+0", "e").replace("e+", "e")


# ------------------------------------------------------------------------------------------------------------ figures
def _draw(table: pd.DataFrame, law: ParametricFit, parabolas: IsoflopFit | None, folder: Path) -> list[Path]:
    """The figures as SVG and PNG; returns the PNGs."""
    import matplotlib as mpl

    mpl.use("Agg")
    from scrimp.studies.plotting import canvas, save

    drawn = {"fit": canvas(columns=2, width=9, height=4), "plane": canvas(width=6.4, height=5)}
    _draw_fit(drawn["fit"][1], table, law)
    dots = _draw_plane(drawn["plane"][1][0], table, law)
    drawn["plane"][0].colorbar(dots, ax=drawn["plane"][1][0], label="loss, nats a token", shrink=0.8)
    if parabolas is not None:
        drawn["isoflop"] = canvas(columns=2, width=9.5, height=4)
        _draw_isoflop(drawn["isoflop"][1], table, parabolas)
    for name, (whole, _) in drawn.items():
        save(whole, folder, name)
    return [folder / f"{name}.png" for name in drawn]


def _draw_fit(axes: list[Axes], table: pd.DataFrame, law: ParametricFit) -> None:
    import numpy as np

    predicted = law.predict(table["params"], table["tokens"])
    ends = [0.99 * min(predicted.min(), table["loss"].min()), 1.01 * max(predicted.max(), table["loss"].max())]
    axes[0].plot(ends, ends, color="#555555", lw=1, ls=":")
    axes[0].scatter(predicted, table["loss"], s=14, color="#0072B2", alpha=0.7, lw=0)
    axes[0].set(xlabel="loss of the law, nats a token", ylabel="loss of the run", xlim=ends, ylim=ends)
    axes[1].axhline(0, color="#555555", lw=1, ls=":")
    axes[1].scatter(table["flops"], 100 * np.log(table["loss"] / predicted), s=14, color="#0072B2", alpha=0.7, lw=0)
    axes[1].set(xscale="log", xlabel="training FLOPs", ylabel="run above the law, %")


def _draw_plane(axes: Axes, table: pd.DataFrame, law: ParametricFit) -> Any:
    import numpy as np

    from scrimp.scaling import optimal_allocation

    flops = np.geomspace(table["flops"].min() / MARGIN, table["flops"].max() * MARGIN, 60)
    size, tokens = optimal_allocation(law, flops)
    others = [other for other in law.laws() if min(other.alpha, other.beta) > 0]
    with np.errstate(all="ignore"):
        low, high = np.percentile([optimal_allocation(other, flops)[0] for other in others], [2.5, 97.5], axis=0)
    # The band is of the size at fixed FLOPs; tokens follow from C = 6 N D.
    corners, around = np.concatenate([low, high[::-1]]), np.concatenate([flops, flops[::-1]])
    axes.fill(around / (6 * corners), corners, color="#D55E00", alpha=0.2, lw=0)
    axes.plot(tokens, size, color="#D55E00", lw=1.8, label=f"efficient frontier: a = {law.a:.2f}, 95 % band")
    limits: dict[str, tuple[float, float]] = {}
    for name, key in (("tokens", "xlim"), ("params", "ylim")):
        values = np.concatenate([table[name], tokens if name == "tokens" else size])
        limits[key] = (float(values.min()) / 2, float(values.max()) * 2)
    axes.set(xscale="log", yscale="log", xlabel="tokens D", ylabel="parameters N", **limits)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), fontsize=9)
    return axes.scatter(table["tokens"], table["params"], c=table["loss"], cmap="cividis_r", s=16, lw=0, zorder=2)


def _draw_isoflop(axes: list[Axes], table: pd.DataFrame, parabolas: IsoflopFit) -> None:
    import numpy as np
    import seaborn as sns

    shades = sns.color_palette("cividis", len(parabolas.budgets))
    for budget, shade in zip(parabolas.budgets, shades, strict=True):
        runs = table.iloc[list(budget.runs)]
        axes[0].scatter(runs["params"], runs["loss"], s=14, color=shade, lw=0)
        if np.isnan(budget.params):
            continue
        sizes = np.geomspace(runs["params"].min(), runs["params"].max(), 60)
        level = np.polyval(budget.curve, np.log(sizes / budget.centre))
        axes[0].plot(sizes, level, color=shade, lw=1.2, label=f"{budget.flops:.2g}")
        about = [[budget.params - budget.interval[0]], [budget.interval[1] - budget.params]]
        face = shade if budget.used else "white"
        axes[1].errorbar([budget.flops], [budget.params], yerr=about, fmt="o", color=shade, mfc=face, ms=5, capsize=2)
    flops = np.array([budget.flops for budget in parabolas.budgets])
    axes[1].plot(flops, parabolas.size.predict(flops), color="#D55E00", lw=1.6, label=f"a = {parabolas.a:.3f}")
    axes[0].set(xscale="log", xlabel="parameters", ylabel="loss, nats a token")
    axes[0].legend(title="FLOPs", fontsize=7, title_fontsize=8, ncols=2, loc="upper left", bbox_to_anchor=(1, 1))
    axes[1].set(xscale="log", yscale="log", xlabel="FLOPs", ylabel="optimal parameters (hollow: not used)")
    axes[1].set_ylim(table["params"].min() / 2, table["params"].max() * 2)
    axes[1].legend(loc="upper left", fontsize=9)
