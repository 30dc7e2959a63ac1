"""The example of a task in one file: every method works on it, from its own folder, by the verbs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.listing import check_code, check_config
from scrimp.records import read_summary
from scrimp.runs import Runs
from scrimp.stages.run import run_arm
from scrimp.studies.outputs import draw_figures

EXAMPLE = Path(__file__).parents[2] / "examples" / "denoising"


@pytest.fixture
def example(tiny: Workspace) -> Workspace:
    """The example's folder beside a tiny workspace, on its pictures of colours, for four epochs."""
    folder = tiny.root.parent / "denoising"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    study = yaml.safe_load((folder / "study.yaml").read_text())
    workload = {**study["scales"]["mini"]["workloads"]["icons-100"], "dataset": "colours", "epochs": 4, "evaluations": 2}
    workload["recipe"]["batch_size"] = 8
    study["scales"] = {"smoke": {"note": "-", "seeds": [0, 1], "workloads": {"colours": workload}}}
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    (tiny.root / "config" / "config.yaml").write_text("scale: smoke\nstudies: [../denoising]\ndevice: cpu\nseeds: null\n")
    return Workspace(tiny.root)


def test_the_task_is_one_short_file() -> None:
    assert len((EXAMPLE / "denoising.py").read_text().splitlines()) <= 80


def test_every_method_works_on_it_and_lower_is_better(example: Workspace) -> None:
    check_config(example)
    check_code(example)
    study = example.study("denoising")
    for arm in study.arm_ids("smoke"):
        for seed in study.seeds("smoke", arm):
            run_arm(example, "denoising", arm, seed, "smoke")
    read = {arm: read_summary(example.run_folder("smoke", "denoising", arm, 0)) for arm in study.arm_ids("smoke")}
    plain = read["plain"]
    assert plain.meters.examples == 4 * 72
    assert read["rs2-50"].meters.examples == 2 * 72
    assert read["infobatch-50"].meters.examples < plain.meters.examples
    assert read["growing"].meters.updates < plain.meters.updates
    assert read["growing"].meters.examples == plain.meters.examples
    assert read["all-three"].meters.examples < plain.meters.examples
    assert 0 < read["plain-x2"].metrics["test_mse"] < plain.metrics["test_mse"] < 0.09  # the noise's variance
    runs = Runs.of(example, study, "smoke")
    speedups, _ = runs.speedups("plain", [0, 1], "test_mse", "examples", runs.sweep_arms())
    assert [speedup.value for speedup in speedups] == pytest.approx([1.0, 1.0])
    draw_figures(example, "denoising", "smoke")
    drawn = example.results("smoke", "denoising") / "figures"
    assert {path.stem for path in drawn.iterdir()} == {"speedups", "quality-cost", "curves"}


def test_a_key_that_the_task_does_not_read_is_named(example: Workspace) -> None:
    path = example.root.parent / "denoising" / "study.yaml"
    path.write_text(path.read_text().replace("optimizer: adamw", "optimizer: adamw\n          label_smoothing: 0.1"))
    with pytest.raises(
        ScrimpError, match=r"denoising/study.yaml: scales.smoke.workloads.colours.recipe.label_smoothing: unknown"
    ):
        example.study("denoising")


def test_a_file_without_a_task_says_what_it_lacks(example: Workspace) -> None:
    path = example.root.parent / "denoising" / "denoising.py"
    path.write_text("# nothing here\n")
    with pytest.raises(ScrimpError, match=r"must define one subclass of .* but defines 0"):
        example.study("denoising")
