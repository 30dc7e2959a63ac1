"""What an audit will take on this machine, from a few steps; and what so many seeds can show, from a pilot of short runs."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
from scipy import stats

from scrimp.audit.design import Design, duration, sweep_arm
from scrimp.audit.folder import SCALE, Audited
from scrimp.claims.power import POWER
from scrimp.config import Workspace
from scrimp.config.training import Horizon
from scrimp.measure.clock import Clock
from scrimp.measure.hardware import peak_memory
from scrimp.methods.combined import Methods
from scrimp.metrics import better_side, metric_of
from scrimp.runs import Runs
from scrimp.tasks.image_text import ImageText
from scrimp.training.budget import Budget
from scrimp.training.loop import train

MEASURED_SECONDS = 2.0  # steps are measured for so long at least
WARM_UP = 3  # steps: allocations and compilations happen in the first
PILOT_SEEDS = 3


@dataclass(frozen=True)
class Pace:
    """What one run of the plain recipe is made of, in seconds, and its memory in bytes."""

    steps: int
    step: float
    evaluation: float
    evaluations: int
    start: float  # the process, its imports, and the data
    memory: int

    def hours(self, share: float) -> float:
        """Hours of a run that trains for a share of the plain recipe."""
        return (self.start + self.evaluations * self.evaluation + share * self.steps * self.step) / 3600

    def hours_of(self, design: Design, at_a_time: int) -> float:
        """Hours of all runs, so many at a time, and of the reference where there is one."""
        reference = self.hours(1.0) if design.reference else 0.0
        return (design.seeds * sum(map(self.hours, design.arms().values())) + reference) / at_a_time


def pace_of(audited: Audited, setup_seconds: float) -> Pace:
    """Measure a few steps of the plain recipe and one evaluation; `setup_seconds` is what loading the data took."""
    task = audited.task
    recipe, length = task.workload.recipe, task.workload
    model, clock = task.model(0), Clock(task.place.device)

    def steps(count: int) -> float:
        before = time.perf_counter()
        train(task, model, Methods({}), recipe, Budget("steps", count), 0, clock=clock)
        return time.perf_counter() - before

    steps(WARM_UP)
    count, spent = 4, steps(4)
    while spent < MEASURED_SECONDS and count < 4096:
        count *= 2
        spent = steps(count)
    begin = time.perf_counter()
    task.measure(model, task.held_out[:1])
    evaluation = time.perf_counter() - begin
    full = Budget.of(
        Horizon(epochs=1.0),
        length,
        task.examples,
        task.step_flops(recipe.batch_size) / recipe.batch_size,
        by_epochs=task.by_epochs,
    )
    per_epoch = math.ceil(task.examples / recipe.batch_size) if task.by_epochs else 1
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import scrimp.stages.run, scrimp.tasks.base"], check=True)
    start = time.perf_counter() - begin + setup_seconds
    whole = max(1, math.ceil(full.amount * per_epoch))
    return Pace(whole, spent / count, evaluation, length.evaluations, start, peak_memory(task.place.device))


# --------------------------------------------------------------------------------------------------------------- a pilot
def pilot_arms(design: Design) -> list[str]:
    """The two shortest points of the sweep, which are run anyway: their spread and their slope size the rest."""
    return [sweep_arm(share) for share in sorted(design.sweep)[:2]]


@dataclass(frozen=True)
class Resolution:
    """What n seeds can show with 80 % power: a loss of quality in the metric's unit, and a speedup (None: no slope)."""

    loss: float
    speedup: float | None
    spread: float  # standard deviation of a paired difference


