"""Language runs end to end on a source of known entropy: trunk and branches, resuming, files, errors."""

from __future__ import annotations

import copy
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from study_folders import write_study

from scrimp.config import Workspace
from scrimp.data.stage import shard
from scrimp.data.text import load_text, windows
from scrimp.errors import ScrimpError
from scrimp.files import read_json
from scrimp.models.language import build
from scrimp.records import read_summary
from scrimp.stages.run import run_arm as run_language_arm
from scrimp.stages.tune import Trial, run_trial
from scrimp.tasks import base
from scrimp.tasks.causal_lm import mean_loss
from scrimp.training import session
from scrimp.training.place import Place

CONSTANT = {"name": "constant", "warmup": 0, "warmup_steps": 3}
TAIL = {**CONSTANT, "cooldown": 0.25}
PER_STEP = 4 * 16  # tokens of a batch
STUDY: dict[str, Any] = {
    "study": "words",
    "task": "causal-lm",
    "title": "t",
    "paper": "p",
    "card": {"question": "?", "method": "-", "reading": "-"},
    "arms": {
        "trunk-x1": {"label": "trunk", "horizon": {"flops": 1}, "recipe": {"schedule": CONSTANT}},
        "cool-x1": {"label": "tail", "horizon": {"flops": 1}, "recipe": {"schedule": TAIL}, "cooldown_of": "trunk-x1"},
        "cool-x0.5": {"label": "tail", "horizon": {"flops": 0.5}, "recipe": {"schedule": TAIL}, "cooldown_of": "trunk-x1"},
        "straight-x0.5": {"label": "the same from the start", "horizon": {"flops": 0.5}, "recipe": {"schedule": TAIL}},
        "micro-x0.5": {
            "label": "in parts",
            "horizon": {"flops": 0.5},
            "recipe": {"schedule": TAIL, "micro_batch": 3},
        },
    },
    "baseline_sweep": [],
    "scales": {
        "smoke": {
            "note": "tiny",
            "seeds": [0],
            "workloads": {
                "tiny": {
                    "dataset": "chain",
                    "model": {"name": "transformer", "options": {"context": 16, "width": 16, "depth": 1, "heads": 2}},
                    "recipe": {"optimizer": "adamw", "learning_rate": 0.01, "batch_size": 4, "gradient_clip": 1.0},
                    "flops": 1.0,  # set below: forty steps
                    "evaluations": 2,
                    "evaluation_tokens": 160,
                    "arms": ["trunk-x1", "cool-x1", "cool-x0.5", "straight-x0.5", "micro-x0.5"],
                }
            },
        }
    },
    "figures": {},
    "claims": [],
}
CHAIN = {
    "title": "a chain",
    "builder": "text_markov",
    "source": {"kind": "generated"},
    "licence": "none",
    "used_for": "tests",
    "options": {"symbols": 12, "successors": 3, "train": 20000, "validation": 2000, "test": 2000},
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the chain's shards alone."""
    root = tmp_path_factory.mktemp("chain")
    (root / "config").mkdir()
    (root / "config" / "datasets.yaml").write_text(yaml.safe_dump({"chain": CHAIN}))
    shard(Workspace(root), "chain")
    return root


@pytest.fixture
def words(shards: Path, tmp_path: Path) -> Workspace:
    """The study in a workspace of its own, which borrows the shards."""
    study = copy.deepcopy(STUDY)
    workload = study["scales"]["smoke"]["workloads"]["tiny"]
    vocabulary = load_text(shards / "resources" / "shards" / "chain").vocabulary
    options = {k: v for k, v in workload["model"]["options"].items() if k != "context"}
    workload["flops"] = 40 * PER_STEP * build(vocabulary, 16, 0, options).flops_per_token()
    shutil.copytree(shards, tmp_path / "w")
    write_study(tmp_path / "w", study)
    return Workspace(tmp_path / "w")


def run(workspace: Workspace, arm: str) -> Any:
    return read_summary(run_language_arm(workspace, "words", arm, 0, "smoke"))


# ------------------------------------------------------------------------------------------------------- trunk and branch
def test_a_branch_ends_as_a_run_from_the_start_with_its_schedule(words: Workspace) -> None:
    trunk = run(words, "trunk-x1")
    branch, straight = run(words, "cool-x0.5"), run(words, "straight-x0.5")
    assert branch.metrics == straight.metrics  # to the bit
    assert branch.metrics["test_loss"] < trunk.metrics["test_loss"] + 1
    assert (branch.meters.updates, straight.meters.updates, trunk.meters.updates) == (20, 20, 40)
    assert branch.meters.updates_reference == 15  # the tail is the last quarter of twenty steps
    assert branch.meters.flops == straight.meters.flops
    assert branch.meters.flops_train == pytest.approx(branch.meters.flops / 4)
    assert branch.meters.flops_reference == pytest.approx(branch.meters.flops * 3 / 4)
    assert (straight.meters.updates_reference, straight.meters.flops_reference) == (0, 0.0)
    assert branch.facts["tokens"] == 20 * PER_STEP
    assert branch.facts["flops_matmul"] == pytest.approx(branch.meters.flops)
    states = sorted(path.name for path in words.cooldown_states("smoke", "words", "trunk-x1", 0).iterdir())
    assert states == ["step-0000015.safetensors", "step-0000030.safetensors"]


def test_parts_of_a_batch_add_up_to_it(words: Workspace) -> None:
    whole, parts = run(words, "straight-x0.5"), run(words, "micro-x0.5")
    assert parts.metrics["test_loss"] == pytest.approx(whole.metrics["test_loss"], abs=1e-4)
    assert parts.meters.flops == whole.meters.flops


def test_a_branch_without_its_trunk_says_what_to_run(words: Workspace) -> None:
    with pytest.raises(ScrimpError, match=r"cool-x1 goes on from .*step-0000030.*scrimp run words trunk-x1 --seed 0"):
        run(words, "cool-x1")
    run(words, "trunk-x1")
    path = words.root / "config" / "studies" / "words" / "study.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.01", "learning_rate: 0.02"))
    with pytest.raises(ScrimpError, match="missing, damaged or out of date"):  # the state is that of another rate
        run(words, "cool-x1")


