"""Figures of differences and speedups put a number on the side where it belongs: read off what was drawn."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from scrimp.config import StudyConfig, Workspace, parse_model
from scrimp.records import Meters, Summary
from scrimp.runs import Runs, by_arm_and_seed
from scrimp.studies.comparison import Comparison, draw_differences, draw_sweep

COSTS = {"full-half": 0.5, "full": 1.0, "full-x2": 2.0}


def study() -> StudyConfig:
    arms = [*COSTS, "method"]
    recipe = {"optimizer": "sgd", "learning_rate": 0.1}
    workload = {"dataset": "icons", "model": {"name": "resnet18"}, "recipe": recipe, "epochs": 1, "arms": arms}
    fields: dict[str, Any] = {
        "study": "fake",
        "title": "t",
        "paper": "p",
        "card": {"question": "?", "method": "-", "reading": "-"},
        "arms": {arm: {"label": arm, "methods": [{"name": "full"}]} for arm in arms},
        "baseline_sweep": list(COSTS),
        "scales": {"mini": {"note": "-", "seeds": [0, 1], "workloads": {"icons": workload}}},
    }
    return parse_model(fields, StudyConfig, "test")


def comparison(metric: str, values: dict[str, float]) -> Comparison:
    def run(arm: str, seed: int) -> Summary:
        cost = 1000 * COSTS.get(arm, 1.0)
        counts = dict.fromkeys(["updates", "examples"], int(cost)) | dict.fromkeys(["flops_train", "flops", "seconds"], cost)
        none = {name: 0 for name in Meters.model_fields if name not in counts}
        meters = Meters.model_validate(counts | none)
        about = {"study": "fake", "scale": "mini", "config": {}, "config_digest": "", "command": ""}
        return Summary(arm=arm, seed=seed, meters=meters, metrics={metric: values[arm] + 0.1 * seed}, **about)

    runs = by_arm_and_seed([run(arm, seed) for arm in values for seed in (0, 1)])
    return Comparison(Runs(Workspace(Path()), study(), "mini", "icons", runs), metric, False)


@pytest.mark.parametrize(("metric", "method", "at"), [("test_accuracy", 72.0, 2.0), ("test_loss", 68.0, -2.0)])
def test_a_difference_is_drawn_as_method_minus_baseline(metric: str, method: float, at: float) -> None:
    drawn, axes = plt.subplots()
    draw_differences(axes, comparison(metric, {"full": 70.0, "method": method}), [("method", "full", "method")])
    points = np.concatenate([np.asarray(part.get_offsets()) for part in axes.collections])
    assert points[:, 0] == pytest.approx([at] * len(points))
    plt.close(drawn)


def test_the_sweep_is_drawn_at_its_costs_and_qualities() -> None:
    drawn, axes = plt.subplots()
    draw_sweep(axes, comparison("test_accuracy", {"full-half": 60.0, "full": 70.0, "full-x2": 75.0}), "flops", "plain")
    line = axes.lines[0]
    assert list(line.get_xdata()) == [500.0, 1000.0, 2000.0]
    assert list(line.get_ydata()) == pytest.approx([60.05, 70.05, 75.05])
    plt.close(drawn)


@pytest.mark.parametrize(("metric", "sign"), [("test_accuracy", 1.0), ("test_loss", -1.0)])
def test_columns_of_speedups_read_two_where_half_the_cost_does(metric: str, sign: float) -> None:
    values = {"full-half": 10 - sign, "full": 10.0, "full-x2": 10 + sign, "method": 10 + sign}
    columns = comparison(metric, values).speedup_columns("method", ("flops",))
    assert columns["speedup_flops"] == pytest.approx(2.0)
