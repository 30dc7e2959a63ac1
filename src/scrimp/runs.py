"""The one reader of run files: qualities, costs, the baseline sweep, pairs by seed, speedups, curves.

Judge, figures, tables and page take their numbers from here, so that a figure never says otherwise than a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scrimp.claims.statistics import Interval, Speedup, curve_speedup, geometric_interval, resolution, sweep_interval
from scrimp.config.claims import AMORTISED, Axis
from scrimp.config.study import MAIN_SEPARATOR, StudyConfig, arm_id
from scrimp.config.workspace import Workspace
from scrimp.metrics import better_side
from scrimp.records import Summary, current_summaries, read_curves

CURVE_AXIS = {"updates": "step", "examples": "examples", "flops": "flops", "seconds": "seconds"}  # cost -> column of a curve
Curve = tuple[np.ndarray, np.ndarray]  # costs and qualities, (evaluations,) each, ascending in cost


class NotRunError(Exception):
    """The inputs of a claim do not exist (yet): the reason, and the commands that would make them."""

    def __init__(self, reason: str, commands: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.commands = list(commands)


def base_axis(axis: Axis) -> str:
    """The meter that an axis reads: `flops` of `flops-amortised`."""
    return axis.removesuffix(AMORTISED)


def unit(axis: Axis) -> float:
    """The smallest difference that an axis can show: one update, one example, one FLOP, a hundredth of a second."""
    return 0.01 if base_axis(axis).endswith("seconds") else 1.0


def by_arm_and_seed(summaries: Iterable[Summary]) -> dict[str, dict[int, Summary]]:
    """Runs by arm id and seed."""
    runs: dict[str, dict[int, Summary]] = {}
    for summary in summaries:
        runs.setdefault(summary.arm, {})[summary.seed] = summary
    return runs


@dataclass(frozen=True)
class Runs:
    """The finished runs of one study at one scale, as seen from one workload."""

    workspace: Workspace
    study: StudyConfig
    scale: str
    workload: str
    runs: dict[str, dict[int, Summary]]  # arm id -> seed -> summary

    @classmethod
    def of(cls, workspace: Workspace, study: StudyConfig, scale: str, workload: str | None = None) -> Runs:
        """The runs on disk that were trained as the study's file says now; `workload` is the scale's main one if None."""
        runs = by_arm_and_seed(current_summaries(workspace, study, scale))
        return cls(workspace, study, scale, workload or study.scale(scale).main, runs)

    def arm(self, name: str) -> str:
        """The id of an arm in this workload, or of `ARM@WORKLOAD`; raises NotRunError if the workload does not have it."""
        scale = self.study.scale(self.scale)
        name, _, named = name.partition(MAIN_SEPARATOR)
        workload = named or self.workload
        at = arm_id(name, None if workload == scale.main else workload)
        if workload not in scale.workloads or name not in scale.workloads[workload].arms:
            raise NotRunError(
                f"{name} is no arm of workload {workload} at scale {self.scale}: add it to scales.{self.scale}."
                f"workloads.{workload}.arms in {self.study.where}, then "
                f"`{self.run_command(at, scale.seeds[0])}`"
            )
        return at

    def sweep_arms(self) -> list[str]:
        """Ids of the sweep's arms that this workload trains; raises NotRunError where they make no sweep."""
        has = self.study.scale(self.scale).workloads[self.workload].arms
        arms = [self.arm(name) for name in self.study.baseline_sweep if name in has]
        if len(arms) < 2:
            raise NotRunError(
                f"workload {self.workload} at scale {self.scale} trains {len(arms)} of the sweep's arms "
                f"({', '.join(self.study.baseline_sweep)}); a sweep needs two or more"
            )
        return arms

    def paired_seeds(self, arms: list[str]) -> tuple[list[int], list[str]]:
        """Seeds that every arm has finished, with notes on planned ones left out; raises NotRunError if none is."""
        shared = sorted(set.intersection(*(set(self.runs.get(arm, {})) for arm in arms)))
        planned = set.intersection(*(set(self.study.seeds(self.scale, arm)) for arm in arms))
        missing = [(arm, seed) for arm in arms for seed in sorted(planned) if seed not in self.runs.get(arm, {})]
        if not shared:
            absent = [arm for arm in arms if arm not in self.runs]
            what = f"no finished run of {', '.join(absent)}" if absent else f"no seed shared by {', '.join(arms)}"
            # What has no run at all comes first: it is what the message speaks of.
            missing.sort(key=lambda pair: pair[0] not in absent)
            commands = [self.run_command(arm, seed) for arm, seed in missing]
            remedy = f"; make it with `{commands[0]}`" if commands else ""
            raise NotRunError(f"{what} at scale {self.scale}{remedy}", commands)
        notes = [
            f"{arm} seed {seed} diverged at step {end.step}: a miss"
            for arm in arms
            for seed in shared
            if (end := self.runs[arm][seed].diverged) is not None
        ]
        left_out = sorted({seed for _, seed in missing})
        if not left_out:
            return shared, notes
        lacking = ", ".join(sorted({arm for arm, _ in missing}))
        return shared, [f"without seed {', '.join(map(str, left_out))} (no finished run of {lacking})", *notes]

    def diverged(self, arm: str, seed: int) -> bool:
        """Whether a run has no quality and reaches none at any cost; only the judge is shown such."""
        return self.runs[arm][seed].diverged is not None

    def quality(self, arm: str, seed: int, metric: str) -> float:
        """A run's final `metric`, in the metric's unit; raises NotRunError if the run does not record it.

        Of a run that diverged it is infinitely bad.
        """
        if self.diverged(arm, seed):
            return -math.inf if better_side(metric) == "higher" else math.inf
        metrics = self.runs[arm][seed].metrics
        if metric not in metrics:
            raise NotRunError(f"{arm} does not record {metric}; it records {', '.join(sorted(metrics)) or 'nothing'}")
        return metrics[metric]

    def resolution(self, arms: Sequence[str], seeds: Sequence[int], metric: str) -> float:
        """The step that the qualities of some runs lie on: one test example, for an accuracy."""
        found = [self.quality(arm, seed, metric) for arm in arms for seed in seeds]
        return resolution([quality for quality in found if math.isfinite(quality)] or [0.0])

    def cost(self, arm: str, seed: int, axis: Axis) -> float:
        """What a run spent on an axis, infinitely much where it diverged.

        Raises NotRunError if it was not measured (null, or nothing counted).
        """
        if self.diverged(arm, seed):
            return math.inf
        spent: float | None = getattr(self.runs[arm][seed].meters, base_axis(axis))
        if spent is None or not spent - self.left_out(arm, seed, axis) > 0:
            raise NotRunError(f"{axis} of {arm} (seed {seed}) was not measured")
        return float(spent - self.left_out(arm, seed, axis))

    def left_out(self, arm: str, seed: int, axis: Axis) -> float:
        """The part of a run's cost that an amortised axis leaves out: what went into reference models.

        Raises NotRunError where it was not measured.
        """
        if not axis.endswith(AMORTISED):
            return 0.0
        part: float | None = getattr(self.runs[arm][seed].meters, f"{base_axis(axis)}_reference")
        if part is None:
            raise NotRunError(f"{axis} of {arm} (seed {seed}) was not measured: what its references cost is unknown")
        return float(part)

    def run_command(self, arm: str, seed: int) -> str:
        return f"scrimp run {self.study.study} {arm} --seed {seed} --scale {self.scale}"

    def run_commands(self, arms: list[str], seeds: list[int]) -> list[str]:
        return [self.run_command(arm, seed) for arm in arms for seed in seeds]

    def main_metric(self) -> str:
        """What the study's file says that its quality is, or the first that runs record of the test split, or of any."""
        recorded = [name for by_seed in self.runs.values() for run in by_seed.values() for name in run.metrics]
        return self.study.metric or next((name for name in recorded if name.startswith("test_")), recorded[0])

    # --- what is derived ---
    def line(self, arms: Sequence[str], seed: int, metric: str, axis: Axis) -> tuple[list[float], list[float]]:
        """Costs and qualities of some arms' runs of one seed, those that diverged left out: a sweep, if the arms are its."""
        arms = [arm for arm in arms if not self.diverged(arm, seed)]
        return [self.cost(arm, seed, axis) for arm in arms], [self.quality(arm, seed, metric) for arm in arms]

    def speedups(
        self, arm: str, seeds: Sequence[int], metric: str, axis: Axis, sweep: Sequence[str]
    ) -> tuple[list[Speedup], Interval]:
        """By seed: the sweep's cost at the arm's quality over the arm's cost; and the interval of these.

        A run that diverged costs infinitely much: its speedup is 0, and the interval reaches down to it.
        """
        ended = [seed for seed in seeds if not self.diverged(arm, seed)]
        if not ended:
            never = [Speedup(0.0)] * len(seeds)
            return never, geometric_interval(never)
        sweeps = [self.line(sweep, seed, metric, axis) for seed in ended]
        for seed, (costs, _) in zip(ended, sweeps, strict=True):
            if len(costs) < 2 and len(costs) < len(sweep):
                raise NotRunError(f"of seed {seed} all but {len(costs)} of the sweep's runs diverged: that is no sweep")
        ends = [(self.cost(arm, seed, axis), self.quality(arm, seed, metric)) for seed in ended]
        step = resolution([quality for (_, line), (_, end) in zip(sweeps, ends, strict=True) for quality in (*line, end)])
        found, interval = sweep_interval(sweeps, ends, better_side(metric), step)
        if len(ended) == len(seeds):
            return found, interval
        by_seed = dict(zip(ended, found, strict=True))
        speedups = [by_seed.get(seed, Speedup(0.0)) for seed in seeds]
        missed = geometric_interval(speedups)
        high = float(np.fmax(missed.high, interval.high))
        return speedups, Interval(missed.mean, missed.low, high, len(seeds), sized=interval.sized)

    def differences(self, method: str, baseline: str, seeds: Sequence[int], metric: str) -> list[float]:
        """By seed: the method's quality minus the baseline's."""
        return [self.quality(method, seed, metric) - self.quality(baseline, seed, metric) for seed in seeds]

    def curves(self, arms: Sequence[str]) -> pd.DataFrame:
        """The curves of some arms as one long table."""
        return read_curves(self.workspace, self.scale, self.study.study, list(arms))

    def curve(self, table: pd.DataFrame, arm: str, seed: int, metric: str, axis: Axis) -> Curve:
        """One run's curve out of `curves`; raises NotRunError where it has none of the metric, or no such costs."""
        if base_axis(axis) not in CURVE_AXIS:
            raise NotRunError(f"curves hold no {base_axis(axis)}; they hold {', '.join(CURVE_AXIS)}")
        mine = table[(table["arm"] == arm) & (table["seed"] == seed)]
        rows = mine[mine["metric"] == metric].sort_values("step")
        if rows.empty:
            records = ", ".join(sorted(mine["metric"].unique())) or "nothing"
            raise NotRunError(f"{arm} (seed {seed}) records no curve of {metric}; it records {records}")
        # A curve carries the references' cost from its first row on.
        costs = rows[CURVE_AXIS[base_axis(axis)]].to_numpy(dtype=np.float64) - self.left_out(arm, seed, axis)
        if np.isnan(costs).any() or not costs[-1] > 0:
            raise NotRunError(f"{axis} of {arm} (seed {seed}) was not measured along its curve")
        return costs, rows["value"].to_numpy(dtype=np.float64)

    def speedups_by_curves(self, method: str, baseline: str, seeds: Sequence[int], metric: str, axis: Axis) -> list[Speedup]:
        """By seed, the published way: where each of two curves first reaches the baseline's end."""
        table, better = self.curves([method, baseline]), better_side(metric)

        def of(seed: int) -> Speedup:
            misses = self.diverged(method, seed), self.diverged(baseline, seed)
            if all(misses):
                raise NotRunError(f"{method} and {baseline} both diverged with seed {seed}: there is no target")
            if any(misses):
                return Speedup(0.0 if misses[0] else math.inf)
            plain, other = (self.curve(table, arm, seed, metric, axis) for arm in (baseline, method))
            return curve_speedup(plain, other, better=better)

        return [of(seed) for seed in seeds]
