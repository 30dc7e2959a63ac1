"""Rules by the contract: found by their files, each with its fields, number, band, verdicts and sentence."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from fake_study import SWEEP, make_claim, make_study, make_summary

from scrimp.claims import rules
from scrimp.claims.judge import judge_claim
from scrimp.claims.loading import load_claims
from scrimp.claims.rules import rule_class, rule_kinds, rule_modules
from scrimp.claims.statistics import Interval
from scrimp.claims.verdicts import TOLERANCES
from scrimp.config import Workspace
from scrimp.config.claims import COSTS
from scrimp.errors import ScrimpError
from scrimp.measure.code import files_of
from scrimp.records import Meters, Summary
from scrimp.runs import by_arm_and_seed

PAIR = {"method": "method", "baseline": "full"}
PROBE = {"probe": "overhead", "column": "share"}
RATIO = {"kind": "ratio", "method": "method", "axis": "flops", "no_effect": 0.25}
LOSSLESS = {"kind": "non-inferiority", **PAIR, "margin": 0.5}
EXACT = {"kind": "exact", **PROBE, "tolerance": 0.25}
ESTIMATE = {"kind": "estimate", **PROBE, "neutral": 1.0, "no_effect": 0.25}
SAVED = {"kind": "reduction", **PAIR, "axis": "updates", "no_effect": 0.05, "neutral": 0.2}
EFFECTS = [
    {"kind": "difference", **PAIR, "no_effect": 0.25},
    {"kind": "slope", "method": ["method", "rival"], "baseline": ["full", "full-half"], "no_effect": 0.25},
    {"kind": "ordering", "arms": ["method", "full"], "no_effect": 0.25},
    {"kind": "reduction", **PAIR, "axis": "updates", "no_effect": 0.25},
]


def test_a_rule_is_called_after_its_file() -> None:
    assert rule_kinds() == sorted(str(rule["kind"]) for rule in (RATIO, LOSSLESS, EXACT, ESTIMATE, *EFFECTS))
    for kind in rule_kinds():
        assert get_args(rule_class(kind).model_fields["kind"].annotation) == (kind,)
    with pytest.raises(ScrimpError, match="unknown kind of rule 'ration' in a claim's rule: did you mean 'ratio'"):
        rule_class("ration")


# ---------------------------------------------------------------------------------------------------------- verdicts
# Runs of three seeds whose numbers lie at 0, 1 or 2 `spread`s around a place: each verdict of each rule, from run files on.
def experiment(**qualities: tuple[float, float]) -> list[Summary]:
    """Runs at cost 1 whose quality is (mean, spread): mean - spread, mean, mean + spread by seed."""
    return [
        make_summary(arm, seed, 1.0, test_accuracy=mean + spread * (seed - 1))
        for arm, (mean, spread) in qualities.items()
        for seed in range(3)
    ]


def sweep_and(quality: float, spread: float, cost: float = 1.0) -> list[Summary]:
    """A sweep that gains 10 points per doubling, 70 at cost 1, and a method at `cost`."""
    runs = [
        make_summary(arm, seed, spent, test_accuracy=70 + 10 * math.log2(spent))
        for arm, spent in SWEEP.items()
        for seed in range(3)
    ]
    method = experiment(method=(quality, spread))
    return runs + [make_summary("method", run.seed, cost, **run.metrics) for run in method]


def costing(updates: float, spread: float) -> list[Summary]:
    """A method that spends `updates` of the 1000 that `full` does."""
    full = [make_summary("full", seed, 1.0) for seed in range(3)]
    return full + [make_summary("method", seed, (updates + spread * (seed - 1)) / 1000) for seed in range(3)]


# The interval of three values spread s apart reaches 2.48 s to either side of the mean.
REACHED: list[tuple[dict[str, Any], float | None, str, list[Summary]]] = [
    # A published lead of 4 points over arms that have 70: 80 % of it is 3.2, half 2; the band is +-.25.
    *(
        (rule, published, expected, experiment(**dict.fromkeys(others, (70.0, 0.0)), **{leader: (70 + lead, spread)}))
        for rule, leader, others in (
            (EFFECTS[0], "method", ["full"]),
            (EFFECTS[1], "rival", ["full", "full-half", "method"]),  # falls are subtracted: the end of the method's counts
            (EFFECTS[2], "method", ["full"]),
        )
        for published, expected, lead, spread in (
            (4.0, "supported", 3.3, 0.5),
            (4.0, "supported", 2.8, 0.1),
            (4.0, "partly supported", 2.8, 0.5),
            (4.0, "not supported", 0.0, 0.1),
            (4.0, "contradicted", -2.0, 0.5),
            (4.0, "inconclusive", 1.0, 1.0),
            (None, "supported", 1.0, 0.2),
        )
    ),
    # Margin .5.
    (LOSSLESS, 0.0, "supported", experiment(full=(70.0, 0.0), method=(70.0, 0.1))),
    (LOSSLESS, 0.0, "contradicted", experiment(full=(70.0, 0.0), method=(69.0, 0.1))),
    (LOSSLESS, 0.0, "inconclusive", experiment(full=(70.0, 0.0), method=(70.0, 0.5))),
    # A published factor of 4; the band is .8 to 1.25. A point of quality is a tenth of a doubling.
    (RATIO, 4.0, "supported", sweep_and(88.0, 1.0)),
    (RATIO, 4.0, "partly supported", sweep_and(78.0, 1.0)),
    (RATIO, 4.0, "not supported", sweep_and(70.0, 0.5)),
    (RATIO, 4.0, "contradicted", sweep_and(60.0, 1.0)),
    (RATIO, 4.0, "inconclusive", sweep_and(72.0, 2.0)),
    # 40 % saved; half of it is neither side: .15 to .25 where the band is .05, and .1 to .3 for .1.
    (SAVED, 0.4, "supported", costing(620, 5)),
    (SAVED, 0.4, "partly supported", costing(720, 5)),
    (SAVED, 0.4, "not supported", costing(800, 5)),
    (SAVED, 0.4, "contradicted", costing(980, 5)),
    (SAVED, 0.4, "inconclusive", costing(740, 20)),
]


@pytest.mark.parametrize(
    ("rule", "published", "expected", "runs"), REACHED, ids=[f"{rule['kind']}-{name}" for rule, _, name, _ in REACHED]
)
def test_every_rule_on_runs_reaches_the_verdicts_that_make_sense_for_it(
    rule: dict[str, Any], published: float | None, expected: str, runs: list[Summary]
) -> None:
    claim = make_claim(rule, published=published)
    result = judge_claim(claim, Workspace(Path()), make_study(), "mini", by_arm_and_seed(runs))
    assert result.verdict == expected, result.reason


# The same for rules on probes, from intervals on; the mean is the interval's middle.
@pytest.mark.parametrize(
    ("rule", "published", "ends", "expected"),
    [
        (ESTIMATE, 2.0, (1.7, 1.95), "supported"),  # neutral 1, band .75 to 1.25; 80 % of the size is 1.8
        (ESTIMATE, 2.0, (1.55, 1.6), "supported"),  # beyond half of it
        (ESTIMATE, 2.0, (1.3, 1.7), "partly supported"),
        (ESTIMATE, 2.0, (0.8, 1.2), "not supported"),
        (ESTIMATE, 2.0, (0.4, 0.7), "contradicted"),
        (ESTIMATE, 2.0, (1.2, 2.5), "inconclusive"),
        (EXACT, 10.0, (9.0, 12.0), "supported"),  # [8, 12.5] agree
        (EXACT, 10.0, (13.0, 14.0), "not supported"),
        (EXACT, 10.0, (5.0, 7.0), "contradicted"),
        (EXACT, 10.0, (7.0, 9.0), "inconclusive"),
        (EXACT | {"bound": True}, 10.0, (13.0, 14.0), "supported"),
        (EXACT | {"bound": True}, 10.0, (5.0, 7.0), "contradicted"),
        (EXACT | {"bound": True}, 10.0, (7.0, 13.0), "inconclusive"),
    ],
)
def test_every_rule_on_probes_reaches_the_verdicts_that_make_sense_for_it(
    rule: dict[str, Any], published: float, ends: tuple[float, float], expected: str
) -> None:
    claim = make_claim(rule, published=published)
    assert claim.rule is not None
    assert claim.rule.decide(Interval(sum(ends) / 2, *ends, 3), claim).name == expected


def test_every_kind_of_rule_is_held_to_its_verdicts_above() -> None:
    assert {str(rule["kind"]) for rule, *_ in REACHED} | {"estimate", "exact"} == set(rule_kinds())


def test_one_tolerance_for_each_kind_of_number() -> None:
    for study in ("infobatch", "jest", "scaling"):
        for claim in load_claims(Workspace(Path()), study):
            if claim.rule is not None and claim.rule.kind == "exact":
                assert claim.rule.model_dump()["tolerance"] is None, claim.id
    band = {kind: make_claim(EXACT | {"tolerance": None, "number": kind}, published=10.0) for kind in TOLERANCES}
    assert [claim.rule.band(10.0, "higher")[:2] for claim in band.values() if claim.rule] == [
        pytest.approx((10 / 1.02, 10.2)),
        pytest.approx((10 / 1.1, 11.0)),
    ]


# ------------------------------------------------------------------------------------------------------------- bands
@pytest.mark.parametrize(
    ("rule", "published", "direction", "ends"),
    [
        (RATIO, 2.0, "higher", (0.8, 1.25)),
        *((rule, 1.0, "higher", (-0.25, 0.25)) for rule in EFFECTS),
        (ESTIMATE, 2.0, "higher", (0.75, 1.25)),
        (LOSSLESS, None, "higher", (-math.inf, -0.5)),
        (LOSSLESS, None, "lower", (0.5, math.inf)),
        (EXACT, 10.0, "higher", (8.0, 12.5)),
        (EXACT, 0.0, "higher", (-0.25, 0.25)),
    ],
)
def test_the_band_that_is_drawn_is_the_one_that_decides(
    rule: dict[str, Any], published: float | None, direction: Any, ends: tuple[float, float]
) -> None:
    claim = make_claim(rule, published=published, direction=direction)
    assert claim.rule is not None
    band = claim.rule.band(published, direction)
    assert band is not None
    assert (band.low, band.high) == pytest.approx(ends)


# -------------------------------------------------------------------------------------------------------------- costs
def test_every_cost_and_its_part_for_references_is_a_meter() -> None:
    assert {*COSTS, *(f"{cost}_reference" for cost in COSTS)} <= set(Meters.model_fields)
    with pytest.raises(ScrimpError, match=r"rule\.axis: unknown cost 'flop' in axis: did you mean 'flops'"):
        make_claim(RATIO | {"axis": "flop"})


def test_a_claim_in_cpu_seconds_is_judged() -> None:
    def run(arm: str, seconds: float) -> Any:
        summary = make_summary(arm, 0, 1.0, test_accuracy=70.0)
        return summary.model_copy(update={"meters": summary.meters.model_copy(update={"cpu_seconds": seconds})})

    runs = by_arm_and_seed([run("method", 30.0), run("full", 40.0)])
    claim = make_claim({"kind": "reduction", **PAIR, "axis": "cpu_seconds"})
    assert judge_claim(claim, Workspace(Path()), make_study(), "mini", runs).measured == 0.25


# ------------------------------------------------------------------------------------------------------------ a new one
NEW_RULE = """
from typing import Literal

