"""Tests beside held-out pairs: classes by their names, COCO's captions, and image-text stages on tars from end to end."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from study_folders import write_study
from tar_worlds import SIDE, SMALL, picture, two_tars

from scrimp.config import Workspace
from scrimp.config.tasks import ImageTextWorkload
from scrimp.data.benchmarks import class_words, load_zero_shot
from scrimp.data.pairs import Pairs, PairSource
from scrimp.data.shards import read_manifest
from scrimp.data.stage import shard
from scrimp.errors import ScrimpError
from scrimp.files import read_json
from scrimp.measure.retrieval import retrieval_many
from scrimp.records import read_summary
from scrimp.stages.reference import subset_of, train_reference
from scrimp.stages.run import run_arm as run_pairs_arm
from scrimp.tasks import load_task
from scrimp.tasks.image_text import ImageText
from scrimp.training.contrast import embed, embed_captions
from scrimp.training.tower_tests import prompted

TEMPLATES = ["a drawing of {}", "{}", "thing {}"]
SETTING: dict[str, Any] = {
    "dataset": "web",
    "image_size": SIDE,
    "model": {
        "name": "two-towers",
        "options": {
            "size": SIDE,
            "length": 6,
            "patch": 2,
            "finest_patch": 2,
            "image": [16, 1, 2],
            "text": [16, 1, 2],
            "width_out": 8,
        },
    },
    "recipe": {"optimizer": "adamw", "learning_rate": 0.01, "batch_size": 8},
    "zero_shot": "classes",
    "class_names": "names.json",
    "templates": TEMPLATES,
    "few_shot": 1,
    "few_shot_draws": 2,
    "coco": "coco",
    "steps": 3,
    "evaluations": 1,
    "arms": ["uniform", "jest"],
}
STUDY: dict[str, Any] = {
    "study": "web",
    "task": "image-text",
    "title": "t",
    "paper": "p",
    "card": {"question": "?", "method": "-", "reading": "-"},
    "arms": {
        "uniform": {"label": "uniform", "methods": [{"name": "uniform"}]},
        "jest": {"label": "JEST", "methods": [{"name": "jest", "ratio": 0.5, "reference": "curated", "chunks": 4}]},
    },
    "baseline_sweep": ["uniform"],
    "scales": {
        "paper": {
            "note": "tiny",
            "seeds": [0],
            "workloads": {"web": SETTING},
            "references": {"curated": {"label": "curated", "subset": "curated", "steps": 2}},
        }
    },
    "figures": {},
    "claims": [],
}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Tars with scores, an image folder of two classes, and COCO's layout, all sharded."""
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    two_tars(tmp_path / "tars")
    for split, count in (("train", 1), ("val", 3)):
        for name in ("n00000001", "n00000002"):
            (tmp_path / "imagenet" / split / name).mkdir(parents=True)
            for number in range(count):
                encoded = picture(len(name) * number + int(name[1:]), width=SIDE + 4)
                (tmp_path / "imagenet" / split / name / f"{number}.png").write_bytes(encoded)
    (tmp_path / "own" / "annotations").mkdir(parents=True)
    (tmp_path / "own" / "val2017").mkdir()
    notes = [{"id": at, "image_id": at // 2, "caption": f"thing {at}"} for at in range(8)]
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in range(4)]
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (SIDE, 11, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "own" / "val2017" / f"{number}.jpg")
    content = json.dumps({"images": images, "annotations": notes})
    (tmp_path / "own" / "annotations" / "captions_val2017.json").write_text(content)
    (tmp_path / "names.json").write_text(json.dumps({"n00000001": "tench", "n00000002": "goldfish"}))
    common = {"title": "t", "licence": "none", "used_for": "a test"}
    options = {**SMALL, "score": "fit", "curated_from": 0.2, "extended_from": 0.1}
    obtain = {"obtain": "Ask a friend."}
    datasets = {
        "web": {**common, "builder": "web_tars", "source": {"kind": "tars", **obtain}, "options": options},
        "classes": {**common, "builder": "image_folder", "source": {"kind": "folder", **obtain}},
        "coco": {**common, "builder": "coco", "source": {"kind": "folder", **obtain}},
    }
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "datasets.yaml").write_text(yaml.safe_dump(datasets))
    write_study(tmp_path, STUDY)
    monkeypatch.chdir(tmp_path)
    for name, path in (("web", "tars"), ("classes", "imagenet"), ("coco", "own")):
        shard(Workspace(), name, Path(path))
    return Workspace()


def task_of(workspace: Workspace, **changes: Any) -> ImageText:
    workload = ImageTextWorkload.model_validate({**SETTING, **changes})
    task = load_task("image-text", workspace, workload, torch.device("cpu"))
    assert isinstance(task, ImageText)
    return task


def in_memory(pairs: PairSource) -> Pairs:
    every = torch.arange(len(pairs))
    return Pairs(pairs.images(every), every, pairs.captions(every))


def test_stages_run_on_tars_from_end_to_end(workspace: Workspace) -> None:
    reference = train_reference(workspace, "web", "curated", "paper")
    assert read_json(reference / "summary.json")["cost"]["updates"] == 2
    for arm in ("uniform", "jest"):
        metrics = read_summary(run_pairs_arm(workspace, "web", arm, 0, "paper")).metrics
        assert {"test_r5", "validation_r5", "zero_shot_accuracy", "few_shot_accuracy", "coco_i2t_r1", "coco_t2i_r5"} <= set(
            metrics
        )
        assert metrics["coco_r5"] > 0
        assert metrics["coco_t2i_r5"] == 100  # of four images


