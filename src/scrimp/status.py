"""`scrimp status`: of a scale's runs, what is done, what is at work and how fast, what failed and with which words.

It reads files alone: summaries, the notes that runs leave beside their checkpoints, logs. What a run will cost is known
from another seed of its arm, or from its horizon and the other arms of its workload; where neither is, it is not told.
"""

from __future__ import annotations

import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Group
from rich.table import Table
from rich.text import Text

from scrimp.config import MAIN_SEPARATOR, StudyConfig, Workspace
from scrimp.errors import ScrimpError
from scrimp.files import read_json
from scrimp.progress import BEAT_EVERY, duration
from scrimp.records import Meters, Summary, current_summaries

State = Literal["done", "diverged", "running", "stopped", "failed", "waiting"]
STATES: tuple[State, ...] = ("done", "diverged", "running", "stopped", "failed", "waiting")
FRESH = 8 * BEAT_EVERY  # seconds after which a run that left no note is taken for killed
TAIL = 4096  # bytes of a log that its last line is looked for in
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Job:
    """One planned run. `flops` and `seconds` are of the whole run, null where nothing tells; `fraction` is done."""

    study: str
    arm: str
    seed: int
    state: State
    fraction: float = 0.0
    flops: float | None = None
    seconds: float | None = None
    left: float | None = None  # seconds of this run, at its pace
    where: str = ""
    words: str = ""  # what it is at, or its last line


def survey(workspace: Workspace, scale: str, studies: list[str]) -> list[Job]:
    """Every planned run of some studies at a scale."""
    seeds = workspace.settings().seeds
    return [job for study in studies for job in _jobs(workspace, workspace.study(study), scale, seeds)]


def _jobs(workspace: Workspace, config: StudyConfig, scale: str, planned: list[int] | None) -> list[Job]:
    found = {(run.arm, run.seed): run for run in current_summaries(workspace, config, scale, diverged=True)}
    flops = _expected(config, scale, found, lambda meters: meters.flops)
    seconds = _expected(config, scale, found, _wall)
    return [
        _job(workspace, config.study, scale, arm, seed, found.get((arm, seed)), flops.get(arm), seconds.get(arm))
        for arm in config.arm_ids(scale)
        for seed in config.seeds(scale, arm, planned)
    ]


def _wall(meters: Meters) -> float:
    """Seconds that a run's own process took: references and constant-LR runs were other processes."""
    return meters.seconds - meters.seconds_reference + meters.seconds_evaluation + meters.seconds_setup


def _expected(
    config: StudyConfig, scale: str, found: dict[tuple[str, int], Summary], of: Callable[[Meters], float]
) -> dict[str, float]:
    """By arm, what a run of it takes, as far as finished ones tell."""
    measured: dict[str, list[float]] = {}
    for (arm, _), run in found.items():
        if run.diverged is None:
            measured.setdefault(arm, []).append(of(run.meters))
    known = {arm: statistics.median(values) for arm, values in measured.items()}
    per_horizon: dict[str, list[float]] = {}  # by workload, what a whole recipe takes
    for arm, value in known.items():
        horizon = config.resolve(scale, arm)[0].horizon
        if horizon.axis != "seconds":
            per_horizon.setdefault(arm.partition(MAIN_SEPARATOR)[2], []).append(value / horizon.amount)
    for arm in config.arm_ids(scale):
        horizon, alike = config.resolve(scale, arm)[0].horizon, per_horizon.get(arm.partition(MAIN_SEPARATOR)[2])
        if arm not in known and alike and horizon.axis != "seconds":
            known[arm] = horizon.amount * statistics.median(alike)
    return known


