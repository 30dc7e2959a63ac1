"""The run stage end to end: bit-identical repeats, killed runs, several processes, meters that can be derived."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors import safe_open
from study_folders import rewrite_table

from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.files import read_json
from scrimp.measure.clock import Clock
from scrimp.records import CURVE_COLUMNS, Summary, current_summaries, read_curves, read_summaries, read_summary
from scrimp.stages.fit import fit
from scrimp.stages.run import run_arm
from scrimp.stages.tune import tune_study
from scrimp.tasks import load_task
from scrimp.training.place import choose_device

TIMES = [
    "cpu_seconds",
    "cpu_seconds_reference",
    "seconds",
    "seconds_train",
    "seconds_selection",
    "seconds_reference",
    "seconds_evaluation",
    "seconds_setup",
]
MACHINE = [*TIMES, "peak_memory_bytes"]

# FLOPs of the narrow ResNet of width 4 (quarter stem, 3 classes) on 32 x 32, by hand: 2 for each multiply-add.
STEM = 2 * 16**2 * 5**2 * 3 * 4  # 5 x 5, 3 to 4 channels, to 16 x 16; the pool makes that 8 x 8
STAGES = (
    2 * 8**2 * 9 * (4 * 4 + 4 * 4)  # two 3 x 3 convolutions at 8 x 8
    + 2 * 4**2 * (9 * (4 * 8 + 8 * 8) + 4 * 8)  # to 4 x 4 and twice the width, with a 1 x 1 skip
    + 2 * 2**2 * (9 * (8 * 16 + 16 * 16) + 8 * 16)
)
HEAD = 2 * 16 * 3
FORWARD = STEM + STAGES + HEAD
TRAINING = 3 * FORWARD - STEM  # nothing is propagated back through the stem to the picture


def result(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A run's curve and summary without what depends on the machine's speed."""
    curve = pd.read_parquet(folder / "curve.parquet").drop(columns="seconds")
    summary = read_summary(folder).model_dump(mode="json")
    summary["meters"] = {name: value for name, value in summary["meters"].items() if name not in MACHINE}
    return curve, summary


def assert_same(one: Path, other: Path) -> None:
    (curve, summary), (other_curve, other_summary) = result(one), result(other)
    pd.testing.assert_frame_equal(curve, other_curve, check_exact=True)
    assert summary == other_summary


def moved(folder: Path, name: str) -> Path:
    return folder.rename(folder.parents[4] / name)


# ------------------------------------------------------------------------------------------------------------- repeats
@pytest.mark.parametrize("arm", ["full", "infobatch-50", "full@vit"])
def test_the_same_run_twice_is_bit_identical(tiny: Workspace, arm: str) -> None:
    first = moved(run_arm(tiny, "tiny", arm, 0, "smoke"), "first")
    torch.manual_seed(123)  # the global random state does not enter
    torch.randn(7)
    assert_same(first, run_arm(tiny, "tiny", arm, 0, "smoke"))


def test_seeds_differ(tiny: Workspace) -> None:
    zero, one = (result(run_arm(tiny, "tiny", "full", seed, "smoke"))[1] for seed in (0, 1))
    assert zero["metrics"]["test_loss"] != one["metrics"]["test_loss"]
    assert zero["meters"] == one["meters"]


def test_arms_of_a_seed_share_weights_order_and_pictures(tiny: Workspace) -> None:
    """Until they prune, they are one run: InfoBatch's first epoch is the plain recipe's."""
    curves = {arm: result(run_arm(tiny, "tiny", arm, 0, "smoke"))[0] for arm in ("full", "infobatch-50")}
    losses = [curve.query("metric == 'train_loss'")["value"].iloc[0] for curve in curves.values()]
    assert losses[0] == losses[1]
    workload = tiny.study("tiny").scale("smoke").workloads["colours"]
    task = load_task("classification", tiny, workload, torch.device("cpu"))
    for name, value in task.model(0).state_dict().items():
        assert torch.equal(task.model(0).state_dict()[name], value)
    assert not torch.equal(task.model(0).get_parameter("head.weight"), task.model(1).get_parameter("head.weight"))


