"""The page that ranks methods: what its columns count, what its rows are named, and that verdicts say the same."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scrimp.claims.loading import load_claims
from scrimp.claims.rules.ratio import Ratio
from scrimp.config import Workspace
from scrimp.files import read_json, write_json
from scrimp.records import Meters
from scrimp.report.documents import with_tables
from scrimp.report.speedups import COLUMNS, Measured
from scrimp.report.tables import format_with_interval

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "ranking.md"
WOBBLE = {0: -0.1, 1: 0.0, 2: 0.1, 3: 5.0, 4: 5.0}  # by seed, in points; the sweep has the first three seeds alone
EASY = f"1.414× ({math.sqrt(2) * math.exp(-0.01722):.3f} to {math.sqrt(2) * math.exp(0.01722):.3f})"
# Ten points along the sweep are a factor of 2 in cost. Three seeds a tenth of a point apart reach t(2) * 0.1 / sqrt(3) =
# 0.2484 points to each side, a factor of exp(0.02484 * ln 2) = exp(0.01722).


def run(arm: str, seed: int, accuracy: float, flops: float, cpu: float, **changes: float) -> dict[str, Any]:
    """A row of published runs. The sweep has accuracies of 60 and 70, losses of 2 and 1, at 50 and 100 FLOPs."""
    meters = Meters.nothing().model_dump() | {"flops": flops, "cpu_seconds": cpu} | changes
    return {"arm": arm, "seed": seed, "test_accuracy": accuracy, "test_loss": (80 - accuracy) / 10, **meters}


def sweep(at: str = "") -> list[dict[str, Any]]:
    points = {"full-x0.5": (60, 50), "full": (70, 100)}
    return [run(f"{arm}{at}", seed, *point, point[1]) for arm, point in points.items() for seed in range(3)]


@pytest.fixture
def published(tiny: Workspace) -> Workspace:
    """Published runs of `tiny`, of which none left a folder, and a second workload with a sweep of its own."""
    study = tiny.study_folder("tiny") / "study.yaml"
    study.write_text(study.read_text().replace("arms: [full, infobatch-50]", "arms: [full, full-x0.5, infobatch-50]"))
    folder = tiny.root / "results/reference/here/tiny"
    folder.mkdir(parents=True)
    rows = [
        *sweep(),
        *(run("rs2-50", seed, 65 + off, 50, 100) for seed, off in WOBBLE.items()),
        *(
            run("el2n-50", seed, 65 + WOBBLE[seed], 100, 200, flops_reference=50, cpu_seconds_reference=150)
            for seed in range(3)
        ),
        *(run("random-50", seed, 55 + WOBBLE[seed], 50, 50) for seed in range(3)),
        *(run("ccs-50", seed, 75 + WOBBLE[seed], 50, 50) for seed in range(3)),
        *(run("infobatch-50", seed, 65 + WOBBLE[seed], 25, 25) for seed in range(3)),
        *sweep("@vit"),
        *(run("infobatch-50@vit", seed, 65 + WOBBLE[seed], 50, 50) for seed in range(3)),
    ]
    pd.DataFrame(rows).to_csv(folder / "runs.csv", index=False)
    write_json(folder / "provenance.json", {"scale": "smoke"})
    return tiny


def claims_that_read(workspace: Workspace, *metrics: str) -> None:
    shared = "source: x, published: 1, published_unit: times, direction: higher"
    rule = "{kind: ratio, method: rs2-50, axis: flops}"
    lines = [
        f"  - {{id: by-{number}, number: '{number}', statement: It saves., metric: {metric}, {shared}, rule: {rule}}}"
        for number, metric in enumerate(metrics)
    ]
    (workspace.study_folder("tiny") / "claims.yaml").write_text("\n".join(["claims:", *lines]) + "\n")


def ranking(workspace: Workspace) -> list[dict[str, str]]:
    """The rows of the table as it is made now, by the names of the columns."""
    return rows_in(with_tables(workspace, "<!-- table: speedups here -->\n<!-- end of table -->", "x.md"))


def rows_in(text: str) -> list[dict[str, str]]:
    """The same of a page that has been written."""
    lines = text.partition("<!-- table: speedups")[2].partition("<!-- end of table -->")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[1], *lines[3:])]
    assert rows[0] == COLUMNS
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def by_method(workspace: Workspace) -> dict[str, list[str]]:
    return {row["method"]: [row[name] for name in COLUMNS[3:]] for row in ranking(workspace)}


def test_earlier_models_count_in_the_rank_and_in_time_and_stand_apart(published: Workspace) -> None:
    rows = by_method(published)
    half, quarter = (f"{math.sqrt(2) / by:.3f}×" for by in (2, 4))
    seeds, flops, left_out, time = rows["EL2N 50 %"]
    assert (seeds, left_out) == ("3", EASY)
    assert flops.startswith(half)
    assert time.startswith(quarter)
    assert rows["RS2 50 %"] == ["3", EASY, "–", flops]
    # By what it takes with everything counted, EL2N comes after what it would precede without its proxies.
    assert list(rows).index("EL2N 50 %") > list(rows).index("RS2 50 %")


def test_the_largest_lower_end_comes_first(published: Workspace) -> None:
    methods = [row["method"] for row in ranking(published)]
    assert methods[:2] == ["InfoBatch 50 %", "CCS 50 %"]  # 2.8 times, and at least twice
    assert methods[-2:] == ["EL2N 50 %", "random static 50 %"]


def test_a_bound_is_no_estimate(published: Workspace) -> None:
    rows = by_method(published)
    assert rows["random static 50 %"][1] == "< 1.0× (0 to 1.0)"  # the shortest plain run is better, at an equal cost
    assert rows["CCS 50 %"][1] == "> 2× (> 2)"  # the longest one is worse, at twice the cost
    assert str(Measured(1.2, 0.0, math.inf, 3, frozenset({"above", "below"}))) == "no bound"


def test_seeds_are_those_that_the_sweep_has_too(published: Workspace) -> None:
    assert by_method(published)["RS2 50 %"][0] == "3"  # of five


def test_a_row_of_another_workload_says_so(published: Workspace) -> None:
    rows = by_method(published)
    assert rows["InfoBatch 50 %, workload vit"][1] == EASY
    assert rows["InfoBatch 50 %"][1].startswith("2.83×")


def test_a_study_has_rows_for_every_metric_that_its_claims_read_speedups_at(published: Workspace) -> None:
    assert {row["quality"] for row in ranking(published)} == {"top-1 accuracy"}  # no claim on a speedup
    claims_that_read(published, "test_loss", "test_accuracy")
    found = Counter((row["method"], row["quality"]) for row in ranking(published))
    assert found["RS2 50 %", "loss"] == found["RS2 50 %", "top-1 accuracy"] == 1
    claims_that_read(published, "test_loss", "test_f1")  # one that no run records has no rows
    assert {row["quality"] for row in ranking(published)} == {"loss"}


def test_a_run_that_diverged_is_a_miss(published: Workspace) -> None:
    path = published.root / "results/reference/here/tiny/runs.csv"
    rows = pd.read_csv(path)
    rows["diverged_at"] = [3.0 if (arm, seed) == ("rs2-50", 1) else math.nan for arm, seed in rows[["arm", "seed"]].values]
    rows.to_csv(path, index=False)
    assert by_method(published)["RS2 50 %"][1].startswith("0× (0 to")


def test_every_row_of_the_page_can_be_told_from_the_others() -> None:
    named = Counter((row["method"], row["study"], row["quality"]) for row in rows_in(PAGE.read_text()))
    assert [row for row, count in named.items() if count > 1] == []
    assert any(method == "easy reference 80 %" and quality.endswith("unseen designers") for method, _, quality in named)


def test_the_page_says_what_the_verdicts_say() -> None:
    """A claim on a speedup along the sweep and a row of the same method, quality and cost are one number."""
    workspace, compared = Workspace(ROOT), 0
    columns = {"flops": COLUMNS[4], "flops-amortised": COLUMNS[5], "cpu_seconds": COLUMNS[6]}
    rows = rows_in(PAGE.read_text())  # which tests of documents hold against the results
    for study in sorted({row["study"] for row in rows}):
        results = {one["claim"]: one for one in read_json(ROOT / f"results/reference/mini-cpu/{study}/claims.json")}
        arms = workspace.study(study).arms
        for claim in load_claims(workspace, study):
            if not isinstance(claim.rule, Ratio) or claim.rule.way != "sweep" or claim.rule.axis not in columns:
                continue
            result = results[claim.id]
            if result["workload"] != workspace.study(study).scale("mini").main:
                continue
            mean, low, high = (float(result[key]) for key in ("measured", "low", "high"))
            told = format_with_interval(mean, low, high, "times", result["censored"]).replace("\u00a0", " ")
            of_method = [r for r in rows if (r["study"], r["method"]) == (study, arms[claim.rule.method].label)]
            assert told in [row[columns[claim.rule.axis]] for row in of_method], claim.id
            compared += 1
    assert compared >= 20
