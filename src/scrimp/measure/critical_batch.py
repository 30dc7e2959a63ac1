"""Steps against examples to one target: the hyperbola, and its critical batch.

A run with batches of B reaches the target after S steps and E = B S examples. McCandlish et al. find (S / S_min - 1) (E /
E_min - 1) = 1, which is S = S_min (1 + B_crit / B) with B_crit = E_min / S_min: below the critical batch a larger one saves
steps at no cost in examples, above it steps hardly fall. It is fitted in logs, as errors are relative.
Source: McCandlish et al. 2018 (arXiv 1812.06162), equations 2.11 and 2.12.
Deviations: B_crit is fitted over batch sizes at one rule for the rate; the paper tunes the rate of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

FEWEST = 3  # batch sizes: two tell nothing of the fit's error


@dataclass(frozen=True)
class Hyperbola:
    """The fit: `least_steps`, `least_examples`, `critical` = their ratio with its 95 % interval, and R^2 of log steps."""

    least_steps: float
    critical: float
    low: float
    high: float
    r_squared: float

    @property
    def least_examples(self) -> float:
        return self.critical * self.least_steps

    def steps(self, batch: float) -> float:
        """Steps to the target with batches of that size."""
        return self.least_steps * (1 + self.critical / batch)

    def examples(self, batch: float) -> float:
        """Examples to the target with batches of that size."""
        return batch * self.steps(batch)


def fit_hyperbola(batches: Sequence[float], steps: Sequence[float]) -> Hyperbola:
    """Fit runs (a batch size and its steps to the target each) by least squares of the logs; intervals by Student's t.

    Raises ValueError for fewer than three batch sizes, or numbers that are not positive.
    """
    sizes, reached = np.asarray(batches, dtype=float), np.asarray(steps, dtype=float)
    if sizes.shape != reached.shape or len(np.unique(sizes)) < FEWEST:
        raise ValueError(f"a hyperbola needs runs of {FEWEST} batch sizes or more, got {len(np.unique(sizes))}")
    if not (np.isfinite(reached).all() and (reached > 0).all() and (sizes > 0).all()):
        raise ValueError("batch sizes and steps must be positive and finite: leave out runs that miss the target")
    logs = np.log(reached)

    def residuals(parameters: np.ndarray) -> np.ndarray:
        return parameters[0] + np.logaddexp(0.0, parameters[1] - np.log(sizes)) - logs

    begin = np.array([logs.min() - math.log(2), math.log(float(np.median(sizes)))])
    found = optimize.least_squares(residuals, begin)
    free = len(sizes) - 2
    variance = 2 * found.cost / free
    covariance = np.linalg.pinv(found.jac.T @ found.jac) * variance
    reach = float(stats.t.ppf(0.975, free)) * math.sqrt(max(covariance[1, 1], 0.0))
    spread = float(((logs - logs.mean()) ** 2).sum())
    r_squared = 1 - 2 * found.cost / spread if spread > 0 else float("nan")
    least, critical = (float(value) for value in found.x)
    ends = (_exp(critical - reach), _exp(critical + reach))
    return Hyperbola(math.exp(least), math.exp(critical), *ends, float(r_squared))


def _exp(power: float) -> float:
    """What is too large for a float is infinite: an interval without an end."""
    return math.exp(power) if power < 700 else math.inf
