"""The judge end to end on run folders that were written, not trained."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_study import SWEEP, make_claim, make_curve, make_study, make_summary

from scrimp.claims.judge import (
    CSV_COLUMNS,
    ClaimResult,
    collect_claims,
    judge,
    judge_claim,
    read_claims,
    write_claims,
)
from scrimp.config import Claim, Workspace
from scrimp.errors import ScrimpError
from scrimp.records import Summary, write_run
from scrimp.runs import by_arm_and_seed

SPEEDUP = {"kind": "ratio", "method": "method", "axis": "flops"}
T_2 = math.sqrt(2) * 0.95 / math.sqrt(1 - 0.95**2)  # Student's t, 2 degrees of freedom, 97.5 %

# The sweep gains 10 points per doubling from 50 at cost 1/4: quality 75 is worth cost sqrt(2).
QUALITIES = {"full-quarter": 50.0, "full-half": 60.0, "full": 70.0, "full-x2": 80.0, "full-x4": 90.0}


def save(root: Path, summary: Summary, costs: list[float] | None = None, values: list[float] | None = None) -> None:
    folder = Workspace(root).run_folder(summary.scale, summary.study, summary.arm, summary.seed)
    curve = make_curve(summary.arm, summary.seed, costs or [1.0], values or [summary.metrics["test_accuracy"]])
    write_run(folder, curve, summary, {})


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Three seeds of a sweep (shifted by seed) and of a method at half the cost of `full`; less in workload `small`."""
    for seed in range(3):
        for arm, quality in QUALITIES.items():
            ends = [0.0, SWEEP[arm] / 2, SWEEP[arm]]
            save(tmp_path, make_summary(arm, seed, SWEEP[arm], test_accuracy=quality + seed), ends, [0, 20, quality])
        lead = [0.0, 1.0, -1.0][seed]  # points, so 2 ** (lead / 10) in cost
        summary = make_summary("method", seed, 0.5, test_accuracy=75 + seed + lead)
        save(tmp_path, summary, [0.0, 0.25, 0.5 - 0.01 * seed], [0, 35, 70])
        save(tmp_path, make_summary("full@small", seed, 1.0, test_accuracy=40))
    save(tmp_path, make_summary("method@small", 1, 0.5, test_accuracy=41))
    save(tmp_path, make_summary("dropped-arm", 0, 1.0, test_accuracy=99))
    # A seed of `full` that was trained by another configuration: it must not move anything.
    save(tmp_path, make_summary("full", 7, 9.0, test_accuracy=99).model_copy(update={"config": {"arm": {}}}))
    save(tmp_path, make_summary("method", 7, 9.0, test_accuracy=1).model_copy(update={"config": {"arm": {}}}))
    return Workspace(tmp_path)


def judged(workspace: Workspace, rule: dict[str, Any] | None, scale: str = "mini", **given: Any) -> ClaimResult:
    claim = make_claim(rule, **given)
    return judge(workspace, make_study(), scale, [claim])[0]


def test_speedup_on_the_sweep_end_to_end(workspace: Workspace) -> None:
    result = judged(workspace, SPEEDUP, published=2.5, figure="speedups", deviations={"mini": "icons, not ImageNet"})
    # Quality 75 is the sweep's at cost 2 ** .5, the method costs 1/2: 2 ** 1.5, and 2 ** .1 per point of lead.
    assert [p.value for p in result.points] == pytest.approx([2**1.5, 2**1.6, 2**1.4])
    assert result.measured == pytest.approx(2**1.5)
    # The logs to base 2 have standard deviation .1.
    assert result.low == pytest.approx(2 ** (1.5 - T_2 * 0.1 / math.sqrt(3)))
    assert result.high == pytest.approx(2 ** (1.5 + T_2 * 0.1 / math.sqrt(3)))
    assert (result.verdict, result.n, result.workload) == ("supported", 3, "icons")
    assert set(result.arms) == {"method", *SWEEP}
    assert len(result.commands) == 18
    assert "scrimp run fake full-x4 --seed 2 --scale mini" in result.commands
    assert (result.figure, result.deviations) == ("speedups", "icons, not ImageNet")
    # 2.83 is short of 80 % of the size, 13 ** .8 = 7.8, and of half of it, 13 ** .5 = 3.6.
    assert judged(workspace, SPEEDUP, published=13.0).verdict == "partly supported"


