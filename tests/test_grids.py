"""Grids of arms and defaults of claims: what a short file stands for."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from scrimp.claims.loading import load_claims
from scrimp.config import Workspace
from scrimp.config.grid import expanded, listed
from scrimp.errors import ScrimpError


def arms(text: str) -> dict[str, Any]:
    return expanded(yaml.safe_load(text), "study.yaml: arms")


# ---------------------------------------------------------------------------------------------------------------- grids
def test_a_grid_stands_for_an_arm_a_value_in_its_place() -> None:
    found = arms(
        """
        full: {label: full}
        rs2-{ratio:%}: {label: "RS2 {ratio:%} %", methods: [{name: rs2, ratio: "{ratio}"}], grid: {ratio: [0.3, 0.55]}}
        last: {label: last}
        """
    )
    assert list(found) == ["full", "rs2-30", "rs2-55", "last"]
    assert found["rs2-55"] == {"label": "RS2 55 %", "methods": [{"name": "rs2", "ratio": 0.55}]}


def test_values_are_written_as_they_are_in_percent_or_as_fractions() -> None:
    found = arms('x{share}: {label: "{share:/}, {share:%} %, {share}", grid: {share: [0.0625, 2, 0.75]}}')
    assert {name: arm["label"] for name, arm in found.items()} == {
        "x0.0625": "1/16, 6.25 %, 0.0625",
        "x2": "2, 200 %, 2",
        "x0.75": "3/4, 75 %, 0.75",
    }


def test_two_names_make_every_combination_and_words_are_values_too() -> None:
    found = arms('"{how}-{size}": {label: "{how}", model: ["{size}"], grid: {how: [jest, rho], size: [1, 2]}}')
    assert list(found) == ["jest-1", "jest-2", "rho-1", "rho-2"]
    assert found["rho-1"] == {"label": "rho", "model": [1]}  # a value that stands alone stays a number


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a-{x}: {label: l}", "arms.a-{x}: give the values of what is in braces as `grid`"),
        ("a: {label: l, grid: {x: [1]}}", "arms.a.grid: the arm's name must hold {x}, or its values make one arm twice"),
        ("a-{x}: {label: '{y}', grid: {x: [1]}}", "unknown value 'y' in study.yaml: arms.a-{x}.grid: known: x"),
        ("a-{x}: {label: l, grid: {x: 3}}", "arms.a-{x}.grid: must map names to lists of values"),
        ("a-{x}: {label: l, grid: [1]}", "arms.a-{x}.grid: must map names to lists of values"),
        ("a-{x:%}: {label: l, grid: {x: [many]}}", "arms.a-{x:%}.grid: 'many' is no number, which `{...:%}` writes"),
        ("{a-1: {label: l}, 'a-{x}': {label: m, grid: {x: [1]}}}", "arms.a-{x}: there are two arms 'a-1'"),
    ],
)
def test_a_wrong_grid_is_named_with_its_entry(text: str, message: str) -> None:
    with pytest.raises(ScrimpError, match=re.escape(message)):
        arms(text)


def test_a_pattern_in_a_list_stands_for_the_arms_it_matches() -> None:
    known = dict.fromkeys(["full", "full-x2", "rs2-30", "rs2-50"])
    assert listed(["rs2-50", "full*", "*"], known, "w.arms") == ["rs2-50", "full", "full-x2", "rs2-30"]
    assert listed(["*", "full"], known, "w.arms") == ["full-x2", "rs2-30", "rs2-50", "full"]  # where the list names it
    assert listed(["full", "other"], known, "w.arms") == ["full", "other"]  # a name is checked later, with a hint
    with pytest.raises(ScrimpError, match=re.escape("w.arms: no arm matches 'ucb-*'; known: full, full-x2, rs2-30, rs2-50")):
        listed(["ucb-*"], known, "w.arms")


def test_a_study_takes_grids_and_patterns(tiny: Workspace) -> None:
    path = tiny.study_folder("tiny") / "study.yaml"
    study = yaml.safe_load(path.read_text())
    method = {"name": "rs2", "ratio": "{ratio}"}
    study["arms"]["rs2-{ratio:%}"] = {"label": "RS2 {ratio:%} %", "methods": [method], "grid": {"ratio": [0.25, 0.75]}}
    study["scales"]["smoke"]["workloads"]["colours"]["arms"] = ["full*", "rs2-*"]
    study["tuning"]["smoke"][0]["arms"] = ["rs2-*"]
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    config = tiny.study("tiny")
    assert config.arm_ids("smoke")[:5] == ["full", "full-x0.5", "rs2-50", "rs2-25", "rs2-75"]
    assert config.resolve("smoke", "rs2-75")[0].methods == [{"name": "rs2", "ratio": 0.75}]
    assert config.resolve("smoke", "rs2-75")[0].label == "RS2 75 %"
    assert config.tuning["smoke"][0].arms == ["rs2-50", "rs2-25", "rs2-75"]


# -------------------------------------------------------------------------------------------------------------- defaults
CLAIMS = """
defaults:
  source: Table 1
  metric: test_accuracy
  published: null
  published_unit: points
  direction: higher
  rule: {kind: difference, no_effect: 0.3}
  deviations: {smoke: tiny, mini: small}
