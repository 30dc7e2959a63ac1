"""The cramming study: its recipes are the published ones, its probes find what is planted in made-up runs, all is drawn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from scrimp.config import MAIN_SEPARATOR, Workspace
from scrimp.data import text_tokens
from scrimp.data.labelled_text import SCHEMA as LABELLED
from scrimp.data.shards import building, write_manifest
from scrimp.data.text_documents import Document
from scrimp.data.text_packing import SCHEMA as PACKED
from scrimp.data.text_packing import Options, pack, split_of
from scrimp.errors import ScrimpError
from scrimp.measure.code import package_root
from scrimp.models.language import Language
from scrimp.records import CURVE_COLUMNS, Meters, Summary, write_run
from scrimp.stages.tune import Trial, configured
from scrimp.studies.loading import offered
from scrimp.studies.outputs import draw_figures

PROJECT = package_root().parents[1]
FOLDER = package_root() / "studies" / "cramming"
PROBES = offered(FOLDER, "probe")
OFFSETS = {
    "arch-sinusoidal": 0.5,
    "arch-learned": 0.4,
    "arch-post-norm": 0.06,
    "size-16": 0.25,
    "size-32": 0.3,
    "size-96": -0.1,
    "size-128": 0.2,
}
PARAMETERS = {"size-16": 5e4, "size-32": 1e5, "size-96": 6e5, "size-128": 1.3e6}
SETS = ["f1:spam", "pearson:film-grades", "mcc:shuffled-words", "accuracy:cloze-tags", "accuracy:gloss-parts"]
SETS += ["accuracy:supersenses"]
NOTHING: dict[str, Any] = {
    name: 0 for name in Meters.model_fields if name not in ("flops", "peak_memory_bytes", "energy_joules")
}


def metrics_of(arm: str, workload: str, seed: int, judged: bool) -> dict[str, float]:
    """A loss of 5, what the workload adds, a hundredth a seed; every labelled set at 50 %, one more a seed."""
    loss = 5 + OFFSETS.get(workload, 0.0) + 0.01 * seed - (0.5 if arm == "crammed-x16" else 0.0)
    found = {"test_loss": loss, "test_bits_per_byte": loss / 2}
    if judged:
        percent = 50.0 + seed + (5 if arm.startswith("crammed") else 0)
        told = {name: percent if name.partition(":")[0] in ("accuracy", "f1") else percent / 100 for name in SETS}
        found |= {f"test_{name}": value for name, value in told.items()} | {"test_average:downstream": percent}
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Every run of the shipped study at mini, trained by nobody."""
    root = tmp_path_factory.mktemp("cramming")
    shutil.copytree(PROJECT / "config", root / "config")
    workspace = Workspace(root)
    config = workspace.study("cramming")
    for arm_id in config.arm_ids("mini"):
        arm, workload = config.resolve("mini", arm_id)
        name, _, at = arm_id.partition(MAIN_SEPARATOR)
        at, flops = at or config.scale("mini").main, arm.horizon.amount * 8e11
        for seed in config.seeds("mini", arm_id):
            found = metrics_of(name, at, seed, workload.downstream is not None)  # type: ignore[attr-defined]
            rows = pd.DataFrame({"step": range(1, 21), "flops": [flops * step / 20 for step in range(1, 21)]})
            rows = rows.assign(examples=rows["step"] * 12, seconds=0.0, metric="train_loss", value=7 - rows["step"] / 10)
            facts = dict.fromkeys(("tokens", "parameters_non_embedding", "flops_6n_total"), flops / 2e6)
            summary = Summary(
                study="cramming",
                arm=arm_id,
                seed=seed,
                scale="mini",
                config=config.run_spec("mini", arm_id),
                config_digest="c",
                command="none",
                meters=Meters(**NOTHING, flops=flops, peak_memory_bytes=None, energy_joules=None),
                metrics=found,
                facts={**facts, "parameters_total": PARAMETERS.get(at, 3e5)},
            )
            rows = rows.assign(study="cramming", arm=arm_id, seed=seed, scale="mini")[CURVE_COLUMNS]
            write_run(workspace.run_folder("mini", "cramming", arm_id, seed), rows, summary, {})
        for dataset in workload.datasets.values():
            manifest = workspace.shards(dataset) / "manifest.json"
            manifest.parent.mkdir(parents=True, exist_ok=True)
            size = dataset.removeprefix("mixed-texts-")
            majority = {"test": dict.fromkeys(("accuracy", "f1", "mcc", "pearson"), 0.0)}
            vocabulary = int(size) if size.isdigit() else 257 if size == "bytes" else 4096
            manifest.write_text(json.dumps({"vocabulary": vocabulary, "majority": majority}))
    return workspace


