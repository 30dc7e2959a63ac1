"""The judge is judged: identical arms are almost never supported, a planted effect is found as often as theory says.

Runs are drawn, not trained. Accuracy is 94 - 6 / sqrt(cost), cost 1 being the full recipe: 82 at a quarter, 91 at four
times, about what a small convnet does; every run has independent noise of .3 points (run `pytest -s` to see the rates).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fake_study import SWEEP, make_claim, make_study, make_summary
from scipy import stats

from scrimp.claims.judge import judge_claim
from scrimp.claims.statistics import Interval, curve_speedup, geometric_interval, sweep_interval
from scrimp.claims.verdicts import Verdict
from scrimp.config import Workspace
from scrimp.runs import by_arm_and_seed

NOISE = 0.3
SEEDS = 3
DRAWS = 300
ALLOWED = 0.05
STUDY = make_study(SEEDS)
SPEEDUP = {"kind": "ratio", "method": "method", "axis": "flops"}
DIFFERENCE = {"kind": "difference", "method": "method", "baseline": "full", "no_effect": 0.2}
ORDERING = {"kind": "ordering", "arms": ["method", "full", "rival"], "no_effect": 0.2}
SLOPE = {"kind": "slope", "method": ["method", "rival"], "baseline": ["full", "full"], "no_effect": 0.2}
REDUCTION = {"kind": "reduction", "method": "method", "baseline": "full", "axis": "seconds"}
LOSSLESS = {"kind": "non-inferiority", "method": "method", "baseline": "full", "margin": 0.5}


def ratio_verdict(interval: Interval) -> Verdict:
    claim = make_claim(SPEEDUP, published=1.67)
    assert claim.rule is not None
    return claim.rule.decide(interval, claim)


def accuracy(cost: float) -> float:
    return 94 - 6 / math.sqrt(cost)


def rates(rule: dict[str, Any], published: float | None, gain: float = 0.0, cost: float = 1.0) -> defaultdict[str, float]:
    """Share of each verdict among DRAWS experiments; the method's accuracy is off by `gain`, its cost is `cost`."""
    rng = np.random.default_rng(7)
    claim = make_claim(rule, published=published)
    verdicts: Counter[str] = Counter()
    truth = {arm: (c, accuracy(c)) for arm, c in SWEEP.items()}
    truth |= {"method": (cost, accuracy(1.0) + gain), "rival": (1.0, accuracy(1.0))}
    for _ in range(DRAWS):
        runs = by_arm_and_seed(
            make_summary(arm, seed, spent * rng.lognormal(0, 0.03), test_accuracy=quality + NOISE * rng.normal())
            for arm, (spent, quality) in truth.items()
            for seed in range(SEEDS)
        )
        verdicts[judge_claim(claim, Workspace(), STUDY, "mini", runs).verdict] += 1
    shares = defaultdict(float, {name: count / DRAWS for name, count in verdicts.items()})
    print(f"\n{rule['kind']}, gain {gain:g}, cost {cost:g}: {dict(shares)}")
    return shares