# -------------------------------------------------------------------------------------------------------------- meters
@pytest.mark.parametrize(
    ("arm", "updates", "examples"),
    [
        ("full", 20, 288),  # 4 epochs of 72, in batches of 16: 5 updates each
        ("full-x0.5", 10, 144),
        ("rs2-50", 12, 144),  # 36 an epoch: 3 updates
        ("random-50", 12, 144),
    ],
)
def test_meters_follow_from_the_recipe(tiny: Workspace, arm: str, updates: int, examples: int) -> None:
    folder = run_arm(tiny, "tiny", arm, 0, "smoke")
    meters = read_summary(folder).meters
    assert (meters.updates, meters.examples, meters.examples_scored) == (updates, examples, 0)
    assert meters.flops_train == meters.flops == examples * TRAINING
    assert (meters.flops_scoring, meters.flops_reference, meters.seconds_reference) == (0, 0, 0)
    assert meters.energy_joules is None  # the CPU has no counter: not measured is not 0
    assert meters.seconds == pytest.approx(meters.seconds_train + meters.seconds_selection)
    assert min(meters.seconds_train, meters.seconds_selection, meters.seconds_evaluation, meters.seconds_setup) > 0
    assert meters.peak_memory_bytes is not None
    assert meters.peak_memory_bytes > 10 * 2**20


def test_a_horizon_in_examples_is_met_to_the_example(tiny: Workspace) -> None:
    meters = read_summary(run_arm(tiny, "tiny", "infobatch-50-adjusted", 0, "smoke")).meters
    assert meters.examples == 144
    assert meters.flops == 144 * TRAINING


def test_annealing_begins_on_its_example_where_the_budget_is_counted_in_examples(tiny: Workspace) -> None:
    folder = run_arm(tiny, "tiny", "infobatch-50-adjusted", 0, "smoke")
    kept = pd.read_parquet(folder / "curve.parquet").query("metric == 'kept_fraction'")
    # Seven eighths of 144 examples end at 126; the epoch that begins there is whole and cut by the budget's end.
    assert 126 in kept["examples"].tolist()
    assert kept["examples"].tolist()[-1] == 144
    assert kept["value"].tolist()[-1] == 1.0


@pytest.mark.parametrize(
    ("arm", "proxies", "proxy_epochs", "scored"), [("el2n-50", 2, 1, 144), ("forgetting-50", 1, 2, 0), ("ccs-50", 1, 1, 72)]
)
def test_selectors_that_score_first_pay_for_it(
    tiny: Workspace, arm: str, proxies: int, proxy_epochs: int, scored: int
) -> None:
    folder = run_arm(tiny, "tiny", arm, 0, "smoke")
    meters = read_summary(folder).meters
    assert (meters.updates_reference, meters.examples_reference) == (proxies * proxy_epochs * 5, proxies * proxy_epochs * 72)
    assert (meters.updates - meters.updates_reference, meters.examples - meters.examples_reference) == (12, 144)
    assert meters.examples_scored == scored
    assert meters.flops_reference == proxies * proxy_epochs * 72 * TRAINING
    assert meters.flops_scoring == scored * FORWARD
    assert meters.flops == meters.flops_train + meters.flops_reference + meters.flops_scoring
    assert meters.flops_train == 144 * TRAINING
    assert 0 < meters.seconds_reference < meters.seconds
    assert meters.energy_joules is None
    assert json.loads((folder / "summary.json").read_text())["meters"]["energy_joules"] is None


