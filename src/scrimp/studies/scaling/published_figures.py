"""The figures and tables of the scaling study's published half. The same colour is the same model or law everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from scrimp.config import Workspace
from scrimp.scaling import fit_power_law, smooth
from scrimp.studies import figure
from scrimp.studies.outputs import read_probe
from scrimp.studies.plotting import PUBLISHED, canvas
from scrimp.studies.scaling.published import (
    LINE_WINDOWS,
    chinchilla_runs,
    llama_curves,
    published,
    published_laws,
    records_of,
    stretch,
    typos,
)

STUDY = "scaling"
MODELS = {"7B": "#D55E00", "13B": "#E69F00", "33B": "#009E73", "34B": "#009E73", "65B": "#0072B2", "70B": "#0072B2"}
LAWS = {"ours": "#D55E00", "Besiroglu et al.": "#0072B2", "Hoffmann et al.": "#000000"}
PANELS = {"panel 1": "#0072B2", "panel 2": "#D55E00"}
HOURS = FuncFormatter(
    lambda value, _: "0" if not value else f"{value / 1e3:,.0f}k" if value < 1e6 else f"{value / 1e6:.2g}M"
)
FAMILIES = {"llama1": "LLaMA-1", "llama2": "LLaMA-2"}


def _probe(workspace: Workspace, scale: str, name: str) -> pd.DataFrame:
    return read_probe(workspace, STUDY, f"published-{name}", scale)


def _draw_curves(axes: Axes, curves: dict[str, pd.DataFrame], column: str, unit: float, name_at: tuple[int, int]) -> None:
    """Every model's smoothed loss over its averaged points, named `name_at` points from its end."""
    for model, curve in curves.items():
        axes.plot(curve[column] / unit, curve["loss"], color=MODELS[model], lw=0.6, alpha=0.35)
        level = smooth(curve["hours"], curve["loss"], curve["hours"])
        axes.plot(curve[column] / unit, level, color=MODELS[model], lw=1.8)
        end = (curve[column].iloc[-1] / unit, level[-1])
        about: dict[str, Any] = {"color": MODELS[model], "fontsize": 9, "va": "center", "ha": "center"}
        axes.annotate(model, end, name_at, textcoords="offset points", **about)


@figure("published-loss-tokens")
def loss_tokens(workspace: Workspace, scale: str) -> Figure:
    """LLaMA's training losses against tokens seen: at equal tokens the larger model is always ahead."""
    drawn, axes = canvas(columns=2, width=9, height=4)
    for panel, family, axis in zip(axes, FAMILIES, ("recalibrated", "published"), strict=True):
        _draw_curves(panel, llama_curves(workspace, family, axis), "tokens", 1e12, (14, 0))
        title = FAMILIES[family] + (", axis re-calibrated" if family == "llama1" else "")
        panel.set(xlabel="tokens, T", ylim=(1.45, 2.25), xlim=(0, 1.55 if family == "llama1" else 2.25))
        panel.set_title(title, fontsize=11)
    axes[0].set_ylabel("training loss, nats a token")
    return drawn


@figure("published-loss-hours")
def loss_hours(workspace: Workspace, scale: str) -> Figure:
    """The same losses against GPU-hours, LLaMA-1 on the published axis and on the corrected one."""
    drawn, axes = canvas(columns=3, width=12, height=4.4)
    shown = [("llama1", "published"), ("llama1", "recalibrated"), ("llama2", "published")]
    titles = ["LLaMA-1, axis as published", "LLaMA-1, axis re-calibrated", "LLaMA-2"]
    starts = _probe(workspace, scale, "losses").query("quantity == 'start share'")
    for panel, (family, axis), title in zip(axes, shown, titles, strict=True):
        curves = llama_curves(workspace, family, axis)
        _draw_curves(panel, curves, "hours", 1.0, (-3, -9))
        largest = list(curves)[-1]
        rows = starts[(starts["family"] == family) & (starts["axis"] == axis) & (starts["model"] == largest)]
        panel.set_title(f"{title}:\n{largest} starts at {100 * rows['value'].iloc[0]:.1f} % of its run", fontsize=11)
        panel.set(xscale="log", xlabel="GPU-hours", ylim=(1.45, 2.25), xlim=(2e3, 4.5e6))
        panel.xaxis.set_major_formatter(HOURS)
    axes[0].set_ylabel("training loss, nats a token")
    return drawn


