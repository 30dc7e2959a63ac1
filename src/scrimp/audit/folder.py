"""An audit as a study: a workspace with one study folder, whose `study.yaml` and `claims.yaml` are written here.

Everything after that is what every study has: the same Snakefile, run files, judge, figures and page. The user may edit the
two files and run `snakemake --cores all` in the workspace.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from scrimp.audit import checks
from scrimp.audit.design import PLAIN, REFERENCE, Candidate, Design, sweep_arm
from scrimp.audit.marks import is_edited, marked
from scrimp.config import Workspace
from scrimp.config.base import parse_model
from scrimp.config.claims import AMORTISED
from scrimp.config.training import Horizon
from scrimp.errors import ScrimpError
from scrimp.files import write_text
from scrimp.metrics import better_side, metric_of
from scrimp.tasks import task_class
from scrimp.tasks.base import Task
from scrimp.tasks.image_text import ImageText
from scrimp.training.budget import Budget
from scrimp.training.place import Place, choose_device
from scrimp.workspace_files import lay_out

SCALE = "audit"
NO_EFFECT = 0.02  # speedups within 2 % of 1 are none; a study's claims have 5 %, but an audit has no published size
POINTS = 0.3  # and percentages within .3 points of each other are the same
EVALUATIONS = 4
AXES = {"cpu_seconds": "CPU time", "seconds": "time", "examples": "examples", "flops": "FLOPs"}


@dataclass(frozen=True)
class Audited:
    """A task of the user's with its plain recipe, loaded on the device that it is to be trained on."""

    file: Path
    task: Task
    workload: dict[str, Any]  # the plain recipe, as a study's file has it
    metric: str  # as runs record it: `test_accuracy`
    threads: int
    gpus: int

    @property
    def name(self) -> str:
        """What the study is called."""
        return study_name(self.file)

    @property
    def label(self) -> str:
        """The metric in words."""
        return metric_of(self.metric).label

    @property
    def unit(self) -> str:
        """What follows a difference of the metric: ` points`, ` nats`, or nothing."""
        unit = metric_of(self.metric).unit
        return {"%": " points", "": ""}.get(unit, f" {unit}")

    @property
    def time_axis(self) -> str:
        """The cost that time is read on: what a CPU computed, or what a GPU took."""
        return "seconds" if self.gpus else "cpu_seconds"

    @property
    def where(self) -> str:
        """What the runs will be computed on, in words."""
        if not self.gpus:
            seen = "" if torch.cuda.is_available() else "; no GPU is seen here, and --gpus 1 asks for one elsewhere"
            return f"runs on the CPU, {self.threads} thread{'s' * (self.threads > 1)} each{seen}"
        if self.task.place.device.type == "cpu":
            return (
                f"runs on {self.gpus} GPU each, which this machine has not: send them to one that has (the pace is a CPU's)"
            )
        return f"runs on {self.gpus} GPU each"


def study_name(file: Path) -> str:
    """What the study of a task's file is called: its stem in small letters and digits, with dashes for all else."""
    return re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-") or "task"


def load(file: Path, workspace: Workspace, device: Any, threads: int, gpus: int | None = None) -> Audited:
    """Load a user's task with its data; `gpus` are a run's, where the runs are made (None: one, if one is here).

    Raises ScrimpError for a file that is no task, or that says no plain recipe, and for what `checks` finds.
    """
    of = task_class(str(file.resolve()))
    told = {key: value for key, value in of.plain.items() if key != "metric"}
    if not told:
        raise ScrimpError(
            f"{file}: {of.__name__} does not say its plain recipe: add, in the class, plain = {{'epochs': 20, 'recipe': "
            "{'optimizer': 'adamw', 'learning_rate': 1e-3, 'batch_size': 64}, 'metric': 'accuracy'}}"
        )
    told = {"evaluations": EVALUATIONS, **told}
    workload = parse_model({**told, "arms": [PLAIN]}, of.workload_model, f"{file}: {of.__name__}.plain")
    if device == "cpu" and gpus:
        raise ScrimpError(f"--gpus {gpus} with --device cpu: leave one of them out")
    here = 1 if torch.cuda.is_available() else 0
    on = choose_device(device, here if gpus is None else gpus, take=False)  # the runs that this process starts take it
    if gpus is None:
        gpus = here if on.type == "cuda" else 0
    torch.set_num_threads(threads)
    task = of(workload, Place.of(on, workload.recipe.precision))
    task.setup(workspace)
    first = task.held_out[0]
    for split in (task.train_split, first):
        if split not in task.data or not task.size(split):
            raise ScrimpError(f"{file}: setup left no examples under {split!r} in self.data; it has {list(task.data)}")
    checks.check_data(task, file)
    checks.check_losses(task, file)
    for line in checks.check_model(task, file):
        print(f"warning: {line}")
    return Audited(file, task, told, _metric(of, task, first, file), threads, gpus)