def test_censored_speedups_are_said_to_be_bounds(workspace: Workspace) -> None:
    for seed in range(3):
        save(workspace.root, make_summary("method", seed, 0.5, test_accuracy=99 + seed))
    result = judged(workspace, SPEEDUP, published=13.0)
    assert (result.measured, result.low) == (pytest.approx(8.0), pytest.approx(8.0))
    assert (result.high, result.censored, result.verdict) == (math.inf, "above", "supported")
    assert "3 of 3 speedups known only as at least" in result.reason


def test_published_way_reads_two_curves(workspace: Workspace) -> None:
    result = judged(workspace, SPEEDUP | {"way": "curves", "baseline": "full"}, published=2.0)
    # 70 at cost 1 against 70 at cost .5, .49 and .48.
    assert [p.value for p in result.points] == pytest.approx([1 / 0.5, 1 / 0.49, 1 / 0.48])
    assert result.verdict == "supported"


def test_a_speedup_on_a_flat_sweep_is_said_to_have_no_size(workspace: Workspace) -> None:
    for seed in range(3):
        for place, arm in enumerate(QUALITIES):
            hair = 0.1 * ((seed + place) % 3)
            save(workspace.root, make_summary(arm, seed, SWEEP[arm], test_accuracy=75 + hair))
    result = judged(workspace, SPEEDUP, published=2.0)
    assert result.verdict == "inconclusive"
    assert "the published 2 is not excluded; the baseline sweep does not rise" in result.reason
    for seed in range(3):  # far above: whatever the speedup is, it is more than the sweep's end, by which it is judged
        save(workspace.root, make_summary("method", seed, 0.5, test_accuracy=80 + 0.1 * seed))
    result = judged(workspace, SPEEDUP, published=2.0)
    assert (result.low, result.verdict) == (pytest.approx(8.0), "supported")
    assert "beyond 1.414, half of the published 2" in result.reason


def test_amortised_costs_leave_the_reference_out(workspace: Workspace) -> None:
    full = judged(workspace, SPEEDUP, published=2.0)
    for seed in range(3):
        run = make_summary("method", seed, 0.5, test_accuracy=75 + seed + [0, 1, -1][seed])
        meters = run.meters.model_copy(update={"flops": 2000.0, "flops_reference": 1500.0})
        save(workspace.root, run.model_copy(update={"meters": meters}))
    with_it = judged(workspace, SPEEDUP, published=2.0)
    without = judged(workspace, SPEEDUP | {"axis": "flops-amortised"}, published=2.0)
    assert without.measured == pytest.approx(full.measured)
    assert with_it.measured == pytest.approx(without.measured / 4)  # type: ignore[operator]
    # A curve carries the reference's cost in every row, and an amortised one gives it back.
    curves = {"way": "curves", "baseline": "full"}
    told = judged(workspace, SPEEDUP | curves | {"axis": "flops-amortised"}, published=2.0)
    assert "was not measured along its curve" in told.reason


def test_difference_by_hand(workspace: Workspace) -> None:
    rule = {"kind": "difference", "method": "method", "baseline": "full", "no_effect": 0.5}
    result = judged(workspace, rule, published=5.0)
    assert [p.value for p in result.points] == [5.0, 6.0, 4.0]
    assert (result.measured, result.low) == (5.0, pytest.approx(5 - T_2 / math.sqrt(3)))
    assert result.verdict == "supported"
    assert judged(workspace, rule, direction="lower").verdict == "contradicted"
    lossless = {"kind": "non-inferiority", "method": "method", "baseline": "full", "margin": 0.5}
    assert judged(workspace, lossless).verdict == "supported"
    assert judged(workspace, lossless | {"method": "full", "baseline": "method"}).verdict == "contradicted"


