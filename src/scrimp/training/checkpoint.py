"""A checkpoint is one safetensors file: tensors by name, in its header a JSON text of the rest and a digest of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from scrimp.errors import no_damage
from scrimp.files import replacing


def save_checkpoint(path: Path, tensors: dict[str, dict[str, Tensor]], progress: dict[str, Any]) -> None:
    """Write groups of tensors (`{"model": {...}, ...}`) and a JSON-able progress, atomically."""
    flat = {
        f"{group}/{name}": value.detach().cpu().contiguous() for group, of in tensors.items() for name, value in of.items()
    }
    told = json.dumps(progress)
    with replacing(path) as temporary:
        try:
            save_file(flat, temporary, metadata={"progress": told, "digest": _digest(flat, told)})
        except SafetensorError as error:  # a full disk, among others
            raise OSError(str(error)) from error


def load_checkpoint(
    path: Path, key: str | None, say: Callable[[str], object] = lambda why: None
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """The groups and the progress of a checkpoint whose progress has `key`; None if there is none that fits and is whole.

    `key` is a digest of all that shapes the run (config, code, data): a checkpoint of another recipe is not resumed. None:
    of any run. What is wrong with one that is there is told to `say`.
    """
    if not path.exists():
        return None
    try:
        path.open("rb").close()  # the library calls whatever keeps it from opening a file a missing one
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            progress = json.loads(about["progress"])
            if key is not None and progress.get("key") != key:
                say("it was left by another configuration, code, data or kind of device")
                return None
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a handle is no mapping
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        no_damage(error, path)
        say("it is damaged")
        return None  # written by something else: start anew rather than fail
    if _digest(flat, about["progress"]) != about.get("digest"):
        say("it is damaged")
        return None  # a flipped bit: the numbers would not be those of the run
    groups: dict[str, dict[str, Tensor]] = {}
    for full_name, value in flat.items():
        group, _, name = full_name.partition("/")
        groups.setdefault(group, {})[name] = value
    return groups, progress


def _digest(flat: dict[str, Tensor], progress: str) -> str:
    """Hex digest of the progress and of every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(progress.encode())
    for name in sorted(flat):
        value = flat[name]
        digest.update(f"\0{name} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
