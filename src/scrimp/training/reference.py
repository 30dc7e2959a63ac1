"""The `reference` stage: a model trained first, that learners are scored against, and its embeddings of the whole pool.

Only embeddings can be cached: a pair's losses against the rest of a super-batch hang on what else is drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from scrimp.config import Closed, Horizon, ReferenceSpec, StudyConfig, Workload, Workspace, unknown
from scrimp.data.pairs import PairData, PairSource
from scrimp.data.shards import read_manifest
from scrimp.errors import ScrimpError
from scrimp.files import digest_of, read_json, replacing, sha256_of, write_json
from scrimp.measure.clock import Clock
from scrimp.measure.code import code_digest
from scrimp.measure.provenance import provenance
from scrimp.methods.batch import BatchSelector
from scrimp.methods.pairs import Embedded
from scrimp.models.contrastive import TwoTowers
from scrimp.training.budget import Budget
from scrimp.training.contrast import Reference, embed, train
from scrimp.training.pair_task import load_pair_task, test
from scrimp.training.stage import Progress, alone, choose_device, no_progress


class ReferenceCost(Closed):
    """What a reference cost to train and to embed the pool with; `digest` tells one reference from another."""

    updates: int = 0
    examples: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    digest: str = ""


def reference_workload(config: StudyConfig, scale: str, name: str) -> tuple[ReferenceSpec, Workload]:
    """What a reference is trained by: the main workload with the reference's changes to its recipe."""
    sizes = config.scale(scale)
    where = f"{config.where}, scale {scale}"
    if name not in sizes.references:
        raise ScrimpError(unknown("reference", name, sizes.references, where))
    spec = sizes.references[name]
    return spec, sizes.workloads[sizes.main].with_recipe(spec.recipe, f"{where}: references.{name}.recipe")


def train_reference(
    workspace: Workspace,
    study: str,
    name: str,
    scale: str,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    on_progress: Progress = no_progress,
) -> Path:
    """Train a reference on its subset, embed the pool with it, and write its folder; returns it.

    The folder holds `model.safetensors`, `embeddings.safetensors` (image and text float32 [N, d] of the pool, in its
    order), `curve.parquet`, `provenance.json` and, last, `summary.json` with its cost and what it reaches.
    """
    config = workspace.study(study)
    spec, workload = reference_workload(config, scale, name)
    torch.set_num_threads(config.scale(scale).threads)
    torch.set_flush_denormal(True)
    folder = workspace.reference_folder(scale, study, name)
    checkpoint = workspace.checkpoint(scale, study, f"reference-{name}", spec.seed)
    with alone(checkpoint):
        place = choose_device(device, config.scale(scale).gpus)
        clock = Clock(place)
        task = load_pair_task(workspace, workload, place)
        recipe = workload.recipe
        resolved = {"reference": spec.spec(), "workload": workload.spec()}
        digests = {
            "config_digest": digest_of(resolved),
            "code_digest": code_digest(__name__),
            "data_digests": {workload.dataset: read_manifest(workspace.shards(workload.dataset))["samples_sha256"]},
        }
        model = task.model(spec.seed)
        trace = train(
            model,
            subset_of(task.data, spec.subset),
            BatchSelector(recipe.batch_size, spec.seed),
            recipe,
            Budget.of_steps(Horizon(steps=1.0), spec.steps, recipe.batch_size, 0.0),
            spec.seed,
            flops=task.flops,
            place=task.place,
            clock=clock,
            evaluate=lambda model: test(model, task, ("test",), zero_shot=False),
            evaluate_times=workload.evaluations,
            checkpoint=checkpoint,
            checkpoint_key=digest_of([digests, str(place)]),
            on_progress=lambda fraction: on_progress("training", fraction),
        )
        pool = task.data.splits["pool"]
        with clock.span("embedding"):
            known = embed(model, pool, torch.arange(len(pool)), task.patches[0], task.place)
        with clock.span("evaluation"):
            metrics = test(model, task, ("test", "validation", "test-emoji"), zero_shot=True)
        folder.mkdir(parents=True, exist_ok=True)
        _save(folder / "model.safetensors", {name: value.contiguous() for name, value in model.state_dict().items()})
        _save(folder / "embeddings.safetensors", {"image": known.image.cpu(), "text": known.text.cpu()})
        cost = ReferenceCost(
            updates=trace.spent.steps,
            examples=trace.spent.examples,
            flops=trace.spent.flops + task.flops.scoring(len(pool), task.patches[0]),
            seconds=clock["train"] + clock["selection"] + clock["embedding"],
            digest=sha256_of(folder / "model.safetensors"),
        )
        with replacing(folder / "curve.parquet") as temporary:
            pd.DataFrame(trace.rows).to_parquet(temporary, index=False)
        command = f"scrimp reference {study} {name} --scale {scale}"
        details: dict[str, Any] = {**digests, "seed": spec.seed, "command": command, "bf16": task.place.bf16}
        write_json(folder / "provenance.json", provenance(workspace.root, place, **details))
        scales = {"scale": known.scale, "bias": known.bias}
        summary = {"reference": name, "config": resolved, "cost": cost.model_dump(mode="json"), "metrics": metrics, **scales}
        write_json(folder / "summary.json", summary)
        checkpoint.unlink(missing_ok=True)
    return folder


def load_reference(folder: Path, model: TwoTowers, live: bool, place: torch.device) -> tuple[Reference, ReferenceCost]:
    """A trained reference and its cost: its embeddings of the pool, or where `live` its weights, put into `model`."""
    if not (folder / "summary.json").exists():
        study, name, scale = folder.parents[1].name, folder.name, folder.parents[2].name
        raise ScrimpError(f"{folder} holds no reference: run `scrimp reference {study} {name} --scale {scale}` first")
    summary = read_json(folder / "summary.json")
    cost = ReferenceCost.model_validate(summary["cost"])
    try:
        if live:
            model.load_state_dict(load_file(folder / "model.safetensors"))
            return Reference(model=model.eval()), cost
        embedded = load_file(folder / "embeddings.safetensors", device=str(place))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ScrimpError(f"{folder} is damaged ({error}); delete it and run its stage again") from error
    return Reference(Embedded(embedded["image"], embedded["text"], summary["scale"], summary["bias"])), cost


def subset_of(data: PairData, name: str) -> PairSource:
    """The pairs that a reference is trained on: `raw`, the pool as it is; `text-filtered`, those of the pool whose captions
    describe; `curated`; `curated++`, which adds the pool's cleaner sets."""
    samples = data.samples
    subsets = {
        "raw": samples["split"] == "pool",
        "text-filtered": (samples["split"] == "pool") & samples["descriptive"],
        "curated": samples["split"] == "curated",
        "curated++": samples["extended"],
    }
    if name not in subsets:
        raise ScrimpError(unknown("subset", name, subsets, "a reference"))
    chosen = np.flatnonzero(subsets[name].to_numpy(bool))
    if len(chosen) == 0:
        raise ScrimpError(f"no pair of the data belongs to {name!r}: give its options, or train the reference on another")
    return data.pairs.subset(torch.from_numpy(chosen))


def _save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary)
        except SafetensorError as error:  # a full disk, among others
            raise OSError(str(error)) from error
