"""Image-text stages end to end on a tiny view: a reference, runs scored against it, their files, meters and errors."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from study_folders import write_study

from scrimp.config import Workspace
from scrimp.data import icon_pairs
from scrimp.data.shards import ShardWriter, building, write_manifest
from scrimp.data.tables import Frame
from scrimp.errors import ScrimpError
from scrimp.files import read_json
from scrimp.records import read_summary
from scrimp.stages.reference import subset_of, train_reference
from scrimp.stages.run import run_arm as run_pairs_arm
from scrimp.stages.tune import Trial, run_trial
from scrimp.training.contrast import SetShares

WORDS = ["arrow", "bell", "cup", "door", "ear", "fan", "gate", "hat", "ink", "jar"]
STUDY: dict[str, Any] = {
    "study": "pairs",
    "task": "image-text",
    "title": "t",
    "paper": "p",
    "card": {"question": "?", "method": "-", "reading": "-"},
    "arms": {
        "uniform": {"label": "uniform", "methods": [{"name": "uniform"}]},
        "jest": {"label": "JEST", "methods": [{"name": "jest", "ratio": 0.5, "reference": "curated", "chunks": 4}]},
        "live": {
            "label": "JEST, live",
            "methods": [{"name": "jest", "ratio": 0.5, "reference": "curated", "chunks": 4, "live": True}],
        },
        "flexi": {
            "label": "Flexi",
            "methods": [{"name": "jest", "ratio": 0.5, "reference": "curated", "chunks": 4, "scoring_patch": 16}],
            "recipe": {"patches": [8, 16]},
        },
    },
    "baseline_sweep": ["uniform"],
    "scales": {
        "mini": {
            "note": "tiny",
            "seeds": [0],
            "workloads": {
                "view": {
                    "dataset": "view",
                    "model": {
                        "name": "two-towers",
                        "options": {"patch": 8, "finest_patch": 8, "image": [16, 1, 2], "text": [16, 1, 2], "width_out": 8},
                    },
                    "recipe": {"optimizer": "adamw", "learning_rate": 0.01, "batch_size": 8},
                    "steps": 5,
                    "evaluations": 5,
                    "arms": ["uniform", "jest", "live", "flexi"],
                }
            },
            "references": {"curated": {"label": "curated", "subset": "curated", "steps": 3}},
        }
    },
    "figures": {},
    "claims": [],
}


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with the study `pairs` and its view of 130 distinct pictures: 50 of a curated set, 80 of a raw one."""
    write_study(tmp_path, STUDY)
    workspace = Workspace(tmp_path)
    draws = np.random.default_rng(0)
    with building(workspace.shards("base")) as folder:
        writer = ShardWriter(folder)
        for number in range(130):
            file = io.BytesIO()
            coarse = draws.integers(0, 2, (8, 8, 1), dtype=np.uint8) * 255
            Image.fromarray(np.tile(coarse.repeat(4, 0).repeat(4, 1), (1, 1, 3))).save(file, "PNG")
            name = f"{WORDS[number % 10]}-{WORDS[number // 10 % 10]}" + ("" if number < 100 else "-24")
            owner = "clear" if number < 50 else "raw"
            about = {"name": name, "caption": name.replace("-", " "), "set": owner, "designer": owner}
            writer.write("all", file.getvalue(), "png", about)
        writer.close()
        write_manifest(folder, "base", "digest", [])
    options = icon_pairs.Options(curated_sets=["clear"], test=10, validation=10, vocabulary=300, length=6, word_designers=2)
    with building(workspace.shards("view")) as folder:
        details = icon_pairs.build(folder, "view", workspace.shards("base"), {}, options)
        write_manifest(folder, "view", "digest", icon_pairs.SCHEMA, view_of="base", **details)
    monkeypatch.chdir(tmp_path)
    return workspace


def test_a_run_needs_its_reference_and_says_how_to_make_it(pairs: Workspace) -> None:
    with pytest.raises(ScrimpError, match="holds no reference: run `scrimp reference pairs curated --scale mini` first"):
        run_pairs_arm(pairs, "pairs", "jest", 0, "mini")
    with pytest.raises(ScrimpError, match=r"unknown reference 'curate' .* did you mean 'curated'"):
        train_reference(pairs, "pairs", "curate", "mini")


