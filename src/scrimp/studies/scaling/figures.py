"""The figures and tables of the scaling study: those of the replication, and beside them those of the published curves."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from scrimp.claims.statistics import mean_interval
from scrimp.config import MAIN_SEPARATOR, Workspace
from scrimp.records import read_curves
from scrimp.scaling import Budget, fit_isoflop
from scrimp.studies import figure, table
from scrimp.studies.outputs import read_probe
from scrimp.studies.plotting import PUBLISHED, canvas, error_bar, log_axis
from scrimp.studies.scaling.points import SAME_TOKENS, STUDY, points, sweep
from scrimp.studies.scaling.published import stretch as published_stretch

SCHEDULES = {"cool": "#D55E00", "cosine": "#0072B2", "linear": "#009E73", "constant": "#999999"}
NAMES = {
    "cool": "cooldowns (1-sqrt)",
    "cosine": "cosine for every horizon",
    "linear": "linear to 0",
    "constant": "constant rate",
}
LOSS = "test loss, nats a byte"


def _sizes(table: pd.DataFrame) -> dict[str, Any]:
    """Size -> its colour, from the smallest to the largest."""
    names = list(dict.fromkeys(table.sort_values("parameters_total")["size"]))
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.88, len(names)))
    return dict(zip(names, shades, strict=True))


def _means(runs: pd.DataFrame) -> pd.DataFrame:
    """The seeds' mean of every point, in ascending FLOPs."""
    return runs.groupby(["size", "share"], as_index=False).mean(numeric_only=True).sort_values("flops")


# ------------------------------------------------------------------------------------------------------ who leads when
@figure("replication-reovertaking")
def replication_reovertaking(workspace: Workspace, scale: str) -> Figure:
    """The same runs read twice: raw curves of unfinished cosines, and ends of cooldowns (claim 1)."""
    table = points(workspace, scale)
    curves = read_curves(workspace, scale, STUDY)
    curves = curves[(curves["metric"] == "train_loss") & (curves["seed"] == table["seed"].min())]
    colors = _sizes(table)
    drawn, (left, middle, right) = canvas(columns=3, width=12.5, height=4.4)
    cosines, constants = _on_the_same_tokens(sweep(table, "cosine")), sweep(table, "constant")
    for panel, runs in ((left, cosines), (middle, constants)):
        for size, arm in zip(runs["size"], runs["arm"], strict=True):
            rows = curves[curves["arm"] == arm].sort_values("flops")
            level = rows["value"].rolling(9, center=True, min_periods=1).mean()
            panel.plot(rows["flops"], level, color=colors[size], lw=1.4)
    tokens = cosines["tokens"].mean()
    annealed = _means(sweep(table, "cool"))
    for size, color in colors.items():
        mine = annealed[annealed["size"] == size]
        right.plot(mine["flops"], mine["test_loss"], color=color, marker="o", ms=4, lw=1.4, label=size)
        single = sweep(table, "cool").query("size == @size")
        right.scatter(single["flops"], single["test_loss"], color=[color], s=8, alpha=0.4, linewidths=0)
    titles = (
        f"raw: cosines over {EngFormatter(places=1, sep='')(tokens)} tokens each",
        "constant rate: no schedule to be late in",
        "annealed: ends of cooldowns",
    )
    low, high = annealed["test_loss"].min(), annealed["test_loss"].max()
    for panel, title in zip((left, middle, right), titles, strict=True):
        panel.set_title(title, fontsize=11)
        log_axis(panel)
        panel.set(xlabel="FLOPs", ylim=(low - 0.12, high + 0.25))
        panel.set_xlim(left=annealed["flops"].min() * 0.8)
    left.set_ylabel("training loss, nats a byte")
    right.set_ylabel(LOSS)
    drawn.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=len(colors), title="parameters")
    return drawn


def _on_the_same_tokens(runs: pd.DataFrame) -> pd.DataFrame:
    """The longest runs of three sizes or more on about the same tokens, of the first seed: how LLaMA was trained."""
    first = runs[runs["seed"] == runs["seed"].min()]
    families = []
    for anchor in first["tokens"]:
        near = first[np.abs(np.log(first["tokens"] / anchor)) < np.log(SAME_TOKENS)]
        families.append(near.drop_duplicates("size"))
    return max(families, key=lambda family: (min(len(family), 3), family["tokens"].mean()))