claims:
  - {id: one, number: "1", statement: s, rule: {method: rs2-50, baseline: full}}
  - defaults: {number: "2", source: Table 2, deviations: {mini: smaller}}
    claims:
      - {id: two, statement: s, published: 2, rule: {kind: difference, method: rs2-50, baseline: full, no_effect: 0.5}}
      - {id: three, statement: s, rule: {kind: non-inferiority, method: rs2-50, baseline: full, margin: 1}, deviations: null}
      - {id: four, statement: s, source: Table 4, not_run: too dear}
  - {id: five, number: "5", statement: s, rule: {method: full, baseline: full-x0.5}, deviations: {smoke: null, mini: other}}
"""


def claims_of(tiny: Workspace, text: str) -> dict[str, Any]:
    (tiny.study_folder("tiny") / "claims.yaml").write_text(text)
    return {claim.id: claim for claim in load_claims(tiny, "tiny")}


def test_a_claim_says_what_its_group_and_its_file_do_not(tiny: Workspace) -> None:
    claims = claims_of(tiny, CLAIMS)
    assert list(claims) == ["one", "two", "three", "four", "five"]
    assert [(c.number, c.source, c.published) for c in claims.values()] == [
        ("1", "Table 1", None),
        ("2", "Table 2", 2),
        ("2", "Table 2", None),
        ("2", "Table 4", None),
        ("5", "Table 1", None),
    ]
    assert claims["one"].rule.model_dump() == {
        "kind": "difference",
        "method": "rs2-50",
        "baseline": "full",
        "no_effect": 0.3,
    }
    assert claims["two"].rule.no_effect == 0.5
    assert claims["three"].rule.model_dump() == {  # of another kind: it takes nothing
        "kind": "non-inferiority",
        "method": "rs2-50",
        "baseline": "full",
        "margin": 1.0,
    }
    assert claims["four"].rule is None
    assert [c.deviations for c in claims.values()] == [
        {"smoke": "tiny", "mini": "small"},
        {"smoke": "tiny", "mini": "smaller"},
        {},
        {},
        {"mini": "other"},
    ]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "metric: test_accuracy",
            "metrik: x",
            "claims.yaml: defaults: must map a claim's keys to values; known here: at",
        ),
        ("id: one", "id: one, sourse: x", "claims.yaml: claims.one: sourse: unknown key; known here: at,"),
        ("baseline: full}}", "baseline: full, margin: 1}}", "claims.yaml: claims.one: rule.margin: unknown key"),
        ("claims:\n  -", "claim:\n  -", "claims.yaml must hold `claims`, a list, and may hold `defaults`"),
        (
            "- {id: five",
            "- [five]\n  - {id: five",
            "claims.yaml: claims.2: must be a claim or a group",
        ),
        ("    claims:\n", "    rules: x\n    claims:\n", "claims.yaml: claims.1 must hold `claims`, a list, and may hold"),
    ],
)
def test_a_mistake_is_named_with_its_claim(tiny: Workspace, before: str, after: str, message: str) -> None:
    with pytest.raises(ScrimpError, match=re.escape(message)):
        claims_of(tiny, CLAIMS.replace(before, after, 1))
