"""A run that diverged is a miss for every rule: infinitely bad, infinitely dear, and never left out in silence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from fake_study import SWEEP, make_claim, make_study, make_summary

from scrimp.claims.judge import ClaimResult, judge_claim, read_claims, write_claims
from scrimp.config import Workspace
from scrimp.records import Diverged, Summary
from scrimp.runs import by_arm_and_seed

END = Diverged(step=7, learning_rate=0.5, what="the loss is nan")
DIFFERENCE = {"kind": "difference", "method": "method", "baseline": "full", "no_effect": 0.1}
RULES: dict[str, dict[str, Any]] = {
    "difference": DIFFERENCE,
    "non-inferiority": {"kind": "non-inferiority", "method": "method", "baseline": "full", "margin": 0.5},
    "ordering": {"kind": "ordering", "arms": ["method", "full", "full-half"], "no_effect": 0.1},
    "ratio": {"kind": "ratio", "method": "method", "axis": "flops"},
    "ratio by curves": {"kind": "ratio", "method": "method", "axis": "flops", "way": "curves", "baseline": "full"},
    "reduction": {"kind": "reduction", "method": "method", "baseline": "full", "axis": "flops"},
}


def diverged(arm: str, seed: int) -> Summary:
    """It ended after a hundredth of the cost, which shall not make it cheap."""
    return make_summary(arm, seed, 0.01).model_copy(update={"diverged": END})


def judged(tmp_path: Path, rule: dict[str, Any], missed: dict[str, set[int]]) -> ClaimResult:
    """A method that is better than all by far at half the cost, but for the seeds of arms that `missed`."""
    quality = {arm: 80 + math.log2(cost) for arm, cost in SWEEP.items()} | {"method": 81.5}
    runs = [
        diverged(arm, seed)
        if seed in missed.get(arm, set())
        else make_summary(arm, seed, SWEEP.get(arm, 0.5), test_accuracy=value + 0.01 * seed * len(arm))
        for arm, value in quality.items()
        for seed in range(3)
    ]
    return judge_claim(make_claim(rule), Workspace(tmp_path), make_study(), "mini", by_arm_and_seed(runs))


@pytest.mark.parametrize("kind", [kind for kind in RULES if kind != "ratio by curves"])
def test_one_miss_of_three_takes_the_verdict_away(tmp_path: Path, kind: str) -> None:
    assert judged(tmp_path, RULES[kind], {}).verdict == "supported"
    result = judged(tmp_path, RULES[kind], {"method": {1}})
    assert result.verdict == "inconclusive"
    assert result.low == (0.0 if kind == "ratio" else -math.inf)
    assert result.n == 3
    assert "method seed 1 diverged at step 7: a miss" in result.reason
    worst = 0.0 if kind == "ratio" else -math.inf
    assert next(point.value for point in result.points if point.seed == 1) == worst


@pytest.mark.parametrize("kind", RULES)
def test_a_method_that_always_diverges_contradicts_the_claim(tmp_path: Path, kind: str) -> None:
    result = judged(tmp_path, RULES[kind], {"method": {0, 1, 2}})
    assert result.verdict == "contradicted"
    assert (result.low, result.high) == ((0.0, 0.0) if kind.startswith("ratio") else (-math.inf, -math.inf))


def test_a_loss_that_diverged_is_infinitely_high(tmp_path: Path) -> None:
    runs = [make_summary("full", seed, 1.0, test_loss=2.0 + 0.1 * seed) for seed in range(3)]
    runs += [diverged("method", seed) for seed in range(3)]
    claim = make_claim(DIFFERENCE, metric="test_loss", direction="lower")
    result = judge_claim(claim, Workspace(tmp_path), make_study(), "mini", by_arm_and_seed(runs))
    assert (result.verdict, result.measured) == ("contradicted", math.inf)


def test_a_baseline_that_diverged_is_beaten(tmp_path: Path) -> None:
    result = judged(tmp_path, DIFFERENCE, {"full": {0, 1, 2}})
    assert (result.verdict, result.measured) == ("supported", math.inf)


def test_pairs_that_both_diverged_say_nothing(tmp_path: Path) -> None:
    result = judged(tmp_path, DIFFERENCE, {"full": {2}, "method": {2}})
    assert result.n == 2
    assert "without seed 2 (both sides diverged)" in result.reason
    nothing = judged(tmp_path, DIFFERENCE, {"full": {0, 1, 2}, "method": {0, 1, 2}})
    assert nothing.verdict == "not run"
    assert "both sides diverged with every seed" in nothing.reason


def test_a_sweep_does_without_its_runs_that_diverged(tmp_path: Path) -> None:
    whole, without = (judged(tmp_path, RULES["ratio"], missed) for missed in ({}, {"full-quarter": {0, 1, 2}}))
    assert without.measured == pytest.approx(whole.measured)
    few = {arm: {0} for arm in list(SWEEP)[1:]}
    assert "of seed 0 all but 1 of the sweep's runs diverged" in judged(tmp_path, RULES["ratio"], few).reason


def test_the_tables_keep_it(tmp_path: Path) -> None:
    result = judged(tmp_path, DIFFERENCE, {"method": {1}})
    workspace = Workspace(tmp_path)
    write_claims(workspace, "fake", "mini", [result])
    assert read_claims(workspace, "fake", "mini") == [result]
