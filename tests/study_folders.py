"""A study's folder, written from plain data, and a dataset's table, changed: for tests that make up their own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import yaml


def write_study(root: Path, content: dict[str, Any]) -> Path:
    """Write `content`, which has `study`, `card` and `claims` beside the keys of `study.yaml`, into the workspace `root`.

    The folder is `config/studies/NAME`; config/config.yaml names it from then on, and is made if there is none.
    """
    apart = {"study", "card", "claims"}
    folder = root / "config" / "studies" / str(content["study"])
    folder.mkdir(parents=True, exist_ok=True)
    told = {key: value for key, value in content.items() if key not in apart}
    (folder / "study.yaml").write_text(yaml.safe_dump(told, sort_keys=False), encoding="utf-8")
    (folder / "claims.yaml").write_text(yaml.safe_dump({"claims": content["claims"]}, sort_keys=False), encoding="utf-8")
    sections = [f"## {name.capitalize()}\n\n{text}\n" for name, text in content["card"].items()]
    (folder / "README.md").write_text("\n".join([f"# {content['title']}\n", *sections]), encoding="utf-8")
    settings = root / "config" / "config.yaml"
    told = yaml.safe_load(settings.read_text()) if settings.exists() else {"scale": "smoke", "studies": [], "device": "cpu"}
    path = f"config/studies/{content['study']}"
    if path not in told["studies"]:
        settings.write_text(yaml.safe_dump({**told, "studies": [*told["studies"], path]}), encoding="utf-8")
    return folder


def rewrite_table(folder: Path, table: pd.DataFrame) -> None:
    """Put another table into a dataset's folder, whose manifest then speaks of it."""
    table.to_parquet(folder / "samples.parquet", index=False)
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = hashlib.sha256((folder / "samples.parquet").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**manifest, "samples_sha256": digest}))
