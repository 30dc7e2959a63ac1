"""Small runs of every kind, whose numbers a change of the house must not move.

`PYTHONPATH=tests python tests/golden/golden_world.py` records them to `golden.json`; `test_golden.py` trains them again and
compares.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import golden_engine as engine
import numpy as np
import pandas as pd
import torch
import yaml
from PIL import Image

from scrimp.config import Workspace
from scrimp.data import icon_pairs
from scrimp.data.shards import ShardWriter, building, write_manifest
from scrimp.data.stage import shard
from scrimp.measure.hardware import cpu_model
from scrimp.records import read_summary

FILE = Path(__file__).with_name("golden.json")

WORDS = ["arrow", "bell", "cup", "door", "ear", "fan", "gate", "hat", "ink", "jar"]
COLOURS, SHOWN = ["blue", "green", "red"], {"train": 24, "validation": 8, "test": 8}


def arm(method: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return engine.arm(method, **more)


def classification() -> dict[str, Any]:
    recipe = {"optimizer": "sgd", "learning_rate": 0.1, "batch_size": 16, "precision": "fp32"}
    recipe["augmentation"] = {"shift": 2, "flip": True}
    arms = {
        "full": arm({"name": "full"}),
        "nesterov-ema": arm({"name": "full"}, recipe={"nesterov": True, "ema_decay": 0.9, "label_smoothing": 0.0}),
        "lars": arm({"name": "full"}, recipe={"optimizer": "lars", "schedule": {"name": "linear", "floor": 0.1}}),
        "lamb": arm({"name": "full"}, recipe={"optimizer": "lamb", "learning_rate": 0.01}),
        "adamw-cosine": arm(
            {"name": "full"},
            recipe={"optimizer": "adamw", "learning_rate": 0.01, "schedule": {"name": "cosine", "stretch": 1.5}},
        ),
        "steps": arm({"name": "full"}, horizon={"steps": 0.6}),
        "flops": arm({"name": "rs2", "ratio": 0.3}, horizon={"flops": 0.55}),
        "random-50": arm({"name": "random-static", "ratio": 0.5}),
        "rs2-50": arm({"name": "rs2", "ratio": 0.5}),
        "infobatch-50": arm({"name": "infobatch", "ratio": 0.5}),
        "infobatch-adjusted": arm({"name": "infobatch", "ratio": 0.5}, horizon={"examples": 0.5}),
        "infobatch-quantile": arm({"name": "infobatch", "ratio": 0.7, "threshold": 0.8, "rescale": False, "anneal": False}),
        "epsilon-greedy": arm({"name": "epsilon-greedy", "ratio": 0.5, "period": 2}),
        "ucb": arm({"name": "ucb", "ratio": 0.5, "period": 2}),
        "el2n": arm({"name": "el2n", "ratio": 0.5, "models": 2, "horizon": 0.25}),
        "forgetting": arm({"name": "forgetting", "ratio": 0.5, "horizon": 0.5}),
        "ccs": arm({"name": "ccs", "ratio": 0.5, "cutoff": 0.1, "models": 1, "horizon": 0.25, "strata": 5}),
    }
    workload = {
        "dataset": "colours",
        "model": {"name": "resnet-narrow", "options": {"stem": "quarter", "width": 4}},
        "recipe": recipe,
        "epochs": 6,
        "evaluations": 3,
        "arms": list(arms),
    }
    vit = {
        **workload,
        "model": {"name": "vit", "options": {"patch": 8, "width": 16, "depth": 1}},
        "recipe": {**recipe, "optimizer": "adamw", "learning_rate": 0.003},
        "arms": ["infobatch-50"],
    }
    return engine.study("images", "classification", arms, {"colours": workload, "vit": vit})


def image_text() -> dict[str, Any]:
    chosen = {"ratio": 0.5, "reference": "curated"}
    arms = {
        "uniform": arm({"name": "uniform"}),
        "softmax": arm({"name": "uniform"}, recipe={"loss": "softmax"}),
        "jest": arm({"name": "jest", **chosen, "chunks": 4}),
        "jest-live": arm({"name": "jest", **chosen, "chunks": 4, "live": True}),
        "flexi": arm({"name": "jest", **chosen, "chunks": 4, "scoring_patch": 16}, recipe={"patches": [8, 16]}),
        "easy": arm({"name": "jest", **chosen, "chunks": 2, "method": "easy-reference"}),
        "hard": arm({"name": "jest", "ratio": 0.5, "chunks": 2, "method": "hard-learner"}),
        "independent": arm({"name": "jest", **chosen, "choice": "independent"}),
        "rho-softmax": arm({"name": "jest", **chosen, "choice": "top-k", "loss": "softmax"}),
    }
    workload = {
        "dataset": "view",
        "model": {
            "name": "two-towers",
            "options": {"patch": 8, "finest_patch": 8, "image": [16, 1, 2], "text": [16, 1, 2], "width_out": 8},
        },
        "recipe": {"optimizer": "adamw", "learning_rate": 0.01, "batch_size": 8, "augmentation": {"shift": 1}},
        "steps": 20,
        "evaluations": 4,
        "arms": list(arms),
    }
    references = {"curated": {"label": "curated", "subset": "curated", "steps": 6}}
    return engine.study("pairs", "image-text", arms, {"view": workload}, references=references)


def language() -> dict[str, Any]:
    constant = {"name": "constant", "warmup": 0, "warmup_steps": 3}
    cool = engine.cooldown(constant, 0.25)
    arms = {
        "constant": arm(recipe={"schedule": constant}),
        "cool-x1": engine.cooldown_arm("constant", 1, cool),
        "cool-linear-x0.5": engine.cooldown_arm("constant", 0.5, engine.cooldown(constant, 0.25, "linear")),
        "micro": arm(horizon={"flops": 0.5}, recipe={"schedule": cool, "micro_batch": 3}),
        "cosine": arm(recipe={"schedule": {"name": "cosine", "warmup": 0.1, "floor": 0.1, "stretch": 1.25}}),
    }
    for spec in arms.values():
        spec.setdefault("horizon", {"flops": 1})
    workload = {
        "dataset": "chain",
        "model": {"name": "transformer", "options": {"context": 16, "width": 16, "depth": 1, "heads": 2}},
        "recipe": {
            "optimizer": "adamw",
            "learning_rate": 0.01,
            "betas": [0.9, 0.95],
            "weight_decay": 0.1,
            "batch_size": 4,
            "gradient_clip": 1.0,
        },
        "flops": 3.0e7,
        "evaluations": 2,
        "evaluation_tokens": 160,
        "arms": list(arms),
    }
    return engine.study("words", "causal-lm", arms, {"tiny": workload})


def build(root: Path) -> Workspace:
    """A workspace with the three studies and their data: pictures of colours, captioned patterns, a Markov chain."""
    workspace = Workspace(root)
    (root / "config").mkdir(parents=True)
    for study in (classification(), image_text(), language()):
        engine.write_study(root, study)
    chain = {"title": "a chain", "builder": "text_markov", "source": {"kind": "generated"}, "licence": "none"}
    options = {"symbols": 12, "successors": 3, "train": 20000, "validation": 2000, "test": 2000}
    datasets = {"chain": {**chain, "used_for": "tests", "options": options}}
    (root / "config" / "datasets.yaml").write_text(yaml.safe_dump(datasets))
    shard(workspace, "chain")
    _write_colours(workspace.shards("colours"))
    _write_pairs(workspace)
    return workspace


def _png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _write_colours(folder: Path) -> None:
    draws = np.random.default_rng(0)
    with building(folder) as temporary:
        writer = ShardWriter(temporary)
        for split, count in SHOWN.items():
            for number in range(count * len(COLOURS)):
                label = number % len(COLOURS)
                picture = draws.normal(110, 60, (32, 32, 3))
                picture[4:28, 4:28, 2 - label] += draws.uniform(5, 60)
                about = {"label": label, "class_name": COLOURS[label]}
                writer.write(split, _png(picture.clip(0, 255).astype(np.uint8)), "png", about)
        writer.close()
        write_manifest(temporary, "colours", "none", ["index", "label"], shards=writer.shards, classes=COLOURS)


def _write_pairs(workspace: Workspace) -> None:
    draws = np.random.default_rng(0)
    with building(workspace.shards("base")) as folder:
        writer = ShardWriter(folder)
        for number in range(130):
            coarse = draws.integers(0, 2, (8, 8, 1), dtype=np.uint8) * 255
            picture = np.tile(coarse.repeat(4, 0).repeat(4, 1), (1, 1, 3))
            name = f"{WORDS[number % 10]}-{WORDS[number // 10 % 10]}" + ("" if number < 100 else "-24")
            owner = "clear" if number < 50 else "raw"
            about = {"name": name, "caption": name.replace("-", " "), "set": owner, "designer": owner}
            writer.write("all", _png(picture), "png", about)
        writer.close()
        write_manifest(folder, "base", "digest", [])
    options = icon_pairs.Options(curated_sets=["clear"], test=10, validation=10, vocabulary=300, length=6, word_designers=2)
    with building(workspace.shards("view")) as folder:
        details = icon_pairs.build(folder, "view", workspace.shards("base"), {}, options)
        write_manifest(folder, "view", "digest", icon_pairs.SCHEMA, view_of="base", **details)


# ------------------------------------------------------------------------------------------------------------ recording
class Choices:
    """A digest of all examples that a run trained on, in their order."""

    def __init__(self) -> None:
        self.digest, self.count = hashlib.sha256(), 0

    def __call__(self, indices: torch.Tensor) -> None:
        self.digest.update(indices.cpu().to(torch.int64).numpy().tobytes())
        self.count += len(indices)


def record(workspace: Workspace, study: str, arm: str) -> dict[str, Any]:
    """Train one arm; what it chose, its curve, its meters without times, its final metrics."""
    with chosen() as choices:
        folder = engine.run(workspace, study, arm)
    summary = read_summary(folder)
    curve = pd.read_parquet(folder / "curve.parquet")
    rows = {
        metric: [[*map(float, values)] for values in of[["step", "examples", "flops", "value"]].to_numpy()]
        for metric, of in curve.groupby("metric")
    }
    meters = {
        name: value
        for name, value in summary.meters.model_dump(mode="json").items()
        if "seconds" not in name and name not in ("peak_memory_bytes", "energy_joules")
    }
    return {
        "chosen": [choices.count, choices.digest.hexdigest()[:16]],
        "curve": rows,
        "meters": meters,
        "metrics": summary.metrics,
        "facts": summary.facts,
    }


@contextmanager
def chosen() -> Iterator[Choices]:
    choices = Choices()
    with engine.watching(choices):
        yield choices


def record_all(workspace: Workspace, on_run: Callable[[str], None] = lambda name: None) -> dict[str, Any]:
    """Every run of the three studies; the reference and the constant-LR run come before what needs them."""
    engine.reference(workspace, "pairs", "curated")
    runs = {}
    for study in ("images", "pairs", "words"):
        for name in workspace.study(study).arm_ids("smoke"):
            on_run(f"{study}/{name}")
            runs[f"{study}/{name}"] = record(workspace, study, name)
    summary = json.loads((workspace.reference_folder("smoke", "pairs", "curated") / "summary.json").read_text())
    cost = {name: summary["cost"][name] for name in ("updates", "examples", "flops")}
    runs["pairs/reference-curated"] = {"metrics": summary["metrics"], "meters": cost, "scale": summary["scale"]}
    return runs


def machine() -> dict[str, str]:
    """What the last bits depend on: two processors of one model name may add up in another order."""
    return {"cpu": cpu_model(), "torch": torch.__version__, "arithmetic": arithmetic()}


def arithmetic() -> str:
    """A digest of some products, convolutions and exponentials as this processor computes them."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(48, 130, generator=generator)
    pictures = torch.randn(4, 3, 17, 17, generator=generator)
    weights = torch.randn(8, 3, 3, 3, generator=generator)
    parts = [
        rows @ rows.T,
        torch.nn.functional.conv2d(pictures, weights),
        rows.log_softmax(1),
        torch.nn.functional.gelu(rows).mean(0),
        torch.nn.functional.layer_norm(rows, (130,)).norm(dim=1),
    ]
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()[:16]


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        recorded = record_all(build(Path(folder) / "w"), lambda name: print(name, file=sys.stderr))
    FILE.write_text(json.dumps({"machine": machine(), "runs": recorded}, indent=0, sort_keys=True) + "\n")
