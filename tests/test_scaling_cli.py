"""`scrimp scaling fit` from a CSV that nobody prepared to numbers and figures, and what it says about a wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from scrimp.errors import ScrimpError
from scrimp.scaling import Law, optimal_allocation
from scrimp.scaling_cli import app, read_runs

PUBLISHED = Path(__file__).parents[1] / "config" / "published"
LAW = Law(1.5, 200.0, 400.0, 0.35, 0.3)
NAMES: dict[str, str | None] = dict.fromkeys(("params", "tokens", "flops", "loss"))


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["fit", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def write_runs(path: Path, columns: tuple[str, str, str] = ("N", "D", "loss")) -> Path:
    """Runs of a known law at four budgets, five sizes each."""
    budgets = np.repeat([1e17, 1e18, 1e19, 1e20], 5)
    params = optimal_allocation(LAW, budgets)[0] * np.tile(np.geomspace(0.2, 5, 5), 4)
    tokens = budgets / (6 * params)
    noise = np.exp(np.random.default_rng(0).normal(0, 1e-4, params.size))
    pd.DataFrame(dict(zip(columns, (params, tokens, LAW.predict(params, tokens) * noise), strict=True))).to_csv(
        path, index=False
    )
    return path


def test_a_known_law_with_figures_beside_the_csv(tmp_path: Path) -> None:
    path = write_runs(tmp_path / "mine.csv")
    content: dict[str, Any] = json.loads(run(path, "--json", "--budget", "1e21", "--budget", "1e22", "--bootstrap", 20))
    assert content["runs"] == 20
    for name, row in content["parameters"].items():
        assert row["value"] == pytest.approx(getattr(LAW, name), rel=0.1), name
        assert row["low"] <= row["value"] <= row["high"]
    assert [row["flops"] for row in content["budgets"]] == [1e21, 1e22]
    assert content["budgets"][0]["params"] == pytest.approx(float(optimal_allocation(LAW, 1e21)[0]), rel=0.05)
    assert content["isoflop"]["a"] == pytest.approx(LAW.a, abs=0.01)
    assert [Path(figure) for figure in content["figures"]] == [
        tmp_path / "mine-scaling" / f"{name}.png" for name in ("fit", "plane", "isoflop")
    ]
    assert all(Path(figure).stat().st_size > 10_000 for figure in content["figures"])
    assert any("FLOPs are 6 N D" in note for note in content["notes"])


def test_the_digitised_runs_as_their_authors_wrote_them(tmp_path: Path) -> None:
    runs = pd.read_csv(PUBLISHED / "chinchilla-runs.csv")
    names = {"parameters": "Model Size", "flops": "Training FLOP"}
    raw = runs.drop(columns="source").rename(columns=names).assign(x=1.0, y=2.0, color="#faebdd", hex_color="#faebdd")
    raw.to_csv(tmp_path / "raw.csv", index=False)
    out = tmp_path / "figures"
    shown = run(tmp_path / "raw.csv", "--drop-worst", 5, "--budget", "5.76e23", "--bootstrap", 20, "--out", out)
    assert "on 240 runs" in shown
    assert "params from 'Model Size', flops from 'Training FLOP', loss from 'loss'" in shown
    assert "tokens are FLOPs / (6 N)" in shown
    assert "the 5 runs of the highest loss" in shown
    assert "7.32e10" in shown  # Chinchilla's own budget: about 70B parameters
    assert sorted(path.name for path in out.glob("*.svg")) == ["fit.svg", "isoflop.svg", "plane.svg"]


def test_runs_without_common_budgets_get_no_parabolas(tmp_path: Path) -> None:
    draws = np.random.default_rng(1)
    params, tokens = (10 ** draws.uniform(low, low + 2, 14) for low in (7, 9))
    table = pd.DataFrame({"n_params": params, "tokens": tokens, "val_loss": LAW.predict(params, tokens)})
    table.to_csv(tmp_path / "runs.csv", index=False)
    content = json.loads(run(tmp_path / "runs.csv", "--json", "--bootstrap", 10, "--tolerance", 0.01))
    assert content["isoflop"] is None
    assert any(note.startswith("no isoFLOP fit") for note in content["notes"])
    assert len(content["figures"]) == 2


def test_incomplete_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write_runs(tmp_path / "runs.csv")
    lines = path.read_text().splitlines()
    lines[3] = lines[3].rpartition(",")[0] + ","  # line 4: no loss
    path.write_text("\n".join([*lines, "", ""]))
    table, notes = read_runs(path, NAMES)
    assert len(table) == 19
    assert "left out: 1 of 20 rows, incomplete (line 4)" in notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "no column that looks like params; it has 'a', 'b': name it with --params-column"),
        ("N,loss\n1,2\n", "looks like tokens.*--tokens-column, or FLOPs with --flops-column"),
        ("N,D\n1,2\n", "looks like loss"),
        ("N,D,loss\n1e8,1e9,3\n1e8,many,3\n", "line 3, column 'D': 'many' is no positive number"),
        ("N,D,loss\n-5,1e9,3\n", "line 2, column 'N': '-5' is no positive number"),
        ("N,D,loss\n1e8,1e9,inf\n", "line 2, column 'loss'"),
        ("N,params,D,loss\n1,1,1,1\n", "several columns for params: N, params; choose one with --params-column"),
        ("", "cannot be read as CSV"),
        ("N,D,loss\n1e8,1e9,3\n", "6 runs"),
    ],
)
def test_a_wrong_csv_says_what_to_mend(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(ScrimpError, match=message) as raised:
        run(path)
    assert "runs.csv" in str(raised.value)


def test_wrong_options_say_what_to_mend(tmp_path: Path) -> None:
    path = write_runs(tmp_path / "runs.csv", ("a", "b", "c"))
    with pytest.raises(ScrimpError, match="has no column 'q'; it has 'a', 'b', 'c'"):
        run(path, "--params-column", "q")
    with pytest.raises(ScrimpError, match="does not exist"):
        run(tmp_path / "none.csv")
    with pytest.raises(ScrimpError, match="--budget needs FLOPs above 0"):
        run(write_runs(tmp_path / "good.csv"), "--budget", "-1")


def test_columns_by_name(tmp_path: Path) -> None:
    path = write_runs(tmp_path / "runs.csv", ("a", "b", "c"))
    named = {"params": "a", "tokens": "b", "loss": "c", "flops": None}
    # A column "c" would be taken for FLOPs, were it not for what it was named as.
    table, _ = read_runs(path, named)
    assert list(table.columns) == ["params", "tokens", "loss", "flops"]
