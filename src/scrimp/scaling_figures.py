"""The figures of `scrimp scaling fit`: the fit, the plane of size and tokens, isoFLOP parabolas."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from scrimp.scaling import IsoflopFit, ParametricFit

MARGIN = 4.0  # how far the plane's frontier reaches beyond the runs' FLOPs, as a factor


def draw(table: pd.DataFrame, law: ParametricFit, parabolas: IsoflopFit | None, folder: Path) -> list[Path]:
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
    if others:  # too few runs give no band
        with np.errstate(all="ignore"):
            low, high = np.percentile([optimal_allocation(other, flops)[0] for other in others], [2.5, 97.5], axis=0)
        # The band is of the size at fixed FLOPs; tokens follow from C = 6 N D.
        corners, around = np.concatenate([low, high[::-1]]), np.concatenate([flops, flops[::-1]])
        axes.fill(around / (6 * corners), corners, color="#D55E00", alpha=0.2, lw=0)
    axes.plot(
        tokens, size, color="#D55E00", lw=1.8, label=f"efficient frontier: a = {law.a:.2f}{', 95 % band' * bool(others)}"
    )
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
