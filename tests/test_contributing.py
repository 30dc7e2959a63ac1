"""The blocks of CONTRIBUTING.md do what the page says."""

from __future__ import annotations

import re
import types
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from scrimp.config import Arm, Workspace
from scrimp.methods import check_method
from scrimp.methods.base import EpochSelector, Method

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
YAML = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def run(block: str) -> types.ModuleType:
    module = types.ModuleType("block")
    exec(compile(block, "CONTRIBUTING.md", "exec", dont_inherit=True), vars(module))
    return module


@pytest.mark.parametrize("block", PYTHON, ids=[block.partition("\n")[0][:30] for block in PYTHON])
def test_every_block_runs_as_it_stands(block: str) -> None:
    run(block)


def test_the_selector_keeps_the_hardest() -> None:
    hardest: type[EpochSelector] = next(run(block) for block in PYTHON if "Hardest" in block).METHOD
    selector = hardest(4, 0, ratio=0.5)
    selector.observe(torch.arange(4), torch.tensor([0.1, 3.0, 0.2, 2.0]))
    assert sorted(selector.select(1, 0.5).indices.tolist()) == [1, 3]
    again = hardest(4, 0, ratio=0.5)
    again.load_state_dict(selector.state_dict())
    assert sorted(again.select(1, 0.5).indices.tolist()) == [1, 3]


def test_the_method_that_is_no_selector_acts_on_the_weights() -> None:
    noisy: type[Method] = next(run(block) for block in PYTHON if "NoisyWeights" in block).METHOD
    model = nn.Linear(3, 3)
    before = model.weight.detach().clone()
    noisy(0, deviation=0.1).after_step(model, 1.0)
    assert torch.equal(model.weight, before)
    noisy(0, deviation=0.1).after_step(model, 0.0)
    assert not torch.equal(model.weight, before)


def test_the_arm_is_one_that_a_study_takes() -> None:
    study = Workspace(ROOT).study("infobatch")
    for name, fields in yaml.safe_load(YAML[0])["arms"].items():
        assert name not in study.arms
        for method in Arm.model_validate(fields).methods:
            check_method(method, "CONTRIBUTING.md", study.task)


def test_files_that_the_page_names_are_there() -> None:
    named = set(re.findall(r"`((?:src/scrimp/)?[a-z_]+/[a-z_]+\.py)`", PAGE))
    assert named
    places = (ROOT / "src" / "scrimp", ROOT / "src", ROOT)
    assert [name for name in named if not any((place / name).is_file() for place in places)] == []