@figure("published-crossings")
def crossings(workspace: Workspace, scale: str) -> Figure:
    """Where the larger model overtakes at equal hours and the smaller one is ahead again; how far each has come."""
    table = _probe(workspace, scale, "crossings")
    table = table[
        table["reovertakes"] & (table["axis"] == np.where(table["family"] == "llama1", "recalibrated", "published"))
    ]
    table = table.sort_values(["family", "reovertake_hours"], ascending=[False, True]).reset_index(drop=True)
    places = np.arange(len(table))[::-1]
    drawn, (left, right) = canvas(columns=2, width=11, height=0.5 * len(table) + 1.8)
    for row, place in zip(records_of(table), places, strict=True):
        span = [row["overtake_hours"], row["reovertake_hours"]]
        left.plot(span, [place] * 2, color=MODELS[row["larger"]], lw=5, alpha=0.3, solid_capstyle="butt")
        for name, color in (("overtake", MODELS[row["larger"]]), ("reovertake", MODELS[row["smaller"]])):
            at = row[f"{name}_hours"]
            error = [[at - row[f"{name}_low"]], [row[f"{name}_high"] - at]]
            face = color if row["clear"] else "white"
            left.errorbar([at], [place], xerr=error, fmt="o", color=color, ms=6, capsize=3, mfc=face)
        ends = [row["larger_fraction"], row["smaller_fraction"]]
        right.plot(ends, [place] * 2, color="#999999", lw=1, zorder=1)
        for end, model in zip(ends, (row["larger"], row["smaller"]), strict=True):
            right.scatter([end], [place], color=MODELS[model], s=36, zorder=2)
            right.annotate(f"{model} {end:.2f}", (end, place), (0, 6), textcoords="offset points", fontsize=8, ha="center")
    names = [f"{FAMILIES[row['family']]} {row['smaller']}, {row['larger']}" for row in records_of(table)]
    left.set_yticks(places, names)
    left.set(xscale="log", xlabel="GPU-hours", ylim=(-0.6, len(table) - 0.3), xlim=(8e3, 1e6))
    left.xaxis.set_major_formatter(HOURS)
    left.set_title("larger one ahead, from overtake to re-overtake", fontsize=11)
    right.set_yticks(places, [""] * len(places))
    right.set(xlabel="share of its own schedule", ylim=(-0.6, len(table) - 0.3), xlim=(0, 1))
    right.set_title("at the re-overtake: one late in its cosine, one early", fontsize=11)
    note = "bars: 95 %; hollow: a lead that noise may have made; pairs without a crossing are left out"
    drawn.supxlabel(note, fontsize=9)
    return drawn