# --------------------------------------------------------------------------------------------------------------- files
def test_a_run_leaves_three_files_that_say_all(tiny: Workspace) -> None:
    folder = run_arm(tiny, "tiny", "full@vit", 1, "smoke")
    assert folder == tiny.root / "results" / "smoke" / "tiny" / "runs" / "full@vit" / "seed1"
    assert sorted(path.name for path in folder.iterdir()) == ["curve.parquet", "provenance.json", "summary.json"]
    curve, summary = pd.read_parquet(folder / "curve.parquet"), read_summary(folder)
    assert list(curve.columns) == CURVE_COLUMNS
    assert curve[["study", "arm", "seed", "scale"]].drop_duplicates().values.tolist() == [["tiny", "full@vit", 1, "smoke"]]
    # The last evaluation of the curve is of the model that the summary speaks of.
    last = curve[curve["metric"] == "test_accuracy"].iloc[-1]
    assert (last["value"], last["examples"]) == (summary.metrics["test_accuracy"], summary.meters.examples)
    assert set(summary.metrics) == {"test_accuracy", "test_loss", "validation_accuracy", "validation_loss"}
    made = read_json(folder / "provenance.json")
    assert made["config_digest"] == summary.config_digest
    assert made["command"] == summary.command == "scrimp run tiny full@vit --seed 1 --scale smoke"
    assert made["data_digests"] == {"colours": read_json(tiny.shards("colours") / "manifest.json")["samples_sha256"]}
    assert (made["device"], made["threads"], made["seed"], made["bf16"]) == ("cpu", 1, 1, False)
    assert [s.key for s in read_summaries(tiny, "smoke", "tiny")] == ["smoke/tiny/full@vit/seed1"]
    study = tiny.study("tiny")
    assert [s.key for s in current_summaries(tiny, study, "smoke")] == ["smoke/tiny/full@vit/seed1"]
    longer = study.scale("smoke").workloads["vit"].model_copy(update={"epochs": 5.0})
    workloads = {**study.scale("smoke").workloads, "vit": longer}
    changed = {**study.scales, "smoke": study.scale("smoke").model_copy(update={"workloads": workloads})}
    assert current_summaries(tiny, study.model_copy(update={"scales": changed}), "smoke") == []
    assert len(read_curves(tiny, "smoke", "tiny")) == len(curve)
    assert not tiny.checkpoint("smoke", "tiny", "full@vit", 1).exists()


def test_what_a_run_cannot_have_is_said_before_it_trains(tiny: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ScrimpError, match=r"unknown arm 'ful' in studies/tiny/study\.yaml, scale smoke: did you mean 'full'"
    ):
        run_arm(tiny, "tiny", "ful", 0, "smoke")
    with pytest.raises(ScrimpError, match=r"unknown scale 'smke' in studies/tiny/study\.yaml.*known: mini, smoke"):
        run_arm(tiny, "tiny", "full", 0, "smke")
    with pytest.raises(ScrimpError, match=r"unknown study .tny. .* did you mean .tiny."):
        run_arm(tiny, "tny", "full", 0, "smoke")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ScrimpError, match="torch sees no GPU"):
        choose_device("cuda", 1)
    assert choose_device("auto", 1) == torch.device("cpu")
    assert not (tiny.root / "results").exists()


@pytest.mark.parametrize("split", ["train", "test"])
def test_data_that_lack_a_split_are_refused(tiny: Workspace, split: str) -> None:
    samples = pd.read_parquet(tiny.shards("colours") / "samples.parquet")
    rewrite_table(tiny.shards("colours"), samples[samples["split"] != split])
    with pytest.raises(ScrimpError, match=rf"dataset colours has no split '{split}'"):
        run_arm(tiny, "tiny", "full", 0, "smoke")


@pytest.mark.parametrize("change", [{"ema_decay": 0.5}, {"precision": "bf16"}, {"optimizer": "lamb", "learning_rate": 0.01}])
def test_recipes_of_every_kind_run(tiny: Workspace, change: dict[str, Any]) -> None:
    study = tiny.study("tiny")
    arm, workload = study.resolve("smoke", "infobatch-50")
    other = workload.model_copy(update={"recipe": workload.recipe.model_copy(update=change)})
    cpu = torch.device("cpu")
    plain = fit(load_task("classification", tiny, workload, cpu), arm, 0, Clock(cpu)).metrics
    task = load_task("classification", tiny, other, cpu)
    changed = fit(task, arm, 0, Clock(cpu)).metrics
    assert task.place.bf16 == (change.get("precision") == "bf16")
    assert changed["test_loss"] != plain["test_loss"]
    assert changed["test_loss"] < 1.5  # log 3 = 1.1 by chance


