"""Approach 2: a parabola of loss in log size for each compute budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from scrimp.scaling.checks import CONFIDENCE, FLOPS_FACTOR, Array, Interval, positive
from scrimp.scaling.power import PowerLaw, fit_power_law

WINDOW = float(np.log(4))  # half-width in log N of the runs about the minimum that a parabola is fitted to
NEAR = 6  # runs that the window holds at least, where the budget has them
ROUNDS = 20  # of moving the window


@dataclass(frozen=True)
class Budget:
    """One isoFLOP parabola: `params` is the size at its minimum with a 95 % interval, `tokens` and `loss` those there.

    `runs` are the places of its runs in the arrays given, `near` those of them that the parabola is fitted to. `used` says
    whether the minimum enters the power law, `note` why not. `curve` holds the parabola's coefficients in
    log N - log `centre`, highest power first.
    """

    flops: float
    runs: tuple[int, ...]
    near: tuple[int, ...]
    params: float
    interval: Interval
    tokens: float
    loss: float
    used: bool
    note: str
    centre: float
    curve: tuple[float, float, float]


@dataclass(frozen=True)
class IsoflopFit:
    """Approach 2. `size` is N_opt(C), `data` D_opt(C); `left_out`: runs that belong to no budget."""

    budgets: tuple[Budget, ...]
    size: PowerLaw
    data: PowerLaw
    left_out: int

    @property
    def a(self) -> float:
        return self.size.exponent

    @property
    def interval(self) -> Interval:
        """Of `a`."""
        return self.size.intervals["exponent"]


def fit_isoflop(
    params: ArrayLike,
    flops: ArrayLike,
    loss: ArrayLike,
    *,
    tokens: ArrayLike | None = None,
    tolerance: float = 0.1,
    fewest: int = 4,
) -> IsoflopFit:
    """N_opt(C) from parabolas of loss in log N at equal FLOPs: approach 2 of Hoffmann et al. 2022 (section 3.2).

    Runs whose FLOPs differ from a common value by at most the share `tolerance` form a budget: the window with the most
    runs is taken first, then the next; what no window of `fewest` runs holds is left out and counted.

    A parabola is fitted to the runs within a factor of 4 about its minimum (6 runs at least): loss rises more steeply to
    smaller sizes than to larger ones, so that far runs draw the minimum to where the sweep happens to have its middle. If
    that middle drifts with the budget, so does the error, and the exponent is wrong. A minimum
    outside the sizes that were trained is an extrapolation: it is reported, but stays out of the power law. `tokens`
    default to C / (6 N). Raises ValueError where fewer than two budgets have a minimum inside.
    """
    given = {"params": params, "flops": flops, "loss": loss} | ({} if tokens is None else {"tokens": tokens})
    n, c, observed, *rest = positive(**given)
    d = rest[0] if rest else c / (FLOPS_FACTOR * n)
    groups = _windows(np.log(c), 2 * float(np.log1p(tolerance)), max(4, fewest))
    budgets = [_parabola(group, n[group], c[group], observed[group], d[group]) for group in groups]
    used = [budget for budget in budgets if budget.used]
    if len(used) < 2:
        raise ValueError(
            f"{len(used)} of {len(budgets)} budgets have a minimum inside the sizes trained: add smaller or larger models "
            "at each budget, or raise `tolerance` if the FLOPs of a budget are uneven"
        )
    at = [budget.flops for budget in used]
    size, data = (fit_power_law(at, [getattr(b, name) for b in used]) for name in ("params", "tokens"))
    return IsoflopFit(tuple(budgets), size, data, len(n) - sum(map(len, groups)))


def _windows(values: Array, width: float, fewest: int) -> list[NDArray[np.intp]]:
    """Disjoint groups of indices whose values span at most `width`, the fullest first taken, in ascending order."""
    order, groups = np.argsort(values, kind="stable"), []
    while order.size:
        sorted_values = values[order]
        ends = np.searchsorted(sorted_values, sorted_values + width + 1e-12, side="right")
        sizes = ends - np.arange(order.size)
        start = int(np.argmax(sizes))
        if sizes[start] < fewest:
            break
        groups.append(order[start : ends[start]])
        order = np.delete(order, slice(start, ends[start]))
    return sorted(groups, key=lambda group: float(values[group].mean()))


def _parabola(group: NDArray[np.intp], n: Array, c: Array, loss: Array, d: Array) -> Budget:
    flops, centre = float(np.exp(np.log(c).mean())), float(np.exp(np.log(n).mean()))
    x = np.log(n / centre)
    nothing: Any = {"params": np.nan, "interval": (np.nan, np.nan), "tokens": np.nan, "loss": np.nan, "used": False}
    about: Any = {"flops": flops, "runs": tuple(map(int, group)), "centre": centre}
    if len(np.unique(n)) < 4:
        return Budget(**about, **nothing, near=about["runs"], note="fewer than 4 sizes", curve=(np.nan,) * 3)
    near, curve = _around_minimum(x, loss)
    about["near"] = tuple(map(int, group[near]))
    coefficients = (float(curve[0]), float(curve[1]), float(curve[2]))
    if curve[0] <= 0:
        return Budget(**about, **nothing, note="no minimum: the parabola opens downwards", curve=coefficients)
    bottom = float(-curve[1] / (2 * curve[0]))
    design, free = _design(x[near]), int(near.sum()) - 3
    spread = float(np.sum((loss[near] - design @ curve) ** 2)) / free
    slope = np.array([-bottom / curve[0], -1 / (2 * curve[0]), 0.0])  # of the minimum's place in the coefficients
    error = float(np.sqrt(spread * slope @ np.linalg.inv(design.T @ design) @ slope))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, free)) * error
    inside = bool(x.min() < bottom < x.max())
    low, high = (centre * float(np.exp(np.clip(bottom + s * reach, -600, 600))) for s in (-1, 1))
    size = centre * float(np.exp(bottom))
    return Budget(
        **about,
        params=size,
        interval=(low, high),
        tokens=float(np.exp(np.log(n * d).mean())) / size,  # N D is what the budget holds fixed
        loss=float(curve[2] - curve[1] ** 2 / (4 * curve[0])),
        used=inside,
        note="" if inside else "minimum outside the sizes trained",
        curve=coefficients,
    )


def _around_minimum(x: Array, loss: Array) -> tuple[NDArray[Any], Array]:
    """The runs about the minimum and the parabola through them, found in turn: first through all, then about its minimum."""
    near = np.ones(x.size, dtype=np.bool_)
    curve = np.linalg.lstsq(_design(x), loss, rcond=None)[0]
    for _ in range(ROUNDS):
        if curve[0] <= 0:
            break
        # A minimum beyond the sizes trained is looked for at their edge, or its window would leave them.
        distance = np.abs(x - np.clip(-curve[1] / (2 * curve[0]), x.min(), x.max()))
        chosen = distance <= max(WINDOW, np.sort(distance)[min(NEAR, x.size) - 1]) + 1e-9
        if np.array_equal(chosen, near) or len(np.unique(x[chosen])) < 4:
            break
        near, curve = chosen, np.linalg.lstsq(_design(x[chosen]), loss[chosen], rcond=None)[0]
    return near, np.asarray(curve)


def _design(x: Array) -> Array:
    return np.stack([x**2, x, np.ones_like(x)], axis=1)
