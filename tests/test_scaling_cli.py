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
from scrimp.scaling_cli import app
from scrimp.scaling_table import read_runs

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
    table = read_runs(path, NAMES)
    assert len(table.runs) == 19
    assert "left out: 1 of 20 rows, incomplete (line 4)" in table.notes


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
        ("N,D,loss\n20,8.3,3\n34,4.9,2\n", r"params 20 to 34 and tokens 4.9 to 8.3 can hardly be counts.*--tokens-unit B"),
        ("N,FLOPs,loss\n1e8,1e9,3\n", "tokens 1.67 to 1.67 can hardly be counts"),
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
    table = read_runs(path, named).runs
    assert list(table.columns) == ["params", "tokens", "loss", "flops"]


PLANTED = Law(1.69, 406.4, 410.7, 0.34, 0.28)


def grid(noise: float = 0.002, seed: int = 0) -> pd.DataFrame:
    """Forty-two runs of the planted law: six budgets to 1e21 FLOPs, seven sizes about the optimum of each."""
    flops = np.repeat(np.geomspace(1e18, 1e21, 6), 7)
    params = 0.1 * flops**0.5 * np.tile(np.geomspace(0.2, 5, 7), 6)
    tokens = flops / 6 / params
    loss = PLANTED.predict(params, tokens) * np.exp(np.random.default_rng(seed).normal(0, noise, params.size))
    return pd.DataFrame({"params": params, "tokens": tokens, "loss": loss})


def fitted(path: Path, *options: object) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(run(path, "--json", "--no-figures", "--bootstrap", 40, *options))
    return content


def noted(content: dict[str, Any], words: str) -> bool:
    return any(words in note for note in content["notes"])


def test_millions_and_billions_are_refused_until_they_are_said(tmp_path: Path) -> None:
    table, path = grid(), tmp_path / "units.csv"
    table.assign(params=table["params"] / 1e6, tokens=table["tokens"] / 1e9).to_csv(path, index=False)
    with pytest.raises(ScrimpError, match="can hardly be counts: are they in millions or billions"):
        run(path)
    content = fitted(path, "--params-unit", "M", "--tokens-unit", "B", "--budget", "1e21")
    size, tokens = optimal_allocation(PLANTED, 1e21)
    assert content["budgets"][0]["params"] == pytest.approx(float(size), rel=0.05)
    assert content["budgets"][0]["loss"] == pytest.approx(float(PLANTED.predict(size, tokens)), rel=0.005)
    named = tmp_path / "named.tsv"  # tab-separated, units in the names
    table.assign(params=table["params"] / 1e6, tokens=table["tokens"] / 1e9).rename(
        columns={"params": "Params (M)", "tokens": "train_tokens_B"}
    ).to_csv(named, index=False, sep="\t")
    again = fitted(named, "--budget", "1e21")
    assert noted(again, "tokens are 'train_tokens_B' times 1e+09")
    assert again["budgets"] == content["budgets"]
    # Taken as they are, the budget is far outside the runs: 1e21 / (1e21 / 1e15).
    assert noted(fitted(path, "--params-unit", 1, "--budget", "1e21"), "1e+15 times above the largest run's 1e+06")


def test_six_runs_give_a_law_without_intervals(tmp_path: Path) -> None:
    grid().iloc[[0, 3, 10, 17, 24, 31]].to_csv(tmp_path / "six.csv", index=False)
    content = fitted(tmp_path / "six.csv", "--budget", "1e21")
    assert content["parameters"]["a"]["low"] is None
    assert content["budgets"][0]["params_high"] is None
    assert noted(content, "of the resamplings of 6 runs leave fewer different ones than the five unknowns")
    shown = run(tmp_path / "six.csv", "--bootstrap", 20, "--budget", "1e21")
    assert "none" in shown


def curves(seed: int, checkpoints: int = 10) -> pd.DataFrame:
    """Twelve training curves of the planted law, noise of .2 % a run."""
    draws, rows = np.random.default_rng(seed), []
    for name in range(12):
        params = 10 ** draws.uniform(7, 9)
        end, noise = params * 10 ** draws.uniform(0.7, 2.2), np.exp(draws.normal(0, 0.002))
        for step in range(1, checkpoints + 1):
            tokens = end * step / checkpoints
            loss = float(PLANTED.predict(params, tokens)) * noise
            rows.append({"run": f"r{name}", "step": step, "N": params, "D": tokens, "loss": loss})
    return pd.DataFrame(rows)


