"""The replication's analyses on runs that are made up from a known law: what is planted is found, and nothing else."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scrimp.config import Workspace
from scrimp.measure.code import package_root
from scrimp.models.language import build
from scrimp.records import CURVE_COLUMNS, Meters, Summary, write_run
from scrimp.scaling import Law
from scrimp.studies.loading import offered
from scrimp.studies.outputs import draw_figures
from scrimp.studies.scaling import probes
from scrimp.studies.scaling.points import points, sweep

PROJECT = package_root().parents[1]
PROBES = offered(package_root() / "studies" / "scaling", "probe")
LAW = Law(E=1.0, A=60.0, B=300.0, alpha=0.4, beta=0.5)
BATCH_TOKENS = 8 * 128
LOSS_STEPS = 200


def meters(flops: float, constant: float, examples: int) -> Meters:
    nothing = {
        name: 0
        for name in Meters.model_fields
        if name not in ("flops", "flops_reference", "examples", "peak_memory_bytes", "energy_joules")
    }
    rest = {"peak_memory_bytes": None, "energy_joules": None}
    return Meters(**nothing, **rest, flops=flops, flops_reference=constant, examples=examples)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Every run of the shipped study at mini, trained by nobody: its loss is the law's, plus what its rate is still worth.

    A run whose rate stands at a share r of its peak loses 0.8 r^0.2 more than an annealed one: most of the fall comes late.
    """
    root = tmp_path_factory.mktemp("replication")
    shutil.copytree(PROJECT / "config", root / "config")
    workspace = Workspace(root)
    config = workspace.study("scaling")
    noise = np.random.default_rng(0)
    for arm_id in config.arm_ids("mini"):
        arm, workload = config.resolve("mini", arm_id)
        model = build(257, 128, 0, dict(workload.model.options))
        n, per_token = model.count_parameters("total"), model.flops_per_token()
        assert workload.flops is not None
        steps = math.ceil(arm.horizon.amount * workload.flops / per_token / BATCH_TOKENS)
        tokens, schedule = steps * BATCH_TOKENS, workload.recipe.schedule
        rate = _rate(schedule.name, schedule.floor, schedule.stretch, arm.cooldown_of is not None)
        done = np.arange(1, LOSS_STEPS + 1) / LOSS_STEPS
        for seed in config.seeds("mini", arm_id):
            curve = LAW.predict(n, done * tokens) + worth(rate(done)) + noise.normal(0, 0.002, LOSS_STEPS)
            rows = pd.DataFrame({"flops": done * tokens * per_token, "value": curve, "metric": "train_loss"})
            rows = rows.assign(step=range(LOSS_STEPS), examples=0, seconds=0.0, study="scaling", arm=arm_id)
            loss = float(LAW.predict(n, tokens) + worth(rate(np.ones(1)))[0] + noise.normal(0, 0.0005))
            summary = Summary(
                study="scaling",
                arm=arm_id,
                seed=seed,
                scale="mini",
                config=config.run_spec("mini", arm_id),
                config_digest="c",
                command="none",
                meters=meters(tokens * per_token, 0.8 * tokens * per_token if arm.cooldown_of else 0.0, steps * 8),
                metrics={"test_loss": loss},
                facts={
                    "tokens": float(tokens),
                    "parameters_total": float(n),
                    "parameters_non_embedding": float(model.count_parameters("non-embedding")),
                },
            )
            folder = workspace.run_folder("mini", "scaling", arm_id, seed)
            write_run(folder, rows.assign(seed=seed, scale="mini")[CURVE_COLUMNS], summary, {})
    return workspace


def worth(rate: np.ndarray) -> np.ndarray:
    """What a rate that is not yet 0 costs, in nats."""
    return np.asarray(0.8 * np.maximum(rate, 0) ** 0.2)


def _rate(name: str, floor: float, stretch: float, cooled: bool) -> Callable[[np.ndarray], np.ndarray]:
    if name == "constant":
        return lambda done: np.where(done > 0.8, (1 - done) / 0.2, 1.0) if cooled else np.ones_like(done)
    if name == "linear":
        return lambda done: 1 - done
    return lambda done: floor + (1 - floor) * (1 + np.cos(np.pi * done / stretch)) / 2


def probe(workspace: Workspace, name: str, **options: Any) -> pd.DataFrame:
    return PROBES[name](workspace, "mini", options)


def test_points_know_family_share_and_size(made: Workspace) -> None:
    table = points(made, "mini")
    assert len(table) == sum(len(made.study("scaling").seeds("mini", arm)) for arm in made.study("scaling").arm_ids("mini"))
    row = table[(table["arm"] == "cool-x0.5@20k") & (table["seed"] == 1)].iloc[0]
    assert (row["family"], row["share"], row["size"]) == ("cool", 0.5, "20k")
    main = table[table["arm"] == "stretch-1.25-x0.25"].iloc[0]
    assert (main["family"], main["size"]) == ("stretch-1.25", "96k")


