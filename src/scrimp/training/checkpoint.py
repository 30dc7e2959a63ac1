"""A checkpoint is one safetensors file: tensors by name, and a JSON text of the rest in its header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from scrimp.files import replacing


def save_checkpoint(path: Path, tensors: dict[str, dict[str, Tensor]], progress: dict[str, Any]) -> None:
    """Write groups of tensors (`{"model": {...}, ...}`) and a JSON-able progress, atomically."""
    flat = {
        f"{group}/{name}": value.detach().cpu().contiguous() for group, of in tensors.items() for name, value in of.items()
    }
    with replacing(path) as temporary:
        try:
            save_file(flat, temporary, metadata={"progress": json.dumps(progress)})
        except SafetensorError as error:  # a full disk, among others
            raise OSError(str(error)) from error


def load_checkpoint(path: Path, key: str) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """The groups and the progress of a checkpoint whose progress has `key`; None if there is none that fits.

    `key` is a digest of all that shapes the run (config, code, data): a checkpoint of another recipe is not resumed.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            progress = json.loads((file.metadata() or {})["progress"])
            if progress.get("key") != key:
                return None
            groups: dict[str, dict[str, Tensor]] = {}
            for full_name in file.keys():  # noqa: SIM118 - a safetensors handle is no mapping
                group, _, name = full_name.partition("/")
                groups.setdefault(group, {})[name] = file.get_tensor(full_name)
    except (SafetensorError, KeyError, json.JSONDecodeError):
        return None  # written by something else: start anew rather than fail
    return groups, progress