def test_of_a_runs_rows_the_last_counts(tmp_path: Path) -> None:
    table = curves(4)
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "curves.csv", index=False)
    table[table["step"] == 10].to_csv(tmp_path / "ends.csv", index=False)
    whole, ends = fitted(tmp_path / "curves.csv"), fitted(tmp_path / "ends.csv")
    assert whole["runs"] == ends["runs"] == 12
    assert noted(whole, "12 runs: of 120 rows the last of each counts ('run' names them")
    for name, row in whole["parameters"].items():
        assert row["value"] == pytest.approx(ends["parameters"][name]["value"], rel=1e-3)
    # The names are gone: whole curves are told by their even steps and resampled together.
    table.drop(columns=["run", "step"]).to_csv(tmp_path / "unnamed.csv", index=False)
    unnamed = fitted(tmp_path / "unnamed.csv")
    assert noted(unnamed, "look like checkpoints of one run (120 rows, 12 runs): resampled together")
    a = unnamed["parameters"]["a"]
    assert a["low"] <= PLANTED.a <= a["high"]


def test_repeated_rows_count_once(tmp_path: Path) -> None:
    table = grid().iloc[::2]
    table.to_csv(tmp_path / "once.csv", index=False)
    pd.concat([table, table, table]).to_csv(tmp_path / "thrice.csv", index=False)
    once, thrice = fitted(tmp_path / "once.csv"), fitted(tmp_path / "thrice.csv")
    assert noted(thrice, "42 of 63 rows repeat another")
    assert thrice["parameters"] == once["parameters"]


def test_names_that_join_several_sizes_are_no_runs(tmp_path: Path) -> None:
    grid().assign(run=lambda table: np.arange(len(table)) % 5).to_csv(tmp_path / "runs.csv", index=False)
    content = fitted(tmp_path / "runs.csv")
    assert content["runs"] == 42
    assert noted(content, "'run' gives one name to rows of several sizes: not read as the name of a run")
    with pytest.raises(ScrimpError, match="correct --run-column"):
        run(tmp_path / "runs.csv", "--run-column", "run")


def test_mixed_experiments_and_single_budgets_are_said(tmp_path: Path) -> None:
    table = grid().assign(optimizer=lambda of: np.where(np.arange(len(of)) % 2, "adam", "sgd"))
    table.loc[table["optimizer"] == "sgd", "loss"] *= 1.03
    table.to_csv(tmp_path / "mixed.csv", index=False)
    content = fitted(tmp_path / "mixed.csv")
    assert noted(content, "'optimizer' goes with the misfit: runs with 'sgd' lie +")
    assert not noted(fitted(write_runs(tmp_path / "good.csv")), "misfit")
    grid().iloc[:7].assign(tokens=lambda of: 1e18 / 6 / of["params"]).to_csv(tmp_path / "one.csv", index=False)
    assert noted(fitted(tmp_path / "one.csv"), "all runs spend about one budget, 1e+18 FLOPs")


def test_budgets_by_their_usual_names(tmp_path: Path) -> None:
    table = grid()
    table.assign(Budget=6 * table["params"] * table["tokens"]).drop(columns="tokens").to_csv(tmp_path / "b.csv", index=False)
    content = fitted(tmp_path / "b.csv")
    assert noted(content, "flops from 'Budget'")
    assert noted(content, "tokens are FLOPs / (6 N)")


def test_coverage_prints_what_it_simulates() -> None:
    first, again = (
        CliRunner().invoke(app, ["coverage", "--quick", *more]) for more in (["--json"], ["--only", "crossings"])
    )
    rows = json.loads(first.stdout)
    assert [row["what"] for row in rows] == ["crossings", "fit_isoflop, a", "fit_parametric, a", "fit_parametric, a"]
    assert all(0 <= row["held"] <= row["given"] <= row["trials"] == 2 for row in rows)
    assert [row["false"] is None for row in rows] == [False, True, True, True]
    table = again.stdout.splitlines()
    assert len(table) == 3
    assert table[2].startswith(f"| crossings | 100 points, noise of correlation 0.5 | 2 | {rows[0]['given']} |")  # same seed
    refused = CliRunner().invoke(app, ["coverage", "--only", "laws"])
    assert isinstance(refused.exception, ScrimpError)
