"""What the sparse study counts and measures beside its runs: a modelled accelerator, and memory kept for a backward pass."""

from __future__ import annotations

import functools
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from scrimp.config import Workspace
from scrimp.measure.accelerator import Accelerator, Layer, sensitivity, speedup
from scrimp.measure.kept_memory import kept_bytes
from scrimp.methods.combined import Methods
from scrimp.methods.sparse_layers import LayerFlops, thinned_layers
from scrimp.methods.swat import Swat
from scrimp.models import vision
from scrimp.studies import probe
from scrimp.tasks import load_task
from scrimp.tasks.base import Batch, Task

STUDY = "sparse"
KEPT = 0.2  # of weights and activations, at the published speedup
SIDE, CLASSES = 224, 1000


@probe("accelerator")
def accelerator(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """The modelled speedup of a training step on ResNet-50 at 80 % sparsity; a row an assumption and a factor.

    The row `none` has all assumptions as they are, and the share of the FLOPs that is not needed. Nothing is computed:
    shapes come from a pass without numbers, for batches of `batch`.
    """
    with torch.device("meta"):
        model = vision.build("resnet-50", CLASSES, 0, {"stem": "imagenet"})
    counted = LayerFlops(model)
    layers = _layers(model, options["batch"])
    names = list(thinned_layers(model))
    saved = 1 - counted.share(lambda name: 3 * KEPT, names)
    on = Accelerator()
    rows: list[dict[str, Any]] = [
        {"assumption": "none", "factor": 1.0, "speedup": speedup(layers, KEPT, KEPT, on), "flops_saved": saved}
    ]
    for name, ends in sensitivity(layers, KEPT, KEPT, on).items():
        rows += [{"assumption": name, "factor": f, "speedup": v} for f, v in zip((0.25, 4.0), ends, strict=True)]
    return pd.DataFrame(rows)


def _layers(model: nn.Module, batch: int) -> list[Layer]:
    """Convolutions and linear maps in their order, for a batch of pictures."""
    found: list[Layer] = []

    def note(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        places = output.numel() / layer.weight.shape[0]
        sizes = (layer.weight.numel(), inputs[0].numel(), output.numel())
        found.append(Layer(layer.weight.numel() * places, *(float(size) for size in sizes)))

    chosen = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(note) for layer in chosen]
    model.eval()(torch.zeros(batch, 3, SIDE, SIDE, device="meta"))
    for handle in handles:
        handle.remove()
    return found


def _loss(task: Task, model: nn.Module, batch: Batch) -> Tensor:
    return task.losses(model, batch).mean()


@probe("memory")
def memory(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Bytes that autograd keeps for the backward pass of one step on `batch` examples, a row for dense and each SWAT arm.

    `weights` are those that the method stores, packed, or all weights of the thinned layers where it is dense; `inputs` the
    rest of what is kept, norms' and ReLUs' included. `..._saved` are shares of the dense model's.
    """
    study = workspace.study(STUDY)
    sizes = study.scale(scale)
    workload = sizes.workloads[sizes.main]
    task = load_task(study.task, workspace, workload, torch.device("cpu"))
    batch = task.batch("train", torch.arange(min(options["batch"], task.examples)))
    rows = []
    for name in ["dense", *(arm for arm in workload.arms if arm.startswith("swat-"))]:
        model = task.model(0).train()
        methods = Methods.of(study.arm_in(name, workload).methods, task.examples, workload.recipe.batch_size, 0)
        methods.adapt(model)
        total = kept_bytes(model, functools.partial(_loss, task, model, batch))
        method = methods.named.get("swat")
        if isinstance(method, Swat):
            weights = sum(state.weight_bytes for state in method.states.values())
            rows.append({"arm": name, "weights": weights, "inputs": total - weights})
        else:
            weights = sum(layer.weight.nbytes for layer in thinned_layers(model).values())
            rows.append({"arm": name, "weights": weights, "inputs": total})
    table = pd.DataFrame(rows)
    for column in ("weights", "inputs"):
        table[f"{column}_saved"] = 1 - table[column] / table[column].iloc[0]
    return table
