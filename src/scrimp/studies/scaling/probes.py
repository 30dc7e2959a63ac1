"""What the runs of the scaling study's small-scale replication say; `published_probes.py` reads the published curves.

The replication trains several sizes. An arm is called after its schedule and its share of the workload's FLOPs, `cool-x0.5`;
all points that are compared as annealed are ends of runs whose learning rate fell to the end of its schedule.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from scrimp.config import Workspace
from scrimp.records import read_curves
from scrimp.scaling import crossings, fit_isoflop, fit_parametric, smooth
from scrimp.studies import probe
from scrimp.studies.scaling.points import SAME_TOKENS, STUDY, points, sweep

CONVENTIONS = ("total", "non_embedding")  # which parameters count


# --------------------------------------------------------------------------------------------------------- who leads when
@probe("replication-crossings")
def replication_crossings(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Claim 1 in the replication, a row per (reading, seed, pair of sizes): who overtakes whom at equal FLOPs, and where.

    Readings: `raw` compares training-loss curves of cosine runs on the same tokens, as the report does, so that the
    smaller is late in its schedule where the larger is early; `constant` compares constant-LR runs, whose rates never fall;
    `annealed` compares ends of cooldowns at equal FLOPs alone. Fractions are those of each one's own schedule where the
    smaller overtakes again; `late_lead` is the smaller's lead (nats) at the last FLOPs that both have.
    """
    table = points(workspace, scale)
    curves = read_curves(workspace, scale, STUDY)
    curves = curves[curves["metric"] == "train_loss"]
    sizes = list(dict.fromkeys(table["size"]))
    rows = []
    for seed in sorted(table["seed"].unique()):
        for smaller, larger in combinations(sizes, 2):
            pair = {"seed": seed, "smaller": smaller, "larger": larger}
            for reading, family in (("raw", "cosine"), ("constant", "constant")):
                runs = _same_tokens(sweep(table, family, seed), smaller, larger, match=reading == "raw")
                if runs is not None:
                    small, large = (_curve(curves, arm, seed) for arm in runs)
                    found = _read_curves(small, large)
                    fair = _annealed_lead(sweep(table, "cool", seed), smaller, larger, min(small[0][-1], large[0][-1]))
                    rows.append({"reading": reading, **pair, **found, "annealed_lead": fair})
            annealed = sweep(table, "cool", seed)
            found_annealed = _read_points(annealed[annealed["size"] == smaller], annealed[annealed["size"] == larger])
            if found_annealed is not None:
                rows.append({"reading": "annealed", **pair, **found_annealed})
    return pd.DataFrame(rows)


def _same_tokens(runs: pd.DataFrame, smaller: str, larger: str, match: bool) -> tuple[str, str] | None:
    """The larger's longest run and the smaller's that saw the same tokens, or where nothing is to `match` its longest."""
    large, small = (runs[runs["size"] == size].sort_values("tokens") for size in (larger, smaller))
    if large.empty or small.empty:
        return None
    longest = large.iloc[-1]
    ratios = np.log(small["tokens"] / longest["tokens"]).abs()
    chosen = small.loc[ratios.idxmin()] if match else small.iloc[-1]
    if match and ratios.min() > np.log(SAME_TOKENS):
        return None
    return str(chosen["arm"]), str(longest["arm"])


