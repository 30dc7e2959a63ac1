"""Sizes of claims before their runs, against what theory says of a planted spread, and the verb that prints them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_study import SWEEP, make_claim, make_study, make_summary
from scipy import stats

from scrimp.claims.pilot import Pilot, find_pilot
from scrimp.claims.power import DRAWS, Sizing, chance_words, power, spread_of
from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.records import Summary, write_run
from scrimp.runs import by_arm_and_seed

PAIR = {"method": "method", "baseline": "full"}
DIFFERENCE = {"kind": "difference", **PAIR, "no_effect": 0.2}
LOSSLESS = {"kind": "non-inferiority", **PAIR, "margin": 0.5}
SPEEDUP = {"kind": "ratio", "method": "method", "axis": "flops"}
STUDY = make_study(5)


def waves(arms: int, seeds: int) -> np.ndarray:
    """Noise (arms, seeds) of mean 0 along both, whose spread is one for every arm: cosines of one frequency, shifted."""
    places = 2 * np.pi * np.arange(seeds) / seeds
    return np.array([np.cos(places + 2 * np.pi * arm / arms) for arm in range(arms)])


def planted(noise: float, effect: float = 1.0, seeds: int = 5, arms: tuple[str, ...] = ("full", "method")) -> Pilot:
    """A pilot in which every arm's own noise has the standard deviation `noise`, and seeds shift all by `effect`s."""
    unit = waves(len(arms), seeds)
    own = (unit**2).sum(axis=1) / ((seeds - 1) * (1 - 1 / len(arms)))  # as `spread_of` reckons it
    shift = effect * (np.arange(seeds) - (seeds - 1) / 2)
    levels = 70 + noise * unit / np.sqrt(own)[:, None] + shift
    runs = [
        make_summary(arm, seed, SWEEP.get(arm, 1.0), test_accuracy=float(levels[row, seed]))
        for row, arm in enumerate(arms)
        for seed in range(seeds)
    ]
    return Pilot(Path("pilot"), by_arm_and_seed(runs))


def sized(rule: dict[str, Any], pilot: Pilot, seeds: int, draws: int = DRAWS, **given: Any) -> Sizing:
    return power(Workspace(Path()), STUDY, "mini", [make_claim(rule, **given)], pilot, seeds, draws)[0]


def t_power(beyond: float, spread: float, n: int) -> float:
    """Chance that a 95 % t interval of n values lies wholly above 0, `beyond` being their mean: the noncentral t's tail."""
    return float(stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, beyond * math.sqrt(n) / spread))


def found(chances: dict[str, float] | None) -> float:
    assert chances is not None
    return chances.get("supported", 0.0) + chances.get("partly supported", 0.0)


def error(rate: float, draws: int = DRAWS) -> float:
    """Three standard errors of a rate among the draws."""
    return 3 * math.sqrt(max(rate * (1 - rate), 1 / draws) / draws)


# ------------------------------------------------------------------------------------------------------------ the spread
@pytest.mark.parametrize("arms", [("full", "method"), ("full", "full-half", "method"), tuple(f"a{i}" for i in range(4))])
def test_a_spread_is_told_apart_into_seeds_and_noise(arms: tuple[str, ...]) -> None:
    runs = planted(0.3, 1.0, 5, arms).runs
    spread = spread_of({arm: np.array([run.metrics["test_accuracy"] for run in by.values()]) for arm, by in runs.items()})
    assert list(spread.arms.values()) == pytest.approx([0.3] * len(arms))
    # Seed effects -2, -1, 0, 1, 2 have the variance 2.5, of which the arms' mean noise explains .3 ** 2 / arms.
    assert spread.seed == pytest.approx(math.sqrt(2.5 - 0.3**2 / len(arms)))


def test_one_arms_noise_is_drawn_towards_that_of_all() -> None:
    rng = np.random.default_rng(0)
    table = {f"arm{place}": rng.normal(size=3) for place in range(20)}
    table["wild"] = 100 * rng.normal(size=3)
    spread = spread_of(table)
    drawn = np.array([spread.arms[f"arm{place}"] for place in range(20)])
    alone = np.array([table[f"arm{place}"].std(ddof=1) for place in range(20)])
    # Two degrees of freedom against eight: what one arm shows counts for a fifth, so that quiet arms are not believed.
    assert drawn.min() > 0.8 * math.sqrt(0.8) * np.median(drawn)
    assert alone.min() < 0.5 * np.median(alone)
    assert spread.arms["wild"] > 5 * drawn.max()  # nor is a wild one taken for a quiet one


