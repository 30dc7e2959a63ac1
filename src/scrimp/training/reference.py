"""Trained models that selectors score against, as the stage `reference` left them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from scrimp.cost import Cost
from scrimp.data.digests import check_digest
from scrimp.errors import ScrimpError
from scrimp.files import read_json
from scrimp.methods.pairs import Embedded
from scrimp.models.contrastive import TwoTowers


@dataclass(frozen=True)
class Reference:
    """A trained model that selectors score against: its embeddings of the pool ([N, d] each), scale and bias, or itself."""

    cached: Embedded | None = None
    model: TwoTowers | None = None


def read_reference(
    folder: Path, build: Callable[[], TwoTowers], live: bool, device: torch.device
) -> tuple[Reference, Cost, str]:
    """A reference, its cost and its digest: its embeddings of the pool, or where `live` a model with its weights.

    Raises ScrimpError for a file that is not the one that the reference's summary speaks of.
    """
    command = f"scrimp reference {folder.parents[1].name} {folder.name} --scale {folder.parents[2].name}"
    if not (folder / "summary.json").exists():
        raise ScrimpError(f"{folder} holds no reference: run `{command}` first")
    summary, again = read_json(folder / "summary.json"), f"delete {folder} and run `{command}` again"
    if "embeddings_digest" not in summary:
        raise ScrimpError(f"{folder / 'summary.json'} is an earlier version's, without digests; {again}")
    cost, digest = Cost(**summary["cost"]), summary["digest"]
    name = "model" if live else "embeddings"
    check_digest(folder / f"{name}.safetensors", digest if live else summary["embeddings_digest"], again)
    try:
        if live:
            model = build()
            model.load_state_dict(load_file(folder / "model.safetensors"))
            return Reference(model=model.eval()), cost, digest
        embedded = load_file(folder / "embeddings.safetensors", device=str(device))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ScrimpError(f"{folder / name}.safetensors does not fit the model ({error}); {again}") from error
    cached = Embedded(embedded["image"], embedded["text"], summary["scale"], summary["bias"])
    return Reference(cached), cost, digest