def probe(workspace: Workspace, name: str, **options: Any) -> pd.DataFrame:
    return PROBES[name](workspace, "mini", options)


# --------------------------------------------------------------------------------------------------------------- recipes
def test_published_sizes_are_in_the_recipe_files() -> None:
    config = Workspace(PROJECT).study("cramming")
    found = {}
    for arm in ("crammed", "fitted-x1@bert", "izsak@izsak"):
        _, workload = config.resolve("paper", arm)
        assert workload.model is not None
        options = {key: value for key, value in workload.model.options.items() if key != "context"}
        with torch.device("meta"):
            found[arm] = Language(32768, 128, causal=False, **options).count_parameters() / 1e6
    assert found["crammed"] == pytest.approx(119.6, abs=0.1)  # the report's 120 million
    # BERT-base's blocks, 85.1 million, and its head, with this vocabulary; BERT-large's, 302.3 million.
    assert found["fitted-x1@bert"] == pytest.approx(85.1 + 25.2 + 0.1 + 0.6, abs=0.2)
    assert found["izsak@izsak"] == pytest.approx(302.3 + 33.6 + 0.1 + 1.1, abs=0.3)


def test_published_recipes_by_arm() -> None:
    config = Workspace(PROJECT).study("cramming")
    crammed, v1 = (config.resolve("paper", arm)[1].recipe for arm in ("crammed", "crammed-v1@v1"))
    assert (crammed.learning_rate, crammed.betas, crammed.gradient_clip, crammed.eps) == (0.001, (0.9, 0.98), 0.5, 1e-12)
    assert (crammed.masking, v1.masking) == (0.25, 0.156)  # type: ignore[attr-defined]
    arm, workload = config.resolve("paper", "crammed")
    assert arm.methods[0]["end"] * workload.recipe.batch_size == 8192
    assert config.resolve("paper", "crammed-v1@v1")[0].methods[0]["end"] * workload.recipe.batch_size == 4096
    original = config.resolve("paper", "original@original")[1].recipe
    # A million steps of which 5.4e18 FLOPs pay for 301,434.
    assert (original.learning_rate, original.schedule.stretch, original.schedule.warmup) == (0.0001, 3.32, 0.01)
    assert config.resolve("paper", "fitted-x4@bert")[1].recipe.schedule.stretch == 1


# ---------------------------------------------------------------------------------------------------------------- probes
def test_published_costs_by_both_accountings(made: Workspace) -> None:
    found = probe(made, "published-costs").set_index("quantity")["value"]
    assert found["BERT over crammed on an A6000, peak"] == pytest.approx(680 / 15)
    assert found["BERT over crammed on a 2080 Ti, peak"] == pytest.approx(136)
    # 6 x 110 million x 1,000,000 steps of 256 x 512 tokens.
    assert found["BERT, 6ND"] == pytest.approx(6 * 1.1e8 * 1e6 * 256 * 512)
    # 8 devices, 312 TFLOP/s, 4,068 s over 154.8 TFLOP/s for a day.
    assert found["MosaicBERT over a day of an A6000, peak"] == pytest.approx(8 * 312 * 4068 / (154.8 * 86400))
    averages = probe(made, "published-averages").set_index("model")
    assert averages.loc["all", "distance"] == pytest.approx(766.4 / 9 - 85.1)  # RoBERTa's
    assert averages.loc["BERT-base", "computed"] == pytest.approx(
        (83.2 + 83.4 + 91.9 + 86.7 + 59.2 + 90.6 + 87.7 + 89.3 + 56.5) / 9
    )


def test_types_and_sizes_spread_as_planted(made: Workspace) -> None:
    found = probe(made, "architecture").set_index(["seed", "variants"])
    assert len(found) == 6
    # Sizes reach from -0.1 to 0.3; types from 0 to 0.5, and without absolute positions to 0.06.
    assert found.loc[(1, "all"), "excess"] == pytest.approx(0.5 - 0.4)
    assert found.loc[(1, "rotary positions alone"), "excess"] == pytest.approx(0.06 - 0.4)


