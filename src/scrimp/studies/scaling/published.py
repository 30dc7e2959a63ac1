"""The scaling study's published half: other people's curves and tables, read again.

Everything comes from `config/published/` (`scaling-sources.csv` says from where) and is pure arithmetic on it: LLaMA's
digitised loss curves (Tyl 2023, "Chinchilla's Death"; Touvron et al. 2023a, b), the 245 runs digitised from Figure 4 of
Hoffmann et al. 2022, and that report's tables. Hours are GPU-hours, losses are nats a token.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scrimp.config import Workspace
from scrimp.scaling import (
    Law,
    ParametricFit,
    crossings,
    fit_envelope,
    fit_isoflop,
    fit_parametric,
    fit_power_law,
    optimal_allocation,
    smooth,
)

Array = NDArray[np.float64]

AXES = (("llama1", "published"), ("llama1", "recalibrated"), ("llama2", "published"))
COMPARED_AT = {"llama1": 82_000, "llama2": 180_000}  # hours: about where the smallest model's run ends
WORST = 5  # runs of the highest loss, left out of the refit as Besiroglu et al. 2024 did
LEAST_LEAD = 2.0  # standard errors; the report names a crossing (7B and 70B) that is hardly clearer than this
CLEAR_LEAD = 3.5  # standard errors, the default of `crossings`; noise alone rarely gives such a lead anywhere along a curve
LEADS = (2.0, 2.5, 3.0, CLEAR_LEAD, 4.0, 5.0, 7.0, 10.0)  # thresholds at which re-overtakings are counted
SPAN = 0.05  # of the smooth at a single place, in log hours
END = 0.98  # of a run: its last 2 % make its final loss
LINE_WINDOWS = (0.75, 0.5, 0.25)  # the share of the curve's end that a straight line is fitted to
HOFFMANN_BUDGETS = (6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21)
FLOORED_LR = 0.1  # of the peak, at the end of LLaMA's cosine


# ------------------------------------------------------------------------------------------------------------- inputs
def published(workspace: Workspace, name: str) -> pd.DataFrame:
    """The table config/published/NAME.csv."""
    return pd.read_csv(workspace.root / "config" / "published" / f"{name}.csv")


def table_rows(workspace: Workspace, table: str) -> pd.DataFrame:
    """The rows of one of the tables in `chinchilla-tables.csv`."""
    rows = published(workspace, "chinchilla-tables")
    return rows[rows["table"] == table].reset_index(drop=True)


def records_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows, by column."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def llama_curves(workspace: Workspace, family: str, axis: str = "published") -> dict[str, pd.DataFrame]:
    """Per model: hours, fraction (of its own run), tokens, loss, points (averaged in a row), ascending in hours.

    The axis is the straight line from pixels to hours that ends at the run's published GPU-hours and starts at the axis's
    origin pixel.
    """
    origin = _origin(workspace, family, axis)
    runs, curves = published(workspace, "llama-runs"), published(workspace, "llama-curves")
    found = {}
    for run in records_of(runs[runs["family"] == family]):
        curve = curves[(curves["family"] == family) & (curves["model"] == run["model"])]
        fraction = (curve["pixel"] - origin) / (run["end_pixel"] - origin)
        columns = {"hours": fraction * run["gpu_hours"], "fraction": fraction, "tokens": fraction * run["tokens"]}
        table = pd.DataFrame({**columns, "loss": curve["loss"], "points": curve["points"]})
        found[str(run["model"])] = table.sort_values("hours").reset_index(drop=True)
    return found


def _origin(workspace: Workspace, family: str, axis: str) -> float:
    """The pixel of hour 0."""
    rows = published(workspace, "llama-axis")
    return float(rows.loc[(rows["family"] == family) & (rows["axis"] == axis), "origin_pixel"].iloc[0])


def published_laws(workspace: Workspace) -> dict[str, Law]:
    """The parametric laws in print, by their authors."""
    laws: dict[str, dict[str, float]] = {}
    for row in records_of(table_rows(workspace, "parametric")):
        laws.setdefault(row["row"], {})[row["quantity"]] = row["value"]
    return {name: Law(*(law[key] for key in ("E", "A", "B", "alpha", "beta"))) for name, law in laws.items()}


def chinchilla_runs(workspace: Workspace, *, every: bool = False) -> pd.DataFrame:
    """The digitised runs that the refit uses: parameters, flops, tokens, loss; without the `WORST`, or `every` one."""
    runs = published(workspace, "chinchilla-runs").sort_values("loss", kind="stable")
    runs = runs if every else runs.iloc[:-WORST]
    return runs.assign(tokens=runs["flops"] / (6 * runs["parameters"])).reset_index(drop=True)


def refit(workspace: Workspace, bootstrap: int, *, every: bool = False) -> ParametricFit:
    """Our fit of the parametric law to the digitised runs, without the `WORST` or to `every` one."""
    runs = chinchilla_runs(workspace, every=every)
    return fit_parametric(runs["parameters"], runs["tokens"], runs["loss"], bootstrap=bootstrap)


# ----------------------------------------------------------------------------------------------------- LLaMA's curves
def crossing_table(workspace: Workspace) -> pd.DataFrame:
    """Where the larger model of each pair overtakes at equal hours, and where the smaller one is ahead again.

    `smaller_fraction`, `larger_fraction`: how far each is in its own schedule at the re-overtake. `_low`, `_high`: 95 %.
    `lead_errors`: the weaker of the two leads (the larger model's in between, the smaller's after) in standard errors. Hours
    are of leads of `LEAST_LEAD` and more; `clear` is whether the weaker has `CLEAR_LEAD`, which noise is unlikely to make,
    and `reovertakes` whether there is a clear re-overtake.
    """
    rows = []
    runs = {(run["family"], run["model"]): run for run in records_of(published(workspace, "llama-runs"))}
    for family, axis in AXES:
        curves = llama_curves(workspace, family, axis)
        for smaller, larger in combinations(curves, 2):
            pair = [(curves[model]["hours"], curves[model]["loss"]) for model in (smaller, larger)]
            found = crossings(*pair, significance=LEAST_LEAD)
            over = next((crossing for crossing in found if crossing.leader == "b"), None)
            back = next((crossing for crossing in found if crossing.leader == "a" and over and crossing.x > over.x), None)
            row: dict[str, Any] = {"family": family, "axis": axis, "smaller": smaller, "larger": larger}
            for name, crossing in (("overtake", over), ("reovertake", back)):
                row[f"{name}_hours"] = crossing.x if crossing else np.nan
                row[f"{name}_low"] = crossing.low if crossing else np.nan
                row[f"{name}_high"] = crossing.high if crossing else np.nan
            for name, model in (("smaller", smaller), ("larger", larger)):
                row[f"{name}_fraction"] = row["reovertake_hours"] / runs[family, model]["gpu_hours"]
            leads = [crossing.significance for crossing in (over, back) if crossing]
            row["lead_errors"] = min(leads) if leads else np.nan
            row["clear"] = bool(leads) and min(leads) >= CLEAR_LEAD
            row["reovertakes"] = back is not None and row["clear"]
            row["note"] = _crossing_note(row)
            rows.append(row)
    return pd.DataFrame(rows)


def _crossing_note(row: dict[str, Any]) -> str:
    """The confound of a re-overtake in words: how far each model is in its own schedule then."""
    if np.isnan(row["reovertake_hours"]):
        return ""
    fractions = f"{row['smaller_fraction']:.2f} and {row['larger_fraction']:.2f}"
    doubt = (
        "" if row["clear"] else f", a lead of {row['lead_errors']:.1f} standard errors, which noise may make: not counted"
    )
    return f"{row['smaller']} before {row['larger']} again at {fractions} of their schedules{doubt}"


def reovertaking_counts(workspace: Workspace) -> pd.DataFrame:
    """How many pairs of a family re-overtake, by the lead (standard errors) that either must have to count.

    `share` is of all `pairs`. At the library's threshold `share_high` counts those too that noise may have made (leads of
    `LEAST_LEAD`), `share_low` does not; elsewhere both are `share`.
    """
    rows: list[dict[str, Any]] = []
    for family, axis in AXES:
        curves = llama_curves(workspace, family, axis)
        pairs = [[(curves[model]["hours"], curves[model]["loss"]) for model in pair] for pair in combinations(curves, 2)]
        for threshold in LEADS:
            count = sum(_reovertaken([of.leader for of in crossings(*pair, significance=threshold)]) for pair in pairs)
            about = {"family": family, "axis": axis, "threshold": threshold, "pairs": len(pairs), "reovertakings": count}
            share = count / len(pairs)
            rows.append({**about, "share": share, "share_low": share, "share_high": share, "note": ""})
        of_axis = rows[-len(LEADS) :]
        default = of_axis[LEADS.index(CLEAR_LEAD)]
        default["share_high"] = of_axis[LEADS.index(LEAST_LEAD)]["share"]
        counts = ", ".join(f"{row['reovertakings']} at {row['threshold']:g}" for row in of_axis)
        default["note"] = f"of {len(pairs)} pairs by the least lead in standard errors: {counts}"
    return pd.DataFrame(rows)


def _reovertaken(leaders: list[str]) -> bool:
    """Whether the larger (b) takes the lead and the smaller (a) takes it back."""
    return "b" in leaders and "a" in leaders[leaders.index("b") :]


def hours_axis(workspace: Workspace) -> pd.DataFrame:
    """Where each curve starts on its axis, as a share of the run; a mis-placed origin shows there.

    `tokens_over_largest`: the tokens at this run's end pixel over those at the family's longest axis, as the axis has it,
    and `expected` as published (LLaMA-1: 1.0T over 1.4T): an independent check of the origin.
    """
    runs = records_of(published(workspace, "llama-runs"))
    rows = []
    for family, axis in AXES:
        of_family, origin = [run for run in runs if run["family"] == family], _origin(workspace, family, axis)
        longest = of_family[-1]
        for run in of_family:
            length = run["end_pixel"] - origin
            share = (run["start_pixel"] - origin) / length
            about = {"family": family, "axis": axis, "model": run["model"], "origin_pixel": origin}
            about |= {"start_share": share, "start_hours": share * run["gpu_hours"]}
            about["tokens_over_largest"] = length / (longest["end_pixel"] - origin)
            rows.append({**about, "expected": run["tokens"] / longest["tokens"]})
    return pd.DataFrame(rows)


def losses_at(workspace: Workspace) -> pd.DataFrame:
    """Single readings of the curves, a row each: `quantity` of `model` on `axis`, at `hours`, is `value`.

    Quantities: "loss" at `COMPARED_AT` hours (smoothed), "final loss" (mean of the run's last 2 %), "start share" of the
    run; of pairs: "share of common hours led" by the first, and "difference at the end" of the first's run.
    """
    rows: list[tuple[str, str, str, str, float, float]] = []
    starts = {(row["family"], row["axis"], row["model"]): row for row in records_of(hours_axis(workspace))}
    for family, axis in AXES:
        curves, at = llama_curves(workspace, family, axis), float(COMPARED_AT[family])
        for model, curve in curves.items():
            rows.append((family, axis, model, "loss", at, float(_levels(curve, np.array([at]))[0])))
            rows.append((family, axis, model, "final loss", float(curve["hours"].max()), _final(curve)))
            start = starts[family, axis, model]
            rows.append((family, axis, model, "start share", start["start_hours"], start["start_share"]))
        if family == "llama1":
            first, second = curves["33B"], curves["65B"]
            common = np.linspace(*_common(first, second), 1000)
            ahead = np.mean(_levels(first, common) < _levels(second, common))
            rows.append((family, axis, "33B-65B", "share of common hours led", common[-1], float(ahead)))
            end = float(curves["7B"]["hours"].max())
            around = curves["13B"][curves["13B"]["hours"].between(END * end, end)]
            tie = _final(curves["7B"]) - float(np.average(around["loss"], weights=around["points"]))
            rows.append((family, axis, "7B-13B", "difference at the end", end, tie))
    return pd.DataFrame(rows, columns=["family", "axis", "model", "quantity", "hours", "value"])


def _levels(curve: pd.DataFrame, hours: Array) -> Array:
    return smooth(curve["hours"], curve["loss"], hours, span=SPAN)


def _final(curve: pd.DataFrame) -> float:
    end = curve[curve["fraction"] > END]
    return float(np.average(end["loss"], weights=end["points"]))


def _common(first: pd.DataFrame, second: pd.DataFrame) -> tuple[float, float]:
    """The hours that both curves cover."""
    hours = [curve["hours"] for curve in (first, second)]
    return max(float(of.min()) for of in hours), min(float(of.max()) for of in hours)


def same_token(workspace: Workspace) -> pd.DataFrame:
    """LLaMA-1 7B and LLaMA-2 7B after the same tokens, and how far each one's cosine has come down.

    Two runs on different data with one tokeniser; `axis` is that of LLaMA-1. `_fraction`: of the schedule; `_rate`: the
    learning rate over its peak, ending at a tenth. `behind_from`: tokens from which LLaMA-2 has the higher loss.
    """
    second = llama_curves(workspace, "llama2")["7B"]
    rows = []
    for axis in ("published", "recalibrated"):
        first = llama_curves(workspace, "llama1", axis)["7B"]
        found = crossings(*((curve["tokens"], curve["loss"]) for curve in (first, second)), significance=CLEAR_LEAD)
        behind = next((crossing.x for crossing in found if crossing.leader == "a"), np.nan)
        for tokens in np.arange(1, 11) * 1e11:
            row = {"axis": axis, "tokens": tokens, "behind_from": behind}
            for name, curve, length in (("llama1", first, 1e12), ("llama2", second, 2e12)):
                row[f"{name}_loss"] = float(smooth(curve["tokens"], curve["loss"], [tokens], span=SPAN)[0])
                row[f"{name}_fraction"] = tokens / length
                row[f"{name}_rate"] = FLOORED_LR + (1 - FLOORED_LR) * (1 + np.cos(np.pi * tokens / length)) / 2
            rows.append({**row, "difference": row["llama2_loss"] - row["llama1_loss"]})
    return pd.DataFrame(rows)


def extrapolations(workspace: Workspace) -> pd.DataFrame:
    """What LLaMA-2 7B would reach with 70B's hours, by several ways of extending its curve; `floor`: what each
    tends to (a line to none); "measured": where each run itself ended; `above_70b`: loss less that law's for the 70B.

    Straight lines and power laws with an offset are fitted to the curve's last `window` of hours; the laws are
    evaluated at the tokens that the 7B would have seen in those hours, and for the 70B at its own. The laws' losses are
    of Chinchilla's data and tokeniser: compare them with each other, not with LLaMA's.
    """
    runs = {(run["family"], run["model"]): run for run in records_of(published(workspace, "llama-runs"))}
    small, large = (runs["llama2", model] for model in ("7B", "70B"))
    curves, hours = llama_curves(workspace, "llama2"), float(large["gpu_hours"])
    tokens = float(small["tokens"] * hours / small["gpu_hours"])
    rows: list[dict[str, Any]] = []
    for window in LINE_WINDOWS:
        part = curves["7B"][curves["7B"]["fraction"] >= 1 - window]
        slope, level = np.polyfit(part["hours"], part["loss"], 1, w=np.sqrt(part["points"]))
        power = fit_power_law(part["hours"], part["loss"], offset=True)
        reached = {"line": level + slope * hours, "power law": float(power.predict(hours))}
        for method, floor in (("line", np.nan), ("power law", power.offset)):
            rows.append({"method": method, "window": window, "model": "7B", "loss": reached[method], "floor": floor})
    for name, law in published_laws(workspace).items():
        for model, run, seen in (("7B", small, tokens), ("70B", large, float(large["tokens"]))):
            loss = float(law.predict(run["parameters"], seen))
            rows.append({"method": name, "window": np.nan, "model": model, "loss": loss, "floor": law.E})
    ends = {model: _final(curves[model]) for model in ("7B", "70B")}
    rows += [{"method": "measured", "window": np.nan, "model": m, "loss": loss, "floor": np.nan} for m, loss in ends.items()]
    table = pd.DataFrame(rows).assign(hours=hours)
    table["tokens"] = np.where(table["model"] == "7B", tokens, float(large["tokens"]))
    of_70b = table[table["model"] == "70B"].set_index("method")["loss"]
    table["above_70b"] = table["loss"] - table["method"].map(of_70b)
    ended = (table["method"] == "measured") & (table["model"] == "7B")
    table.loc[ended, ["hours", "tokens"]] = [float(small["gpu_hours"]), float(small["tokens"])]
    return table


# --------------------------------------------------------------------------------------------------- Chinchilla's runs
def parametric_refit(workspace: Workspace, bootstrap: int = 400) -> pd.DataFrame:
    """Our fit of the digitised runs beside those in print: `fit`, `parameter`, `value`, `error`, `low`, `high`.

    `epoch_errors`: how far ours lies from Besiroglu et al.'s value, in their standard errors.
    """
    fit, rows = refit(workspace, bootstrap), table_rows(workspace, "parametric")
    epoch = {row["quantity"]: row for row in records_of(rows[rows["row"] == "Besiroglu et al."])}
    found = [
        {
            "fit": "ours",
            "parameter": name,
            "value": getattr(fit, name),
            "error": fit.errors[name],
            "low": fit.intervals[name][0],
            "high": fit.intervals[name][1],
            "epoch_errors": (getattr(fit, name) - epoch[name]["value"]) / epoch[name]["error"],
        }
        for name in ("E", "A", "B", "alpha", "beta", "a")
    ]
    found.append({"fit": "ours", "parameter": "huber", "value": fit.huber})
    for row in records_of(rows):
        reach = 1.96 * row["error"]
        about = {"error": row["error"], "low": row["value"] - reach, "high": row["value"] + reach}
        found.append({"fit": row["row"], "parameter": row["quantity"], "value": row["value"], **about})
    return pd.DataFrame(found)


def frontier(workspace: Workspace, bootstrap: int = 400) -> pd.DataFrame:
    """Optimal parameters and tokens by FLOPs for each law, with the band of the parameters (`low`, `high`), 95 %.

    Ours: over the resampled fits. The others print an interval of the exponent only: their band turns about the middle of
    the digitised runs and is a lower bound of theirs; Hoffmann et al.'s is too narrow to see.
    """
    fit, flops = refit(workspace, bootstrap), np.geomspace(1e18, 1e26, 65)
    laws = published_laws(workspace)
    error = _one(table_rows(workspace, "parametric"), "Besiroglu et al.", "a")["error"]
    printed = _one(table_rows(workspace, "exponents"), "approach 3", "a")
    widths = {"Besiroglu et al.": 1.96 * error, "Hoffmann et al.": (printed["high"] - printed["low"]) / 2}
    middle = np.log(flops / np.exp(np.log(chinchilla_runs(workspace)["flops"]).mean()))
    tables = []
    for name, law in {"ours": fit, **{name: laws[name] for name in widths}}.items():
        params, tokens = optimal_allocation(law, flops)
        turn = np.exp(np.abs(widths.get(name, 0.0) * middle))
        low, high = params / turn, params * turn
        if name == "ours":
            low, high = np.percentile([optimal_allocation(other, flops)[0] for other in fit.laws()], [2.5, 97.5], axis=0)
        columns = {"flops": flops, "params": params, "tokens": tokens, "low": low, "high": high}
        tables.append(pd.DataFrame({"fit": name, **columns}))
    return pd.concat(tables, ignore_index=True)


def _one(rows: pd.DataFrame, row: str, quantity: str) -> dict[str, Any]:
    return records_of(rows[(rows["row"] == row) & (rows["quantity"] == quantity)])[0]


def exponents(workspace: Workspace, bootstrap: int = 400) -> pd.DataFrame:
    """The exponent a of N_opt ~ C^a: by each approach in print, and by our code. `source`, `approach`, `a`, `low`, `high`.

    Ours from losses that Hoffmann et al.'s own law generates (their a again, whichever approach reads it), from the
    digitised runs without the `WORST`, and from all of them.
    """
    rows: list[dict[str, Any]] = []
    for table in ("exponents", "Porian"):
        for row in records_of(table_rows(workspace, table).query("quantity == 'a'")):
            about = {"source": "Porian et al." if table == "Porian" else "published", "approach": row["row"]}
            rows.append({**about, "a": row["value"], "low": row["low"], "high": row["high"]})
    rows += _regenerated(published_laws(workspace)["Hoffmann et al., unrounded"])
    everything = len(chinchilla_runs(workspace, every=True))
    for source, every in (("digitised runs", False), ("all digitised runs", True)):
        runs, fit = chinchilla_runs(workspace, every=every), refit(workspace, bootstrap, every=every)
        parabolas = fit_isoflop(runs["parameters"], runs["flops"], runs["loss"])
        dropped = f"{len(runs)} of {everything}: without the {WORST} of the highest loss, as Besiroglu et al. 2024 fit them"
        note = f"all {everything} runs" if every else dropped
        for approach, a, (low, high) in (
            ("approach 2", parabolas.a, parabolas.interval),
            ("approach 3", fit.a, fit.intervals["a"]),
        ):
            rows.append({"source": source, "approach": approach, "a": a, "low": low, "high": high, "note": note})
    return pd.DataFrame(rows).fillna({"note": ""})


def _regenerated(law: Law) -> list[dict[str, Any]]:
    """All three approaches on noise-free losses of a known law, at the sizes and budgets of the report."""
    sizes = np.geomspace(44e6, 16e9, 50)
    steps = np.geomspace(1e8, 5e11, 400)  # tokens
    curves = [(n, steps, law.predict(n, steps)) for n in sizes]
    envelope = fit_envelope(curves, span=None)
    grid = [(n, c) for c in HOFFMANN_BUDGETS for n in optimal_allocation(law, c)[0] * np.geomspace(0.25, 4, 9)]
    params, flops = np.array(grid).T
    tokens = flops / (6 * params)
    losses = law.predict(params, tokens)
    found = {
        "approach 1": envelope.a,
        "approach 2": fit_isoflop(params, flops, losses).a,
        "approach 3": fit_parametric(params, tokens, losses, bootstrap=0, polished=10).a,
    }
    return [{"source": "regenerated", "approach": name, "a": a} for name, a in found.items()]


def typos(workspace: Workspace) -> pd.DataFrame:
    """Printed FLOPs of the optimal models against 6 N D; `explained`: whether rounded tokens and FLOPs allow the difference.

    The number of parameters is taken as exact: it names the model.
    """
    path = workspace.root / "config" / "published" / "chinchilla-tables.csv"
    printed = records_of(pd.read_csv(path, dtype={"value": str}))  # as text: the digits say how far it was rounded
    models: dict[tuple[str, str], dict[str, str]] = {}
    for row in printed:
        if row["table"] in ("Table 3", "Table A3"):
            models.setdefault((row["table"], row["row"]), {})[row["quantity"]] = row["value"]
    rows = []
    for (table, model), text in models.items():
        n, d, c = (float(text[name]) for name in ("parameters", "tokens", "flops"))
        d_half, c_half = _half_digit(text["tokens"]), _half_digit(text["flops"])
        explained = 6 * n * (d - d_half) <= c + c_half and 6 * n * (d + d_half) >= c - c_half
        about = {"table": table, "model": model, "parameters": n, "tokens": d, "printed": c, "computed": 6 * n * d}
        rows.append({**about, "ratio": 6 * n * d / c, "explained": explained})
    return pd.DataFrame(rows)


def _half_digit(text: str) -> float:
    """Half a unit of the last digit of a number in scientific notation."""
    mantissa, _, power = text.lower().partition("e")
    return float(0.5 * 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2])))


def stretch(workspace: Workspace) -> pd.DataFrame:
    """Figure A1: final loss by cosine length over run length, and how far above the panel's best; read by eye."""
    rows = table_rows(workspace, "Figure A1")
    rows = rows.rename(columns={"row": "panel", "value": "loss"}).assign(stretch=rows["quantity"].astype(float))
    rows["above_best"] = rows["loss"] - rows.groupby("panel")["loss"].transform("min")
    return rows[["panel", "stretch", "loss", "above_best", "mark", "source"]]
