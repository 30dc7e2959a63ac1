"""A table of training runs that nobody prepared, read for `scrimp scaling fit`: columns, units, repeats, whole curves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrimp.errors import ScrimpError

if TYPE_CHECKING:
    import pandas as pd

# The names a column may have, in small letters without spaces, dashes and underscores.
KNOWN = {
    "params": (
        *("params", "parameters", "n", "modelsize", "nparams", "numparams", "size", "parametercount", "paramcount"),
        *("modelparams", "modelparameters", "totalparams", "totalparameters", "numparameters", "nparameters"),
    ),
    "tokens": (
        *("tokens", "d", "ntokens", "trainingtokens", "traintokens", "tokensseen", "numtokens", "tokenstrained"),
        *("totaltokens", "datatokens", "trainedtokens"),
    ),
    "flops": (
        *("flops", "flop", "c", "trainingflop", "trainingflops", "trainflops", "trainflop", "compute", "totalflops"),
        *("totalflop", "trainingcompute", "traincompute", "numflops", "totalcompute"),
    ),
    "loss": (
        *("loss", "l", "finalloss", "valloss", "validationloss", "evalloss", "testloss", "trainloss", "finalvalloss"),
        *("trainingloss", "evaluationloss", "validloss"),
    ),
    "run": ("run", "runid", "runname", "trial", "trialid", "jobid"),
}
# Looked for where there is none of the above: a budget is what was planned, FLOPs are what was spent.
SECOND = {"flops": ("budget", "computebudget", "flopbudget", "flopsbudget", "isoflop", "isoflopbudget", "isoflops")}
UNITS = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
WORDS = {"thousand": "k", "thousands": "k", "million": "m", "millions": "m", "mn": "m"}
WORDS |= {"billion": "b", "billions": "b", "bn": "b", "trillion": "t", "trillions": "t"}
FEWEST_TOKENS = 1e4  # at the median; a run on fewer says nothing of a law, a table in billions has fewer
FEWEST_PARAMS = 2e3
MOST_TOKENS_A_PARAMETER = 1e5
CURVE = 5  # evenly spaced rows of one size, from which on they look like checkpoints of one run
EVEN = 0.02
KINDS = 8  # different texts at most in a column that may tell experiments apart
OF_A_KIND = 3  # rows of each at least


@dataclass(frozen=True)
class RunTable:
    """`runs`: params, tokens, flops, loss, a row a run; `labels`: the run of each row where whole curves were kept.

    `kinds`: columns of texts that may tell experiments apart; `notes`: what was derived, joined or left out, in words.
    """

    runs: pd.DataFrame
    labels: list[str] | None
    kinds: pd.DataFrame
    notes: list[str] = field(default_factory=list)


def read_runs(path: Path, named: dict[str, str | None], units: dict[str, str | None] | None = None) -> RunTable:
    """The runs of a table of comma-, semicolon- or tab-separated text.

    `named`: the columns to use, by role (params, tokens, flops, loss, run); None looks for a usual name. `units`: what
    params and tokens are counted in (1, K, M, B, T); None reads it from the column's name, as in "params (M)". Rows that
    lack one of the numbers are left out; of a named run the last row counts; rows that repeat count once. A value that is
    no positive number is an error that names column and line, and so are sizes that cannot be counts.
    """
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig") as text:
            header = text.readline()
        separator = max(",;\t", key=header.count)  # the first of them where there is none
        raw = pd.read_csv(path, dtype=str, skip_blank_lines=False, sep=separator, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ScrimpError(f"{path} does not exist: give the path of a CSV with a training run a row") from error
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ScrimpError(f"{path} cannot be read as CSV ({error}): save it as comma-separated UTF-8 text") from error
    unnamed = raw.drop(columns=[given for given in named.values() if given in raw.columns])
    columns = {role: _column(raw if given else unnamed, role, given, path) for role, given in named.items()}
    run_column = columns.pop("run", None)
    if columns["tokens"] is None and columns["flops"] is None:
        raise ScrimpError(_missing(raw, "tokens", path) + ", or FLOPs with --flops-column")
    factors, notes = _factors(columns, units or {})
    found = pd.DataFrame(
        {r: _numbers(raw, column, path) * factors.get(r, 1.0) for r, column in columns.items() if column is not None}
    )
    notes.insert(0, "columns: " + ", ".join(f"{role} from {name!r}" for role, name in columns.items() if name is not None))
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
    _refuse_units(complete, units or {}, path)
    complete, repeats = _without_repeats(complete)
    labels: list[str] | None = None
    if run_column is not None:
        complete, joined = _last_rows(complete, raw[run_column], run_column, path, asked=named.get("run") is not None)
    else:
        labels, joined = _unnamed_curves(complete)
    kinds = _kinds(raw.loc[complete.index].drop(columns=[c for c in (*columns.values(), run_column) if c is not None]))
    return RunTable(complete, labels, kinds, [*notes, *repeats, *joined])


# ------------------------------------------------------------------------------------------------------------ columns
def _column(raw: pd.DataFrame, role: str, given: str | None, path: Path) -> str | None:
    if given is not None:
        if given not in raw.columns:
            raise ScrimpError(f"{path} has no column {given!r}; it has {_names(raw)}: correct --{role}-column")
        return given
    plain = {str(name): "".join(_words(str(name), role in ("params", "tokens"))[0]) for name in raw.columns}
    matching = [name for name, short in plain.items() if short in KNOWN[role]]
    if not matching:
        matching = [name for name, short in plain.items() if short in SECOND.get(role, ())]
    if len(matching) > 1 and role != "run":
        raise ScrimpError(f"{path} has several columns for {role}: {', '.join(matching)}; choose one with --{role}-column")
    if not matching and role in ("params", "loss"):
        raise ScrimpError(_missing(raw, role, path))
    return matching[0] if matching else None


def _words(name: str, counted: bool = True) -> tuple[list[str], str | None]:
    """A column's name in small words, and for what is `counted` the unit that ends it: "params (M)" is (["params"], "m")."""
    words = "".join(letter if letter.isalnum() else " " for letter in name.lower()).split()
    last = WORDS.get(words[-1], words[-1]) if words else ""
    return (words[:-1], last) if counted and len(words) > 1 and last in UNITS else (words, None)


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


