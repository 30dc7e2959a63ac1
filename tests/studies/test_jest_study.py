"""The JEST study's probes: arithmetic that can be checked by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scrimp.config import Workspace
from scrimp.studies.jest.probes import at_size, conventions, published_towers, variance_shares


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


def test_a_diagonals_share_falls_as_one_over_the_size() -> None:
    # 60 entries of variance 100 on the diagonal, 60 * 59 of variance 1 off it: odds of 100 / 59.
    share = (100 / 59) / (1 + 100 / 59)
    assert at_size(share, 60, 60) == pytest.approx(share)
    odds = 100 / (6000 - 1)
    assert at_size(share, 60, 6000) == pytest.approx(odds / (1 + odds))
    # Measured: the same law at two sizes gives the same forecast.
    draws = torch.Generator().manual_seed(1)
    forecasts = []
    for size in (100, 400):
        values = torch.randn(size, size, generator=draws, dtype=torch.float64)
        values += torch.diag(20 * torch.randn(size, generator=draws, dtype=torch.float64))
        forecasts.append(at_size(variance_shares(values)["diagonal"], size, 65_536))
    assert forecasts[0] == pytest.approx(forecasts[1], rel=0.4)


def test_towers_of_the_reports_size_are_counted_and_not_trained() -> None:
    options = {"size": 64, "patches": [16, 32], "image": [32, 2, 2], "text": [32, 1, 2], "length": 8}
    table = published_towers(Workspace(Path()), "mini", options).set_index("patch")
    assert table.loc[16, "saved_image"] == 0
    # The kernel sees every pixel once at either side. Of the two blocks, products with weights fall with the patches, 16 to
    # 4, those of attention with their square; the head stays.
    kernel, weights, attention, head = 2 * 64 * 64 * 3 * 32, 2 * 2 * 12 * 32 * 32 * 16, 2 * 4 * 16 * 16 * 32, 2 * 32 * 32
    saved = (weights * 3 / 4 + attention * 15 / 16) / (kernel + weights + attention + head)
    assert table.loc[32, "saved_image"] == pytest.approx(saved, rel=1e-3)
    text = table["pair"] - table["image"]
    assert text.loc[16] == text.loc[32] > 0
    assert table.loc[32, "saved_pair"] == pytest.approx(1 - table.loc[32, "pair"] / table.loc[16, "pair"])
