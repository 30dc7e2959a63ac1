"""What a claim's verdict will be worth, before the runs: the judge's own code on runs that are drawn, not trained.

A pilot gives the level and the spread of every arm that a claim rests on. Then experiments of n seeds are drawn in which the
claim's number is what we want it to be, the published one for instance, and each is judged by the claim's rule. The same
random numbers are used throughout: the same files give the same table.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from scrimp.claims.pilot import Pilot
from scrimp.claims.statistics import fewer_resamples
from scrimp.config import Claim, Closed, Rule, StudyConfig, Workspace, unknown
from scrimp.config.claims import Axis
from scrimp.config.study import MAIN_SEPARATOR
from scrimp.consoles import console
from scrimp.errors import ScrimpError
from scrimp.records import Summary
from scrimp.runs import NotRunError, Runs

DRAWS = 400  # experiments a chance: known to 2.5 points
POWER = 0.8
PRIOR = 8  # an arm's variance is a mean of its own, that weighs as its degrees of freedom, and of its workload's, with this
MANY = 5  # arms from which on a workload's variance is a median: one wild method does not speak for the others
RESAMPLES = 999  # of the bootstrap, for eight seeds and more
SEEDS_TRIED = (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30)
FARTHEST = 10  # doublings of the no-effect size that the smallest resolved effect is looked for within

INITIALS = {"supported": "S", "partly supported": "P", "not supported": "N", "contradicted": "C", "inconclusive": "I"}

Array = NDArray[np.float64]


class Sizing(Closed):
    """One claim before its runs: what n seeds will resolve, and what they cost.

    `smallest` is the number, in the claim's unit, from which on the claim is found in 80 % of the experiments: supported or
    partly supported. `published` and `nothing` are the chances of each verdict if the published size is true, and if
    there is no effect. Where nothing can be drawn all are null, and `note` says why.
    """

    claim: str
    kind: str | None
    n: int | None = None
    pilot: int | None = None
    minutes: float | None = None
    smallest: float | None = None
    published: dict[str, float] | None = None
    nothing: dict[str, float] | None = None
    note: str = ""


@dataclass(frozen=True)
class Truth:
    """What the runs of some arms are like without noise: a final quality, and the cost on one axis, by arm id."""

    quality: dict[str, float]
    cost: dict[str, float]


@dataclass(frozen=True)
class Spread:
    """Standard deviations: of a seed's effect, which all arms share, and of each arm's own noise."""

    seed: float
    arms: dict[str, float]


@dataclass(frozen=True)
class _Drawn(Runs):
    """Runs of an experiment that was drawn whole: numbers where `Runs` has files."""

    place: dict[str, int]  # arm id -> column
    qualities: list[list[float]]  # by seed and arm
    costs: list[list[float]]

    def paired_seeds(self, arms: list[str]) -> tuple[list[int], list[str]]:
        return list(range(len(self.qualities))), []

    def quality(self, arm: str, seed: int, metric: str) -> float:
        return self.qualities[seed][self.place[arm]]

    def cost(self, arm: str, seed: int, axis: Axis) -> float:
        return self.costs[seed][self.place[arm]]

    def diverged(self, arm: str, seed: int) -> bool:
        return False

    def run_commands(self, arms: list[str], seeds: list[int]) -> list[str]:
        return []


def power(
    workspace: Workspace,
    study: StudyConfig,
    scale: str,
    claims: Sequence[Claim],
    pilot: Pilot,
    seeds: int | None = None,
    draws: int = DRAWS,
) -> list[Sizing]:
    """Size the claims of a study, in their order, for its planned seeds or for `seeds`.

    Raises ScrimpError for an unknown scale or workload, and for fewer seeds than two.
    """
    if seeds is not None and seeds < 2:
        raise ScrimpError(f"--seeds {seeds}: an interval needs two seeds or more")
    return [_sized(claim, workspace, study, scale, pilot, seeds, draws) for claim in claims]


def _sized(
    claim: Claim, workspace: Workspace, study: StudyConfig, scale: str, pilot: Pilot, seeds: int | None, draws: int
) -> Sizing:
    rule = claim.rule
    workloads = study.scale(scale).workloads
    workload = claim.at.get(scale, study.scale(scale).main)
    if workload is not None and workload not in workloads:
        raise ScrimpError(unknown("workload", workload, workloads, f"claims.{claim.id}.at.{scale}"))
    if rule is None or workload is None:
        return Sizing(claim=claim.id, kind=None if rule is None else rule.kind, note=claim.not_run or f"left out at {scale}")
    if not rule.plantable:
        return Sizing(claim=claim.id, kind=rule.kind, note="no runs to size")
    have = Runs(workspace, study, scale, workload, pilot.runs)
    try:
        arms, paired = _arms(claim, rule, have)
        n = min(len(study.seeds(scale, arm)) for arm in arms) if seeds is None else seeds
        minutes = n * sum(_minutes(study, scale, arm, pilot) for arm in arms)
        known = {"claim": claim.id, "kind": rule.kind, "n": n, "pilot": len(paired), "minutes": minutes}
        if n < 2:
            return Sizing(**known, note="one seed gives no interval")
        return Sizing(**known, **_Experiment.of(claim, rule, have, arms, paired, n, draws).chances())
    except NotRunError as missing:
        return Sizing(claim=claim.id, kind=rule.kind, note=missing.reason)


def seeds_for(
    claim: Claim,
    number: float,
    workspace: Workspace,
    study: StudyConfig,
    scale: str,
    pilot: Pilot,
    at_least: int = 2,
    draws: int = DRAWS // 2,
) -> int | None:
    """The fewest seeds, out of SEEDS_TRIED, with which a claim whose number truly is `number` is found with POWER.

    None where none of them is enough. Raises NotRunError where the pilot has too little.
    """
    rule = claim.rule
    assert rule is not None
    have = Runs(workspace, study, scale, claim.at.get(scale) or study.scale(scale).main, pilot.runs)
    arms, paired = _arms(claim, rule, have)
    with fewer_resamples(RESAMPLES), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n in (tried for tried in SEEDS_TRIED if tried >= at_least):
            chances = _Experiment.of(claim, rule, have, arms, paired, n, draws).verdicts(number)
            if chances.get("supported", 0.0) + chances.get("partly supported", 0.0) >= POWER:
                return n
    return None


def _arms(claim: Claim, rule: Rule, have: Runs) -> tuple[list[str], list[int]]:
    """The ids of the arms that a claim rests on, and the pilot's seeds that all of them have."""
    evidence = rule.measure(claim, have)
    paired = sorted(set.intersection(*(set(have.runs[arm]) for arm in evidence.arms)))
    if len(paired) < 2:
        raise NotRunError(f"the pilot has one seed of {', '.join(evidence.arms)}: a spread needs two")
    return evidence.arms, paired


