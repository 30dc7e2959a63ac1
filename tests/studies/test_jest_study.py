"""The JEST study's probes: arithmetic that can be checked by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scrimp.config import Workspace
from scrimp.studies.jest.probes import conventions, variance_shares


def test_both_of_the_reports_conventions() -> None:
    table = conventions(Workspace(Path()), "mini", {}).set_index(["method", "way"])
    assert table.loc[("jest", "reused"), "step"] == pytest.approx(700 / 3)  # 233 %
    assert table.loc[("jest", "repeated"), "step"] == pytest.approx(800 / 3)  # 267 %
    assert table.loc[("flexi-jest", "repeated"), "step"] == pytest.approx(110, abs=1)
    assert table.loc[("jest", "reused"), "total"] == pytest.approx(23, abs=0.5)
    assert table.loc[("flexi-jest", "repeated"), "total"] == pytest.approx(11, abs=0.1)


def test_variance_is_shared_out_between_diagonal_rows_columns_and_rest() -> None:
    draws = torch.Generator().manual_seed(0)
    rows, columns, own = (torch.randn(60, generator=draws, dtype=torch.float64) for _ in range(3))
    # A diagonal explains all of its entries, not their mean alone.
    assert variance_shares(torch.diag(own))["diagonal"] == pytest.approx(1)
    only_rows = rows[:, None].expand(60, 60)
    assert variance_shares(only_rows)["rows"] == pytest.approx(1 - variance_shares(only_rows)["diagonal"], abs=0.01)
    assert variance_shares(only_rows.T)["columns"] == pytest.approx(variance_shares(only_rows)["rows"])
    both = variance_shares(rows[:, None] + 2 * columns[None, :])
    squares = [float((values - values.mean()).square().sum()) for values in (rows, 2 * columns)]
    assert both["rows"] / both["columns"] == pytest.approx(squares[0] / squares[1], rel=0.1)
    assert sum(both.values()) == pytest.approx(1)
    noise = variance_shares(torch.randn(60, 60, generator=draws, dtype=torch.float64))
    assert noise["rest"] > 0.9
    # By hand: off-diagonal mean 0, entries 3 and 4 on the diagonal, 1 and -1 off it: 25 of 27.
    by_hand = variance_shares(torch.tensor([[3.0, 1.0], [-1.0, 4.0]], dtype=torch.float64))
    assert by_hand["diagonal"] == pytest.approx(25 / 27)