from scrimp.claims.rules.effect import Effect


class Worst(Effect):
    kind: Literal["worst-of-this-test"]
    method: str
    baseline: str

    def quantity(self, claim):
        return f"Largest loss of {claim.metric}"

    def measure(self, claim, runs):
        from scrimp.claims.evidence import Evidence, observations
        from scrimp.claims.statistics import Interval

        arms = [runs.arm(self.method), runs.arm(self.baseline)]
        seeds, notes = runs.paired_seeds(arms)
        values = runs.differences(*arms, seeds, claim.metric)
        worst = Interval(min(values), min(values), min(values), len(values))
        return Evidence(worst, observations(arms[0], seeds, values), arms, runs.run_commands(arms, seeds), notes)


RULE = Worst
"""


def test_a_new_rule_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "worst_of_this_test.py").write_text(NEW_RULE)
    monkeypatch.setattr(rules, "__path__", [*rules.__path__, str(tmp_path)])
    rule_kinds.cache_clear()
    monkeypatch.setattr(rules, "rule_kinds", rule_kinds.__wrapped__)
    claim = make_claim({"kind": "worst-of-this-test", **PAIR, "no_effect": 0.5})
    ends = {"full": [70.0, 71.0, 72.0], "method": [72.0, 72.0, 74.0]}
    runs = by_arm_and_seed(
        make_summary(arm, seed, 1.0, test_accuracy=value)
        for arm, values in ends.items()
        for seed, value in enumerate(values)
    )
    result = judge_claim(claim, Workspace(Path()), make_study(), "mini", runs)
    assert (result.measured, result.verdict, result.n) == (1.0, "supported", 3)
    assert result.rule_text.startswith("Largest loss of test_accuracy: supported if the 95 % interval lies wholly above 0.5")


# ----------------------------------------------------------------------------------------------------- light and counted
def test_claims_are_read_without_numpy_and_what_comes_after_it() -> None:
    script = """
import sys
from scrimp.claims.loading import load_claims
from scrimp.claims.rules import rule_class, rule_kinds
from scrimp.config import Workspace
assert [rule_class(kind) for kind in rule_kinds()]
assert all(load_claims(Workspace("."), study) for study in ("infobatch", "jest", "scaling"))
heavy = {"numpy", "scipy", "pandas", "torch"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_verdicts_digest_counts_every_rule_in() -> None:
    reached = {Path(file).name for file in files_of("scrimp.claims.judge", *rule_modules())}
    assert {f"{kind.replace('-', '_')}.py" for kind in rule_kinds()} | {"effect.py", "evidence.py", "verdicts.py"} <= reached
