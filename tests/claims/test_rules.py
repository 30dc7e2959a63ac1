"""Rules by the contract: found by their files, each with its fields, number, band, verdicts and sentence."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from fake_study import make_claim, make_study, make_summary

from scrimp.claims import rules
from scrimp.claims.judge import judge_claim
from scrimp.claims.rules import rule_class, rule_kinds, rule_modules
from scrimp.claims.statistics import Interval
from scrimp.config import Workspace
from scrimp.config.claims import COSTS
from scrimp.errors import ScrimpError
from scrimp.measure.code import files_of
from scrimp.records import Meters
from scrimp.runs import by_arm_and_seed

PAIR = {"method": "method", "baseline": "full"}
PROBE = {"probe": "overhead", "column": "share"}
RATIO = {"kind": "ratio", "method": "method", "axis": "flops", "no_effect": 0.25}
LOSSLESS = {"kind": "non-inferiority", **PAIR, "margin": 0.5}
EXACT = {"kind": "exact", **PROBE, "tolerance": 0.25}
ESTIMATE = {"kind": "estimate", **PROBE, "neutral": 1.0, "no_effect": 0.25}
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
# Intervals in units of the band: each rule's verdict follows from where they lie.
FAR, PAST, NEAR, AGAINST, OVER = (0.5, 1.5), (0.3, 0.6), (-0.2, 0.2), (-0.6, -0.3), (0.2, 1.5)
OUTCOMES = [
    (FAR, "supported"),
    (PAST, "partly supported"),
    (NEAR, "not supported"),
    (AGAINST, "contradicted"),
    (OVER, "inconclusive"),
]


@pytest.mark.parametrize("rule", [*EFFECTS, ESTIMATE], ids=lambda rule: rule["kind"])
@pytest.mark.parametrize(("ends", "expected"), OUTCOMES, ids=[verdict for _, verdict in OUTCOMES])
def test_an_effect_reaches_every_verdict(rule: dict[str, Any], ends: tuple[float, float], expected: str) -> None:
    nothing = rule.get("neutral", 0.0)
    assert decided(rule, (nothing + ends[0], nothing + ends[1]), nothing + 1.0) == expected


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((1.3, 2.5), "supported"),
        ((1.3, 1.9), "partly supported"),
        ((0.85, 1.2), "not supported"),
        ((0.5, 0.79), "contradicted"),
        ((0.79, 1.2), "inconclusive"),
    ],
)
def test_a_speedup_reaches_every_verdict(ends: tuple[float, float], expected: str) -> None:
    assert decided(RATIO, ends, 2.0) == expected


@pytest.mark.parametrize(
    ("rule", "ends", "expected"),
    [
        (LOSSLESS, (-0.4, 0.1), "supported"),
        (LOSSLESS, (-0.9, -0.6), "contradicted"),
        (LOSSLESS, (-0.6, 0.1), "inconclusive"),
        (EXACT, (9.0, 12.0), "supported"),  # published 10: [8, 12.5] agree
        (EXACT, (13.0, 14.0), "not supported"),
        (EXACT, (5.0, 7.0), "contradicted"),
        (EXACT, (7.0, 9.0), "inconclusive"),
    ],
)
def test_the_others_reach_those_that_make_sense(rule: dict[str, Any], ends: tuple[float, float], expected: str) -> None:
    assert decided(rule, ends, 10.0 if rule is EXACT else None) == expected


def decided(rule: dict[str, Any], ends: tuple[float, float], published: float | None) -> str:
    claim = make_claim(rule, published=published)
    assert claim.rule is not None
    return claim.rule.decide(Interval(sum(ends) / 2, *ends, 3), claim).name


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