def test_zero_shot_prompts_are_averaged_to_a_unit_vector(workspace: Workspace) -> None:
    task = task_of(workspace)
    zero = task.tests.zero_shot
    assert zero is not None
    assert zero.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert zero.prompts.shape == (2, 3, 6)
    for number, name in enumerate(["tench", "goldfish"]):
        expected = task.known.encode([f"a drawing of {name}", name, f"thing {name}"])
        assert torch.equal(zero.prompts[number], expected)
    model = task.model(0).eval()
    named = prompted(model, zero.prompts, task.place)
    each = torch.stack([embed_captions(model, zero.prompts[:, at], task.place) for at in range(3)])
    assert torch.allclose(named, each.sum(dim=0) / each.sum(dim=0).norm(dim=1, keepdim=True), atol=1e-6)
    assert torch.allclose(named.norm(dim=1), torch.ones(2))
    one = prompted(model, zero.prompts[:, :1], task.place)
    assert torch.allclose(one, each[0], atol=1e-6)


def test_streamed_benchmarks_give_what_the_same_pictures_in_memory_do(workspace: Workspace) -> None:
    task = task_of(workspace)
    zero, few, many = task.tests.zero_shot, task.tests.few_shot, task.tests.captioned
    assert zero is not None
    assert many is not None
    assert many.owner.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert torch.equal(many.captions, task.known.encode([f"thing {at}" for at in range(8)]))
    assert torch.equal(many.pairs.captions(torch.arange(len(many.pairs))), many.captions[::2])
    assert few is not None
    assert few.labels.tolist() == [0, 1]
    assert few.drawn.tolist() == [[0, 1], [0, 1]]  # a class has one training picture
    held, captioned = task_of(workspace), in_memory(many.pairs)
    held.tests = dataclasses.replace(
        task.tests,
        zero_shot=dataclasses.replace(zero, pairs=in_memory(zero.pairs)),
        few_shot=dataclasses.replace(few, pairs=in_memory(few.pairs), tested=in_memory(few.tested)),
        captioned=dataclasses.replace(many, pairs=captioned),
    )
    model = task.model(0)
    found = task.extras(model)
    assert found == held.extras(model)
    image = embed(model.eval(), captioned, torch.arange(4), 2, task.place).image
    text = embed_captions(model, many.captions, task.place)
    scores = retrieval_many(image, text, many.owner)
    assert {name: found[f"coco_{name}"] for name in scores} == scores
    assert "validation_coco_r5" not in task.measure(model, ("validation",))


def test_references_are_trained_on_subsets_of_the_tars(workspace: Workspace) -> None:
    data = task_of(workspace).known
    counts = read_manifest(workspace.shards("web"))
    sizes = {name: len(subset_of(data, name)) for name in ("raw", "text-filtered", "curated", "curated++")}
    assert sizes == {
        "raw": counts["counts"]["pool"],
        "text-filtered": counts["trained_on_by"]["descriptive"],
        "curated": counts["counts"]["curated"],
        "curated++": counts["trained_on_by"]["extended"],
    }
    assert 0 < sizes["curated"] < sizes["curated++"]


def test_zero_shot_pictures_of_one_size_stay_in_memory_without_an_image_size(workspace: Workspace) -> None:
    task = task_of(workspace)
    workload = ImageTextWorkload.model_validate({**SETTING, "image_size": None, "templates": ["{}"]})
    found = load_zero_shot(workspace, workload, task.known.encode)
    assert found is not None
    assert isinstance(found.pairs, Pairs)
    assert found.pairs.images(torch.tensor([2])).shape == (1, SIDE, SIDE + 4, 3)
    assert torch.equal(found.prompts[:, 0], task.known.encode(["tench", "goldfish"]))
    assert torch.equal(found.pairs.captions(torch.arange(len(found.pairs))), found.prompts[found.labels, 0])


# ------------------------------------------------------------------------------------------------------------- mistakes
def test_a_model_without_room_for_the_data_is_refused(workspace: Workspace) -> None:
    with pytest.raises(ScrimpError, match="`image_size` is 16, but its model's `size` is 8"):
        task_of(workspace, image_size=16)
    short = {**SETTING["model"]["options"], "length": 5}
    with pytest.raises(ScrimpError, match="captions of web have 6 tokens, but the model's option `length` is 5"):
        task_of(workspace, model={"name": "two-towers", "options": short})


def test_a_workload_without_an_image_size_is_told_to_have_one(workspace: Workspace) -> None:
    with pytest.raises(ScrimpError, match="web has pictures of many sizes: give the workload an `image_size`"):
        task_of(workspace, image_size=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"zero_shot": "coco"}, "coco has no labels; zero-shot"),
        ({"coco": "classes"}, "classes has no column of captions"),
        ({"class_names": None}, r"n00000001 and the other classes are WordNet's numbers: give the workload `class_names`"),
        ({"class_names": "none.json"}, r"none\.json does not exist"),
    ],
)
def test_benchmarks_that_are_none_are_refused(workspace: Workspace, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ScrimpError, match=message):
        task_of(workspace, **changes)


def test_class_names_are_an_object_or_a_list(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    assert class_words(["aquarium_fish", "t-shirt"], None) == ["aquarium fish", "t shirt"]
    path.write_text('{"b": "bee", "a": "ape", "c": "cow"}')
    assert class_words(["a", "b"], path) == ["ape", "bee"]
    path.write_text('["x", "y"]')
    assert class_words(["a", "b"], path) == ["x", "y"]
    for wrong in ('["x"]', '{"a": "ape"}', '{"a": "ape", "b": 3}', "7"):
        path.write_text(wrong)
        with pytest.raises(ScrimpError, match=r"must be a JSON object, .* or a list of 2 words .* it has none for"):
            class_words(["a", "b"], path)
