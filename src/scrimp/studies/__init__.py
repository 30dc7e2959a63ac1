"""Studies by name. The study `infobatch` is `config/studies/infobatch.yaml`, `studies/infobatch.py` with its `PROBES`, and
`studies/infobatch_figures.py` with its `FIGURES` and `TABLES`, so that a change to a figure measures nothing anew."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from scrimp.config import Workspace, unknown
from scrimp.errors import ScrimpError
from scrimp.files import digest_of, replacing, write_json


def study_module(study: str, part: str = "") -> ModuleType:
    """The module of a study's probes, or with `part` "_figures" that of its figures and tables."""
    return importlib.import_module(f"{__name__}.{study.replace('-', '_')}{part}")


def run_probe(workspace: Workspace, study: str, name: str, scale: str) -> Path:
    """Make a probe's measurement and write its table, with its provenance beside it."""
    import torch

    from scrimp.measure.provenance import provenance

    sizes = workspace.study(study).scale(scale)
    if name not in sizes.probes:
        raise ScrimpError(unknown("probe", name, sizes.probes, f"config/studies/{study}.yaml, scale {scale}"))
    torch.set_num_threads(sizes.threads)
    options: dict[str, Any] = sizes.probes[name]
    table = study_module(study).PROBES[name](workspace, scale, options)
    path = workspace.results(scale, study) / "probes" / f"{name}.parquet"
    command = f"scrimp probe {study} {name} --scale {scale}"
    details = {"command": command, "config_digest": digest_of(options)}
    write_json(path.with_suffix(".json"), provenance(workspace.root, torch.device("cpu"), **details))
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)
    return path


def draw_figures(workspace: Workspace, study: str, scale: str) -> Path:
    """Draw every figure of a study (SVG and PNG) and write every table (CSV) from the files of its runs and probes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from scrimp.studies.plotting import save

    module, config = study_module(study, "_figures"), workspace.study(study)
    folder = workspace.results(scale, study)
    for name in config.figures:
        save(module.FIGURES[name](workspace, scale), folder / "figures", name)
    for name in config.tables:
        with replacing(folder / "tables" / f"{name}.csv") as temporary:
            module.TABLES[name](workspace, scale).to_csv(temporary, index=False)
    return folder / "figures"