def resolution(workspace: Workspace, audited: Audited, design: Design) -> Resolution | None:
    """Read the pilot's runs; None while fewer than two seeds of them are there.

    The smallest difference that a paired t test of n seeds finds is about (t_.975 + t_.8) s / sqrt(n), s the standard
    deviation of a difference between two arms. A speedup is that difference over the sweep's rise per factor of cost.
    """
    runs = Runs.of(workspace, workspace.study(audited.name), SCALE)
    short, longer = pilot_arms(design)
    seeds = sorted(set(runs.runs.get(short, {})) & set(runs.runs.get(longer, {})))
    if len(seeds) < 2:
        return None
    sign = 1.0 if better_side(audited.metric) == "higher" else -1.0
    gains = sign * np.array(runs.differences(longer, short, seeds, audited.metric))
    spread, n = float(gains.std(ddof=1)), design.seeds
    loss = float(stats.t.ppf(0.975, n - 1) + stats.t.ppf(POWER, n - 1)) * spread / math.sqrt(n)
    costs = [np.mean([runs.cost(arm, seed, audited.time_axis) for seed in seeds]) for arm in (short, longer)]
    slope = float(gains.mean()) / math.log(costs[1] / costs[0])
    sure = gains.mean() > stats.t.ppf(0.975, len(seeds) - 1) * spread / math.sqrt(len(seeds))
    return Resolution(loss, math.exp(loss / slope) if sure else None, spread)


def fraction_doubt(workspace: Workspace, audited: Audited) -> str:
    """Words where a percentage of a user's own was never above 1 in a finished run, so that it may be a fraction; or ""."""
    if metric_of(audited.metric).unit != "%" or isinstance(audited.task, ImageText):
        return ""
    runs = Runs.of(workspace, workspace.study(audited.name), SCALE)
    reached = [runs.quality(arm, seed, audited.metric) for arm, seeds in runs.runs.items() for seed in seeds]
    highest = max((value for value in reached if math.isfinite(value)), default=0.0)
    if not 0 < highest <= 1:
        return ""
    return (
        f"{audited.metric} is a percentage, and no run has more than {highest:.3g}: if evaluate gives a fraction, multiply "
        "it by 100, or all that is said of points here, margins too, is a hundred times too coarse"
    )


def words(resolved: Resolution, audited: Audited, design: Design) -> list[str]:
    """What a pilot says, for the plan."""
    lines = [
        f"{design.seeds} seeds show a loss of {resolved.loss:.2g}{audited.unit} of {audited.label} "
        f"in {POWER:.0%} of all audits;"
    ]
    if resolved.speedup is None:
        lines.append("no speedup can be sized: the plain recipe gains nothing, beyond its noise, from a longer pilot")
    else:
        lines.append(
            f"a speedup of {resolved.speedup:.2f}x too, as steep as the plain recipe is between its two shortest lengths; "
            "where it flattens out, only larger ones"
        )
    return lines


def outline(design: Design, pace: Pace, audited: Audited, at_a_time: int) -> list[str]:
    """The plan in lines: arms, runs, time, memory."""
    task, recipe = audited.task, audited.task.workload.recipe
    model = task.model(0)
    parameters, own = sum(parameter.numel() for parameter in model.parameters()), task.optimizer(model)
    optimizer = recipe.optimizer if own is None else type(own).__name__
    lines = [
        f"{audited.file.name}: {task.examples:,} examples, {parameters:,} parameters, {optimizer} at "
        f"{recipe.learning_rate:g}, batches of {recipe.batch_size}, {pace.steps:,} steps a run",
        f"measured here: {1e3 * pace.step:.1f} ms a step, {pace.evaluation:.2g} s an evaluation, "
        f"{pace.start:.1f} s to start, {pace.memory / 2**20:,.0f} MiB",
        audited.where,
        "",
        f"{'arm':<24}{'about, of a plain run':>22}{'a run':>10}",
    ]
    for arm, share in design.arms().items():
        lines.append(f"{arm:<24}{share:>21.0%} {duration(pace.hours(share)):>10}")
    if design.reference:
        lines.append(f"{'reference, once':<24}{1.0:>21.0%} {duration(pace.hours(1.0)):>10}")
    whole = duration(pace.hours_of(design, at_a_time))
    lines += ["", f"{design.runs} runs ({design.seeds} seeds), {at_a_time} at a time: about {whole}"]
    return lines
