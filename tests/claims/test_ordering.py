"""The ordering rule against several rivals, by hand: which end shares the error out among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_study import make_claim, make_study, make_summary
from scipy import stats

from scrimp.claims.judge import judge_claim
from scrimp.config import Workspace
from scrimp.runs import by_arm_and_seed

RIVALS = ["full", "full-half", "full-quarter", "rival"]
LEADS = {  # of the method over each rival, by seed
    "full": [2.0, 3.0, 4.0],
    "full-half": [2.9, 3.0, 3.1],
    "full-quarter": [5.0, 5.5, 6.0],
    "rival": [9.0, 9.5, 10.0],
}


def ends(values: list[float], confidence: float) -> tuple[float, float]:
    """A t interval, from its definition."""
    mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    reach = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * error
    return float(mean - reach), float(mean + reach)


@pytest.mark.parametrize(("direction", "sign"), [("higher", 1.0), ("lower", -1.0)])
def test_the_worse_end_is_at_95_percent_and_the_better_one_shares_the_error(direction: str, sign: float) -> None:
    metric = "test_accuracy" if direction == "higher" else "test_loss"
    summaries = [make_summary("method", seed, 1.0, **{metric: 50.0}) for seed in range(3)]
    for rival, leads in LEADS.items():
        summaries += [make_summary(rival, seed, 1.0, **{metric: 50.0 - sign * lead}) for seed, lead in enumerate(leads)]
    rule = {"kind": "ordering", "arms": ["method", *RIVALS], "no_effect": 0.1}
    claim = make_claim(rule, metric=metric, direction=direction)
    result = judge_claim(claim, Workspace(Path()), make_study(), "mini", by_arm_and_seed(summaries))
    # All must agree that the method leads, so that end needs no correction; any one of four can pull the other end down.
    worse = min(ends(leads, 0.95)[0] for leads in LEADS.values())
    better = min(ends(leads, 1 - 0.05 / 4)[1] for leads in LEADS.values())
    uncorrected = min(ends(leads, 0.95)[1] for leads in LEADS.values())
    assert better > uncorrected + 0.1
    low, high = (result.low, result.high) if sign > 0 else (result.high, result.low)
    assert low == pytest.approx(sign * worse)
    assert high == pytest.approx(sign * better)
