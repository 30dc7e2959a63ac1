"""What a study's own code writes: a probe's table, figures, tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from scrimp.config import StudyConfig, Workspace, unknown
from scrimp.errors import ScrimpError
from scrimp.files import digest_of, replacing, write_json
from scrimp.records import read_table
from scrimp.studies.loading import offered


def run_probe(workspace: Workspace, study: str, name: str, scale: str) -> Path:
    """Make a probe's measurement and write its table, with its provenance beside it."""
    import torch

    from scrimp.measure.provenance import provenance

    config = workspace.study(study)
    sizes, makers = config.scale(scale), offered(workspace.study_folder(study), "probe")
    if name not in sizes.probes:
        raise ScrimpError(unknown("probe", name, sizes.probes, f"{config.where}, scale {scale}"))
    if name not in makers:
        raise ScrimpError(unknown("probe", name, makers, f"the code of {config.where}"))
    torch.set_num_threads(sizes.threads)
    options: dict[str, Any] = sizes.probes[name]
    table = makers[name](workspace, scale, options)
    path = workspace.results(scale, study) / "probes" / f"{name}.parquet"
    command = f"scrimp probe {study} {name} --scale {scale}"
    details = {"command": command, "config_digest": digest_of(options)}
    write_json(path.with_suffix(".json"), provenance(workspace.root, torch.device("cpu"), **details))
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)
    return path


def read_probe(workspace: Workspace, study: str, name: str, scale: str) -> pd.DataFrame:
    """The table that a probe left; where there is none, an error names the command that makes it."""
    path = workspace.results(scale, study) / "probes" / f"{name}.parquet"
    if not path.is_file():
        raise ScrimpError(f"{path} does not exist; make it with `scrimp probe {study} {name} --scale {scale}`")
    return read_table(path)


def known_figures(config: StudyConfig, folder: Path) -> list[str]:
    """Names of the figures that the study in `folder` can draw: its own and the standard ones."""
    from scrimp.studies.standard import FIGURES

    return [*offered(folder, "figure"), *FIGURES]


def known_tables(config: StudyConfig, folder: Path) -> list[str]:
    """Names of the tables that the study in `folder` can write: its own, the standard ones, and its probes' tables."""
    from scrimp.studies.standard import TABLES

    return [*offered(folder, "table"), *TABLES, *{name for scale in config.scales.values() for name in scale.probes}]


def draw_figures(workspace: Workspace, study: str, scale: str) -> Path:
    """Draw every figure of a study (SVG and PNG) and write every table (CSV) from the files of its runs and probes.

    A name that the study's own files do not offer is a standard figure or table, or a probe's table as it is.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from scrimp.studies import standard
    from scrimp.studies.plotting import save

    config, at = workspace.study(study), workspace.study_folder(study)
    figures, tables, folder = offered(at, "figure"), offered(at, "table"), workspace.results(scale, study)
    for name in config.figures:
        if name in figures:
            drawn = figures[name](workspace, scale)
        elif name in standard.FIGURES:
            drawn = standard.FIGURES[name](workspace, study, scale)
        else:
            raise ScrimpError(unknown("figure", name, known_figures(config, at), f"{config.where}: figures"))
        save(drawn, folder / "figures", name)
    for name in config.tables:
        if name in tables:
            rows = tables[name](workspace, scale)
        elif name in standard.TABLES:
            rows = standard.TABLES[name](workspace, study, scale)
        elif name in known_tables(config, at):
            rows = read_probe(workspace, study, name, scale)
        else:
            raise ScrimpError(unknown("table", name, known_tables(config, at), f"{config.where}: tables"))
        with replacing(folder / "tables" / f"{name}.csv") as temporary:
            rows.to_csv(temporary, index=False)
    return folder / "figures"