def test_the_best_of_the_smaller_sizes_is_held_against_the_crammed_one(made: Workspace) -> None:
    found = probe(made, "sizes")  # "96" is better still, and larger
    assert set(found["size"]) == {"16"}
    assert found["above"].tolist() == pytest.approx([0.25] * 3)


def test_sentences_of_labelled_sets_are_found_in_wordpiece_and_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # "\u0436" is a letter that the vocabulary does not know: with it gone, the sentences are the same.
    planted = "The tale began in the \u0436 year of the north. It ended."
    judged = ["The tale began in the year of the north.", "It is nowhere to be read."]
    found = [
        Document(f"north/{n}", "north", "", f"Tale {n} of the north began in {n}, was 0123456789 long.") for n in range(60)
    ]
    found += [Document(f"south/{n}", "south", "", f"{planted} {n}") for n in range(20)]
    letters = {letter for document in found for letter in document.text.lower() if letter != " "}
    monkeypatch.setattr(text_tokens, "ALPHABET", len(letters) - 1)
    shutil.copytree(PROJECT / "config", tmp_path / "config")
    workspace = Workspace(tmp_path)
    rows = [(n, "train", f"x/{n}", text, "", 0.0) for n, text in enumerate(judged)]
    for name in ("brown-genres-few", "word-order-few"):
        with building(workspace.shards(name)) as folder:
            pd.DataFrame(rows, columns=LABELLED).to_parquet(folder / "samples.parquet")
            write_manifest(folder, name, "digest", LABELLED)

    def searched(apart: list[str]) -> pd.Series:
        shutil.rmtree(workspace.shards("brown-pieces"), ignore_errors=True)
        with building(workspace.shards("brown-pieces")) as folder:
            options = Options(tokenizer="wordpiece", vocabulary=80, validation=0.2, test=0.2)
            details = pack(folder, "brown-pieces", found, options, 1, apart)
            write_manifest(folder, "brown-pieces", "digest", PACKED, **details)
        return PROBES["text-apart"](workspace, "smoke", {}).set_index("dataset").loc["brown-pieces"]

    in_training = sum(split_of(document.document, 0.2, 0.2) == "train" for document in found[60:])
    assert in_training > 5
    assert searched([])["found"] == in_training
    assert searched(judged)["found"] == 0


def test_everything_is_drawn_and_tabled(made: Workspace) -> None:
    for name in ("published-averages", "published-costs", "text-apart"):
        path = made.results("mini", "cramming") / "probes" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame({"dataset": ["x"], "found": [0]}) if name == "text-apart" else probe(made, name)
        table.to_parquet(path)
    folder = draw_figures(made, "cramming", "mini")
    config = made.study("cramming")
    assert {path.stem for path in folder.glob("*.png")} == set(config.figures)
    runs = pd.read_csv(folder.parent / "tables" / "runs.csv")
    assert len(runs) == len(config.arm_ids("mini"))
    tasks = pd.read_csv(folder.parent / "tables" / "tasks.csv").set_index(["metric", "set", "arm"])
    assert tasks.loc[("mcc", "shuffled-words", "crammed"), "value"] == pytest.approx(0.57)  # 50, a mean of two, and five
    beside = pd.read_csv(folder.parent / "tables" / "published-glue.csv").set_index("model")
    assert beside.loc["crammed v2 (A6000)", ["our_arm", "our_average"]].tolist() == ["crammed", pytest.approx(57)]
    assert beside.loc["crammed v2 (A6000)", "our_share"] == pytest.approx(57 / 51)  # three seeds of BERT's recipe
    assert beside.loc["RoBERTa-base", ["our_arm", "our_average", "our_share"]].isna().all()


def test_rates_are_tuned_at_a_budget_of_their_own() -> None:
    workspace = Workspace(PROJECT)
    grids = {(grid.workload, *grid.arms): grid for grid in workspace.study("cramming").tuning["mini"]}
    grid = grids["bert", "fitted-x1", "fitted-x4"]
    trial = Trial("cramming", "mini", "bert", "fitted-x4", 0.002, 100, grid.flops)
    arm, workload = configured(workspace, trial)
    assert (workload.flops, workload.recipe.learning_rate, arm.horizon.flops) == (5e11, 0.002, 4)
    in_epochs = next(iter(workspace.study("infobatch").scale("mini").workloads))
    with pytest.raises(ScrimpError, match="no budget of FLOPs"):
        configured(workspace, Trial("infobatch", "mini", in_epochs, "full", 0.1, 0, 5e11))
