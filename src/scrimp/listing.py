"""What there is: studies, arms, claims, datasets, scales, kernels; and the check that config/ and the studies are valid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rich.table import Table

from scrimp.claims.loading import check_claims, load_claims
from scrimp.config import Workspace, unknown
from scrimp.consoles import console
from scrimp.data.sources import check_needs
from scrimp.errors import ScrimpError
from scrimp.methods import check_method, method_names
from scrimp.metrics import metrics
from scrimp.user_files import is_file


def listing(workspace: Workspace) -> dict[str, list[dict[str, Any]]]:
    """Everything that can be named, as plain data; the keys are an interface others script against."""
    studies = {name: workspace.study(name) for name in workspace.study_names()}
    return {
        "studies": [{"id": name, "title": study.title, "paper": study.paper} for name, study in studies.items()],
        "arms": [
            {
                "id": arm,
                "study": name,
                "scale": scale,
                "label": study.resolve(scale, arm)[0].label,
                "seeds": study.seeds(scale, arm),
            }
            for name, study in studies.items()
            for scale, sizes in study.scales.items()
            for arm in study.arm_ids(scale)
        ],
        "claims": [
            {
                "id": claim.id,
                "study": name,
                "number": claim.number,
                "statement": claim.statement,
                "published": claim.published,
                "published_unit": claim.published_unit,
                "metric": claim.metric,
                "source": claim.source,
                "not_run": claim.not_run,
            }
            for name in studies
            for claim in load_claims(workspace, name)
        ],
        "datasets": [
            {"id": name, "title": dataset.title, "licence": dataset.licence, "used_for": dataset.used_for}
            for name, dataset in workspace.datasets().items()
        ],
        "scales": [
            {
                "id": scale,
                "study": name,
                "note": sizes.note,
                "runs": sum(len(study.seeds(scale, arm)) for arm in study.arm_ids(scale)),
            }
            for name, study in studies.items()
            for scale, sizes in study.scales.items()
        ],
        "tasks": _cards("tasks", "TASK", "trains"),
        "methods": _cards("methods", "METHOD", "does"),
        "metrics": [{"id": m.name, "unit": m.unit, "better": m.better, "label": m.label} for m in metrics()],
        "kernels": _kernels(),
    }


def _cards(folder: str, mark: str, says: str) -> list[dict[str, str]]:
    """Built-in tasks or methods with the first sentence of their files, which are not imported: that would import torch."""
    cards = []
    for path in sorted((Path(__file__).parent / folder).glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if re.search(rf"(?m)^{mark} = ", text):
            first = " ".join(text.removeprefix('"""').partition('"""')[0].split("\n\n")[0].split())
            cards.append({"id": path.stem.replace("_", "-"), says: first.partition(". ")[0].rstrip(".")})
    return cards


def _kernels() -> list[dict[str, str]]:
    """The scoring ops, read off their files: importing them would import torch, and this is to answer at once."""
    ops = []
    for path in sorted((Path(__file__).parent / "kernels").glob("*.py")):
        text = path.read_text()
        what = text.removeprefix('"""').partition("\n")[0].rstrip(".:")
        names = re.findall(r"^@op\ndef (\w+)", text, re.MULTILINE)
        ops += [{"id": name, "computes": what} for name in names if not name.endswith("_backward")]
    return ops


def print_listing(content: dict[str, list[dict[str, Any]]]) -> None:
    """The same for people: one small table for each kind."""
    out = console()
    shown = {
        "studies": ("id", "title", "paper"),
        "scales": ("study", "id", "runs", "note"),
        "arms": ("study", "scale", "id", "label"),
        "claims": ("study", "number", "id", "statement"),
        "datasets": ("id", "title", "used_for"),
        "tasks": ("id", "trains"),
        "methods": ("id", "does"),
        "metrics": ("id", "unit", "better", "label"),
        "kernels": ("id", "computes"),
    }
    for kind, columns in shown.items():
        table = Table(*columns, title=kind, title_justify="left", title_style="bold")
        for row in content[kind]:
            table.add_row(*(str(row[column]) for column in columns))
        out.print(table)


def check_config(workspace: Workspace, scale: str | None = None, studies: list[str] | None = None) -> None:
    """Load config/ and the chosen studies and check what crosses files: datasets, methods, claims, the chosen scale.

    `scale` and `studies` (names or paths) stand for those of config/config.yaml, as `snakemake --config` can set them.
    """
    datasets = workspace.datasets()
    check_needs(datasets)
    for name in workspace.studies(studies):
        study, where = workspace.study(name), workspace.study(name).where
        study.scale(scale or workspace.settings().scale)
        check_claims(study, load_claims(workspace, name))
        for arm_name, arm in study.arms.items():
            for method in arm.methods:
                at = f"{where}: arms.{arm_name}.methods"
                if method["name"] not in method_names() and not is_file(method["name"]):
                    raise ScrimpError(unknown("method", method["name"], method_names(), at))
                check_method(method, at, study.task)
        for scale_name, sizes in study.scales.items():
            for workload_name, workload in sizes.workloads.items():
                for key, dataset in workload.datasets.items():
                    if dataset not in datasets:
                        at = f"{where}: scales.{scale_name}.workloads.{workload_name}.{key}"
                        raise ScrimpError(unknown("dataset", dataset, datasets, at))
                for arm_name in workload.arms:
                    workload.with_recipe(study.arms[arm_name].recipe, f"{where}: arms.{arm_name}.recipe")
                for arm_name in workload.methods:
                    at = f"{where}: scales.{scale_name}.workloads.{workload_name}.methods.{arm_name}"
                    for method in study.arm_in(arm_name, workload).methods:
                        check_method(method, at)


def check_code(workspace: Workspace) -> None:
    """Check every claim's numbers, and that the code has each model, probe, figure and table that the files name.

    Apart from `check_config`, which the workflow calls before any work, because it imports torch, scipy and the plots.
    """
    from scrimp.claims.verdicts import check_claim
    from scrimp.studies.loading import offered
    from scrimp.studies.outputs import known_figures, known_tables
    from scrimp.tasks import task_class

    for name in workspace.studies():
        study, folder = workspace.study(name), workspace.study_folder(name)
        where, probes = study.where, offered(folder, "probe")
        for what, captions, own in (
            ("figure", study.figures, offered(folder, "figure")),
            ("table", study.tables, offered(folder, "table")),
        ):
            for made in set(own) - set(captions):
                raise ScrimpError(f"{where}: {what}s: the study's code offers {made!r}: give it a caption here")
        for claim in load_claims(workspace, name):
            check_claim(claim, study.file("claims.yaml"))
        named: list[tuple[str, str, Any, str]] = [
            *(("figure", figure, known_figures(study, folder), "figures") for figure in study.figures),
            *(("table", table, known_tables(study, folder), "tables") for table in study.tables),
        ]
        for scale_name, sizes in study.scales.items():
            at = f"scales.{scale_name}"
            named += [("probe", probe, probes, f"{at}.probes") for probe in sizes.probes]
            models = task_class(study.task, study.folder).model_names()
            named += [
                ("model", workload.model.name, models, f"{at}.workloads.{workload_name}.model")
                for workload_name, workload in sizes.workloads.items()
                if models is not None and workload.model is not None
            ]
        for what, wanted, known, at in named:
            if wanted not in known:
                raise ScrimpError(unknown(what, wanted, known, f"{where}: {at}"))