def test_a_reference_leaves_its_model_its_embeddings_and_its_cost(pairs: Workspace) -> None:
    folder = train_reference(pairs, "pairs", "curated", "mini")
    names = ["curve.parquet", "embeddings.safetensors", "model.safetensors", "provenance.json", "summary.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    # It is trained on a subset, whose indices say nothing of the pool's sets.
    assert not any(name.startswith("chosen_share") for name in pd.read_parquet(folder / "curve.parquet")["metric"])
    summary = read_json(folder / "summary.json")
    assert (summary["cost"]["updates"], summary["cost"]["examples"]) == (3, 24)
    assert {"test_r5", "validation_r5", "test_mrr"} <= set(summary["metrics"])
    # Cached and live references choose alike, so that their runs are the same but for their costs.
    cached = read_summary(run_pairs_arm(pairs, "pairs", "jest", 0, "mini"))
    live = read_summary(run_pairs_arm(pairs, "pairs", "live", 0, "mini"))
    assert cached.metrics == live.metrics
    assert live.meters.flops_scoring > cached.meters.flops_scoring > 0
    for name, arm in (("embeddings", "jest"), ("model", "live")):
        path = folder / f"{name}.safetensors"
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
        remedy = r"delete .*curated and run `scrimp reference pairs curated --scale mini` again"
        with pytest.raises(ScrimpError, match=rf"{name}\.safetensors is missing or damaged .*; {remedy}"):
            run_pairs_arm(pairs, "pairs", arm, 0, "mini")


def test_meters_and_curves_tell_the_reference_apart(pairs: Workspace) -> None:
    reference = read_json(train_reference(pairs, "pairs", "curated", "mini") / "summary.json")["cost"]
    uniform = read_summary(run_pairs_arm(pairs, "pairs", "uniform", 0, "mini")).meters
    folder = run_pairs_arm(pairs, "pairs", "flexi", 0, "mini")
    flexi = read_summary(folder).meters
    assert (uniform.updates, uniform.examples, uniform.examples_scored, uniform.flops_scoring) == (5, 40, 0, 0)
    assert uniform.flops == uniform.flops_train
    assert (flexi.updates, flexi.updates_reference) == (5 + 3, 3)
    assert (flexi.examples, flexi.examples_reference, flexi.examples_scored) == (40 + 24, 24, 5 * 16)
    assert flexi.flops_reference == reference["flops"]
    assert flexi.flops == pytest.approx(flexi.flops_train + flexi.flops_scoring + flexi.flops_reference)
    assert flexi.flops_train < uniform.flops_train  # half of every batch in coarse patches
    assert flexi.seconds == pytest.approx(flexi.seconds_train + flexi.seconds_selection + reference["seconds"])
    curve = pd.read_parquet(folder / "curve.parquet")
    recall = curve[curve["metric"] == "test_r5"]
    assert recall["step"].tolist() == [3 + step for step in range(1, 6)]
    assert recall["flops"].iloc[-1] == pytest.approx(flexi.flops)
    assert recall["value"].iloc[-1] == read_summary(folder).metrics["test_r5"]
    shares = curve[curve["metric"].str.startswith("chosen_share:")]
    assert set(shares["metric"]) == {"chosen_share:raw", "chosen_share:other"}
    assert shares.groupby("step")["value"].sum().tolist() == pytest.approx([1.0] * 5)


def test_tuning_looks_at_the_validation_pairs_alone(pairs: Workspace) -> None:
    train_reference(pairs, "pairs", "curated", "mini")
    row = run_trial(pairs, Trial("pairs", "mini", "view", "jest", 0.02, 100))
    assert row["learning_rate"] == 0.02
    assert "validation_r5" in row
    assert not [key for key in row if key.startswith("test")]


def test_a_run_of_a_view_that_is_none_is_refused(pairs: Workspace) -> None:
    (pairs.shards("view") / "tokens.npy").write_bytes(b"torn")
    with pytest.raises(ScrimpError, match=r"tokens\.npy is missing or damaged"):
        run_pairs_arm(pairs, "pairs", "uniform", 0, "mini")


def test_subsets_are_what_their_names_say(pairs: Workspace) -> None:
    from scrimp.data.pairs import load_pairs

    data = load_pairs(pairs.shards("view"))
    sizes = {name: len(subset_of(data, name)) for name in ("raw", "text-filtered", "curated", "curated++")}
    assert sizes["raw"] == 80
    assert sizes["curated"] == 30
    assert sizes["text-filtered"] == int(data.samples.loc[data.samples["split"] == "pool", "descriptive"].sum()) > 0
    assert sizes["curated++"] == int(data.samples["extended"].sum()) >= 30
    with pytest.raises(ScrimpError, match="unknown subset 'curated--'"):
        subset_of(data, "curated--")
    without = dataclasses.replace(data, table=Frame(data.samples.assign(descriptive=False)))
    with pytest.raises(ScrimpError, match="no pair of the data belongs to 'text-filtered'"):
        subset_of(without, "text-filtered")


def test_shares_of_sets_are_counted_over_tenths_of_the_budget() -> None:
    table = Frame(pd.DataFrame({"split": "pool", "set": ["a", "a", "a", "b", "b", "c", "d"]}))
    shares = SetShares(table.sets("pool"), table.largest_sets("pool", 3))
    assert shares(torch.tensor([0, 1]), 0.05) == {}
    assert shares(torch.tensor([3, 5]), 0.1) == {
        "chosen_share:a": 0.5,
        "chosen_share:b": 0.25,
        "chosen_share:c": 0.25,
        "chosen_share:other": 0.0,
    }
    assert shares(torch.tensor([3]), 0.2)["chosen_share:b"] == 1.0
    assert shares(torch.tensor([6]), 0.3)["chosen_share:other"] == 1.0