def _curve(curves: pd.DataFrame, arm: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """FLOPs and training loss of a run."""
    rows = curves[(curves["arm"] == arm) & (curves["seed"] == seed)].sort_values("flops")
    return rows["flops"].to_numpy(float), rows["value"].to_numpy(float)


def _read_curves(small: tuple[np.ndarray, np.ndarray], large: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    found = crossings(small, large)
    end = min(small[0][-1], large[0][-1])
    lead = float(smooth(*large, [end])[0] - smooth(*small, [end])[0])
    changes = [(crossing.x, crossing.leader == "a") for crossing in found]
    return _reading(changes, lead, small[0][-1], large[0][-1])


def _read_points(small: pd.DataFrame, large: pd.DataFrame) -> dict[str, Any] | None:
    """The same on annealed points at budgets that both sizes have; a change of lead is read off straight lines in log C."""
    both = small.assign(budget=_budgets(small)).merge(large.assign(budget=_budgets(large)), on="budget")
    if len(both) < 2:
        return None
    both = both.sort_values("budget")
    lead = (both["test_loss_y"] - both["test_loss_x"]).to_numpy(float)  # above 0: the smaller leads
    log_c = np.log(both["flops_x"].to_numpy(float))
    changes = [
        (float(np.exp(np.interp(0, *_ascending(lead[at : at + 2], log_c[at : at + 2])))), lead[at + 1] > 0)
        for at in range(len(lead) - 1)
        if (lead[at] > 0) != (lead[at + 1] > 0)
    ]
    return _reading(changes, float(lead[-1]), np.nan, np.nan)


def _annealed_lead(runs: pd.DataFrame, smaller: str, larger: str, flops: float) -> float:
    """The smaller's lead between ends of cooldowns at `flops`, read off straight lines in log C; nan outside of them."""
    losses = []
    for size in (larger, smaller):
        mine = runs[runs["size"] == size].sort_values("flops")
        # Budgets end a step after their FLOPs: the ends may miss each other by that.
        if mine.empty or not mine["flops"].min() / 1.05 <= flops <= mine["flops"].max() * 1.05:
            return float("nan")
        losses.append(float(np.interp(np.log(flops), np.log(mine["flops"]), mine["test_loss"])))
    return losses[0] - losses[1]


def _budgets(runs: pd.DataFrame) -> pd.Series:
    """Nominal budgets: FLOPs end a step after the horizon, and differ by that between sizes."""
    return (np.log2(runs["flops"]) * 4).round().astype(int)


def _ascending(values: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(values)
    return values[order], of[order]


def _reading(changes: list[tuple[float, bool]], lead: float, small_end: float, large_end: float) -> dict[str, Any]:
    """A pair's changes of lead (FLOPs, whether to the smaller) and the smaller's last lead, as a row.

    The larger led somewhere if it took the lead, or lost it, or has it at the end; the smaller leads again where it takes
    the lead from the larger.
    """
    overtake = next((x for x, to_smaller in changes if not to_smaller), np.nan)
    again = next((x for x, to_smaller in changes if to_smaller), np.nan)
    return {
        "overtake_flops": overtake,
        "reovertake_flops": again,
        "reovertakes": bool(np.isfinite(again)),
        "larger_led": bool(changes) or lead < 0,
        "smaller_fraction": again / small_end,
        "larger_fraction": again / large_end,
        "late_lead": lead,
    }


@probe("replication-reovertaking")
def replication_reovertaking(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Claim 1 as one number a reading and seed: the share of pairs in which the larger takes the lead, then the smaller.

    `share` is of all pairs, `share_led` of those in which the larger leads somewhere: nothing can be overtaken again in the
    others. `note` gives the schedule fractions of all re-overtakings, the smaller's and the larger's: the confound. Its
    size is `schedule_bias`: the smaller's lead in training loss where its run ends, less that in test loss between annealed
    points, mean over the pairs that every seed has, in nats.
    """
    found = replication_crossings(workspace, scale, options)
    # Paired by seed: some short runs have one seed, and pairs that need them are left out.
    seeds = found.groupby(["reading", "smaller", "larger"])["seed"].transform("nunique")
    rows = []
    for (reading, seed), pairs in found[seeds == found["seed"].nunique()].groupby(["reading", "seed"]):
        led = pairs[pairs["larger_led"]]
        turned = led[led["reovertakes"]]
        note = "; ".join(
            f"{row['smaller']} before {row['larger']} at {row['smaller_fraction']:.2f} and {row['larger_fraction']:.2f}"
            for row in turned.to_dict("records")
            if np.isfinite(row["smaller_fraction"])
        )
        if led.empty:
            note = (
                f"seed {seed}: the larger leads nowhere in any of {len(pairs)} pairs, which leaves nothing to overtake again"
            )
        elif note:
            note = f"seed {seed}, fractions of their schedules: {note}"
        rows.append(
            {
                "reading": reading,
                "seed": seed,
                "pairs": len(pairs),
                "larger_led": len(led),
                "reovertakings": len(turned),
                "share": len(turned) / len(pairs),
                "share_led": len(turned) / len(led) if len(led) else np.nan,
                "late_lead": pairs["late_lead"].mean(),
                "schedule_bias": (pairs["late_lead"] - pairs["annealed_lead"]).mean(),
                "note": note,
            }
        )
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------------------------ laws
@probe("replication-isoflop")
def replication_isoflop(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Approach 2 on the replication's annealed points, a row per schedule, seed and way to count parameters: N_opt ~ C^a."""
    table = points(workspace, scale)
    rows: list[dict[str, Any]] = []
    for family in options["families"]:
        for seed, runs in sweep(table, family).groupby("seed"):
            for convention in CONVENTIONS:
                row = {"family": family, "seed": seed, "convention": convention}
                sizes = runs[f"parameters_{convention}"]
                try:
                    fit = fit_isoflop(sizes, runs["flops"], runs["test_loss"], tokens=runs["tokens"])
                except ValueError as error:
                    rows.append({**row, "a": np.nan, "b": np.nan, "budgets": 0, "note": str(error)})
                    continue
                used = sum(budget.used for budget in fit.budgets)
                rows.append({**row, "a": fit.a, "b": fit.data.exponent, "budgets": used, "note": ""})
    return pd.DataFrame(rows)


@probe("replication-parametric")
def replication_parametric(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Approach 3 on the cooldowns of all seeds, a row per way to count parameters, with 95 % intervals of a bootstrap."""
    runs = sweep(points(workspace, scale), "cool")
    rows = []
    for convention in CONVENTIONS:
        fit = fit_parametric(
            runs[f"parameters_{convention}"], runs["tokens"], runs["test_loss"], bootstrap=options["bootstrap"]
        )
        row: dict[str, Any] = {"convention": convention, "points": fit.points, "huber": fit.huber}
        for name in ("E", "A", "B", "alpha", "beta", "a"):
            low, high = fit.intervals[name]
            row |= {name: getattr(fit, name), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------------------- schedules
@probe("replication-flattening")
def replication_flattening(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Claim 5, a row a seed: by how much a cosine's curve flattens over its last tenth more than a constant rate's does.

    Slopes of the training loss against log FLOPs, in nats, over the budget's ninth and last tenth. Both runs see the same
    batches, which takes most of the noise out of their difference; its mean over the sizes is the number.
    """
    table = points(workspace, scale)
    curves = read_curves(workspace, scale, STUDY)
    curves = curves[curves["metric"] == "train_loss"]
    rows = []
    for seed in sorted(table["seed"].unique()):
        found = []
        for size in options["sizes"]:
            arms = [
                str(runs.iloc[0]["arm"])
                for family in ("cosine", "constant")
                if not (runs := _full(sweep(table, family, seed), size)).empty
            ]
            if len(arms) == 2:
                cosine, constant = (_curve(curves, arm, seed) for arm in arms)
                found.append(_flattening(cosine[0], cosine[1] - constant[1]))
        if found:
            rows.append({"seed": seed, "sizes": len(found), "flattening": float(np.mean(found))})
    return pd.DataFrame(rows)


def _full(runs: pd.DataFrame, size: str) -> pd.DataFrame:
    """A size's runs over its whole budget."""
    return runs[(runs["size"] == size) & (runs["share"] == 1)]


def _flattening(flops: np.ndarray, difference: np.ndarray) -> float:
    fraction = flops / flops[-1]

    def slope(begin: float, end: float) -> float:
        inside = (fraction > begin) & (fraction <= end)
        return float(np.polyfit(np.log(flops[inside]), difference[inside], 1)[0])

    return slope(0.9, 1.0) - slope(0.8, 0.9)


@probe("replication-cost")
def replication_cost(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """What a constant-LR run with its cooldowns costs over training every horizon anew (Haegele et al. 2024): a row a size.

    The constant-LR run is charged as far as its last cooldown needs it. FLOPs follow from the configuration: a seed does.
    """
    table = points(workspace, scale)
    cools = sweep(table, "cool", int(table["seed"].min()))
    rows = []
    for size, runs in cools.groupby("size"):
        spent = runs["flops_constant"].max() + (runs["flops"] - runs["flops_constant"]).sum()
        rows.append({"size": size, "horizons": len(runs), "share": spent / runs["flops"].sum()})
    return pd.DataFrame(rows)
