"""The figures of the JEST study's probes: what its scores look like, and what joint choice makes of them."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from scrimp.config import Workspace
from scrimp.studies import figure
from scrimp.studies.jest.figures import COLORS, STUDY
from scrimp.studies.jest.probes import PUBLISHED_SIZE, at_size
from scrimp.studies.outputs import read_probe
from scrimp.studies.plotting import PUBLISHED, canvas, log_axis


def _published(workspace: Workspace, figure_name: str, series: str) -> pd.DataFrame:
    table = pd.read_csv(workspace.root / "config" / "published" / "jest.csv")
    return table[(table["figure"] == figure_name) & (table["series"] == series)]


@figure("matrix")
def matrix(workspace: Workspace, scale: str) -> Figure:
    """The matrices as pictures, and what explains their variance."""
    table = read_probe(workspace, STUDY, "matrix", scale)
    names = ("learner", "reference", "learnability")
    drawn, axes = canvas(columns=5, width=16, height=4)
    for panel, name in zip(axes, names, strict=False):
        cells = table[(table["kind"] == "cell") & (table["matrix"] == name)]
        values = cells.pivot_table(index="row", columns="column", values="value").to_numpy()
        reach = float(np.abs(values).max())
        style = {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach} if name == "learnability" else {"cmap": "viridis"}
        shown = panel.imshow(values, interpolation="nearest", **style)
        drawn.colorbar(shown, ax=panel, shrink=0.8)
        panel.set(title="learner minus reference" if name == "learnability" else f"loss, {name}", xlabel="caption")
        panel.grid(visible=False)
    axes[0].set_ylabel("image")
    variance = table[table["kind"] == "variance"]
    largest = variance[variance["super_batch"] == variance["super_batch"].max()]
    shares = largest.groupby(["matrix", "part"])["share"].mean().unstack("part").reindex(names)
    start = np.zeros(len(shares))
    for part, color in (("diagonal", "#D55E00"), ("rows", "#0072B2"), ("columns", "#56B4E9"), ("rest", "#dddddd")):
        axes[3].bar(range(len(names)), 100 * shares[part], bottom=start, color=color, label=part)
        start = start + 100 * shares[part].to_numpy()
    axes[3].set_xticks(range(len(names)), names, rotation=20)
    axes[3].set_ylabel("variance explained, %")
    axes[3].legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    _draw_law(axes[4], table[(table["matrix"] == "learnability") & (table["part"] == "diagonal")])
    return drawn


def _draw_law(axes: Axes, diagonal: pd.DataFrame) -> None:
    """The diagonal's share by the size of the super-batch, and what each size says of the report's."""
    measured, law = (diagonal[diagonal["kind"] == kind] for kind in ("variance", "law"))
    axes.scatter(measured["super_batch"], 100 * measured["share"], s=12, color=COLORS["jest"], label="measured")
    sizes = np.geomspace(measured["super_batch"].min(), PUBLISHED_SIZE, 60)
    largest = measured["super_batch"].max()
    share = float(measured.loc[measured["super_batch"] == largest, "share"].mean())
    axes.plot(
        sizes, [100 * at_size(share, int(largest), int(size)) for size in sizes], color="#555555", lw=1, label="1/B law"
    )
    carried = 100 * law.loc[law["super_batch"] == largest, "share"]
    axes.scatter([PUBLISHED_SIZE] * len(carried), carried, marker="x", s=24, color="#555555", label="carried to 65,536")
    log_axis(axes, ticks=(1,))
    axes.set(xlabel="candidates", ylabel="variance on the diagonal, %", ylim=(0, 103))
    axes.legend(fontsize=8, loc="lower left")


@figure("chunks")
def chunks(workspace: Workspace, scale: str) -> Figure:
    """Learnability against chunks, beside Gibbs sampling against its iterations."""
    table = read_probe(workspace, STUDY, "chunks", scale)
    drawn, axes = canvas(columns=2, width=9, height=4)
    for panel, way, name in ((axes[0], "joint", "chunks"), (axes[1], "gibbs", "iterations of Gibbs sampling")):
        found = table[table["way"] == way]
        mean = found.groupby("at")["relative"].agg(["mean", "min", "max"])
        panel.plot(mean.index, mean["mean"], color=COLORS["jest"], marker="o" if way == "joint" else "", label="measured")
        panel.fill_between(mean.index, mean["min"], mean["max"], color=COLORS["jest"], alpha=0.15, linewidth=0)
        published = _published(workspace, "chunks", way)
        panel.scatter(published["x"], published["y"], **PUBLISHED, s=36, label="published")
        panel.axhline(1, color="#000000", lw=1)
        panel.set(xlabel=name)
    axes[0].set_xscale("log", base=2)
    axes[0].set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
    axes[0].set_ylabel("learnability: 0 uniform, 1 Gibbs' end")
    axes[0].legend(fontsize=9)
    return drawn


@figure("ratios")
def ratios(workspace: Workspace, scale: str) -> Figure:
    """Learnability against the filter ratio, by how the sub-batch is chosen."""
    table = read_probe(workspace, STUDY, "ratios", scale)
    drawn, (axes,) = canvas(width=6.5, height=4)
    styles = (
        ("gibbs", "#000000"),
        ("joint", COLORS["jest"]),
        ("independent", COLORS["independent"]),
        ("top-k", COLORS["top-k"]),
    )
    for way, color in styles:
        found = table[table["way"] == way].groupby("ratio")["relative"].agg(["mean", "min", "max"])
        axes.plot(
            found.index, found["mean"], color=color, marker="o", ms=4, label="Gibbs sampling" if way == "gibbs" else way
        )
        axes.fill_between(found.index, found["min"], found["max"], color=color, alpha=0.12, linewidth=0)
    published = _published(workspace, "ratios", "joint")
    axes.scatter(published["x"], published["y"], **PUBLISHED, s=36, label="published, joint")
    axes.axhline(0, color="#000000", lw=1)
    axes.set(xlabel="filter ratio", ylabel="learnability: 0 uniform, 1 joint at .5")
    axes.legend(fontsize=9)
    return drawn


@figure("extremes")
def extremes(workspace: Workspace, scale: str) -> Figure:
    """Pictures of the most and the least learnable pairs, with their captions."""
    table = read_probe(workspace, STUDY, "extremes", scale)
    shown = int(table["place"].max()) + 1
    columns = min(6, shown)
    lines = -(-shown // columns)
    drawn, axes = canvas(columns=columns, rows=2 * lines, width=10, height=1.75 * 2 * lines)
    for axis in axes:
        axis.axis("off")
    for side, first in (("most", 0), ("least", lines * columns)):
        for _, row in table[table["side"] == side].iterrows():
            axis = axes[first + int(row["place"])]
            axis.imshow(Image.open(io.BytesIO(row["png"])), interpolation="nearest")
            axis.set_title(_shortened(row["caption"]), fontsize=7, pad=2)
            axis.text(0.5, -0.04, f"{row['learnability']:+.1f}", transform=axis.transAxes, ha="center", va="top", fontsize=7)
        axes[first].text(-0.1, 1.35, f"{side} learnable", transform=axes[first].transAxes, fontsize=11, fontweight="bold")
    return drawn


def _shortened(caption: str, width: int = 22) -> str:
    return caption if len(caption) <= width else f"{caption[: width - 1]}…"
