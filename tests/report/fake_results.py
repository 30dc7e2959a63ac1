"""A small finished workspace written by hand: one study, three arms, six claims with one of every verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from study_folders import write_study

from scrimp.config import Workspace
from scrimp.files import write_json
from scrimp.records import CURVE_COLUMNS, Meters, Summary, write_run

SCALE = "mini"
STUDY = "demo"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 70 40"><circle cx="35" cy="20" r="9"/></svg>'
SEEDS = (0, 1, 2)


def claim(identity: str, number: str, verdict: str, **changes: Any) -> dict[str, Any]:
    """One entry of claims.json: a paired difference in points, unless `changes` says otherwise."""
    entry: dict[str, Any] = {
        "claim": identity,
        "number": number,
        "study": STUDY,
        "source": f"Table {number}",
        "statement": f"Statement {number} holds",
        "metric": "test_accuracy",
        "published": 0.4,
        "published_unit": "points",
        "direction": "higher",
        "measured": 0.31,
        "low": 0.12,
        "high": 0.5,
        "n": 3,
        "censored": None,
        "verdict": verdict,
        "scale": SCALE,
        "reason": f"because of {identity}",
        "deviations": "",
        "workload": "main",
        "rule": {"kind": "difference", "method": "half", "baseline": "full", "no_effect": 0.1},
        "rule_text": "Paired difference: supported if above 0.1.",
        "points": [
            {"arm": "half", "seed": seed, "value": value, "censored": None}
            for seed, value in zip(SEEDS, (0.22, 0.31, 0.4), strict=True)
        ],
        "arms": ["half", "full"],
        "figure": None,
        "commands": ["scrimp run demo half --seed 0 --scale mini"],
    }
    return entry | changes


def demo_claims() -> list[dict[str, Any]]:
    """One claim per verdict; the speedup's upper end is censored."""
    nothing: dict[str, Any] = {
        "measured": None,
        "low": None,
        "high": None,
        "n": 0,
        "points": [],
        "arms": [],
        "rule": None,
    }
    speedup: dict[str, Any] = {
        "published": 2.0,
        "published_unit": "x",
        "measured": 2.75,
        "low": 1.5,
        "high": "inf",
        "censored": "above",
        "rule": {"kind": "ratio", "method": "half", "axis": "examples", "no_effect": 0.05, "way": "sweep"},
        "points": [
            {"arm": "half", "seed": 0, "value": 2.0, "censored": None},
            {"arm": "half", "seed": 1, "value": 3.5, "censored": "above"},
        ],
    }
    return [
        claim("gain", "1", "supported", figure="quality"),
        claim("speedup", "2", "partly supported", figure="quality", **speedup),
        claim("script", "3", "not supported", statement="<script>alert('x')</script> & more"),
        claim("worse", "10", "contradicted", measured=-0.42, low=-0.6, high=-0.24),
        claim("open", "4a", "inconclusive", low=None, high=None, n=1),
        claim("absent", "5", "not run", reason="needs a cluster", **nothing),
    ]


def demo_config() -> dict[str, Any]:
    """The study's YAML as a plain value."""
    workload = {
        "dataset": "squares",
        "model": {"name": "linear"},
        "recipe": {"optimizer": "sgd", "learning_rate": 0.1},
        "epochs": 1,
        "arms": ["full", "half", "quarter"],
    }
    arms = {name: {"label": name.title(), "methods": [{"name": "full"}]} for name in ("full", "half", "quarter")}
    return {
        "study": STUDY,
        "title": "A demonstration",
        "paper": "Nobody, Nowhere, 2020",
        "card": {"question": "Does it save?", "method": "Train on half.", "reading": "Look at the intervals."},
        "arms": arms,
        "baseline_sweep": ["full"],
        "scales": {SCALE: {"note": "Two CPU cores, small pictures.", "seeds": list(SEEDS), "workloads": {"main": workload}}},
        "figures": {"quality": "Quality against cost.", "undrawn": "Nobody has drawn this yet."},
        "tables": {"sizes": "Sizes of things.", "unwritten": "Nobody has written this yet."},
        "claims": [],
    }


def demo_summary(arm: str, seed: int) -> Summary:
    """A run whose memory and energy were not measured."""
    meters = Meters(
        updates=100,
        updates_reference=0,
        examples=21_123,
        examples_reference=0,
        examples_scored=0,
        flops_train=1.02e13,
        flops_scoring=0.0,
        flops_reference=0.0,
        flops=1.02e13 if arm == "full" else 5.13e12,
        seconds_train=60.0,
        seconds_selection=0.5,
        seconds_reference=0.0,
        seconds=60.5,
        seconds_evaluation=2.0,
        seconds_setup=1.0,
        peak_memory_bytes=None,
        energy_joules=None,
    )
    return Summary(
        study=STUDY,
        arm=arm,
        seed=seed,
        scale=SCALE,
        config={"arm": {"methods": [{"name": arm}]}, "epochs": 12, "recipe": {"learning_rate": 0.2}},
        config_digest="c0ffee",
        command=f"scrimp run {STUDY} {arm} --seed {seed} --scale {SCALE}",
        meters=meters,
        metrics={"test_accuracy": 84.25 + seed / 10},
    )


def demo_provenance(seed: int) -> dict[str, Any]:
    """Seed 2 was run at another commit, from a tree with changes."""
    return {
        "commit": "aaaa111" if seed < 2 else "bbbb222",
        "dirty": seed == 2,
        "lock_digest": "10cc",
        "code_digest": "c0de",
        "config_digest": "c0ffee",
        "data_digests": {"squares": "5ca1ab1e"},
        "versions": {"torch": "2.13.0", "python": "3.11.9"},
        "platform": "Linux-6.1",
        "cpu": "A CPU",
        "cpu_count": 2,
        "gpu": None,
        "driver": None,
        "threads": 1,
        "seed": seed,
        "kernels": {"score": "reference"},
        "device": "cpu",
        "command": "scrimp run",
        "started": f"2026-01-0{seed + 1}T10:00:00+00:00",
    }


def make_workspace(root: Path) -> Workspace:
    """A workspace whose study `demo` is finished at `mini`, with one figure and one table left undone."""
    workspace = Workspace(root)
    write_study(root, demo_config())
    folder = workspace.results(SCALE, STUDY)
    curve = pd.DataFrame([[STUDY, "full", 0, SCALE, 1, 1, 1.0, 1.0, "loss", 1.0]], columns=CURVE_COLUMNS)
    for arm in ("full", "half"):
        for seed in SEEDS:
            write_run(workspace.run_folder(SCALE, STUDY, arm, seed), curve, demo_summary(arm, seed), demo_provenance(seed))
    write_json(folder / "claims.json", demo_claims())
    (folder / "figures").mkdir()
    (folder / "figures" / "quality.svg").write_text(SVG, encoding="utf-8")
    (folder / "tables").mkdir()
    (folder / "tables" / "sizes.csv").write_text("name,mean_size\na<b,1234.5678\nempty,\n", encoding="utf-8")
    tracked = {f"{SCALE}/{STUDY}/half/seed0": {"experiment_id": "7", "run_id": "abc"}}
    (workspace.results(SCALE) / "tracked.json").write_text(json.dumps(tracked), encoding="utf-8")
    return workspace