def test_ordering_speaks_of_the_closest_rival(workspace: Workspace) -> None:
    result = judged(workspace, {"kind": "ordering", "arms": ["method", "full-quarter", "full"], "no_effect": 0.5})
    assert (result.measured, result.verdict) == (5.0, "supported")
    assert {p.arm for p in result.points} == {"full-quarter", "full"}
    rule = {"kind": "ordering", "arms": ["full-quarter", "method", "full"], "no_effect": 0.5}
    result = judged(workspace, rule, direction="lower")
    assert (result.measured, result.verdict) == (-20.0, "supported")
    assert judged(workspace, rule).verdict == "contradicted"


def test_slope_and_reduction_by_hand(workspace: Workspace) -> None:
    rule = {
        "kind": "slope", "baseline": ["full", "full-quarter"], "method": ["full-x4", "full-x2"], "no_effect": 0.5,
    }  # fmt: skip
    assert judged(workspace, rule).measured == 10.0  # falls by 20 against 10
    saved = {"kind": "reduction", "method": "method", "baseline": "full", "axis": "examples"}
    result = judged(workspace, saved, published=0.5)
    assert (result.measured, result.verdict) == (0.5, "supported")
    # The same in all seeds, to one example of 1000.
    assert result.high == pytest.approx(0.5 + T_2 * 0.001 / math.sqrt(3))
    # Of a promise of 97 %, counted from a share that speaks for neither side.
    assert judged(workspace, saved | {"neutral": 0.2}, published=0.97).verdict == "partly supported"
    assert judged(workspace, saved | {"neutral": 0.485}, published=0.97).verdict == "not supported"
    assert judged(workspace, saved | {"neutral": 0.6}, published=0.97).verdict == "contradicted"


def test_another_workload_is_paired_by_the_seeds_it_has(workspace: Workspace) -> None:
    rule = {"kind": "difference", "method": "method", "baseline": "full", "no_effect": 0.5}
    result = judged(workspace, rule, at={"mini": "small"})
    assert (result.measured, result.n, result.low, result.verdict) == (1.0, 1, None, "inconclusive")
    assert result.reason == (
        "one seed gives no interval; the source gives no size; without seed 0, 2 (no finished run of method@small)"
    )
    assert result.arms == ["method@small", "full@small"]


@pytest.mark.parametrize(
    ("rule", "given_", "reason"),
    [
        (None, {"not_run": "needs a cluster"}, "needs a cluster"),
        (SPEEDUP, {"at": {"mini": None}}, "left out at scale mini"),
        (SPEEDUP, {"scale": "gpu"}, "make it with `scrimp run fake method --seed 0 --scale gpu`"),
        (SPEEDUP | {"method": "rival"}, {}, "no finished run of rival at scale mini"),
        (SPEEDUP, {"at": {"mini": "small"}}, "a sweep needs two or more"),
        (SPEEDUP, {"metric": "test_loss"}, "does not record test_loss; it records test_accuracy"),
        (SPEEDUP | {"way": "curves", "baseline": "full"}, {"metric": "test_loss"}, "records no curve of test_loss"),
        (
            {"kind": "difference", "method": "rival", "baseline": "full", "no_effect": 1},
            {"at": {"mini": "small"}},
            "rival is no arm of workload small at scale mini",
        ),
        ({"kind": "exact", "probe": "nothing", "column": "c", "tolerance": 0.1}, {"published": 1}, "not part of scale"),
        (
            {"kind": "exact", "probe": "overhead", "column": "c", "tolerance": 0.1},
            {"published": 1},
            "make it with `scrimp probe fake overhead --scale mini`",
        ),
    ],
)
def test_not_run_says_why(workspace: Workspace, rule: Any, given_: dict[str, Any], reason: str) -> None:
    result = judged(workspace, rule, **given_)
    assert (result.verdict, result.measured, result.n) == ("not run", None, 0)
    assert reason in result.reason