# ---------------------------------------------------------------------------------------------------------------- laws
@figure("replication-isoflop")
def replication_isoflop(workspace: Workspace, scale: str) -> Figure:
    """Loss against size at equal FLOPs, with parabolas; and the size at their minima against FLOPs (claim 9)."""
    runs = sweep(points(workspace, scale), "cool")
    drawn, (left, right) = canvas(columns=2, width=11, height=4.6)
    try:
        fit = fit_isoflop(runs["parameters_total"], runs["flops"], runs["test_loss"], tokens=runs["tokens"])
    except ValueError as error:
        left.set_title("no fit: too few sizes at a budget", fontsize=11)
        right.text(0.5, 0.5, str(error), wrap=True, ha="center", va="center", transform=right.transAxes, fontsize=8)
        return drawn
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.88, len(fit.budgets)))
    for budget, color in zip(fit.budgets, shades, strict=True):
        near = runs[np.abs(np.log(runs["flops"] / budget.flops)) < np.log(1.25)]
        left.scatter(near["parameters_total"], near["test_loss"], color=[color], s=14, alpha=0.6, linewidths=0)
        _draw_parabola(left, budget, near["parameters_total"].min(), near["parameters_total"].max(), color)
        right.errorbar(
            [budget.flops],
            [budget.params],
            yerr=[[budget.params - budget.interval[0]], [budget.interval[1] - budget.params]],
            fmt="o" if budget.used else "x",
            color=color,
            capsize=3,
        )
    span = np.geomspace(fit.budgets[0].flops / 1.5, fit.budgets[-1].flops * 1.5, 20)
    fits = read_probe(workspace, STUDY, "replication-isoflop", scale)  # by seed, as the claim's number
    exponents = fits[(fits["family"] == "cool") & (fits["convention"] == "total")]["a"].dropna()
    of_seeds = mean_interval(exponents.to_numpy(float)) if len(exponents) else None
    ends = f", seeds {of_seeds.mean:.2f} ({of_seeds.low:.2f} to {of_seeds.high:.2f})" if of_seeds is not None else ""
    right.plot(span, fit.size.predict(span), color="#000000", lw=1.2, label=f"a = {fit.a:.2f} of all runs{ends}")
    middle = float(np.exp(np.mean(np.log([b.flops for b in fit.budgets if b.used]))))
    anchor = float(fit.size.predict([middle])[0])
    right.plot(span, anchor * (span / middle) ** 0.5, color="#555555", lw=1, ls="--", label="a = 0.5 (Chinchilla)")
    log_axis(left)
    log_axis(right)
    left.set(xlabel="parameters", ylabel=LOSS)
    left.legend(title="FLOPs", fontsize=8, title_fontsize=8)
    right.set(xlabel="FLOPs", ylabel="parameters at the minimum", yscale="log")
    right.set_title("crosses: minima outside the sizes trained", fontsize=11)
    right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.yaxis.set_major_formatter(EngFormatter(sep=""))
    right.yaxis.set_minor_formatter(NullFormatter())
    right.legend(fontsize=9)
    return drawn


def _draw_parabola(axes: Axes, budget: Budget, low: float, high: float, color: Any) -> None:
    sizes = np.geomspace(low / 1.1, high * 1.1, 60)
    level = np.polyval(budget.curve, np.log(sizes) - np.log(budget.centre))
    axes.plot(sizes, level, color=color, lw=1.2, label=f"{budget.flops:.1e}")
    if budget.used:
        axes.scatter([budget.params], [budget.loss], marker="x", color=[color], s=36, zorder=4)


