"""Grids of arms and defaults of claims: what is written short means the same as written out."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from scrimp.claims.loading import load_claims
from scrimp.config import Workspace
from scrimp.config.study import expanded
from scrimp.errors import ScrimpError


def test_a_grid_is_an_arm_for_each_value_with_numbers_as_numbers() -> None:
    arms = yaml.safe_load(
        """
        plain: {label: plain}
        "rs2-{ratio}": {label: "RS2 {ratio} %", methods: [{name: rs2, ratio: "{ratio/100}"}], grid: {ratio: [30, 50]}}
        """
    )
    assert expanded(arms, "here") == {
        "plain": {"label": "plain"},
        "rs2-30": {"label": "RS2 30 %", "methods": [{"name": "rs2", "ratio": 0.3}]},
        "rs2-50": {"label": "RS2 50 %", "methods": [{"name": "rs2", "ratio": 0.5}]},
    }


def test_two_names_make_every_combination_in_order() -> None:
    arm = {"label": "{shape}", "horizon": {"flops": "{share}"}, "grid": {"shape": ["a", "b"], "share": [0.5, 1]}}
    made = expanded({"{shape}-x{share}": arm}, "here")
    assert list(made) == ["a-x0.5", "a-x1", "b-x0.5", "b-x1"]
    assert made["b-x0.5"] == {"label": "b", "horizon": {"flops": 0.5}}


@pytest.mark.parametrize(
    ("name", "arm", "message"),
    [
        ("rs2", {"label": "-", "grid": {"ratio": [30, 50]}}, r"here.rs2: the grid makes 'rs2' twice"),
        (
            "a-{ratio}",
            {"label": "{ratoi}", "grid": {"ratio": [1]}},
            r"unknown name 'ratoi' in here.a-\{ratio\}: .*did you mean",
        ),
        ("a-{ratio}", {"label": "-", "grid": {"ratio": []}}, r"grid: give every name a list of values"),
        ("a-{ratio}", {"label": "-", "grid": [1]}, r"grid: give every name a list of values"),
    ],
)
def test_a_grid_that_cannot_be_is_named(name: str, arm: dict[str, Any], message: str) -> None:
    with pytest.raises(ScrimpError, match=message):
        expanded({name: arm}, "here")


def test_a_claim_says_only_what_differs_from_the_defaults(tiny: Workspace) -> None:
    path = tiny.study_folder("tiny") / "claims.yaml"
    whole = yaml.safe_load(path.read_text())
    before = load_claims(tiny, "tiny")
    (claim,) = whole["claims"]
    defaults = {key: claim.pop(key) for key in ("metric", "direction")}
    path.write_text(yaml.safe_dump({"defaults": defaults, "claims": [claim]}))
    assert load_claims(tiny, "tiny") == before
    path.write_text(yaml.safe_dump({"defaults": {**defaults, "directon": "lower"}, "claims": [claim]}))
    with pytest.raises(ScrimpError, match=r"claims.yaml: claims.lossless: directon: unknown key"):
        load_claims(tiny, "tiny")
    path.write_text(yaml.safe_dump({"defaults": {"id": "x"}, "claims": [claim]}))
    with pytest.raises(ScrimpError, match="no `id`"):
        load_claims(tiny, "tiny")
