"""Verdicts on runs that were never trained: a method with a planted speedup, a flat sweep, half an audit."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scrimp import metrics
from scrimp.audit.design import Design, Traits, candidates, sweep_arm
from scrimp.audit.folder import SCALE, Audited, write_folder
from scrimp.audit.plan import Pace, fraction_doubt
from scrimp.audit.verdict import Verdict, _between, conclude
from scrimp.config import Workspace
from scrimp.files import digest_of
from scrimp.metrics import Metric
from scrimp.records import CURVE_COLUMNS, Meters, Summary, write_run

PACE = Pace(steps=100, step=0.01, evaluation=0.1, evaluations=4, start=1.0, memory=0)


def write(workspace: Workspace, arm: str, seed: int, cost: float, error: float) -> None:
    """A finished run that cost `cost` of everything."""
    study = workspace.study("my-line")
    spent = dict.fromkeys(Meters.model_fields, 0)
    spent |= dict.fromkeys(("examples", "updates"), 1000 * cost) | {
        "flops": 1e6 * cost,
        "seconds": cost,
        "cpu_seconds": cost,
    }
    spec = study.run_spec(SCALE, arm)
    summary = Summary(
        study="my-line",
        arm=arm,
        seed=seed,
        scale=SCALE,
        config=spec,
        config_digest=digest_of(spec),
        command="-",
        meters=Meters(**{key: int(value) if key in ("examples", "updates") else value for key, value in spent.items()}),
        metrics={"test_mse": error},
    )
    row = ["my-line", arm, seed, SCALE, 1, 1000 * cost, 1e6 * cost, cost, "test_mse", error]
    curve = pd.DataFrame([row], columns=CURVE_COLUMNS)
    write_run(workspace.run_folder(SCALE, "my-line", arm, seed), curve, summary, {"written": "-"})


@pytest.fixture
def audit(audited: Audited, tmp_path: Path) -> tuple[Workspace, Design]:
    design = Design(candidates(Traits.of(audited.task), ["rs2"]), seeds=4)
    return write_folder(tmp_path / "audit", audited, design), design


def judged(audit: tuple[Workspace, Design], audited: Audited, missing: int = 0) -> Verdict:
    workspace, design = audit
    return conclude(workspace, audited, design, PACE, at_a_time=2, missing=missing)


def sweep(workspace: Workspace, design: Design, slope: float, noise: float) -> None:
    """Errors fall by `slope` with every factor e of cost."""
    rng = np.random.default_rng(0)
    for share in design.sweep:
        for seed in range(design.seeds):
            write(workspace, sweep_arm(share), seed, share, 2 - slope * math.log(share) + noise * rng.normal())


def test_a_planted_speedup_is_found_and_recommended(audit: tuple[Workspace, Design], audited: Audited) -> None:
    workspace, design = audit
    sweep(workspace, design, slope=0.5, noise=0.005)
    rng = np.random.default_rng(1)
    for seed in range(design.seeds):  # as good as the whole recipe, at half its cost
        write(workspace, "rs2-50", seed, 0.5, 2 + 0.005 * rng.normal())
    verdict = judged(audit, audited)
    method = verdict.methods[0]
    found = method.speedup["cpu_seconds"]
    assert found.value == pytest.approx(2.0, rel=0.05)
    assert found.verdict == "supported"
    assert verdict.recommendation.startswith("Use RS2 50 %")
    assert "it saves" in method.sentence
    assert verdict.complete
    page = (workspace.root / "report.html").read_text()
    assert "Use RS2 50" in page.replace("\u00a0", " ")
    stored = json.loads((workspace.root / "verdict.json").read_text())
    assert Verdict.model_validate(stored) == verdict
    assert stored["better"] == "lower"


def test_a_method_that_loses_to_shorter_training_is_said_to(audit: tuple[Workspace, Design], audited: Audited) -> None:
    workspace, design = audit
    sweep(workspace, design, slope=0.5, noise=0.005)
    for seed in range(design.seeds):  # as bad as a quarter of the recipe, at half its cost
        write(workspace, "rs2-50", seed, 0.5, 2 - 0.5 * math.log(0.26) + 0.001 * seed)
    verdict = judged(audit, audited)
    assert verdict.methods[0].speedup["cpu_seconds"].verdict == "contradicted"
    assert "costs more than training the plain recipe for a shorter time" in verdict.methods[0].sentence
    assert verdict.recommendation.startswith("Keep the plain recipe")


def test_where_the_recipe_is_flat_the_shorter_one_is_recommended(audit: tuple[Workspace, Design], audited: Audited) -> None:
    workspace, design = audit
    sweep(workspace, design, slope=0.0, noise=0.002)
    rng = np.random.default_rng(2)
    for seed in range(design.seeds):
        write(workspace, "rs2-50", seed, 0.5, 2 + 0.002 * rng.normal())
    verdict = judged(audit, audited)
    assert verdict.recommendation.startswith("Train the plain recipe for 0.25 of its length")
    assert "hardly gains from training longer" in verdict.methods[0].sentence


def test_an_open_question_says_how_many_seeds_would_answer_it(audit: tuple[Workspace, Design], audited: Audited) -> None:
    workspace, design = audit
    sweep(workspace, design, slope=0.5, noise=0.02)
    rng = np.random.default_rng(3)
    for seed in range(design.seeds):  # exactly what shorter training gives
        write(workspace, "rs2-50", seed, 0.5, 2 - 0.5 * math.log(0.5) + 0.02 * rng.normal())
    verdict = judged(audit, audited)
    method = verdict.methods[0]
    assert method.speedup["cpu_seconds"].verdict == "inconclusive"
    assert method.seeds_needed is not None
    assert method.seeds_needed > 4
    assert method.hours_more == pytest.approx(
        (method.seeds_needed - 4) * sum(map(PACE.hours, (0.25, 0.5, 0.75, 1, 1.5, 0.5))) / 2
    )
    assert f"takes {method.seeds_needed} seeds" in method.sentence


def test_half_an_audit_reports_what_is_there(audit: tuple[Workspace, Design], audited: Audited) -> None:
    workspace, _ = audit
    for seed in range(2):
        write(workspace, "plain", seed, 1.0, 2.0 + 0.01 * seed)
    verdict = judged(audit, audited, missing=22)
    assert not verdict.complete
    assert verdict.methods[0].speedup["examples"].verdict == "not run"
    assert "nothing to say yet" in verdict.methods[0].sentence
    assert verdict.recommendation == "Nothing to recommend yet: too few runs are finished."
    assert (workspace.root / "report.html").exists()


def test_an_interval_without_bounds_is_said_in_words() -> None:
    assert _between(0.0, math.inf) == "unbounded"
    assert _between(0.5, math.inf) == "0.5 to inf"
    assert _between(None, None) == "no interval"


def test_a_percentage_that_is_a_fraction_is_told(
    audit: tuple[Workspace, Design], audited: Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, design = audit
    percent = Metric("mse", unit="%", better="lower", label="error")
    monkeypatch.setitem(metrics._METRICS, "mse", percent)
    for share in design.sweep:
        for seed in range(design.seeds):
            write(workspace, sweep_arm(share), seed, share, 0.1 + 0.01 * seed)
    assert "no run has more than 0.13: if evaluate gives a fraction" in fraction_doubt(workspace, audited)
    assert judged(audit, audited, missing=4).recommendation.startswith("In doubt: test_mse is a percentage")
    write(workspace, "plain", 0, 1, 1.5)
    assert fraction_doubt(workspace, audited) == ""