@pytest.mark.parametrize(
    ("rule", "published"),
    [(SPEEDUP, 1.67), (DIFFERENCE, 0.5), (ORDERING, None), (SLOPE, None), (REDUCTION, 0.4)],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_identical_arms_are_hardly_ever_supported(rule: dict[str, Any], published: float | None) -> None:
    found = rates(rule, published)
    assert found["supported"] + found["partly supported"] <= ALLOWED
    assert found["contradicted"] <= ALLOWED


def test_a_loss_of_the_whole_margin_is_hardly_ever_lossless() -> None:
    assert rates(LOSSLESS, None, gain=-0.5)["supported"] <= ALLOWED


def t_power(effect: float, spread: float) -> float:
    """Chance that a 95 % t interval of SEEDS values lies wholly above 0: the noncentral t's upper tail.

    `effect`: true mean beyond the margin; `spread`: standard deviation of one value.
    """
    return float(stats.nct.sf(stats.t.ppf(0.975, SEEDS - 1), SEEDS - 1, effect * math.sqrt(SEEDS) / spread))


def simulation_error(rate: float) -> float:
    """Three standard errors of a rate among DRAWS."""
    return 3 * math.sqrt(rate * (1 - rate) / DRAWS)


@pytest.mark.parametrize(
    ("rule", "gain", "beyond"),
    [(DIFFERENCE, 2.0, 2.0 - 0.2), (LOSSLESS, 0.5, 0.5 + 0.5), (SLOPE, -2.5, 2.5 - 0.2)],
    ids=["difference", "non-inferiority", "slope"],
)
def test_power_is_what_the_noncentral_t_says(rule: dict[str, Any], gain: float, beyond: float) -> None:
    # Two noisy runs a seed each time: the slope's baseline is one arm twice and drops out, leaving rival minus method.
    expected = t_power(beyond, NOISE * math.sqrt(2))
    found = rates(rule, None, gain)["supported"]
    print(f"power {found:.3f}, noncentral t {expected:.3f}")
    assert abs(found - expected) <= simulation_error(expected)


def test_an_ordering_is_found_where_each_of_its_pairs_is() -> None:
    # Both of two differences must be clear: by Bonferroni no rarer than 1 less the two chances to miss.
    floor = 1 - 2 * (1 - t_power(2.5 - 0.2, NOISE * math.sqrt(2)))
    found = rates(ORDERING, None, gain=2.5)["supported"]
    print(f"power {found:.3f}, floor {floor:.3f}")
    assert found >= floor - simulation_error(floor)


def test_a_planted_speedup_is_found() -> None:
    # The method reaches the full recipe's accuracy at .55 of its cost: a speedup of 1.82 against a margin of 1.05.
    # Around cost 1 the sweep gains at least (89.757 - 88) / ln 2 = 2.53 points per unit of log cost, and both the
    # method's and the point's noise are .3, so that a log speedup scatters by at most .3 sqrt(2) / 2.53 = .167, and cost
    # noise adds .03 sqrt(2).
    slope = (accuracy(2.0) - accuracy(1.0)) / math.log(2)
    spread = math.hypot(NOISE * math.sqrt(2) / slope, 0.03 * math.sqrt(2))
    floor = t_power(math.log(1 / 0.55) - math.log(1.05), spread)
    found = rates(SPEEDUP, 1 / 0.55, cost=0.55)
    power = found["supported"] + found["partly supported"]
    print(f"power {power:.3f}, floor {floor:.3f}")
    assert floor > 0.5
    assert power >= floor - simulation_error(floor)


def test_a_planted_speedup_of_the_published_size_has_its_size() -> None:
    # The mean must have 80 % of the size. It misses the truth, 1.82, by .2 log 1.82 = .12 as rarely as theory says: its
    # error is at most that of one log speedup over the root of the seeds, here .17 / sqrt(3) = .10 (above).
    slope = (accuracy(2.0) - accuracy(1.0)) / math.log(2)
    spread = math.hypot(NOISE * math.sqrt(2) / slope, 0.03 * math.sqrt(2))
    missed = float(stats.norm.sf(0.2 * math.log(1 / 0.55) * math.sqrt(SEEDS) / spread))
    found = rates(SPEEDUP, 1 / 0.55, cost=0.55)
    print(f"partly {found['partly supported']:.3f}, at most {missed:.3f}")
    assert missed < 0.15
    assert found["partly supported"] <= missed + simulation_error(missed)


def test_half_of_a_published_speedup_is_hardly_ever_it() -> None:
    # True is the root of what was published: half of its size in logs.
    found = rates(SPEEDUP, 1 / 0.55**2, cost=0.55)
    assert found["supported"] <= ALLOWED
    assert found["partly supported"] > 0.5


SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "noisy": lambda costs: 90 - 0.3 / np.sqrt(costs),
    "flat": lambda costs: np.full(costs.shape, 90.0),
    "saturated": lambda costs: np.minimum(88 + 2 * costs, 90.0),
    "peaked": lambda costs: 90 - np.log2(costs) ** 2,  # twice the training is worse than once
}


@pytest.mark.parametrize("shape", SHAPES)
def test_identical_arms_on_a_sweep_that_hardly_climbs(shape: str) -> None:
    # Where more training brings nothing, a hair of quality is worth any cost: the place where speedups are made up.
    rng, verdicts = np.random.default_rng(3), Counter[str]()
    costs = np.array(list(SWEEP.values()))
    heights = SHAPES[shape](costs)
    for _ in range(DRAWS):
        sweeps = [(costs, heights + NOISE * rng.normal(size=costs.size)) for _ in range(SEEDS)]
        ends = [(1.0, float(heights[2] + NOISE * rng.normal())) for _ in range(SEEDS)]
        _, found = sweep_interval(sweeps, ends)
        verdicts[ratio_verdict(found).name] += 1
    print(f"\n{shape} sweep: { ({k: v / DRAWS for k, v in verdicts.items()}) }")
    assert verdicts["supported"] + verdicts["partly supported"] <= ALLOWED * DRAWS
    assert verdicts["contradicted"] <= ALLOWED * DRAWS


def test_identical_curves_are_hardly_ever_supported() -> None:
    rng, verdicts = np.random.default_rng(3), Counter[str]()
    costs = np.linspace(1, 6, 6) / 6
    heights = 94 - 6 / np.sqrt(costs)
    for _ in range(DRAWS):
        speedups = [
            curve_speedup(*((costs, heights + NOISE * rng.normal(size=costs.size)) for _ in range(2))) for _ in range(SEEDS)
        ]
        found = geometric_interval(speedups)
        verdicts[ratio_verdict(found).name] += 1
    print(f"\ncurves: { ({k: v / DRAWS for k, v in verdicts.items()}) }")
    assert verdicts["supported"] + verdicts["partly supported"] <= ALLOWED * DRAWS