def test_an_axis_that_was_not_measured_is_not_run(workspace: Workspace) -> None:
    summary = make_summary("method", 0, 0.5, test_accuracy=75.0)
    idle = summary.model_copy(update={"meters": summary.meters.model_copy(update={"flops": None})})
    study = make_study()
    runs = by_arm_and_seed([idle, make_summary("full", 0, 1.0, test_accuracy=70.0)])
    rule = {"kind": "reduction", "method": "method", "baseline": "full", "axis": "flops"}
    result = judge_claim(make_claim(rule), workspace, study, "mini", runs)
    assert (result.verdict, result.reason) == ("not run", "flops of method (seed 0) was not measured")


def test_unknown_workload_is_an_error(workspace: Workspace) -> None:
    with pytest.raises(ScrimpError, match="did you mean 'icons'"):
        judged(workspace, SPEEDUP, at={"mini": "icon"})


def test_probe_rows(workspace: Workspace) -> None:
    path = workspace.results("mini", "fake") / "probes" / "overhead.parquet"
    path.parent.mkdir(parents=True)
    rows = {"size": [1, 1, 1, 2], "share": [0.1, 0.2, 0.3, 0.5], "gone": [None] * 4, "seed": [0, 1, 2, 0]}
    pd.DataFrame(rows).to_parquet(path)
    rule = {"kind": "exact", "probe": "overhead", "column": "share", "where": {"size": 2}, "tolerance": 0.1}
    one = judged(workspace, rule, published=0.5)
    assert (one.measured, one.low, one.n, one.verdict) == (0.5, 0.5, 1, "supported")
    assert one.commands == ["scrimp probe fake overhead --scale mini"]
    several = judged(workspace, rule | {"where": {"size": 1}}, published=0.2)
    assert several.high == pytest.approx(0.2 + T_2 * 0.1 / math.sqrt(3))
    assert (several.n, several.verdict) == (3, "inconclusive")
    assert several.reason.endswith("the published 0.2 is not excluded")
    assert judged(workspace, rule | {"where": {"size": 3}}, published=0.2).reason.startswith("the probe overhead has no")
    assert judged(workspace, rule | {"column": "gone"}, published=0.2).verdict == "not run"
    with pytest.raises(ScrimpError, match="unknown column 'shar'"):
        judged(workspace, rule | {"column": "shar"}, published=0.2)


def write_probe(workspace: Workspace, rows: dict[str, list[Any]]) -> None:
    path = workspace.results("mini", "fake") / "probes" / "overhead.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(path)


def test_a_derived_number_has_the_interval_of_its_table(workspace: Workspace) -> None:
    rule = {"kind": "exact", "probe": "overhead", "column": "a"}
    for names in (("a_low", "a_high"), ("low", "high")):
        write_probe(workspace, {"a": [0.5], names[0]: [0.44], names[1]: [0.56]})
        result = judged(workspace, rule, published=0.5)
        assert (result.measured, result.low, result.high, result.n) == (0.5, 0.44, 0.56, 1)
        assert result.verdict == "inconclusive"  # 10 % either way is .4545 to .55
    write_probe(workspace, {"a": [0.5], "low": [0.44], "high": [0.56], "seeds": [3]})
    assert judged(workspace, rule, published=0.5).n == 3
    write_probe(workspace, {"a": [0.5], "a_low": [None], "a_high": [None]})
    assert judged(workspace, rule, published=0.5).reason.startswith("the number 0.5 lies within")