def test_a_schedule_alone_makes_smaller_models_overtake_again_in_raw_curves_and_nowhere_else(made: Workspace) -> None:
    """The planted law has no re-overtaking at all: what raw curves show of it is the cosine's."""
    table = probe(made, "replication-reovertaking").set_index(["reading", "seed"])
    for seed in (0, 1, 2):
        assert table.loc[("raw", seed), "reovertakings"] >= 1
        assert (
            table.loc[("raw", seed), "share"]
            == table.loc[("raw", seed), "reovertakings"] / table.loc[("raw", seed), "pairs"]
        )
        assert table.loc[("raw", seed), "share_led"] == (
            table.loc[("raw", seed), "reovertakings"] / table.loc[("raw", seed), "larger_led"]
        )
        assert table.loc[("raw", seed), "schedule_bias"] > 0.05
        assert table.loc[("annealed", seed), "share"] == 0
        assert table.loc[("constant", seed), "share"] == 0
        assert table.loc[("annealed", seed), "larger_led"] >= 3
    assert "of their schedules" in table.loc[("raw", 0), "note"]
    assert table.loc[("annealed", 0), "note"] == ""


def test_at_a_re_overtaking_the_smaller_is_late_and_the_larger_early(made: Workspace) -> None:
    found = probe(made, "replication-crossings")
    turned = found[found["reovertakes"]]
    turned = turned[turned["reading"] == "raw"]
    assert len(turned)
    assert (turned["smaller_fraction"] > turned["larger_fraction"] + 0.2).all()


def test_crossings_of_two_analytic_curves() -> None:
    """b - a = 0.1 sin(ln x) over three half turns: a leads, then b from e^pi, then a again from e^2pi."""
    x = np.exp(np.linspace(0.4, 9, 300))
    falling = 5 - 0.3 * np.log(x)
    small, large = (x, falling), (x, falling + 0.1 * np.sin(np.log(x)))
    found = probes._read_curves(small, large)
    assert found["overtake_flops"] == pytest.approx(math.exp(math.pi), rel=0.02)
    assert found["reovertake_flops"] == pytest.approx(math.exp(2 * math.pi), rel=0.02)
    assert found["reovertakes"]
    assert found["smaller_fraction"] == pytest.approx(math.exp(2 * math.pi - 9), rel=0.02)
    assert found["late_lead"] == pytest.approx(0.1 * math.sin(9), abs=0.002)
    # The other way round the larger leads first and the smaller overtakes it, which counts: it led before.
    mirrored = probes._read_curves(large, small)
    assert mirrored["reovertake_flops"] == pytest.approx(math.exp(math.pi), rel=0.02)
    assert mirrored["overtake_flops"] == pytest.approx(math.exp(2 * math.pi), rel=0.02)
    behind = probes._read_curves((x, falling), (x, falling - 0.1))
    assert (behind["larger_led"], behind["reovertakes"]) == (True, False)
    ahead = probes._read_curves((x, falling), (x, falling + 0.1))
    assert (ahead["larger_led"], ahead["reovertakes"]) == (False, False)


def test_crossings_of_annealed_points_are_read_off_straight_lines() -> None:
    def runs(losses: list[float]) -> pd.DataFrame:
        return pd.DataFrame({"flops": [1e9, 2e9, 4e9, 8e9], "test_loss": losses})

    found = probes._read_points(runs([3.0, 2.8, 2.6, 2.4]), runs([3.1, 2.9, 2.5, 2.45]))
    assert found is not None
    assert found["overtake_flops"] == pytest.approx(2e9 * 2**0.5)  # 0.1 ahead, then 0.1 behind
    assert found["reovertake_flops"] == pytest.approx(4e9 * 2 ** (2 / 3))  # 0.1 behind, then 0.05 ahead
    assert found["late_lead"] == pytest.approx(0.05)
    behind = probes._read_points(runs([3.0, 2.8, 2.6, 2.4]), runs([2.9, 2.7, 2.5, 2.3]))
    assert behind is not None
    assert (behind["larger_led"], behind["reovertakes"]) == (True, False)
    assert probes._read_points(runs([3.0, 2.8, 2.6, 2.4]).head(1), runs([2.9, 2.7, 2.5, 2.3])) is None


def test_annealed_leads_are_read_between_points_and_never_beyond() -> None:
    runs = pd.DataFrame(
        {"size": ["s", "s", "l", "l"], "flops": [1e9, 4e9, 1e9, 4e9], "test_loss": [3.0, 2.6, 3.2, 2.4]},
    )
    assert probes._annealed_lead(runs, "s", "l", 2e9) == pytest.approx(0.0)  # halfway in log C: 2.8 both
    assert probes._annealed_lead(runs, "s", "l", 4e9) == pytest.approx(-0.2)
    assert math.isnan(probes._annealed_lead(runs, "s", "l", 8e9))


def test_runs_of_unlike_tokens_are_no_pair(made: Workspace) -> None:
    table = points(made, "mini")
    cosine = sweep(table, "cosine", 0)
    assert probes._same_tokens(cosine, "20k", "46k", match=True) == ("cosine-x1@20k", "cosine-x2@46k")
    assert probes._same_tokens(cosine, "46k", "96k", match=True) == ("cosine-x0.5@46k", "cosine-x1")
    assert probes._same_tokens(cosine[cosine["share"] == 1], "46k", "96k", match=True) is None
    assert probes._same_tokens(cosine[cosine["size"] != "46k"], "46k", "96k", match=True) is None