@figure("replication-sweeps")
def replication_sweeps(workspace: Workspace, scale: str) -> Figure:
    """Every schedule at every size and horizon: loss above that of the cosine with as many FLOPs, paired by seed."""
    table = points(workspace, scale)
    colors = _sizes(table)
    families = [family for family in ("cool", "linear", "constant") if not sweep(table, family).empty]
    drawn, panels = canvas(columns=len(families), width=4 * len(families), height=4)
    cosine = sweep(table, "cosine").set_index(["size", "share", "seed"])["test_loss"]
    for panel, family in zip(panels, families, strict=True):
        runs = sweep(table, family).set_index(["size", "share", "seed"])
        above = (runs["test_loss"] - cosine).dropna().rename("above").reset_index()
        above = above.join(runs["flops"], on=["size", "share", "seed"])
        for size, color in colors.items():
            mine = above[above["size"] == size]
            mean = mine.groupby("share")[["flops", "above"]].mean()
            panel.plot(mean["flops"], mean["above"], color=color, marker="o", ms=4, label=size)
            panel.scatter(mine["flops"], mine["above"], color=[color], s=8, alpha=0.4, linewidths=0)
        panel.axhline(0, color=SCHEDULES["cosine"], lw=1.2)
        log_axis(panel)
        panel.set(xlabel="FLOPs", xlim=(table["flops"].min() / 1.3, table["flops"].max() * 1.3))
        panel.set_title(NAMES[family], fontsize=11)
    panels[0].set_ylabel("above the cosine, nats a byte")
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(colors), title="parameters")
    return drawn


# ----------------------------------------------------------------------------------------------------------- schedules
@figure("replication-stretch")
def replication_stretch(workspace: Workspace, scale: str) -> Figure:
    """What a stretched cosine costs at the same end: ours, and Chinchilla's figure A1 (claim 7)."""
    table = points(workspace, scale)
    drawn, (axes,) = canvas(width=7.5, height=5)
    base = sweep(table, "cosine").set_index(["size", "share", "seed"])["test_loss"]
    stretched = table[table["family"].str.startswith("stretch-")]
    shades = [SCHEDULES["cool"], SCHEDULES["cosine"]]
    for (_, of_size), color in zip(stretched.groupby("parameters_total"), shades, strict=False):
        first = of_size.iloc[0]
        each = first["tokens"] / first["parameters_total"]
        label = f"the replication, {first['size']} parameters, {each:.0f} tokens each, nats a byte"
        for family, runs in of_size.groupby("family"):
            above = (runs.set_index(["size", "share", "seed"])["test_loss"] - base).dropna()
            error_bar(axes, float(str(family).partition("-")[2]), list(above), color)
        axes.scatter([], [], color=color, s=30, label=label)
    for (panel, rows), marker in zip(published_stretch(workspace).groupby("panel"), ("D", "s"), strict=False):
        style = {**PUBLISHED, "marker": marker}
        label = f"Chinchilla, figure A1, {panel}, nats a token"
        axes.scatter(rows["stretch"], rows["above_best"], **style, s=34, label=label)
    axes.axhline(0, color="#000000", lw=1)
    axes.set(xscale="log", xlabel="length of the cosine over that of the run", ylabel="loss above the unstretched")
    ticks = [1, 1.1, 1.25, 1.5, 2, 5]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", fontsize=9)
    return drawn


@figure("replication-tails")
def replication_tails(workspace: Workspace, scale: str) -> Figure:
    """Shapes of the tail at equal FLOPs: loss above that of the cosine to 10 % (claim 10, the author's open question)."""
    config = workspace.study(STUDY)
    table = points(workspace, scale)
    table = table[(table["share"] == 0.25) & ~table["family"].str.startswith("stretch-") & (table["family"] != "constant")]
    sizes = [size for size in _sizes(table) if table[table["size"] == size]["family"].nunique() > 3]
    drawn, panels = canvas(columns=max(1, len(sizes)), width=2.5 + 4.5 * max(1, len(sizes)), height=4)
    if not sizes:
        panels[0].set_title("too few shapes were trained at this scale", fontsize=11)
    for panel, size in zip(panels, sizes, strict=False):
        mine = table[table["size"] == size]
        base = mine[mine["family"] == "cosine"].set_index("seed")["test_loss"]
        found = []
        for family, runs in mine[mine["family"] != "cosine"].groupby("family"):
            above = (runs.set_index("seed")["test_loss"] - base).dropna()
            found.append((float(above.mean()), config.arms[f"{family}-x0.25"].label, list(above)))
        found.sort()
        for row, (_, _, values) in enumerate(found):
            interval = mean_interval(values)
            panel.plot([interval.low, interval.high], [row, row], color=SCHEDULES["cool"], lw=1.5)
            panel.scatter(values, [row] * len(values), s=12, color=SCHEDULES["cool"], alpha=0.4, linewidths=0)
            panel.scatter([interval.mean], [row], s=40, color=SCHEDULES["cool"], zorder=3)
        panel.axvline(0, color=SCHEDULES["cosine"], lw=1.5)
        panel.set_yticks(range(len(found)), [label.replace(" at 1/4", ", 1-sqrt") for _, label, _ in found])
        panel.set(xlabel="loss above a cosine to 10 %, nats a byte (95 %)", ylim=(len(found) - 0.5, -0.5))
        first = mine.iloc[0]
        panel.set_title(f"{size}, {first['tokens'] / first['parameters_total']:.0f} tokens a parameter", fontsize=11)
    return drawn