# ------------------------------------------------------------------------------------------------------------- killing
SCRIPT = """
import sys
from scrimp.training import examples, loop
loop.train.__kwdefaults__["checkpoint_every"] = 0.0  # after every epoch, not every 20 seconds
order = examples.epoch_order
def noted(count, seed, epoch):
    print(epoch, file=open("epochs.txt", "a"))
    return order(count, seed, epoch)
examples.epoch_order = noted
sys.argv = ["scrimp", "run", "tiny", "infobatch-50", "--seed", "0", "--scale", "mini"]
from scrimp.cli import main
main()
"""


def epochs_begun(root: Path) -> list[int]:
    path = root / "epochs.txt"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def saved_epoch(checkpoint: Path) -> int:
    with safe_open(checkpoint, framework="pt") as file:
        epoch: int = json.loads(file.metadata()["progress"])["examples"]["epoch"]
        return epoch


@pytest.mark.slow
def test_a_killed_run_ends_as_if_it_had_not_been_killed(tiny: Workspace) -> None:
    whole = moved(run_arm(tiny, "tiny", "infobatch-50", 0, "mini"), "whole")
    checkpoint = tiny.checkpoint("mini", "tiny", "infobatch-50", 0)
    folder = tiny.run_folder("mini", "tiny", "infobatch-50", 0)
    command = [sys.executable, "-c", SCRIPT]
    killed = subprocess.Popen(command, cwd=tiny.root, stdout=subprocess.DEVNULL)
    try:
        for _ in range(60_000):
            if len(epochs_begun(tiny.root)) >= 15 or killed.poll() is not None:
                break
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
    finally:
        killed.kill()
    assert killed.wait() == -signal.SIGKILL
    begun = epochs_begun(tiny.root)
    assert not folder.exists()
    assert 14 <= (epoch := saved_epoch(checkpoint)) < 60
    (tiny.root / "epochs.txt").unlink()
    done = subprocess.run(command, cwd=tiny.root, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(folder.relative_to(tiny.root))
    # It went on with the epoch behind the last saved one: the one it was killed in, or the one after.
    assert epochs_begun(tiny.root) == list(range(epoch, 60))
    assert begun[-1] in (epoch - 1, epoch)
    assert_same(whole, folder)
    assert not checkpoint.exists()


def test_a_checkpoint_of_another_configuration_is_not_resumed(
    tiny: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from scrimp.training import loop

    monkeypatch.setitem(loop.train.__kwdefaults__, "checkpoint_every", 0.0)
    fractions: list[float] = []

    def stop(stage: str, fraction: float) -> None:
        if fraction > 0.6:
            raise KeyboardInterrupt

    def interrupted() -> None:
        with pytest.raises(KeyboardInterrupt):
            run_arm(tiny, "tiny", "full", 0, "smoke", on_progress=stop)

    interrupted()
    assert saved_epoch(tiny.checkpoint("smoke", "tiny", "full", 0)) == 2
    run_arm(tiny, "tiny", "full", 0, "smoke", on_progress=lambda _, fraction: fractions.append(fraction))
    assert fractions[0] == pytest.approx(0.5 + 16 / 288)  # the same configuration goes on in the third epoch

    interrupted()
    path = tiny.root / "config" / "studies" / "tiny" / "study.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.1\n", "learning_rate: 0.2\n"))
    fractions.clear()
    assert "not gone on from" not in capsys.readouterr().err
    changed = moved(run_arm(tiny, "tiny", "full", 0, "smoke", on_progress=lambda _, f: fractions.append(f)), "changed")
    assert fractions[0] == pytest.approx(16 / 288)  # another learning rate: from the start
    why = "it was left by another configuration, code, data or kind of device"
    assert f"tiny/full/seed0.safetensors: {why}\n" in capsys.readouterr().err
    assert_same(changed, run_arm(tiny, "tiny", "full", 0, "smoke"))


