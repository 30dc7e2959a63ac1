"""Learning-rate schedules: pure functions of the fraction of the budget that is spent."""

from __future__ import annotations

import math

from scrimp.config.training import Schedule


def learning_rate_factor(schedule: Schedule, fraction: float, steps: int = 0) -> float:
    """The learning rate over its peak when `fraction` in [0, 1] of the budget, and so many steps, are spent.

    `one-cycle`: cosine from 1 / initial_division up to 1 over the warm-up, then cosine down to 1 / (initial_division *
    final_division) (Smith & Topin 2017 in torch's two-phase form). `cosine` and `linear`: linear warm-up, then down to
    `floor`, laid out over `stretch` budgets (Hoffmann et al. 2022, figure A1). `constant`: linear warm-up, then 1 until
    the `cooldown`, over which it falls to 0 (Haegele et al. 2024, arXiv 2405.18392, section 3). `triangle`: linear from
    1 / initial_division up to 1, then down to `floor` (Geiping & Goldstein 2022, arXiv 2212.14034, 4.3). `inverse-sqrt`:
    linear warm-up, then 1 / sqrt(fraction over warm-up), as where steps are counted (Vaswani et al. 2017, 5.3).
    """
    fraction = min(max(fraction, 0.0), 1.0) / schedule.stretch
    start = 1 / schedule.initial_division if schedule.name in ("one-cycle", "triangle") else 0.0
    rise = 1.0 if schedule.warmup_steps is None else min(1.0, (steps + 1) / schedule.warmup_steps)
    if fraction < schedule.warmup:
        risen = fraction / schedule.warmup
        return rise * (_cosine(start, 1.0, risen) if schedule.name == "one-cycle" else start + (1 - start) * risen)
    fallen = (fraction - schedule.warmup) / (1 - schedule.warmup) if schedule.warmup < 1 else 1.0
    if schedule.name == "constant":
        return rise * _cooldown(schedule, fraction)
    if schedule.name == "inverse-sqrt":
        return rise * math.sqrt(schedule.warmup / fraction) if fraction else rise
    if schedule.name in ("linear", "triangle"):
        return rise * (1 - (1 - schedule.floor) * fallen)
    end = start / schedule.final_division if schedule.name == "one-cycle" else schedule.floor
    return rise * _cosine(1.0, end, fallen)


def _cooldown(schedule: Schedule, fraction: float) -> float:
    """What is left of a constant rate in its cooldown."""
    begin = 1 - schedule.cooldown
    if fraction <= begin:
        return 1.0
    fallen = (fraction - begin) / schedule.cooldown
    return {"1-sqrt": 1 - math.sqrt(fallen), "linear": 1 - fallen, "cosine": _cosine(1.0, 0.0, fallen)}[
        schedule.cooldown_shape
    ]


def _cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2