def _metric(of: type[Task], task: Task, split: str, file: Path) -> str:
    """The metric that counts, by the name that runs record it under; an untrained model shows which there are."""
    measured = checks.check_evaluation(task, split, file)
    prefix = f"{split.replace('-', '_')}_"
    metric = of.plain.get("metric") or next(iter(measured))
    if metric not in measured:
        bare = str(metric).removeprefix(prefix)
        hint = f": say {bare!r}, since runs put the split before it" if bare in measured else ""
        raise ScrimpError(f"{file}: plain has metric {metric!r}, but evaluate gives {', '.join(measured)}{hint}")
    better_side(prefix + metric)
    return prefix + metric


# --------------------------------------------------------------------------------------------------------------- writing
def write_folder(folder: Path, audited: Audited, design: Design) -> Workspace:
    """Write the study of a design into the workspace in `folder`, which is laid out where it is missing.

    Runs that are there already and are part of the design stay and count. Errors are those of `check_place`.
    """
    check_place(folder, audited.name)
    if not (folder / "Snakefile").exists():
        lay_out(folder)
    study = folder / audited.name
    settings = {"scale": SCALE, "studies": [f"./{audited.name}"], "device": "auto", "seeds": None}
    write_text(folder / "config" / "config.yaml", _yaml(settings, "Written by `scrimp audit`."))
    write_text(study / "study.yaml", _yaml(study_of(audited, design, study), "Written by `scrimp audit`; yours to edit."))
    write_text(study / "claims.yaml", _yaml(claims_of(audited, design), "Written by `scrimp audit`."))
    if not (study / "README.md").exists():
        write_card(study, audited)
    return Workspace(folder)


def check_place(folder: Path, study: str) -> None:
    """Raise ScrimpError where `folder` is something else's than an audit's, or where the user has edited its study's files.

    A task's `setup` may have left data in it.
    """
    for file in (folder / study / name for name in ("study.yaml", "claims.yaml")):
        if is_edited(file):
            raise ScrimpError(
                f"{file} was edited since it was written here, and would be lost: make what it says with `snakemake --cores "
                f"all` in {folder}; or delete it, or name another place with --to, and it is written anew"
            )
    if (folder / "Snakefile").exists() or not folder.exists():
        return
    if any(path.name != "resources" for path in folder.iterdir()):
        raise ScrimpError(f"{folder} is there and is no audit: name another place with --to")


def study_of(audited: Audited, design: Design, folder: Path) -> dict[str, Any]:
    """The contents of `study.yaml`."""
    arms: dict[str, Any] = {}
    for share in sorted(design.sweep):
        label = "plain recipe" if share == 1 else f"plain recipe x {share:g}"
        arms[sweep_arm(share)] = {"label": label, "horizon": {"epochs": share}}
    for one in design.candidates:
        arms[one.arm] = {"label": one.label, "methods": one.methods}
    return {
        "task": os.path.relpath(audited.file.resolve(), folder.resolve()),
        "title": f"Audit of {audited.file.name}",
        "paper": "none: an audit of a task of your own",
        "arms": arms,
        "baseline_sweep": [sweep_arm(share) for share in sorted(design.sweep)],
        "metric": audited.metric,
        "scales": {
            SCALE: {
                "note": f"{audited.file.name} with the plain recipe that it says, {design.seeds} seeds.",
                "seeds": list(range(design.seeds)),
                "threads": audited.threads,
                "gpus": audited.gpus,
                "workloads": {"own": {**audited.workload, "arms": list(arms)}},
                **({"references": {REFERENCE: reference_of(audited.task)}} if design.reference else {}),
            }
        },
    }