# -------------------------------------------------------------------------------------------------------------- units
def _factors(columns: dict[str, str | None], units: dict[str, str | None]) -> tuple[dict[str, float], list[str]]:
    """What params and tokens are multiplied by, from the options or the columns' names, and that in words."""
    factors, notes = {}, []
    for role in ("params", "tokens"):
        column, given = columns[role], units.get(role)
        if given is not None and given != "1" and given.lower() not in UNITS:
            raise ScrimpError(f"--{role}-unit is one of 1, K, M, B and T, got {given!r}")
        unit = given.lower() if given is not None else _words(column)[1] if column is not None else None
        if column is not None and unit in UNITS:
            factors[role] = UNITS[unit]
            notes.append(f"{role} are {column!r} times {UNITS[unit]:.0e}")
    return factors, notes


def _refuse_units(runs: pd.DataFrame, units: dict[str, str | None], path: Path) -> None:
    """Numbers of parameters and tokens that cannot be counts: tables in papers are in millions and billions."""
    params, tokens = float(runs["params"].median()), float(runs["tokens"].median())
    if runs.empty or units.get("params") is not None or units.get("tokens") is not None:
        return
    wrong = []
    if params < FEWEST_PARAMS or tokens / params > MOST_TOKENS_A_PARAMETER:
        wrong.append("params")
    if tokens < FEWEST_TOKENS:
        wrong.append("tokens")
    if wrong:
        shown = " and ".join(f"{role} {runs[role].min():.3g} to {runs[role].max():.3g}" for role in wrong)
        raise ScrimpError(
            f"{path}: {shown} can hardly be counts: are they in millions or billions? Say so in the column's name, as in "
            '"params (M)" and "tokens (B)", or with --params-unit M --tokens-unit B; --params-unit 1 takes all as they are'
        )


