"""The reader of run files, by hand: costs, speedups whichever side is better, differences, what is missing."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from fake_study import SWEEP, make_curve, make_study, make_summary

from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.records import Summary
from scrimp.runs import NotRunError, Runs, by_arm_and_seed

SEEDS = (0, 1, 2)


def reading(summaries: list[Summary]) -> Runs:
    study = make_study()
    return Runs(Workspace(Path()), study, "mini", study.scale("mini").main, by_arm_and_seed(summaries))


def planted(metric: str, sign: float, factor: float) -> Runs:
    """A sweep whose quality follows log2 of its cost, and a method that is as good at 1 / `factor` of the cost of `full`."""
    sweep = [
        make_summary(arm, seed, cost, **{metric: 5 + sign * (math.log2(cost) + 0.1 * seed)})
        for arm, cost in SWEEP.items()
        for seed in SEEDS
    ]
    return reading(
        [*sweep, *(make_summary("method", seed, 1 / factor, **{metric: 5 + sign * 0.1 * seed}) for seed in SEEDS)]
    )


@pytest.mark.parametrize(("metric", "sign"), [("test_accuracy", 1.0), ("test_loss", -1.0), ("test_bits_per_byte", -1.0)])
@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_planted_speedup_is_read_whichever_side_is_better(metric: str, sign: float, factor: float) -> None:
    runs = planted(metric, sign, factor)
    speedups, interval = runs.speedups("method", SEEDS, metric, "flops", runs.sweep_arms())
    assert [speedup.value for speedup in speedups] == pytest.approx([factor] * 3)
    assert interval.mean == pytest.approx(factor)


def test_an_amortised_cost_leaves_the_reference_out() -> None:
    summary = make_summary("method", 0, 2.0, test_accuracy=70.0)
    dear = summary.model_copy(update={"meters": summary.meters.model_copy(update={"flops_reference": 500.0})})
    runs = reading([dear])
    assert runs.cost("method", 0, "flops") == 2000
    assert runs.cost("method", 0, "flops-amortised") == 1500
    assert runs.left_out("method", 0, "flops-amortised") == 500
    free = reading([summary.model_copy(update={"meters": summary.meters.model_copy(update={"seconds": 0.0})})])
    with pytest.raises(NotRunError, match=r"seconds-amortised of method \(seed 0\) was not measured"):
        free.cost("method", 0, "seconds-amortised")


def test_cpu_seconds_are_a_cost_where_they_were_measured() -> None:
    def run(**measured: float) -> Runs:
        summary = make_summary("method", 0, 2.0, test_accuracy=70.0)
        return reading([summary.model_copy(update={"meters": summary.meters.model_copy(update=measured)})])

    told = run(cpu_seconds=90.0, cpu_seconds_reference=30.0)
    assert told.cost("method", 0, "cpu_seconds") == 90
    assert told.cost("method", 0, "cpu_seconds-amortised") == 60
    with pytest.raises(NotRunError, match=r"cpu_seconds of method \(seed 0\) was not measured"):
        run().cost("method", 0, "cpu_seconds")
    with pytest.raises(NotRunError, match="what its references cost is unknown"):
        run(cpu_seconds=90.0).cost("method", 0, "cpu_seconds-amortised")
    with pytest.raises(NotRunError, match="curves hold no cpu_seconds; they hold updates, examples, flops, seconds"):
        told.curve(make_curve("method", 0, [1.0], [70.0]), "method", 0, "test_accuracy", "cpu_seconds")


def test_differences_are_method_minus_baseline_seed_by_seed() -> None:
    summaries = [make_summary("full", seed, 1.0, test_accuracy=70.0 + seed) for seed in SEEDS]
    summaries += [make_summary("method", seed, 1.0, test_accuracy=72.0) for seed in SEEDS]
    assert reading(summaries).differences("method", "full", SEEDS, "test_accuracy") == [2.0, 1.0, 0.0]


def test_what_is_missing_is_said_with_the_command_that_makes_it() -> None:
    runs = reading([make_summary("full", 0, 1.0, test_accuracy=70.0)])
    with pytest.raises(NotRunError, match=r"no finished run of method.*make it with `scrimp run fake method --seed 0"):
        runs.paired_seeds(["full", "method"])
    with pytest.raises(NotRunError, match="full does not record test_loss; it records test_accuracy"):
        runs.quality("full", 0, "test_loss")
    with pytest.raises(NotRunError, match="nobody is no arm of workload icons"):
        runs.arm("nobody")
    with pytest.raises(ScrimpError, match="unknown metric 'test_niceness'"):
        reading([make_summary("full", 0, 1.0, test_niceness=1.0)]).speedups("full", [0], "test_niceness", "flops", ["full"])