# ------------------------------------------------------------------------------------------------------ several processes
@pytest.mark.slow
def test_two_processes_keep_the_books_of_one(tiny: Workspace) -> None:
    # The ViT has no batch statistics, which would stay local to a process.
    alone = moved(run_arm(tiny, "tiny", "infobatch-50@vit", 0, "smoke"), "alone")
    arguments = ["--standalone", "--nproc_per_node=2", "-m", "scrimp.cli", "run", "tiny", "infobatch-50@vit"]
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *arguments, "--scale", "smoke"],
        cwd=tiny.root,
        check=True,
        capture_output=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    together = tiny.run_folder("smoke", "tiny", "infobatch-50@vit", 0)
    assert sorted(path.name for path in together.iterdir()) == ["curve.parquet", "provenance.json", "summary.json"]
    (one, summary), (two, other) = result(alone), result(together)
    keys = ["step", "examples", "flops", "metric"]
    pd.testing.assert_frame_equal(one[keys], two[keys], check_exact=True)
    books = one["metric"].isin(["kept_fraction", "below_mean"])
    assert books.sum() == 8
    pd.testing.assert_frame_equal(one[books], two[books], check_exact=True)
    assert summary["meters"] == other["meters"]
    # Sums in another order: equal but for rounding.
    losses = one["metric"].str.endswith(("loss", "score_mean"))
    assert list(two[losses]["value"]) == pytest.approx(list(one[losses]["value"]), rel=1e-4)
    assert read_json(together / "provenance.json")["config_digest"] == summary["config_digest"]


# -------------------------------------------------------------------------------------------------------------- tuning
@pytest.mark.slow
def test_tuning_walks_the_grid_on_the_validation_split_alone(tiny: Workspace) -> None:
    path = tune_study(tiny, "tiny", "smoke", lambda stage, fraction: None)
    table = pd.read_csv(path)
    points = [("full", 0.05), ("full", 0.1), ("rs2-50", 0.05), ("rs2-50", 0.1)]
    assert list(zip(table["arm"], table["learning_rate"], strict=True)) == points
    assert "validation_accuracy" in table.columns
    assert not [name for name in table.columns if "test" in name]
    # A trial is the run of that recipe: the same numbers as by hand.
    arm, workload = tiny.study("tiny").resolve("smoke", "full")
    task = load_task("classification", tiny, workload, torch.device("cpu"))
    metrics = fit(task, arm, 100, Clock(torch.device("cpu"))).metrics
    assert table["validation_loss"].iloc[1] == pytest.approx(metrics["validation_loss"], rel=1e-12)
    with pytest.raises(ScrimpError, match=r"studies/tiny/study\.yaml has no `tuning` for scale mini"):
        tune_study(tiny, "tiny", "mini", lambda stage, fraction: None)


def test_tuning_needs_a_validation_split(tiny: Workspace) -> None:
    from scrimp.stages import tune as tuning

    samples = pd.read_parquet(tiny.shards("colours") / "samples.parquet")
    rewrite_table(tiny.shards("colours"), samples[samples["split"] != "validation"])
    trial = tuning.Trial("tiny", "smoke", "colours", "full", 0.1, 0)
    with pytest.raises(ScrimpError, match="colours has no validation split to tune on"):
        tuning.run_trial(tiny, trial)


def test_a_summary_is_closed() -> None:
    fields = yaml.safe_load("{study: s, arm: a, seed: 0, scale: x, config: {}, config_digest: d, command: c, metrics: {}}")
    meters = dict.fromkeys(["updates", "examples", "examples_scored"], 1)
    with pytest.raises(ValueError, match="flops_train"):
        Summary.model_validate({**fields, "meters": meters})


def test_a_loaded_task_knows_what_an_example_costs(tiny: Workspace) -> None:
    task = load_task("classification", tiny, tiny.study("tiny").scale("smoke").workloads["colours"], torch.device("cpu"))
    assert (task.flops.forward, task.flops.training) == (FORWARD, TRAINING)


@pytest.mark.parametrize("arm", ["el2n-50", "forgetting-50"])
def test_what_proxies_cost_is_in_every_row_of_the_curve(tiny: Workspace, arm: str) -> None:
    folder = run_arm(tiny, "tiny", arm, 0, "smoke")
    curve, meters = pd.read_parquet(folder / "curve.parquet"), read_summary(folder).meters
    before = meters.flops_scoring + meters.flops_reference
    assert before > 0
    first, last = curve.sort_values("step").iloc[0], curve.sort_values("step").iloc[-1]
    assert first["flops"] > before
    assert first["examples"] > meters.examples_reference > 0
    assert (last["flops"], last["examples"], last["step"]) == (meters.flops, meters.examples, meters.updates)
    assert last["flops"] == meters.flops_train + before
