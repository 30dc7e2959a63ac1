"""The `reference` stage: a model trained first, that learners are scored against, and its embeddings of the whole pool.

Only embeddings can be cached: a pair's losses against the rest of a super-batch depend on what else is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from scrimp.config.base import unknown
from scrimp.config.study import StudyConfig
from scrimp.config.training import Arm, Horizon, ReferenceSpec, Workload
from scrimp.config.workspace import Workspace
from scrimp.cost import Cost
from scrimp.data.pairs import PairData, PairSource
from scrimp.data.tables import Rows, positions
from scrimp.errors import ScrimpError
from scrimp.files import digest_of, replacing, sha256_of, write_json
from scrimp.measure.clock import Clock
from scrimp.measure.provenance import provenance
from scrimp.methods.combined import Methods
from scrimp.stages import training_code
from scrimp.stages.common import Progress, alone, data_digests, no_progress
from scrimp.stages.fit import fit
from scrimp.tasks import load_task
from scrimp.tasks.image_text import ImageText
from scrimp.training.contrast import embed
from scrimp.training.place import choose_device
from scrimp.training.session import DivergedError


def reference_workload(config: StudyConfig, scale: str, name: str) -> tuple[ReferenceSpec, Workload]:
    """What a reference is trained by: the main workload with the reference's length and changes to its recipe."""
    sizes = config.scale(scale)
    where = f"{config.where}, scale {scale}"
    if name not in sizes.references:
        raise ScrimpError(unknown("reference", name, sizes.references, where))
    spec = sizes.references[name]
    changed = sizes.workloads[sizes.main].with_recipe(spec.recipe, f"{where}: references.{name}.recipe")
    return spec, changed.model_copy(update={"steps": spec.steps, "epochs": None, "flops": None})


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
    with alone(checkpoint, on_progress, folder) as told:
        on = choose_device(device, config.scale(scale).gpus)
        clock = Clock(on)
        task = load_task(config.task, workspace, workload, on, config.folder)
        if not isinstance(task, ImageText):
            raise ScrimpError(f"the task {config.task} has no reference models: none of its selectors scores against one")
        resolved = {"reference": spec.spec(), "workload": config.scale(scale).workloads[config.scale(scale).main].spec()}
        digests = {
            "config_digest": digest_of(resolved),
            "code_digest": training_code("reference", config.task, [], config.folder),
            "data_digests": data_digests(workspace, workload),
        }
        pool = task.data["pool"]
        task.data["pool"] = subset_of(task.known, spec.subset)
        fitted = fit(
            task,
            Arm(label=spec.label, horizon=Horizon(steps=1.0)),
            spec.seed,
            clock,
            methods=Methods({}),
            checkpoint=checkpoint,
            checkpoint_key=digest_of([digests, on.type]),  # whichever card it was on
            on_progress=told,
        )
        if fitted.diverged is not None:
            raise ScrimpError(f"the reference {name} {DivergedError(fitted.diverged)}; lower its learning rate")
        model: Any = fitted.model
        with clock.span("embedding"):
            known = embed(model, pool, torch.arange(len(pool)), task.patches[0], task.place)
        folder.mkdir(parents=True, exist_ok=True)
        _save(folder / "model.safetensors", {name: value.contiguous() for name, value in model.state_dict().items()})
        _save(folder / "embeddings.safetensors", {"image": known.image.cpu(), "text": known.text.cpu()})
        embedding = Cost(
            flops=task.towers.scoring(len(pool), task.patches[0]),
            seconds=clock["embedding"],
            cpu_seconds=clock.cpu("embedding"),
        )
        with replacing(folder / "curve.parquet") as temporary:
            pd.DataFrame(fitted.rows).to_parquet(temporary, index=False)
        command = f"scrimp reference {study} {name} --scale {scale}"
        details: dict[str, Any] = {**digests, "seed": spec.seed, "command": command, "bf16": task.place.bf16}
        write_json(folder / "provenance.json", provenance(workspace.root, on, **details))
        summary = {
            "reference": name,
            "config": resolved,
            "cost": asdict(fitted.cost.total + embedding),
            "digest": sha256_of(folder / "model.safetensors"),
            "embeddings_digest": sha256_of(folder / "embeddings.safetensors"),
            "metrics": fitted.metrics,
            "scale": known.scale,
            "bias": known.bias,
        }
        write_json(folder / "summary.json", summary)
        checkpoint.unlink(missing_ok=True)
    return folder


def subset_of(data: PairData, name: str) -> PairSource:
    """The pairs that a reference is trained on: `raw`, the pool as it is; `text-filtered`, those of the pool whose captions
    describe; `curated`; `curated++`, which adds the pool's cleaner sets."""
    table = data.table
    subsets: dict[str, Callable[[], Rows]] = {
        "raw": lambda: table.rows("pool"),
        "text-filtered": lambda: _marked(table.rows("pool"), table.marks("descriptive")),
        "curated": lambda: table.rows("curated"),
        "curated++": lambda: positions(table.marks("extended")),
    }
    if name not in subsets:
        raise ScrimpError(unknown("subset", name, subsets, "a reference"))
    chosen = subsets[name]()
    if len(chosen) == 0:
        raise ScrimpError(f"no pair of the data belongs to {name!r}: give its options, or train the reference on another")
    return data.pairs.subset(chosen)


def _marked(rows: Rows, marks: np.ndarray[Any, Any]) -> torch.Tensor:
    """Those of the rows that are marked: int64 [n]."""
    if isinstance(rows, range):
        return positions(marks[rows.start : rows.stop]) + rows.start
    return rows[torch.from_numpy(marks[rows.numpy()])]


def _save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary)
        except SafetensorError as error:  # a full disk, among others
            raise OSError(str(error)) from error