def test_the_isoflop_exponent_is_that_of_the_planted_law(made: Workspace) -> None:
    """The law's own sizes are of total parameters, but FLOPs here are not 6 N D: the exact exponent is worked out."""
    table = probe(made, "replication-isoflop", families=["cool", "cosine"]).set_index(["family", "convention", "seed"])
    budgets = np.array([1e11, 2e11, 4e11, 8e11])
    sizes = points(made, "mini").groupby("size")[["parameters_total", "flops", "tokens"]].last()
    per_token = np.polyfit(np.log(sizes["parameters_total"]), np.log(sizes["flops"] / sizes["tokens"]), 1)
    grid = np.geomspace(1e4, 3e6, 4000)
    best = [grid[np.argmin(LAW.predict(grid, c / np.exp(np.polyval(per_token, np.log(grid)))))] for c in budgets]
    expected = np.polyfit(np.log(budgets), np.log(best), 1)[0]
    for seed in (0, 1, 2):
        assert table.loc[("cool", "total", seed), "a"] == pytest.approx(expected, abs=0.12)
        assert table.loc[("cool", "total", seed), "budgets"] >= 2
    assert table.loc[("cool", "non_embedding", 0), "a"] != table.loc[("cool", "total", 0), "a"]


def test_too_few_sizes_are_told_and_not_fitted(made: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    table = points(made, "mini")
    monkeypatch.setattr(probes, "points", lambda workspace, scale: table[table["size"].isin(["20k", "46k"])])
    found = probe(made, "replication-isoflop", families=["cool"])
    assert found["a"].isna().all()
    assert found["note"].str.contains("minimum inside").all()


def test_the_parametric_fit_finds_the_planted_law(made: Workspace) -> None:
    row = probe(made, "replication-parametric", bootstrap=30).set_index("convention").loc["total"]
    for name in ("E", "alpha", "beta", "a"):
        assert row[name] == pytest.approx(getattr(LAW, name), rel=0.15)
        assert row[f"{name}_low"] < row[f"{name}_high"]


def test_a_cosine_flattens_at_its_end_as_its_formula_says(made: Workspace) -> None:
    """Slopes of what its rate is worth against ln f over (.8, .9] and (.9, 1], by least squares."""
    rate = _rate("cosine", 0.1, 1.0, False)
    done = np.arange(1, LOSS_STEPS + 1) / LOSS_STEPS

    def slope(low: float, high: float) -> float:
        inside = (done > low) & (done <= high)
        return float(np.polyfit(np.log(done[inside]), worth(rate(done[inside])), 1)[0])

    expected = slope(0.9, 1.0) - slope(0.8, 0.9)
    found = probe(made, "replication-flattening", sizes=["46k", "96k", "212k"])
    assert found["sizes"].tolist() == [3, 3, 3]
    assert abs(expected) > 0.2
    assert found["flattening"].to_numpy() == pytest.approx([expected] * 3, abs=0.06)


def test_what_a_constant_run_with_cooldowns_saves(made: Workspace) -> None:
    """Horizons halve from one to the next: 0.8 of the constant-LR run and 0.2 of each, over their sum, up to whole steps."""
    found = probe(made, "replication-cost").set_index("size")
    for size, count in (("20k", 5), ("10k", 4), ("468k", 3)):
        total = sum(0.5**power for power in range(count))
        assert found.loc[size, "share"] == pytest.approx((0.8 + 0.2 * total) / total, abs=0.003)
        assert found.loc[size, "horizons"] == count


def test_pairs_are_those_that_every_seed_has(made: Workspace) -> None:
    table = probe(made, "replication-reovertaking").set_index(["reading", "seed"])
    assert len({table.loc[("raw", seed), "pairs"] for seed in (0, 1, 2)}) == 1
    assert (
        table.loc[("raw", 0), "pairs"]
        < probe(made, "replication-crossings").query("reading == 'raw' and seed == 0").shape[0]
    )


def test_every_figure_and_table_can_be_drawn(made: Workspace) -> None:
    config = made.study("scaling")
    for name, options in config.scale("mini").probes.items():
        path = made.results("mini", "scaling") / "probes" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        PROBES[name](made, "mini", {**options, "bootstrap": 20}).to_parquet(path)
    folder = draw_figures(made, "scaling", "mini")
    for name in config.figures:
        assert (folder / f"{name}.png").stat().st_size > 5000
    tables = {name: pd.read_csv(folder.parent / "tables" / f"{name}.csv") for name in config.tables}
    assert all(len(table) for table in tables.values())
    counted = tables["replication-crossings"].set_index(["reading", "smaller", "larger"])
    assert counted.loc[("raw", "20k", "46k"), "seeds"] == 3
    assert counted.loc[("annealed", "20k", "46k"), "reovertakes"] == 0
    assert set(tables["replication-points"]["seeds"]) == {1, 3}
