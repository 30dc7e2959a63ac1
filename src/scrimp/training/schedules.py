"""Learning-rate schedules: pure functions of the fraction of the budget that is spent."""

from __future__ import annotations

import math

from scrimp.config import Schedule


def learning_rate_factor(schedule: Schedule, fraction: float) -> float:
    """The learning rate over its peak when `fraction` in [0, 1] of the budget is spent.

    `one-cycle`: cosine from 1 / initial_division up to 1 over the warm-up, then cosine down to 1 / (initial_division *
    final_division) (Smith & Topin 2017 in torch's two-phase form). `cosine` and `linear`: linear warm-up, then down to
    0. `constant`: linear warm-up, then 1.
    """
    fraction = min(max(fraction, 0.0), 1.0)
    start = 1 / schedule.initial_division if schedule.name == "one-cycle" else 0.0
    if fraction < schedule.warmup:
        risen = fraction / schedule.warmup
        return _cosine(start, 1.0, risen) if schedule.name == "one-cycle" else risen
    fallen = (fraction - schedule.warmup) / (1 - schedule.warmup) if schedule.warmup < 1 else 1.0
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "linear":
        return 1 - fallen
    return _cosine(1.0, start / schedule.final_division, fallen)


def _cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2