@figure("published-extrapolations")
def extrapolations(workspace: Workspace, scale: str) -> Figure:
    """LLaMA-2 7B with 70B's GPU-hours: by straight lines, by power laws, and by the laws fitted to Chinchilla's runs."""
    table, curve = _probe(workspace, scale, "extrapolations"), llama_curves(workspace, "llama2")["7B"]
    drawn, axes = canvas(columns=2, width=11, height=4.8)
    end = float(table["hours"].iloc[0])
    hours = np.linspace(curve["hours"].max() / 4, end, 300)
    panel = axes[0]
    panel.plot(curve["hours"], curve["loss"], color="#000000", lw=1.4)
    panel.annotate("7B, measured", (0.06, 0.83), xycoords="axes fraction", fontsize=9)
    styles = dict(zip(LINE_WINDOWS, ("-", "--", ":"), strict=True))
    for window, style in styles.items():
        part = curve[curve["fraction"] >= 1 - window]
        line = np.polyfit(part["hours"], part["loss"], 1, w=np.sqrt(part["points"]))
        power = fit_power_law(part["hours"], part["loss"], offset=True)
        about: dict[str, Any] = {"ls": style, "lw": 1.6}
        panel.plot(hours, np.polyval(line, hours), color="#D55E00", label=f"line, last {window:.0%}", **about)
        panel.plot(hours, power.predict(hours), color="#0072B2", label=f"power law + floor, last {window:.0%}", **about)
    floors = [table.loc[table["method"] == name, "floor"].iloc[0] for name in ("Hoffmann et al.", "Besiroglu et al.")]
    panel.axhspan(0, min(floors), color="#999999", alpha=0.12, lw=0)
    (ended,) = table[(table["method"] == "measured") & (table["model"] == "70B")]["loss"]
    grey = f"grey: below E of Chinchilla's text ({floors[0]:.2f}, {floors[1]:.2f});\nLLaMA-2 70B itself ends at {ended:.2f}"
    panel.text(0.03 * end, 0.05, grey, fontsize=8, color="#555555")
    for row in records_of(table[table["window"].notna()]):
        color = "#D55E00" if row["method"] == "line" else "#0072B2"
        lift = -5 if row["window"] == (0.75 if row["method"] == "line" else 0.5) else 0  # apart from its neighbour
        place: Any = {"textcoords": "offset points", "va": "center", "fontsize": 9}
        panel.annotate(f"{row['loss']:.2f}", (end, row["loss"]), (4, lift), color=color, **place)
    panel.set(xlabel="GPU-hours", ylabel="loss, nats a token", ylim=(0, 2.3), xlim=(0, 1.1 * end))
    panel.xaxis.set_major_locator(MultipleLocator(500_000))
    panel.xaxis.set_major_formatter(HOURS)
    panel.set_title("its own curve, extended", fontsize=11)
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=8, ncols=2)
    laws = [name for name in published_laws(workspace) if "unrounded" not in name]
    for number, name in enumerate(laws):
        rows = records_of(table[table["method"] == name])
        for row in rows:
            loss, color = row["loss"], MODELS[row["model"]]
            axes[1].scatter([number], [loss], color=color, s=60, zorder=3)
            label = f"{row['model']}, {row['tokens'] / 1e12:.3g}T tokens: {loss:.3f}"
            axes[1].annotate(label, (number, loss), (8, -3), textcoords="offset points", fontsize=9, color=color)
        floor = float(rows[0]["floor"])
        axes[1].hlines(floor, number - 0.2, number + 0.2, color="#555555", ls="--", lw=1)
        axes[1].annotate(f"E = {floor:.2f}", (number, floor), (0, 4), textcoords="offset points", fontsize=9, ha="center")
    axes[1].set_xticks(range(len(laws)), laws)
    axes[1].set(xlim=(-0.4, len(laws) - 0.1), ylim=(1.65, 2.08), ylabel="predicted loss, nats a token")
    axes[1].set_title("L(N, D) at 70B's GPU-hours: the 70B wins", fontsize=11)
    return drawn


@figure("published-plane")
def plane(workspace: Workspace, scale: str) -> Figure:
    """The plane of size and tokens: the digitised runs, and the optimal allocation by each law with its band."""
    table, runs = _probe(workspace, scale, "frontier"), chinchilla_runs(workspace)
    drawn, (axes,) = canvas(width=7, height=5.4)
    for power in range(18, 26, 2):
        budget, ends = 10.0**power, np.array([1e8, 1e14])
        axes.plot(ends, budget / (6 * ends), color="#BBBBBB", lw=0.8, zorder=0)
        size = 2e7 if power <= 20 else budget / (6 * 8e12)  # named at the lower edge, or at the right one
        axes.annotate(f"1e{power} FLOPs", (budget / (6 * size), size), fontsize=8, color="#777777", ha="center")
    dots = axes.scatter(runs["tokens"], runs["parameters"], c=runs["loss"], cmap="cividis_r", s=14, lw=0, zorder=2)
    drawn.colorbar(dots, ax=axes, label="loss of a run, nats a token", shrink=0.8)
    for name, of in table.groupby("fit", sort=False):
        # The band is of the parameters at fixed FLOPs; tokens follow from C = 6 N D.
        axes.plot(of["tokens"], of["params"], color=LAWS[str(name)], lw=1.8, label=f"optimum, {name}", zorder=3)
        corners = np.concatenate([of["low"], of["high"][::-1]])
        flops = np.concatenate([of["flops"], of["flops"][::-1]])
        axes.fill(flops / (6 * corners), corners, color=LAWS[str(name)], alpha=0.18, lw=0, zorder=1)
    for run in records_of(published(workspace, "llama-runs").query("family == 'llama2' and model in ['7B', '70B']")):
        axes.scatter([run["tokens"]], [run["parameters"]], **PUBLISHED, s=50, zorder=4)
        spot: Any = {"textcoords": "offset points", "fontsize": 8, "ha": "center"}
        axes.annotate(
            f"LLaMA-2 {run['model']}", (run["tokens"], run["parameters"]), (0, 8 if run["model"] == "70B" else -14), **spot
        )
    axes.set(xscale="log", yscale="log", xlabel="tokens D", ylabel="parameters N", xlim=(3e8, 3e13), ylim=(1e7, 1e12))
    axes.legend(loc="upper left", fontsize=9)
    return drawn


