"""What an arm of a built-in study trains is recorded: rewriting a study's file changes no run by accident."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scrimp.config import Workspace
from scrimp.files import digest_of

RECORDED = json.loads((Path(__file__).parent / "run_specs.json").read_text())
SHIPPED = Workspace(Path(__file__).parents[2])


@pytest.mark.parametrize("study", RECORDED)
def test_every_arm_trains_what_it_is_recorded_to(study: str) -> None:
    """New arms are free to come; one changed on purpose is recorded (`digest_of(run_spec)[:12]`) in the same commit."""
    config = SHIPPED.study(study)
    now = {
        scale: {arm: digest_of(config.run_spec(scale, arm))[:12] for arm in config.arm_ids(scale)} for scale in config.scales
    }
    for scale, recorded in RECORDED[study].items():
        assert {arm: now[scale].get(arm) for arm in recorded} == recorded, scale