# -------------------------------------------------------------------------------------------------------------- chances
@pytest.mark.parametrize("n", [3, 5])
def test_a_difference_has_the_power_of_the_paired_t_test(n: int) -> None:
    size = sized(DIFFERENCE, planted(0.3), n, published=1.2)
    spread = 0.3 * math.sqrt(2)  # the seeds' effect drops out
    expected = t_power(1.2 - 0.2, spread, n)
    assert found(size.published) == pytest.approx(expected, abs=error(expected))
    assert found(size.nothing) <= 0.025 + error(0.025)
    assert size.smallest is not None
    assert t_power(size.smallest - 0.2, spread, n) == pytest.approx(0.8, abs=error(0.8, DRAWS // 2))
    assert (size.n, size.pilot, size.kind) == (n, 5, "difference")


def test_a_claim_of_less_is_the_mirror_image() -> None:
    up = sized(DIFFERENCE, planted(0.3), 4, draws=100, published=1.2)
    down = sized(DIFFERENCE, planted(0.3), 4, draws=100, published=-1.2, direction="lower")
    assert found(down.published) == pytest.approx(found(up.published), abs=error(0.5, 100))
    assert up.smallest is not None
    assert down.smallest == pytest.approx(-up.smallest, rel=0.2)


def test_lossless_has_the_power_of_the_paired_t_test() -> None:
    size = sized(LOSSLESS, planted(0.3), 5, published=0.0)
    expected = t_power(0.5, 0.3 * math.sqrt(2), 5)
    assert size.published == size.nothing  # no effect is what was published
    assert found(size.published) == pytest.approx(expected, abs=error(expected))
    assert size.smallest is not None  # -.5 is lost for certain
    assert t_power(size.smallest + 0.5, 0.3 * math.sqrt(2), 5) == pytest.approx(0.8, abs=error(0.8, DRAWS // 2))


def test_an_ordering_is_sized_by_its_closest_rival() -> None:
    arms = ("full", "rival", "method")
    ordering = {"kind": "ordering", "arms": ["method", "full", "rival"], "no_effect": 0.2}
    size = sized(ordering, planted(0.3, arms=arms), 5, draws=150, published=1.2)
    alone = t_power(1.0, 0.3 * math.sqrt(2), 5)
    assert 1 - 2 * (1 - alone) - error(alone, 150) <= found(size.published) <= alone + error(alone, 150)


def test_a_saving_is_sized_by_its_costs_alone() -> None:
    rng = np.random.default_rng(0)
    runs = [
        make_summary(arm, seed, 1.0, test_accuracy=70.0).model_copy(
            update={"meters": make_summary(arm, seed, cost * rng.lognormal(0, 0.05)).meters}
        )
        for arm, cost in (("full", 1.0), ("method", 0.9))
        for seed in range(5)
    ]
    pilot = Pilot(Path("pilot"), by_arm_and_seed(runs))
    size = sized({"kind": "reduction", **PAIR, "axis": "seconds"}, pilot, 5, published=0.4)
    assert found(size.published) > 0.9
    assert found(size.nothing) <= 0.05
    assert size.smallest is not None
    assert 0.05 < size.smallest < 0.3


def sweep_pilot(noise: float, cost: float = 1.0) -> Pilot:
    """Ten points a doubling, so that noise of a point is noise of a tenth of a doubling."""
    runs = planted(noise, 0.0, arms=(*SWEEP, "method")).runs
    lifted = [
        make_summary(
            arm, seed, SWEEP.get(arm, cost), test_accuracy=run.metrics["test_accuracy"] + 10 * math.log2(SWEEP.get(arm, 1.0))
        )
        for arm, by in runs.items()
        for seed, run in by.items()
    ]
    return Pilot(Path("pilot"), by_arm_and_seed(lifted))


def test_a_speedup_on_a_straight_sweep_is_sized_as_its_log() -> None:
    size = sized(SPEEDUP, sweep_pilot(2.0), 4, draws=120, published=2.0)
    # A log2 speedup takes noise of .2 from the method, and from the sweep .2 at a point, .2 / sqrt(2) between two.
    quiet, loud = (t_power(1 - math.log2(1.05), 0.2 * math.sqrt(1 + share), 4) for share in (0.5, 1.0))
    assert loud - error(loud, 120) <= found(size.published) <= quiet + error(quiet, 120)
    assert found(size.nothing) <= 0.05 + error(0.05, 120)
    assert size.smallest is not None
    assert 1.3 < size.smallest < 2.2
    assert size.note == ""


def test_a_published_speedup_beyond_the_sweep_is_said_to_be() -> None:
    size = sized(SPEEDUP, sweep_pilot(0.5, cost=1.0), 3, draws=50, published=8.0)
    assert size.note == "the sweep ends at 4 times the method's cost: the published size can be seen only as a bound"
    assert found(size.published) > 0.9


def test_the_same_files_give_the_same_sizes_and_more_seeds_resolve_more() -> None:
    few, again, many = (sized(DIFFERENCE, planted(0.3), n, draws=100, published=1.0) for n in (3, 3, 9))
    assert few == again
    assert few.smallest is not None
    assert many.smallest is not None
    assert many.smallest < few.smallest


# ---------------------------------------------------------------------------------------------------------- what it costs
def test_minutes_leave_out_what_is_trained_once_for_many() -> None:
    pilot = planted(0.3)
    for by in pilot.runs.values():
        for seed, run in by.items():
            told = {"seconds": 120.0, "seconds_evaluation": 20.0, "seconds_setup": 10.0, "seconds_reference": 30.0}
            by[seed] = run.model_copy(update={"meters": run.meters.model_copy(update=told)})
    assert sized(DIFFERENCE, pilot, 4, draws=20).minutes == pytest.approx(2 * 4 * 150 / 60)  # proxies are each run's own
    study = STUDY.model_copy(
        update={"arms": {**STUDY.arms, "method": STUDY.arms["method"].model_copy(update={"cooldown_of": "full"})}}
    )
    shared = power(Workspace(Path()), study, "mini", [make_claim(DIFFERENCE)], pilot, 4, 20)[0]
    assert shared.minutes == pytest.approx(4 * (150 + 120) / 60)


@pytest.mark.parametrize(
    ("rule", "given_", "note"),
    [
        ({"kind": "exact", "probe": "overhead", "column": "c"}, {"published": 1.0}, "no runs to size"),
        (SPEEDUP | {"way": "curves", "baseline": "full"}, {}, "no runs to size"),
        (None, {"not_run": "needs a cluster"}, "needs a cluster"),
        (DIFFERENCE, {"at": {"mini": None}}, "left out at mini"),
        (DIFFERENCE | {"method": "rival"}, {}, "no finished run of rival"),
    ],
)
def test_what_cannot_be_sized_says_why(rule: Any, given_: dict[str, Any], note: str) -> None:
    size = sized(rule, planted(0.3), 3, draws=20, **given_)
    assert note in size.note
    assert size.nothing is None


def test_a_spread_needs_two_seeds_and_so_does_an_interval() -> None:
    one = Pilot(Path("pilot"), {arm: {0: by[0]} for arm, by in planted(0.3).runs.items()})
    assert "a spread needs two" in sized(DIFFERENCE, one, 3, draws=20).note
    with pytest.raises(ScrimpError, match="--seeds 1: an interval needs two"):
        sized(DIFFERENCE, planted(0.3), 1)
    alone = power(Workspace(Path()), make_study(1), "mini", [make_claim(DIFFERENCE)], planted(0.3), None, 20)[0]
    assert alone.note == "one seed gives no interval"


def test_chances_in_words() -> None:
    assert chance_words({"supported": 0.584, "inconclusive": 0.412, "contradicted": 0.004}) == "S 58 I 41"
    assert chance_words(None) == ""


# ------------------------------------------------------------------------------------------------------------- the pilot
def save(root: Path, summary: Summary) -> None:
    folder = Workspace(root).run_folder(summary.scale, summary.study, summary.arm, summary.seed)
    curve = pd.DataFrame(
        columns=["study", "arm", "seed", "scale", "step", "examples", "flops", "seconds", "metric", "value"]
    )
    write_run(folder, curve, summary, {})


def test_a_pilot_is_the_scales_runs_else_a_references_rows(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(ScrimpError, match="no runs to size fake by"):
        find_pilot(workspace, STUDY, "mini")
    run = make_summary("method", 3, 0.5, test_accuracy=71.25, validation_loss=1.5)
    row = {
        "arm": run.arm,
        "seed": run.seed,
        **run.metrics,
        **run.meters.model_dump(),
        "config_digest": "x",
        "only_others": None,
    }
    kept = tmp_path / "results" / "reference" / "here" / "fake"
    kept.mkdir(parents=True)
    pd.DataFrame([row]).to_csv(kept / "runs.csv", index=False)
    read = find_pilot(workspace, STUDY, "mini")
    assert read.source == kept
    assert read.runs["method"][3].meters == run.meters
    assert read.runs["method"][3].metrics == run.metrics
    save(tmp_path, make_summary("full", 0, 1.0, test_accuracy=70.0))
    assert find_pilot(workspace, STUDY, "mini").runs.keys() == {"full"}
    assert find_pilot(workspace, STUDY, "mini", kept).runs.keys() == {"method"}
    with pytest.raises(ScrimpError, match="--from"):
        find_pilot(workspace, STUDY, "mini", tmp_path)


def test_the_verb_prints_a_row_a_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from scrimp import cli
    from scrimp.claims import power as module

    seen: list[int | None] = []

    def few(*given: Any) -> list[Sizing]:
        seen.append(given[5])
        return power(*given[:3], [claim for claim in given[3] if claim.id in wanted], *given[4:], draws=10)

    wanted = {"beats-random-50", "overhead"}
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setattr(module, "power", few)
    done = CliRunner().invoke(cli.app, ["power", "infobatch", "--scale", "mini", "--seeds", "4", "--json",
                                        "--from", "results/reference/mini-cpu/infobatch"])  # fmt: skip
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["study"], told["scale"], told["source"]) == ("infobatch", "mini", "results/reference/mini-cpu/infobatch")
    one, other = told["claims"]
    assert (one["claim"], one["n"], one["pilot"]) == ("beats-random-50", 4, 3)
    assert sum(one["published"].values()) == pytest.approx(1)
    assert (other["claim"], other["note"], other["nothing"]) == ("overhead", "no runs to size", None)
    assert seen == [4]
