"""Fine-tuning: how texts are joined and cut, both losses, metrics and their average by hand, a saved state, medians."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from study_folders import rewrite_table
from torch.nn import functional as F

from scrimp.config import Workspace
from scrimp.config.tasks import Downstream, FineTuningRecipe, FineTuningWorkload
from scrimp.config.training import Schedule
from scrimp.data.labelled_text import SCHEMA
from scrimp.data.shards import building, write_manifest
from scrimp.data.text import Text
from scrimp.data.text_documents import Document
from scrimp.data.text_packing import SCHEMA as PACKED
from scrimp.data.text_packing import Options as PackingOptions
from scrimp.data.text_packing import pack
from scrimp.data.text_tokens import ByteTokenizer
from scrimp.errors import ScrimpError
from scrimp.measure.scores import average, score
from scrimp.models.language import Language, build
from scrimp.models.language_heads import TextHead
from scrimp.seeding import derived_generator
from scrimp.tasks.downstream import fine_tuned, with_dropout
from scrimp.tasks.fine_tuning import FineTuning, load_body
from scrimp.training.checkpoint import save_checkpoint
from scrimp.training.place import Place

CPU = Place(torch.device("cpu"))
BYTES = Text({}, 257, {}, 256, None, ByteTokenizer())
RECIPE = FineTuningRecipe(optimizer="adamw", learning_rate=0.01, batch_size=4, schedule=Schedule(name="linear", warmup=0.1))


def body_of(seed: int = 0, context: int = 12) -> Language:
    options: dict[str, Any] = {"width": 16, "depth": 1, "heads": 2, "causal": False, "positions": "learned"}
    return build(258, context, seed, options)


def labelled(folder: Path, rows: list[tuple[str, str, str, float]], classes: list[str] | None, metrics: list[str]) -> Path:
    table = pd.DataFrame(rows, columns=["split", "text", "other", "label"])
    table.insert(0, "index", range(len(table)))
    table.insert(2, "document", [f"d/{n}" for n in range(len(table))])
    with building(folder) as temporary:
        table[SCHEMA].to_parquet(temporary / "samples.parquet")
        write_manifest(temporary, folder.name, "digest", SCHEMA, classes=classes, metrics=metrics)
    return folder


def letters(count: int = 40) -> list[tuple[str, str, str, float]]:
    """Texts of a's or of b's: a head tells them apart."""
    splits = ["train"] * (count // 2) + ["test"] * (count // 2)
    return [(split, "ab"[n % 2] * (3 + n % 5), "", float(n % 2)) for n, split in enumerate(splits)]


def task_of(folder: Path, body: Language | None = None, **workload: Any) -> FineTuning:
    task = FineTuning(FineTuningWorkload(recipe=RECIPE, epochs=3, arms=[], **workload), CPU)
    task.use(folder, BYTES, body or body_of())
    return task


# ----------------------------------------------------------------------------------------------------------------- texts
def test_a_text_ends_and_a_pair_is_cut_the_longer_one_first(tmp_path: Path) -> None:
    rows = [
        ("train", "abc", "", 0.0),
        ("train", "abcdefghijklmnop", "xy", 0.0),  # room for 10 beside two ends: eight and two
        ("train", "abcdefghij", "klmnopqrst", 1.0),  # five and five
        ("train", "abcdefghijklmnop", "", 1.0),  # eleven
        ("test", "a", "", 1.0),
    ]
    task = task_of(labelled(tmp_path / "set", rows, ["no", "yes"], ["accuracy"]))
    ids, lengths, labels = task.data["train"]
    end = 256
    assert lengths.tolist() == [4, 12, 12, 12]
    assert ids[0].tolist() == [97, 98, 99] + [end] * 9
    assert ids[1].tolist() == [*b"abcdefgh", end, *b"xy", end]
    assert ids[2].tolist() == [*b"abcde", end, *b"klmno", end]
    assert ids[3].tolist() == [*b"abcdefghijk", end]
    assert labels.tolist() == [0, 0, 1, 1]
    assert task.batch("train", torch.tensor([0]))[0].shape == (1, 4)  # no longer than its longest


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_what_is_pooled_is_the_text_alone(pooling: Any) -> None:
    head = TextHead(body_of(), 3, pooling=pooling, head_width=None, dropout=0.0).eval()
    ids, lengths = torch.randint(0, 200, (2, 12), generator=torch.Generator().manual_seed(0)), torch.tensor([12, 5])
    x = head.body.body(ids[1:, :5])[0]  # [5, width]
    expected = head.classes(x.mean(dim=0) if pooling == "mean" else x[0])
    torch.testing.assert_close(head(ids, lengths)[1], expected, rtol=1e-4, atol=1e-5)


def test_losses_of_classes_and_of_grades_by_hand(tmp_path: Path) -> None:
    classes = task_of(labelled(tmp_path / "classes", letters(), ["a", "b"], ["accuracy"]))
    model, batch = classes.model(0).eval(), classes.batch("train", torch.arange(4))
    logits = model(batch[0], batch[1])
    torch.testing.assert_close(classes.losses(model, batch), F.cross_entropy(logits, batch[2].long(), reduction="none"))
    rows = [("train", "a", "", 1.0), ("train", "b", "", 3.0), ("test", "a", "", 2.0)]
    grades = task_of(labelled(tmp_path / "grades", rows, None, ["pearson"]))
    assert (grades.centre, grades.spread) == (2.0, pytest.approx(2**0.5))
    model, batch = grades.model(0).eval(), grades.batch("train", torch.arange(2))
    told = model(batch[0], batch[1])[:, 0] - torch.tensor([-1.0, 1.0]) / 2**0.5
    torch.testing.assert_close(grades.losses(model, batch), told.square())


def test_trials_differ_in_the_head_and_leave_the_body(tmp_path: Path) -> None:
    body = body_of()
    before = {name: weight.clone() for name, weight in body.state_dict().items()}
    task = task_of(labelled(tmp_path / "set", letters(), ["a", "b"], ["accuracy"]), body, training_examples=8)
    first, second = task.model(0), task.model(1)
    assert task.examples == 8
    assert not torch.equal(first.classes.weight, second.classes.weight)
    assert torch.equal(first.body.embedding.weight, second.body.embedding.weight)
    first.body.embedding.weight.data.zero_()
    assert all(torch.equal(body.state_dict()[name], weight) for name, weight in before.items())


# --------------------------------------------------------------------------------------------------------------- metrics
def test_metrics_by_hand() -> None:
    labels, guess = np.array([1.0, 1, 1, 0, 0]), np.array([1.0, 1, 0, 1, 0])
    # Two hits, one miss, one false alarm, one right rejection.
    assert score("accuracy", guess, labels) == pytest.approx(60)
    assert score("f1", guess, labels) == pytest.approx(100 * 2 * 2 / (2 * 2 + 1 + 1))
    assert score("mcc", guess, labels) == pytest.approx((2 * 1 - 1 * 1) / (3 * 3 * 2 * 2) ** 0.5)
    grades = np.array([1.0, 2, 3, 4])
    assert score("pearson", grades**2, grades) == pytest.approx(0.984, abs=0.001)
    assert score("spearman", grades**2, grades) == pytest.approx(1)
    assert score("pearson", np.ones(4), grades) == 0  # of a constant
    with pytest.raises(ScrimpError, match="f1 is of the class 1 among two"):
        score("f1", grades, grades)
    with pytest.raises(ScrimpError, match="unknown metric 'bleu'"):
        score("bleu", grades, grades)


def test_the_average_is_over_test_sets_in_percent() -> None:
    """Cramming's second row: nine numbers, MNLI's two test sets counting as two, coefficients times 100."""
    crammed = [{"accuracy": 83.9}, {"accuracy": 84.1}, {"accuracy": 92.2}, {"pearson": 0.846, "spearman": 0.8}]
    crammed += [{"accuracy": 53.8}, {"accuracy": 89.5}, {"f1": 87.3, "accuracy": 10.0}, {"f1": 87.5}, {"mcc": 0.445}]
    assert average(crammed) == pytest.approx(78.6, abs=0.05)
    with pytest.raises(ScrimpError, match="no test set"):
        average([])


# ------------------------------------------------------------------------------------------------------------- whole runs
def test_a_model_is_judged_on_each_set_by_medians_and_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    labelled(workspace.shards("letters"), letters(), ["a", "b"], ["accuracy", "mcc"])
    extra = [*letters(), ("test-mismatched", "aaa", "", 0.0), ("test-mismatched", "bbb", "", 1.0)]
    labelled(workspace.shards("two"), extra, ["a", "b"], ["mcc"])
    wanted = Downstream(datasets=["letters", "two"], recipe=RECIPE, epochs=5, trials=3)
    body = body_of()
    before = {name: weight.clone() for name, weight in body.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    found = fine_tuned(workspace, body, BYTES, wanted, CPU)
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(body.state_dict()[name], weight) for name, weight in before.items())
    assert set(found) == {
        "test_accuracy:letters",
        "test_mcc:letters",
        "test_mcc:two",
        "test_mcc:two-mismatched",
        "test_average:downstream",
    }
    assert found["test_accuracy:letters"] == 100.0  # a's and b's are told apart by any encoder
    told = [found["test_accuracy:letters"], 100 * found["test_mcc:two"], 100 * found["test_mcc:two-mismatched"]]
    assert found["test_average:downstream"] == pytest.approx(np.mean(told))
    assert fine_tuned(workspace, body, BYTES, wanted, CPU) == found


def test_the_protocol_bounds_the_epochs() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 5"):
        Downstream(datasets=["x"], recipe=RECIPE, epochs=6)


def test_dropout_is_fine_tunings_own() -> None:
    dropped = with_dropout(body_of(), 0.5)
    assert (dropped.dropout, dropped.blocks[0].dropout) == (0.5, 0.5)
    batch = (torch.randint(0, 200, (2, 12), generator=torch.Generator().manual_seed(0)), torch.tensor([12, 12]))
    head = TextHead(dropped, 2, pooling="mean", head_width=8, dropout=0.0)
    assert not torch.equal(head(*batch), head(*batch))


def test_it_starts_from_a_runs_saved_state(tmp_path: Path) -> None:
    trained, path = body_of(seed=7), tmp_path / "state.safetensors"
    save_checkpoint(path, {"model": trained.state_dict(), "optimizer": {}}, {"key": "x"})
    fresh = body_of(seed=0)
    load_body(fresh, path)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), trained.parameters(), strict=True))
    with pytest.raises(ScrimpError, match="holds another model than"):
        load_body(build(258, 12, 0, {"width": 32, "depth": 1, "heads": 2}), path)
    with pytest.raises(ScrimpError, match="is no run's saved state"):
        load_body(fresh, tmp_path / "nothing.safetensors")


def test_a_workload_is_set_up_from_its_datasets_and_a_saved_state(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    texts = [Document(f"d/{n}", "d", "", f"text number {n}") for n in range(40)]
    with building(workspace.shards("texts")) as temporary:
        details = pack(temporary, "texts", texts, PackingOptions(validation=0.2, test=0.2), 1)
        write_manifest(temporary, "texts", "digest", PACKED, **details)
    labelled(workspace.shards("letters"), letters(), ["a", "b"], ["accuracy"])
    options = {"context": 12, "width": 16, "depth": 1, "heads": 2, "positions": "learned"}
    given: dict[str, Any] = {"dataset": "letters", "tokens_of": "texts", "model": {"name": "encoder", "options": options}}
    trained = body_of(seed=7)
    save_checkpoint(tmp_path / "state.safetensors", {"model": trained.state_dict()}, {"key": "x"})
    for start in ("state.safetensors", None):
        task = FineTuning(FineTuningWorkload(recipe=RECIPE, epochs=1, arms=[], start=start, **given), CPU)
        task.setup(workspace)
        bodies = [task.model(seed).body.embedding.weight for seed in (0, 1)]
        # Without a saved state a seed has weights of its own.
        assert torch.equal(*bodies) == (start is not None)
        assert torch.equal(bodies[0], trained.embedding.weight) == (start is not None)
        assert task.model(0).body.dropout == RECIPE.dropout
    with pytest.raises(ScrimpError, match="needs a `dataset`, a `model`, and `tokens_of`"):
        FineTuning(FineTuningWorkload(recipe=RECIPE, epochs=1, arms=[]), CPU).setup(workspace)


def test_data_with_a_mistake_are_refused(tmp_path: Path) -> None:
    wrong = labelled(tmp_path / "labels", [*letters(4), ("test", "c", "", 2.0)], ["a", "b"], ["accuracy"])
    with pytest.raises(ScrimpError, match="labels: the label 2 is none of the 2 classes"):
        task_of(wrong)
    rewrite_table(wrong, pd.read_parquet(wrong / "samples.parquet").drop(columns="other"))
    with pytest.raises(ScrimpError, match="unknown column 'other'"):
        task_of(wrong)


def test_masks_of_selectors_have_logits_and_labels(tmp_path: Path) -> None:
    task = task_of(labelled(tmp_path / "set", letters(), ["a", "b"], ["accuracy"]))
    logits, labels = task.outputs(task.model(0), task.batch("train", torch.arange(6), derived_generator(0, 0, "x")))
    assert logits.shape == (6, 2)
    assert labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert task.labels.tolist() == [0, 1] * 10