def _minutes(study: StudyConfig, scale: str, arm: str, pilot: Pilot) -> float:
    """Mean minutes of a run with its evaluations, without what is trained once for many: references, constant-LR runs."""
    described, _ = study.resolve(scale, arm)
    shared = described.reference is not None or described.cooldown_of is not None
    meters = [run.meters for run in pilot.runs[arm].values()]
    spent = [m.seconds + m.seconds_evaluation + m.seconds_setup - (m.seconds_reference if shared else 0.0) for m in meters]
    return float(np.mean(spent)) / 60


# ------------------------------------------------------------------------------------------------------------ the spread
def spread_of(values: dict[str, Array]) -> Spread:
    """The spread of arms' values, (seeds,) each in the same order of seeds; two arms or more.

    A value is the arm's mean, plus the seed's effect, plus the arm's noise. Few seeds say little about one arm's noise: its
    variance is drawn towards that of all arms given, as if that had been seen with PRIOR degrees of freedom. From MANY
    arms on theirs is the median, corrected for a median of chi-squared variances; below, the mean.
    """
    table = np.array(list(values.values()))  # (arms, seeds)
    arms, seeds = table.shape
    table = table - table.mean(axis=1, keepdims=True)
    effects = table.mean(axis=0)  # of the seeds, and of the arms' mean noise
    freedom = seeds - 1
    own = ((table - effects) ** 2).sum(axis=1) / (freedom * (1 - 1 / arms))
    typical = float(own.mean())
    if arms >= MANY:
        typical = float(np.median(own)) / (float(stats.chi2.median(freedom)) / freedom)
    shrunk = (freedom * own + PRIOR * typical) / (freedom + PRIOR)
    shared = max(0.0, float(effects.var(ddof=1)) - float(own.mean()) / arms)
    return Spread(math.sqrt(shared), dict(zip(values, np.sqrt(shrunk).tolist(), strict=True)))