@figure("published-ratio")
def ratio(workspace: Workspace, scale: str) -> Figure:
    """Tokens per parameter of the optimum against compute, by each law, with the tables of Hoffmann et al."""
    table, printed = _probe(workspace, scale, "frontier"), typos(workspace).query("table == 'Table 3'")
    drawn, (axes,) = canvas(width=7, height=4.4)
    for name, of in table.groupby("fit", sort=False):
        axes.plot(of["flops"], of["tokens"] / of["params"], color=LAWS[str(name)], lw=1.8, label=str(name))
        # D / N = C / (6 N^2): a low N is a high ratio.
        axes.fill_between(
            of["flops"],
            of["flops"] / (6 * of["high"] ** 2),
            of["flops"] / (6 * of["low"] ** 2),
            color=LAWS[str(name)],
            alpha=0.18,
            lw=0,
        )
    label = "Hoffmann et al., Table 3 (approach 1)"
    axes.scatter(printed["printed"], printed["tokens"] / printed["parameters"], **PUBLISHED, s=40, label=label, zorder=4)
    axes.axhline(20, color="#555555", lw=1, ls=":")
    axes.text(1.2e18, 15, "dotted: 20 tokens a parameter", fontsize=9, color="#555555")
    runs = chinchilla_runs(workspace)["flops"]
    axes.axvspan(runs.min(), runs.max(), color="#999999", alpha=0.12, lw=0)
    axes.text(runs.min() * 1.15, 3.4, "range of the digitised runs", fontsize=9, color="#555555")
    axes.set(xscale="log", yscale="log", xlabel="training FLOPs C", ylabel="optimal tokens a parameter, D / N")
    axes.set(ylim=(3, 400), xlim=(1e18, 2e26))
    axes.legend(loc="upper left", fontsize=9)
    return drawn


@figure("published-stretch")
def cosine_stretch(workspace: Workspace, scale: str) -> Figure:
    """Figure A1 of Hoffmann et al.: what a cosine that is longer than the run costs in final loss."""
    table = stretch(workspace)
    drawn, (axes,) = canvas(width=6.4, height=4)
    for panel, of in table.groupby("panel", sort=False):
        label = f"{panel}, best {of['loss'].min():.3f}"
        axes.plot(of["stretch"], of["above_best"], color=PANELS[str(panel)], marker="o", ms=5, lw=1.4, label=label)
    axes.axvline(1.25, color="#555555", lw=1, ls=":")
    axes.text(1.28, 0.074, "25 % overshoot", fontsize=9, color="#555555")
    axes.set(xscale="log", xlabel="cosine's length over the run's", ylabel="final loss above the panel's best, nats")
    axes.set_xticks([1, 1.25, 1.5, 2, 5], ["1", "1.25", "1.5", "2", "5"])
    axes.minorticks_off()
    axes.set_title("Hoffmann et al., Figure A1, read by eye", fontsize=11)
    axes.legend(loc="lower right", fontsize=9)
    return drawn


@figure("published-exponents")
def exponents(workspace: Workspace, scale: str) -> Figure:
    """The exponent a of N_opt ~ C^a: in print, from regenerated losses, from the digitised runs, by Porian's steps."""
    table = _probe(workspace, scale, "exponents")
    colors = {
        "published": "#000000",
        "regenerated": "#009E73",
        "digitised runs": "#D55E00",
        "all digitised runs": "#CC79A7",
        "Porian et al.": "#0072B2",
    }
    names = {
        "published": "in print",
        "regenerated": "ours, losses from Hoffmann et al.'s law",
        "digitised runs": "ours, 240 of the digitised runs",
        "all digitised runs": "ours, all 245 digitised runs",
    }
    drawn, (axes,) = canvas(width=7.4, height=0.32 * len(table) + 1.4)
    for place, row in enumerate(records_of(table)):
        y, color = len(table) - place, colors[row["source"]]
        if np.isfinite(row["low"]):
            axes.plot([row["low"], row["high"]], [y, y], color=color, lw=1.6)
        axes.scatter([row["a"]], [y], color=color, s=30, zorder=3)
        axes.annotate(f"{row['a']:.3f}", (0.98, y), xycoords=("axes fraction", "data"), fontsize=9, va="center", ha="right")
    labels = [f"{row['approach']} ({names.get(row['source'], row['source'])})" for row in records_of(table)]
    axes.set_yticks(np.arange(len(table), 0, -1), labels, fontsize=9)
    axes.axvline(0.5, color="#555555", lw=1, ls=":")
    axes.set(xlabel="exponent a of the optimal size (bars: 95 %)", xlim=(0.4, 0.95))
    return drawn