def reference_of(task: Task) -> dict[str, Any]:
    """The model that arms score against: the learner's kind, trained for as many steps as the plain recipe has."""
    assert isinstance(task, ImageText)  # no other has such arms
    per_example = task.step_flops(task.workload.recipe.batch_size) / task.workload.recipe.batch_size
    whole = Budget.of(Horizon(steps=1.0), task.workload, task.examples, per_example, by_epochs=False)
    return {"label": "reference", "subset": task.reference_subset, "steps": round(whole.amount)}


def claims_of(audited: Audited, design: Design) -> dict[str, Any]:
    """The contents of `claims.yaml`: of every method its speedup on each axis, and its quality beside the plain recipe's."""
    metric = metric_of(audited.metric)
    axes = [audited.time_axis, "examples", "flops"]
    claims = [claim for one in design.candidates for claim in _claims_of(one, axes, audited.metric)]
    defaults = {
        "number": "1",
        "source": "an audit: what you might hope for",
        "metric": audited.metric,
        "published": None,
        "published_unit": "times",
        "direction": "higher",
    }
    quality = {"published_unit": audited.unit.strip(), "direction": better_side(audited.metric)}
    for claim in claims:
        if claim["rule"]["kind"] == "difference":
            claim |= quality
            claim["rule"]["no_effect"] = POINTS if metric.unit == "%" else 0.0
    return {"defaults": defaults, "claims": claims}


def _claims_of(one: Candidate, axes: list[str], metric: str) -> list[dict[str, Any]]:
    label = metric_of(metric).label
    speedups = [
        {
            "id": claim_id(one.arm, axis),
            "statement": f"{one.label} reaches its {label} in {axis_words(axis)} than the plain recipe needs for it.",
            "rule": {"kind": "ratio", "method": one.arm, "axis": axis, "no_effect": NO_EFFECT},
            "figure": "speedups",
        }
        for axis in axes_of(one, axes)
    ]
    speedups[0]["headline"] = f"{one.label}: speedup in {AXES[axes[0]]}"
    quality = {
        "id": claim_id(one.arm, "quality"),
        "statement": f"{one.label} is better than the plain recipe at its full length, in {label}.",
        "rule": {"kind": "difference", "method": one.arm, "baseline": PLAIN},
        "figure": "quality-cost",
    }
    return [*speedups, quality]


def axes_of(one: Candidate, axes: list[str]) -> list[str]:
    """What a method is judged on: of one with a reference the costs without it, too, as a reference can serve many runs."""
    return [*axes, *(f"{axis}{AMORTISED}" for axis in axes if one.reference)]


def axis_words(axis: str) -> str:
    """Less of an axis, in words."""
    base = axis.removesuffix(AMORTISED)
    less = f"{'fewer' if base in ('examples', 'flops') else 'less'} {AXES[base]}"
    return less if base == axis else f"{less}, the reference's left out,"


def claim_id(arm: str, of: str) -> str:
    """The id of a method's claim: `rs2-50-examples`."""
    return f"{arm}-{of}".replace("_", "-")


def write_card(study: Path, audited: Audited, findings: str = "") -> None:
    """The study's card, which leads the page; with `findings` once there are some."""
    reading = (
        "The plain recipe is trained at several lengths, each with its learning rate fully decayed; that sweep is the "
        "yardstick. A speedup is the sweep's cost at a method's quality over the method's cost, so 1 means that simply "
        "training for a shorter time does as well. All arms have the same learning rate, which nobody tuned for them."
    )
    text = (
        f"# Audit of {audited.file.name}\n\n## Question\n\nWhich method saves training of this task, at equal "
        f"{metric_of(audited.metric).label}?{findings and chr(10) * 2 + findings}\n\n## Method\n\nEvery method gets the "
        f"recipe that the file says, as many epochs, and the same seeds.\n\n## Reading\n\n{reading}\n"
    )
    write_text(study / "README.md", text)


def _yaml(content: dict[str, Any], words: str) -> str:
    return marked(f"# {words}\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))