# --------------------------------------------------------------------------------------------------- rows of one run
def _without_repeats(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    from scrimp.scaling.checks import first_of_repeats

    first = first_of_repeats(*(runs[name].to_numpy(float) for name in ("params", "tokens", "loss")))
    if first.all():
        return runs, []
    return runs[first], [
        f"{int((~first).sum())} of {len(runs)} rows repeat another (size, tokens and loss): each counts once"
    ]


def _last_rows(
    runs: pd.DataFrame, labels: pd.Series[Any], column: str, path: Path, asked: bool
) -> tuple[pd.DataFrame, list[str]]:
    """The row of the most tokens of each run that `labels` names; rows without a name are runs of their own."""
    known = labels.loc[runs.index]
    known = known.fillna("line " + known.index.to_series().astype(str))
    if not known.duplicated().any():
        return runs, []
    if (runs.groupby(known)["params"].nunique() > 1).any():
        message = f"{column!r} gives one name to rows of several sizes"
        if asked:
            raise ScrimpError(f"{path}: {message}: correct --run-column")
        return runs, [f"{message}: not read as the name of a run; each row counts as one"]
    last = runs.loc[runs.groupby(known)["tokens"].idxmax().sort_values()]
    why = "rows of one run share its noise, and only its end is decayed"
    return last, [f"{len(last)} runs: of {len(runs)} rows the last of each counts ({column!r} names them; {why})"]


def _unnamed_curves(runs: pd.DataFrame) -> tuple[list[str] | None, list[str]]:
    """Rows of one size at evenly spaced tokens look like checkpoints of one run: those are resampled together."""
    import numpy as np

    from scrimp.scaling.parametric import FEWEST_FOR_INTERVALS

    labels = runs.index.to_series().astype(str)
    for size, rows in runs.groupby("params"):
        steps = np.diff(np.sort(rows["tokens"].to_numpy(float)))
        if len(rows) >= CURVE and np.abs(steps / np.median(steps) - 1).max() < EVEN:
            labels.loc[rows.index] = f"size {size:g}"
    count = labels.nunique()
    if count == len(runs):
        return None, []
    looks = f"rows of one size at evenly spaced tokens look like checkpoints of one run ({len(runs)} rows, {count} runs)"
    remedy = "name a column of runs with --run-column, so that the end of each counts alone"
    if count < FEWEST_FOR_INTERVALS:
        return None, [f"{looks}: intervals are too narrow if so; {remedy}"]
    return labels.to_list(), [f"{looks}: resampled together; {remedy}"]


# ------------------------------------------------------------------------------------------------- mixed experiments
def _kinds(others: pd.DataFrame) -> pd.DataFrame:
    """The columns of texts, few different ones and several rows of each."""
    import pandas as pd

    chosen = []
    for column in others.columns:
        counts = others[column].value_counts()
        texts = pd.to_numeric(counts.index.to_series(), errors="coerce").isna().any()
        if texts and 2 <= len(counts) <= KINDS and counts.min() >= OF_A_KIND:
            chosen.append(column)
    return others[chosen]


def misfit_by_kind(kinds: pd.DataFrame, misfit: pd.Series[Any]) -> list[str]:
    """Columns whose texts go with the runs' misfit (log loss above the law): experiments that one law should not join."""
    from scipy import stats

    notes = []
    for column in kinds.columns:
        groups = {str(name): rows for name, rows in misfit.groupby(kinds[column])}
        means = {name: float(rows.mean()) for name, rows in groups.items()}
        highest, lowest = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
        if stats.f_oneway(*groups.values()).pvalue < 1e-3 and means[highest] - means[lowest] > 0.003:
            notes.append(
                f"{column!r} goes with the misfit: runs with {highest!r} lie {means[highest]:+.1%} of the loss from the "
                f"law, with {lowest!r} {means[lowest]:+.1%}: fit them apart"
            )
    return notes