def test_equal_rows_are_a_counted_number_and_equal_seeds_have_no_interval(workspace: Workspace) -> None:
    rule = {"kind": "exact", "probe": "overhead", "column": "a"}
    write_probe(workspace, {"a": [0.5, 0.5, 0.5]})
    result = judged(workspace, rule, published=0.5)
    assert (result.low, result.verdict) == (0.5, "supported")
    assert result.reason.endswith("the same in all 3 rows: a counted number")
    write_probe(workspace, {"a": [0.5, 0.5, 0.5], "seed": [0, 1, 2]})
    result = judged(workspace, rule, published=0.5)
    assert (result.low, result.verdict) == (None, "inconclusive")
    assert result.reason.startswith("the values of all seeds are the same")


@pytest.mark.parametrize(
    ("share", "verdict"),
    [
        (0.0, "contradicted"),
        (5 / 15, "inconclusive"),
        (0.5, "inconclusive"),
        (11 / 15, "inconclusive"),
        (12 / 15, "partly supported"),
        (14 / 15, "supported"),
        (1.0, "supported"),
    ],
)
def test_a_share_of_cases_resolves_one_of_them(workspace: Workspace, share: float, verdict: str) -> None:
    """Three equal shares of 15 pairs reach t(.975, 2) / sqrt(3) / 15 = .166 to either side; .4 to .6 speaks for neither."""
    write_probe(workspace, {"share": [share] * 3, "pairs": [15] * 3, "seed": [0, 1, 2]})
    rule = {
        "kind": "estimate", "probe": "overhead", "column": "share", "of": "pairs", "neutral": 0.5, "no_effect": 0.1,
    }  # fmt: skip
    result = judged(workspace, rule, published=1.0)
    assert (result.verdict, result.measured) == (verdict, pytest.approx(share))
    reach = T_2 / math.sqrt(3) / 15
    assert (result.low, result.high) == pytest.approx((max(0, share - reach), min(1, share + reach)))


def claims_of_every_fate() -> list[Claim]:
    return [
        make_claim(SPEEDUP, id="saves", published=2.5, statement='Costs less, "by far"'),
        make_claim(None, id="skipped", not_run="needs a cluster"),
        make_claim(SPEEDUP | {"axis": "seconds"}, id="open", published=13.0),
        make_claim(
            {"kind": "difference", "method": "method", "baseline": "full", "no_effect": 0.5},
            id="single", at={"mini": "small"},
        ),
    ]  # fmt: skip


def test_tables_round_trip(workspace: Workspace) -> None:
    for seed in range(3):
        save(workspace.root, make_summary("method", seed, 0.5, test_accuracy=99 + seed))
    study, claims = make_study(), claims_of_every_fate()
    results = judge(workspace, study, "mini", claims)
    write_claims(workspace, "fake", "mini", results)
    folder = workspace.results("mini", "fake")
    assert read_claims(workspace, "fake", "mini") == results
    raw = json.loads((folder / "claims.json").read_text())
    assert (raw[2]["high"], raw[1]["measured"]) == ("inf", None)
    with (folder / "claims.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == CSV_COLUMNS
    assert [row["claim"] for row in rows] == ["saves", "skipped", "open", "single"]
    assert [row["verdict"] for row in rows] == ["supported", "not run", "supported", "inconclusive"]
    assert (rows[2]["high"], rows[1]["low"], rows[3]["high"]) == ("inf", "", "")
    assert float(rows[0]["measured"]) == results[0].measured
    assert pd.read_csv(folder / "claims.csv")["high"].tolist()[2] == math.inf
    before = (folder / "claims.json").read_bytes(), (folder / "claims.csv").read_bytes()
    write_claims(workspace, "fake", "mini", judge(workspace, study, "mini", claims))
    assert before == ((folder / "claims.json").read_bytes(), (folder / "claims.csv").read_bytes())
    assert collect_claims(workspace, "mini", ["fake"]) == results
    assert (workspace.results("mini") / "claims.csv").read_bytes() == before[1]


def test_a_study_without_claims_is_named(workspace: Workspace) -> None:
    with pytest.raises(ScrimpError, match=r"other/claims\.json does not exist"):
        collect_claims(workspace, "mini", ["other"])
