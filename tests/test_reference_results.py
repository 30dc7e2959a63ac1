"""What the committed results were judged by is what the studies say now: numbers, margins and rules, claim by claim."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scrimp.claims.loading import load_claims
from scrimp.config import Workspace
from scrimp.studies.loading import offered

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "results" / "reference").glob("*/*/claims.json"))
# Names that were changed since; numbers were not.
RENAMED = {"ladder": "sweep"}


def judged_by(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text())
    return {claim["claim"]: claim for claim in (content if isinstance(content, list) else content["claims"])}


def test_there_are_reference_results() -> None:
    assert {path.parent.name for path in FILES} >= {"infobatch", "jest", "scaling"}


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parts[-3]}/{path.parts[-2]}" for path in FILES])
def test_rules_margins_and_published_numbers_are_those_that_the_results_were_judged_by(path: Path) -> None:
    claims, results = load_claims(Workspace(ROOT), path.parent.name), judged_by(path)
    assert {claim.id for claim in claims} == set(results)
    for claim in claims:
        told = results[claim.id]
        rule = None if told["rule"] is None else {key: RENAMED.get(str(v), v) for key, v in told["rule"].items()}
        now = None if claim.rule is None else claim.rule.model_dump(mode="json")
        for what, then, today in (
            ("rule", rule, now),
            ("published", told["published"], claim.published),
            ("metric", told["metric"], claim.metric),
            ("direction", told["direction"], claim.direction),
        ):
            assert then == today, f"{claim.id}: {what}"


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parts[-3]}/{path.parts[-2]}" for path in FILES])
def test_a_table_that_is_a_probes_says_what_the_probe_says(path: Path) -> None:
    """A probe that was measured again leaves no table of the measurement before."""
    workspace, study = Workspace(ROOT), path.parent.name
    written = offered(workspace.study_folder(study), "table")
    for name in workspace.study(study).tables:
        probe, table = path.parent / "probes" / f"{name}.parquet", path.parent / "tables" / f"{name}.csv"
        if name not in written and probe.exists():
            pd.testing.assert_frame_equal(
                pd.read_csv(table), pd.read_csv(io.StringIO(pd.read_parquet(probe).to_csv(index=False)))
            )