def test_a_branch_does_not_start_from_a_state_with_a_flipped_bit(words: Workspace) -> None:
    run(words, "trunk-x1")
    state = words.cooldown_states("smoke", "words", "trunk-x1", 0) / "step-0000015.safetensors"
    content = bytearray(state.read_bytes())
    content[-2] ^= 1
    state.write_bytes(content)
    with pytest.raises(ScrimpError, match=r"000015\.safetensors, which is missing, damaged .*scrimp run words trunk-x1"):
        run(words, "cool-x0.5")


def test_a_trunk_does_not_end_while_its_states_are_missing(words: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another workflow in the folder would take them away, before it runs the same rule."""
    states = words.cooldown_states("smoke", "words", "trunk-x1", 0)

    def taken_away(*arguments: Any) -> Any:
        if arguments[1] == 35 * 4:
            shutil.rmtree(states)
        return candidates(*arguments)

    candidates = base.stream
    monkeypatch.setattr(base, "stream", taken_away)
    with pytest.raises(ScrimpError, match=r"trunk-x1 has left no whole .*000015\.safetensors: something took states away"):
        run(words, "trunk-x1")
    assert not (words.run_folder("smoke", "words", "trunk-x1", 0) / "summary.json").exists()
    monkeypatch.setattr(base, "stream", candidates)
    run(words, "trunk-x1")
    assert len(list(states.iterdir())) == 2


def test_branches_of_a_trunk_that_diverged_did_so_too(words: Workspace) -> None:
    path = words.root / "config" / "studies" / "words" / "study.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.01", "learning_rate: 1.0e+30"))
    trunk = run(words, "trunk-x1")
    assert trunk.diverged is not None
    assert trunk.diverged.step <= 15
    assert words.cooldown_states("smoke", "words", "trunk-x1", 0).is_dir()  # which the workflow waits for
    branch = run(words, "cool-x0.5")
    assert branch.diverged is not None
    assert branch.diverged.what.startswith("trunk-x1, which it goes on from, did: ")
    assert branch.meters.updates == 0


def test_a_killed_run_goes_on_and_ends_alike(words: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run(words, "trunk-x1")
    whole = run(words, "cool-x0.5")
    curve = pd.read_parquet(words.run_folder("smoke", "words", "cool-x0.5", 0) / "curve.parquet")
    drawn: list[int] = []

    def stop_at_the_eighteenth(*arguments: Any) -> Any:
        step = arguments[1] // 4  # batches of four
        drawn.append(step)
        if step == 18 and drawn.count(18) == 1:
            raise KeyboardInterrupt
        return candidates(*arguments)

    candidates = base.stream
    monkeypatch.setattr(base, "stream", stop_at_the_eighteenth)
    monkeypatch.setattr(session.time, "monotonic", iter(range(0, 100000, 30)).__next__)  # a checkpoint every step
    with pytest.raises(KeyboardInterrupt):
        run(words, "cool-x0.5")
    again = run(words, "cool-x0.5")
    assert drawn == [15, 16, 17, 18, 18, 19]  # from the trunk's state, then from the checkpoint
    assert again.metrics == whole.metrics
    assert again.meters.updates_reference == 15
    resumed = pd.read_parquet(words.run_folder("smoke", "words", "cool-x0.5", 0) / "curve.parquet")
    columns = ["step", "flops", "metric", "value"]
    pd.testing.assert_frame_equal(resumed[columns], curve[columns])
    assert not words.checkpoint("smoke", "words", "cool-x0.5", 0).exists()


def test_a_killed_trunk_whose_states_were_taken_away_makes_them_again(
    words: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snakemake removes a failed job's outputs, the states among them, and leaves the checkpoint."""

    def stop_at_the_twentieth(*arguments: Any) -> Any:
        if arguments[1] == 20 * 4:
            raise KeyboardInterrupt
        return candidates(*arguments)

    candidates = base.stream
    monkeypatch.setattr(base, "stream", stop_at_the_twentieth)
    monkeypatch.setattr(session.time, "monotonic", iter(range(0, 100000, 30)).__next__)
    with pytest.raises(KeyboardInterrupt):
        run(words, "trunk-x1")
    assert words.checkpoint("smoke", "words", "trunk-x1", 0).exists()
    states = words.cooldown_states("smoke", "words", "trunk-x1", 0)
    assert [path.name for path in states.iterdir()] == ["step-0000015.safetensors"]
    shutil.rmtree(states)
    monkeypatch.setattr(base, "stream", candidates)
    run(words, "trunk-x1")
    assert run(words, "cool-x0.5").metrics == run(words, "straight-x0.5").metrics


def test_a_trunk_hears_of_its_branches_where_they_begin(words: Workspace) -> None:
    spec = words.study("words").run_spec("smoke", "trunk-x1")
    assert spec["cooldowns"] == [0.375, 0.75]  # three quarters of a half, and of the whole
    assert "cooldowns" not in words.study("words").run_spec("smoke", "cool-x1")


# ------------------------------------------------------------------------------------------------------------ what is kept
def test_files_of_a_run(words: Workspace) -> None:
    summary = run(words, "straight-x0.5")
    folder = words.run_folder("smoke", "words", "straight-x0.5", 0)
    curve = pd.read_parquet(folder / "curve.parquet")
    assert set(curve["metric"]) == {"train_loss", "test_loss", "test_bits_per_byte"}
    trained = curve[curve["metric"] == "train_loss"]
    assert trained["step"].tolist() == list(range(1, 21))  # fewer steps than points: every step is one
    assert trained["flops"].iloc[-1] == summary.meters.flops
    tested = curve[curve["metric"] == "test_loss"]
    assert tested["step"].tolist() == [10, 20]
    assert tested["value"].iloc[-1] == summary.metrics["test_loss"]
    assert summary.metrics["test_bits_per_byte"] == pytest.approx(summary.metrics["test_loss"] / math.log(2))
    told = read_json(folder / "provenance.json")
    assert told["kernels"]["rowwise_cross_entropy"] == "cpu"  # others may have run in this process
    assert set(told["data_digests"]) == {"chain"}


def test_the_loss_is_the_mean_over_windows_spread_evenly(words: Workspace) -> None:
    text = load_text(words.shards("chain"))
    tokens, place = text.splits["test"], Place(torch.device("cpu"))
    model = build(text.vocabulary, 16, 0, {"width": 16, "depth": 1, "heads": 2})
    inputs, targets = windows(tokens, 16, torch.tensor([0, 31, 62, 93]))  # of 124 windows, four
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    assert mean_loss(model, tokens, 70, place) == pytest.approx(float(expected), rel=1e-5)


def test_no_model_beats_the_entropy_of_its_source_and_a_trained_one_comes_near(words: Workspace) -> None:
    path = words.root / "config" / "studies" / "words" / "study.yaml"
    study = yaml.safe_load(path.read_text())
    workload = study["scales"]["smoke"]["workloads"]["tiny"]
    workload["flops"] *= 15
    workload["recipe"]["learning_rate"] = 0.02
    workload["evaluation_tokens"] = 2000
    path.write_text(yaml.safe_dump(study))
    entropy = load_text(words.shards("chain")).entropy
    assert entropy is not None
    loss = run(words, "straight-x0.5").metrics["test_loss"]
    assert entropy - 0.05 < loss < entropy + 0.2  # the test split is a sample of 2,000 tokens


def test_tuning_measures_the_validation_split_alone(words: Workspace) -> None:
    row = run_trial(words, Trial("words", "smoke", "tiny", "cool-x0.5", 0.01, 7))
    assert {name for name in row if name.endswith("_loss")} == {"validation_loss"}
    assert row["validation_loss"] > 0


def test_a_dataset_without_tokens_is_refused(words: Workspace) -> None:
    manifest = words.shards("chain") / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"end_of_text"', '"ended"'))
    with pytest.raises(ScrimpError, match="chain has no tokens"):
        run(words, "trunk-x1")


def test_a_horizon_in_steps_is_the_share_of_the_steps_that_the_flops_buy(words: Workspace) -> None:
    path = words.root / "config" / "studies" / "words" / "study.yaml"
    study = yaml.safe_load(path.read_text())
    study["arms"]["straight-x0.5"]["horizon"] = {"steps": 0.5}
    path.write_text(yaml.safe_dump(study))
    assert run(words, "straight-x0.5").meters.updates == 20