def _mates(arms: Sequence[str], have: Runs, seeds: Sequence[int], metric: str) -> list[str]:
    """The arms, and others of their workloads that have runs of the same seeds with the metric."""

    def workload(arm: str) -> str:
        return arm.partition(MAIN_SEPARATOR)[2]

    def fit(arm: str) -> bool:
        runs = have.runs[arm]
        return all(seed in runs and metric in runs[seed].metrics for seed in seeds)

    homes = {workload(arm) for arm in arms}
    planned = set(have.study.arm_ids(have.scale))
    others = [arm for arm in have.runs if arm not in arms and arm in planned and workload(arm) in homes and fit(arm)]
    return [*arms, *others]


# ------------------------------------------------------------------------------------------------------------ experiments
@dataclass(frozen=True)
class _Experiment:
    """All that is needed to draw experiments of a claim and to judge them."""

    claim: Claim
    rule: Rule
    have: Runs
    truth: Truth  # as the pilot has it
    noise: Array  # (draws, n, arms) what is added to qualities
    factors: Array  # (draws, n, arms) what costs are multiplied by
    step: float  # qualities lie on a grid of this step

    @classmethod
    def of(cls, claim: Claim, rule: Rule, have: Runs, arms: list[str], paired: list[int], n: int, draws: int) -> _Experiment:
        axis = getattr(rule, "axis", None)
        arms = list(dict.fromkeys(arms))
        rng = np.random.default_rng(0)
        shape = (draws, n, len(arms))
        noise, factors, quality, cost, step = np.zeros(shape), np.ones(shape), {}, {}, 0.0
        if rule.reads_quality:
            seen = {
                arm: np.array([have.quality(arm, seed, claim.metric) for seed in paired])
                for arm in _mates(arms, have, paired, claim.metric)
            }
            quality = {arm: float(seen[arm].mean()) for arm in arms}
            noise = _draw(spread_of(seen), arms, shape, rng)
            step = have.resolution(arms, paired, claim.metric)
        if axis is not None:
            spent = {arm: np.log([have.cost(arm, seed, axis) for seed in paired]) for arm in arms}
            cost = {arm: float(np.exp(logs.mean())) for arm, logs in spent.items()}
            factors = np.exp(_draw(spread_of(spent), arms, shape, rng))
        return cls(claim, rule, have, Truth(quality, cost), noise, factors, step)

    def chances(self) -> dict[str, Any]:
        """The fields of a `Sizing` that are drawn."""
        claim, nothing = self.claim, self.rule.nothing()
        with fewer_resamples(RESAMPLES), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy's on bootstraps of values that hardly differ
            none = self.verdicts(nothing)
            published = None
            if claim.published is not None:
                published = none if claim.published == nothing else self.verdicts(claim.published)
            smallest = self.smallest()
        notes = [self.rule.beyond(claim, self.truth, self.have)] if claim.published is not None else []
        if smallest is None:
            notes.append(f"no effect that was tried is found in {100 * POWER:g} % of the experiments")
        note = "; ".join(note for note in notes if note)
        return {"published": published, "nothing": none, "smallest": smallest, "note": note}

    def smallest(self) -> float | None:
        """The number from which on the claim is found with POWER; null where that is farther away than is looked."""
        start, margin = self.rule.search(self.claim)

        def number(doublings: float) -> float:
            distance = margin * 2.0**doublings
            return start * math.exp(distance) if self.rule.logarithmic else start + distance

        def found(doublings: float) -> bool:
            chances = self.verdicts(number(doublings), len(self.noise) // 2)
            return chances.get("supported", 0.0) + chances.get("partly supported", 0.0) >= POWER

        high = next((float(doublings) for doublings in range(FARTHEST + 1) if found(doublings)), None)
        if high is None:
            return None
        low = high - 1.0 if high > 0 else -4.0
        while high - low > 0.1:  # a distance known to 7 %
            middle = (low + high) / 2
            low, high = (low, middle) if found(middle) else (middle, high)
        return number(high)

    def verdicts(self, number: float, draws: int | None = None) -> dict[str, float]:
        """The chance of each verdict if the claim's number is this one, from all draws or from the first of them."""
        truth = self.rule.plant(self.claim, number, self.truth, self.have)
        noise, factors = self.noise[:draws], self.factors[:draws]
        arms = list(truth.quality or truth.cost)
        levels = np.array([truth.quality.get(arm, 0.0) for arm in arms])
        costs = np.array([truth.cost.get(arm, 1.0) for arm in arms])
        qualities, spent = levels + noise, costs * factors
        if self.step:
            qualities = np.round(qualities / self.step) * self.step
        place = {arm: column for column, arm in enumerate(arms)}
        names: Counter[str] = Counter()
        for drawn, costing in zip(qualities.tolist(), spent.tolist(), strict=True):
            runs = _Drawn(*self.home, place, drawn, costing)
            names[self.rule.decide(self.rule.measure(self.claim, runs).interval, self.claim).name] += 1
        return {name: count / len(qualities) for name, count in names.most_common()}

    @property
    def home(self) -> tuple[Workspace, StudyConfig, str, str, dict[str, dict[int, Summary]]]:
        """What drawn runs share with those that exist."""
        have = self.have
        return have.workspace, have.study, have.scale, have.workload, {}


def _draw(spread: Spread, arms: list[str], shape: tuple[int, int, int], rng: np.random.Generator) -> Array:
    """Noise (draws, n, arms): a seed's effect that all arms share, and each arm's own."""
    shared = spread.seed * rng.normal(size=(*shape[:2], 1))
    drawn: Array = shared + np.array([spread.arms[arm] for arm in arms]) * rng.normal(size=shape)
    return drawn


# --------------------------------------------------------------------------------------------------------------- in words
def print_sizes(sizes: Sequence[Sizing], claims: Sequence[Claim], pilot: Pilot) -> None:
    """A table of the claims that rest on runs, then those that do not."""
    from rich.box import SIMPLE
    from rich.table import Table

    out = console()
    out.print(f"spread and minutes from the runs in {pilot.source}", soft_wrap=True)
    table = Table("claim", "n", "resolves", "published", "if it is true", "if no effect is", "minutes", box=SIMPLE)
    for size, claim in zip(sizes, claims, strict=True):
        if size.nothing is not None:
            resolved = "-" if size.smallest is None else f"{size.smallest:.3g}"
            published = "" if claim.published is None else f"{claim.published:.3g}"
            cells = (str(size.n), resolved, published, chance_words(size.published), chance_words(size.nothing))
            table.add_row(size.claim, *cells, f"{size.minutes:.1f}")
    out.print(table)
    initials = ", ".join(f"{initial} {name}" for name, initial in INITIALS.items())
    out.print(
        f"resolves: from this number on the claim is found, supported or partly supported, in {100 * POWER:g} % of the "
        f"experiments. Chances in percent: {initials}. Minutes: of one process, for all arms of the claim.",
        soft_wrap=True,
    )
    for size in sizes:
        if size.note:
            out.print(f"{size.claim}: {size.note}", soft_wrap=True, markup=False)


def chance_words(chances: dict[str, float] | None) -> str:
    """Chances in whole percent, the largest first, those that round to none left out."""
    shown = [(INITIALS[name], round(100 * chance)) for name, chance in (chances or {}).items()]
    return " ".join(f"{initial} {percent}" for initial, percent in shown if percent)