@figure("replication-law")
def replication_law(workspace: Workspace, scale: str) -> Figure:
    """Loss of the annealed points against tokens, and the fitted L(N, D) with its irreducible part."""
    runs = sweep(points(workspace, scale), "cool")
    laws = read_probe(workspace, STUDY, "replication-parametric", scale)
    law = {str(name): value for name, value in laws[laws["convention"] == "total"].iloc[0].items()}
    drawn, (axes,) = canvas(width=7, height=4.6)
    for size, color in _sizes(runs).items():
        mine = runs[runs["size"] == size]
        axes.scatter(mine["tokens"], mine["test_loss"], color=[color], s=14, alpha=0.6, linewidths=0, label=size)
        tokens = np.geomspace(mine["tokens"].min() / 1.2, mine["tokens"].max() * 1.2, 40)
        size_part = law["A"] / float(mine["parameters_total"].iloc[0]) ** law["alpha"]
        axes.plot(tokens, law["E"] + size_part + law["B"] / tokens ** law["beta"], color=color, lw=1.2)
    axes.axhline(law["E"], color="#555555", lw=1, ls="--")
    axes.axhspan(law["E_low"], law["E_high"], color="#555555", alpha=0.12, linewidth=0)
    axes.annotate(
        f"E = {law['E']:.2f} ({law['E_low']:.2f} to {law['E_high']:.2f})",
        (0.02, law["E"]),
        (0, 4),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        fontsize=9,
    )
    log_axis(axes)
    axes.set(xlabel="tokens (bytes)", ylabel=LOSS)
    axes.legend(title="parameters", fontsize=8, title_fontsize=8)
    return drawn


# -------------------------------------------------------------------------------------------------------------- tables
@table("replication-points")
def points_table(workspace: Workspace, scale: str) -> pd.DataFrame:
    """Every arm at every size: seeds, tokens a parameter, costs, test loss with its interval."""
    table = points(workspace, scale)
    rows = []
    for (size, arm), runs in table.groupby(["size", "arm"], sort=False):
        interval = mean_interval(runs["test_loss"].to_numpy(float))
        first = runs.iloc[0]
        rows.append(
            {
                "size": size,
                "arm": str(arm).partition(MAIN_SEPARATOR)[0],
                "seeds": len(runs),
                "parameters": int(first["parameters_total"]),
                "tokens": int(first["tokens"]),
                "tokens_per_parameter": first["tokens"] / first["parameters_total"],
                "flops": first["flops"],
                "seconds": runs["seconds"].mean(),
                "test_loss": interval.mean,
                "test_loss_low": interval.low,
                "test_loss_high": interval.high,
            }
        )
    return pd.DataFrame(rows)


@table("replication-crossings")
def crossings_table(workspace: Workspace, scale: str) -> pd.DataFrame:
    """Who overtakes whom in the replication, by reading and pair: counts over seeds, means of FLOPs, fractions, leads."""
    found = read_probe(workspace, STUDY, "replication-crossings", scale)
    grouped = found.groupby(["reading", "smaller", "larger"], sort=False)
    counts = grouped[["larger_led", "reovertakes"]].sum().astype(int)
    means = grouped[
        ["overtake_flops", "reovertake_flops", "smaller_fraction", "larger_fraction", "late_lead", "annealed_lead"]
    ].mean()
    return pd.concat([grouped.size().rename("seeds"), counts, means], axis=1).reset_index()
