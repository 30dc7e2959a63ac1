"""A small study and runs of it that were never trained, for the judge's tests."""

from __future__ import annotations

from functools import cache
from typing import Any

import pandas as pd

from scrimp.config import Claim, StudyConfig, parse_model
from scrimp.records import CURVE_COLUMNS, Meters, Summary

SWEEP = {"full-quarter": 0.25, "full-half": 0.5, "full": 1.0, "full-x2": 2.0, "full-x4": 4.0}
ARMS = [*SWEEP, "method", "rival"]
WORKLOAD: dict[str, Any] = {
    "dataset": "icons",
    "model": {"name": "resnet"},
    "recipe": {"optimizer": "sgd", "learning_rate": 0.1},
    "epochs": 1,
    "arms": ARMS,
}


def make_claim(rule: dict[str, Any] | None, **given: Any) -> Claim:
    fields = {
        "id": "a-claim",
        "number": "1",
        "statement": "It costs less.",
        "source": "Table 1",
        "metric": "test_accuracy",
        "published": None,
        "published_unit": "",
        "direction": "higher",
        "rule": rule,
    }
    return parse_model(fields | given, Claim, "test")


@cache
def make_study(seeds: int = 3) -> StudyConfig:
    scale = {
        "note": "fake",
        "seeds": list(range(seeds)),
        "workloads": {"icons": WORKLOAD, "small": WORKLOAD | {"arms": ["full", "method"]}},
        "probes": {"overhead": {}},
    }
    fields = {
        "study": "fake",
        "title": "A fake study",
        "paper": "nobody",
        "card": {"question": "?", "method": "-", "reading": "-"},
        "arms": {arm: {"label": arm, "methods": [{"name": "all"}]} for arm in ARMS},
        "baseline_sweep": list(SWEEP),
        "scales": {"mini": scale, "gpu": scale | {"probes": {"overhead": {}, "nothing": {}}}},
        "figures": {"speedups": "Speedups"},
    }
    return parse_model(fields, StudyConfig, "test")


@cache
def run_spec(arm: str) -> dict[str, Any]:
    study = make_study()
    return study.run_spec("mini", arm) if arm in study.arm_ids("mini") else {}


def make_summary(arm: str, seed: int, cost: float, **metrics: float) -> Summary:
    """A run that cost `cost` on every axis (1 = 1000 updates)."""
    count = round(1000 * cost)
    spent = dict.fromkeys(["flops_train", "flops", "seconds_train", "seconds"], 1000 * cost)
    none = {"updates_reference": 0, "examples_reference": 0}
    free = dict.fromkeys(["flops_scoring", "flops_reference", "seconds_selection", "seconds_reference"], 0.0)
    apart = {"seconds_evaluation": 0.0, "seconds_setup": 0.0, "peak_memory_bytes": None, "energy_joules": None}
    meters = Meters.model_validate({"updates": count, "examples": count, "examples_scored": 0} | none | spent | free | apart)
    return Summary(
        study="fake", arm=arm, seed=seed, scale="mini", config=run_spec(arm), config_digest="0", command="", meters=meters,
        metrics=metrics,
    )  # fmt: skip


def make_curve(arm: str, seed: int, costs: list[float], values: list[float]) -> pd.DataFrame:
    rows = [
        [
            "fake",
            arm,
            seed,
            "mini",
            round(1000 * cost),
            round(1000 * cost),
            1000 * cost,
            1000 * cost,
            "test_accuracy",
            v,
        ]
        for cost, v in zip(costs, values, strict=True)
    ]
    return pd.DataFrame(rows, columns=CURVE_COLUMNS)