def _job(
    workspace: Workspace,
    study: str,
    scale: str,
    arm: str,
    seed: int,
    run: Summary | None,
    flops: float | None,
    seconds: float | None,
) -> Job:
    job = Job(study, arm, seed, "waiting", flops=flops, seconds=seconds, left=seconds)
    if run is not None:
        job.state, job.fraction, job.flops, job.left = "done", 1.0, run.meters.flops, 0.0
        if run.diverged is not None:
            job.state, job.words = "diverged", f"at step {run.diverged.step}: {run.diverged.what}"
        return job
    note = note_of(workspace, scale, study, arm, seed)
    last = last_line(workspace.root / "results" / "logs" / scale / study / f"{arm}-seed{seed}.log")
    if note is not None:
        job.fraction, job.where, job.words = note["fraction"], note["host"], note["stage"]
        job.left = (1 - job.fraction) / note["rate"] if note["rate"] > 0 else seconds and (1 - job.fraction) * seconds
        job.state = "running" if time.time() - note["when"] < FRESH else "stopped"
    elif last:
        job.state, job.words = "failed", last
    return job


def note_of(workspace: Workspace, scale: str, study: str, arm: str, seed: int) -> dict[str, Any] | None:
    """What a run has noted beside its checkpoint, if it is at work or was killed there."""
    path = workspace.checkpoint(scale, study, arm, seed).with_suffix(".progress.json")
    try:
        note: dict[str, Any] = read_json(path)
        return note if {"fraction", "rate", "host", "stage", "when"} <= set(note) else None
    except ScrimpError:
        return None


def last_line(log: Path) -> str:
    """The last line of a log that says anything; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [stripped for line in text.splitlines() if (stripped := ESCAPES.sub("", line).strip())]
    return lines[-1] if lines else ""


# ----------------------------------------------------------------------------------------------------------- summed up
def summed(jobs: list[Job]) -> dict[str, Any]:
    """Counts by state, FLOPs planned and spent (of the runs of which they are known), and seconds left at this pace."""
    known = [job for job in jobs if job.flops is not None]
    planned = sum(job.flops or 0.0 for job in known)
    counts = Counter(job.state for job in jobs)
    open_jobs = [job for job in jobs if job.state not in ("done", "diverged")]
    at_once = max(1, counts["running"])
    # No run ends before itself, however many there are beside it.
    left = [job.left for job in open_jobs if job.left is not None]
    return {
        "runs": len(jobs),
        **{state: counts[state] for state in STATES},
        "flops_planned": planned,
        "flops_spent": sum(job.fraction * (job.flops or 0.0) for job in known),
        "unknown": len(jobs) - len(known),
        "seconds_left": max(sum(left) / at_once, max(left)) if len(left) == len(open_jobs) and left else None,
    }


def as_json(workspace: Workspace, scale: str, studies: list[str]) -> dict[str, Any]:
    """The same for scripts; the keys are an interface."""
    jobs = survey(workspace, scale, studies)
    by_study = {study: summed([job for job in jobs if job.study == study]) for study in studies}
    return {"scale": scale, "all": summed(jobs), "studies": by_study, "runs": [asdict(job) for job in jobs]}


def finished(jobs: list[Job]) -> bool:
    return all(job.state in ("done", "diverged") for job in jobs)


def view(jobs: list[Job], scale: str) -> Group:
    """The same for people."""
    table = Table("study", *STATES, "FLOPs", "left", title=f"scale {scale}", title_justify="left")
    studies = list(dict.fromkeys(job.study for job in jobs))
    for name, part in [(s, [job for job in jobs if job.study == s]) for s in studies] + [("all", jobs)]:
        total = summed(part)
        share = "not known yet"
        if total["flops_planned"]:
            share = f"{total['flops_spent'] / total['flops_planned']:.1%} of {total['flops_planned']:.2e}"
            share += f" (without {total['unknown']} runs)" if total["unknown"] else ""
        left = "" if finished(part) else "?" if total["seconds_left"] is None else duration(total["seconds_left"])
        table.add_row(name, *(str(total[state] or "") for state in STATES), share, left)
    told = []
    for job in jobs:
        name = f"{job.study} {job.arm} seed {job.seed}"
        if job.state in ("running", "stopped"):
            left = f", {duration(job.left)} left" if job.left is not None and job.state == "running" else ""
            told.append(f"{job.state}: {name} on {job.where}: {job.words}, {job.fraction:.1%}{left}")
        elif job.state in ("failed", "diverged"):
            told.append(f"{job.state}: {name}: {job.words}")
    return Group(table, Text("\n".join(told)))
