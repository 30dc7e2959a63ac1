"""Approach 1: the lower envelope of training curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrimp.scaling.checks import FLOPS_FACTOR, Array, Interval, percentiles, positive
from scrimp.scaling.curves import smooth
from scrimp.scaling.power import PowerLaw, fit_power_law


@dataclass(frozen=True)
class EnvelopeFit:
    """Approach 1: at each of `flops` the `params` and `tokens` of the lowest `loss`, shape (points,).

    `inside` marks where neither the smallest nor the largest model is best (there the true optimum may lie beyond them);
    only those enter the power laws `size` (N_opt) and `data` (D_opt), whose intervals are from resampling the curves.
    """

    flops: Array
    params: Array
    tokens: Array
    loss: Array
    inside: NDArray[np.bool_]
    size: PowerLaw
    data: PowerLaw

    @property
    def a(self) -> float:
        return self.size.exponent

    @property
    def interval(self) -> Interval:
        """Of `a`."""
        return self.size.intervals["exponent"]


def fit_envelope(
    curves: Sequence[tuple[float, ArrayLike, ArrayLike]],
    *,
    points: int = 1500,
    span: float | None = 0.1,
    bootstrap: int = 200,
    seed: int = 0,
) -> EnvelopeFit:
    """The best loss at each compute over all training curves: approach 1 of Hoffmann et al. 2022 (section 3.1).

    `curves`: per model (parameters, tokens, loss), the last two of shape (steps,). Each curve is smoothed (`smooth`, a
    half-width of `span` in log tokens; None leaves it as it is) and read at `points` log-spaced FLOP values, from where
    the second curve starts to where the last but one ends. A curve that is still at a high learning rate reads too high:
    the method asks for curves whose schedules fit their length. Raises ValueError below three sizes.
    """
    sizes = np.array([float(n) for n, _, _ in curves])
    if len(np.unique(sizes)) < 3:
        raise ValueError(f"an envelope needs curves of 3 sizes or more, got {len(np.unique(sizes))}: add model sizes")
    tables = [positive(params=np.full(np.shape(d), n), tokens=d, loss=y) for n, d, y in curves]
    starts = sorted(FLOPS_FACTOR * float((n * d).min()) for n, d, _ in tables)
    ends = sorted(FLOPS_FACTOR * float((n * d).max()) for n, d, _ in tables)
    flops = np.geomspace(starts[1], max(starts[1], ends[-2]), points)
    losses = np.full((len(tables), points), np.inf)
    for row, (n, d, y) in enumerate(tables):
        order = np.argsort(d, kind="stable")
        level = y[order] if span is None else smooth(d[order], y[order], d[order], span=span)
        at = flops / (FLOPS_FACTOR * n[0])
        losses[row] = np.interp(np.log(at), np.log(d[order]), level, left=np.inf, right=np.inf)
    fit = _lower_envelope(flops, sizes, losses)
    if not (np.isfinite(losses).sum(axis=0) > 1).any():
        raise ValueError("no two curves share any FLOPs: train the models for overlapping budgets")
    rng, exponents = np.random.default_rng(seed), []
    for _ in range(bootstrap):
        drawn = np.unique(rng.integers(0, len(sizes), len(sizes)))
        if len(np.unique(sizes[drawn])) >= 4 and (again := _lower_envelope(flops, sizes[drawn], losses[drawn])):
            exponents.append([again.size.exponent, again.data.exponent])
    if fit is None:
        raise ValueError("no size between the smallest and the largest is ever best: add sizes, or longer curves")
    if not exponents:
        return fit
    size, data = (percentiles(column) for column in np.array(exponents).T)
    return replace(
        fit,
        size=replace(fit.size, intervals=fit.size.intervals | {"exponent": size}),
        data=replace(fit.data, intervals=fit.data.intervals | {"exponent": data}),
    )


def _lower_envelope(flops: Array, sizes: Array, losses: Array) -> EnvelopeFit | None:
    best = losses.argmin(axis=0)
    compared = np.isfinite(losses).sum(axis=0) > 1
    params = sizes[best]
    inside = compared & (params > sizes.min()) & (params < sizes.max())
    if len(np.unique(params[inside])) < 2:
        return None
    tokens = flops / (FLOPS_FACTOR * params)
    size, data = (fit_power_law(flops[inside], values[inside]) for values in (params, tokens))
    return EnvelopeFit(flops, params, tokens, losses.min(axis=0), inside, size, data)
