"""`scrimp status`: of a scale's runs, what is done, what is at work and how fast, what failed and with which words.

It reads files alone: summaries, the notes that runs leave beside their checkpoints, logs. What a run will cost is known
from another seed of its arm, from its horizon and the other arms of its workload, from a workload whose length is given in
FLOPs, or from what runs at work have planned; where none is, it is not told. Of shards, references, probes, claims and
figures it tells what failed.
"""

from __future__ import annotations

import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from scrimp.records import Meters, Summary, read_summary, run_folders

# Outdated: its results are of another configuration than the study's file has now. Damaged: they cannot be read.
State = Literal["done", "diverged", "running", "stopped", "failed", "outdated", "damaged", "waiting"]
STATES: tuple[State, ...] = ("done", "diverged", "running", "stopped", "failed", "outdated", "damaged", "waiting")
ALWAYS_SHOWN = ("done", "running", "failed", "waiting")
FRESH = 8 * BEAT_EVERY  # seconds after which a run that left no note is taken for killed
TAIL = 2**16  # bytes of a log that its end is looked for in; a traceback takes thousands
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


@dataclass
class Stage:
    """What is no run and is at work, was killed or failed: a dataset's shards, a reference, a probe, claims, figures."""

    name: str
    state: State
    words: str


def at_hand(workspace: Workspace, scale: str) -> list[str]:
    """The studies of config/config.yaml, and built-in ones that were begun at a scale, as by `--config studies=NAME`."""
    planned = workspace.studies()
    begun = (name for name in workspace.study_names() if (workspace.results(scale, name) / "runs").is_dir())
    return [*planned, *(name for name in begun if name not in planned)]


def survey(workspace: Workspace, scale: str, studies: list[str]) -> list[Job]:
    """Every planned run of some studies at a scale, and runs with other seeds that are at work or done."""
    seeds = workspace.settings().seeds
    return [job for study in studies for job in _jobs(workspace, workspace.study(study), scale, seeds)]


def _jobs(workspace: Workspace, config: StudyConfig, scale: str, planned: list[int] | None) -> list[Job]:
    found, states = _found(workspace, config, scale)
    seeds = {
        arm: _with_others(workspace, config.study, scale, arm, config.seeds(scale, arm, planned), found)
        for arm in config.arm_ids(scale)
    }
    notes = {(arm, seed): note_of(workspace, scale, config.study, arm, seed) for arm in seeds for seed in seeds[arm]}
    told = {arm: note["flops"] for (arm, _), note in notes.items() if note is not None and note.get("flops")}
    flops = _planned_flops(config, scale) | _expected(config, scale, found, lambda meters: meters.flops, told)
    seconds = _expected(config, scale, found, _wall, {})
    jobs = []
    for arm, of_arm in seeds.items():
        for seed in of_arm:
            job = Job(config.study, arm, seed, "waiting", flops=flops.get(arm), seconds=seconds.get(arm))
            job.left = job.seconds
            _look(workspace, scale, job, notes[arm, seed], found.get((arm, seed)), states.get((arm, seed)))
            jobs.append(job)
    return jobs


def _found(
    workspace: Workspace, config: StudyConfig, scale: str
) -> tuple[dict[tuple[str, int], Summary], dict[tuple[str, int], tuple[State, str]]]:
    """By arm and seed: the summaries of today's configuration, and of the others what is wrong with them."""
    specs = {arm: config.run_spec(scale, arm) for arm in config.arm_ids(scale)}
    current: dict[tuple[str, int], Summary] = {}
    others: dict[tuple[str, int], tuple[State, str]] = {}
    for folder in run_folders(workspace, scale, config.study):
        arm, told = folder.parent.name, folder.name.removeprefix("seed")
        if arm not in specs or not told.isdecimal():
            continue
        try:
            run = read_summary(folder)
        except ScrimpError as error:
            others[arm, int(told)] = ("damaged", str(error).splitlines()[0])
        else:
            if run.config == specs[arm]:
                current[arm, int(told)] = run
            else:
                others[arm, int(told)] = ("outdated", f"trained by another configuration than {config.where} has now")
    return current, others


def _with_others(
    workspace: Workspace, study: str, scale: str, arm: str, planned: list[int], found: dict[tuple[str, int], Summary]
) -> list[int]:
    """The planned seeds of an arm, and other seeds (of `snakemake --config 'seeds=[..]'`) that were run or are at work."""
    notes = workspace.checkpoint(scale, study, arm, 0).parent.glob("seed*.progress.json")
    told = (path.name.removeprefix("seed").removesuffix(".progress.json") for path in notes)
    seen = {seed for name, seed in found if name == arm} | {int(seed) for seed in told if seed.isdecimal()}
    return [*planned, *sorted(seen - set(planned))]


def _wall(meters: Meters) -> float:
    """Seconds that a run's own process took: references and constant-LR runs were other processes."""
    return meters.seconds - meters.seconds_reference + meters.seconds_evaluation + meters.seconds_setup


def _planned_flops(config: StudyConfig, scale: str) -> dict[str, float]:
    """By arm, what its horizon comes to, where the length of its workload is given in FLOPs."""
    resolved = {arm: config.resolve(scale, arm) for arm in config.arm_ids(scale)}
    return {
        name: arm.horizon.amount * workload.flops
        for name, (arm, workload) in resolved.items()
        if workload.flops is not None and arm.horizon.axis != "seconds"
    }


def _expected(
    config: StudyConfig,
    scale: str,
    found: dict[tuple[str, int], Summary],
    of: Callable[[Meters], float],
    told: Mapping[str, float],
) -> dict[str, float]:
    """By arm, what a run of it takes, as far as finished ones tell, or where none of it has, what is `told` of it."""
    measured: dict[str, list[float]] = {}
    for (arm, _), run in found.items():
        if run.diverged is None:
            measured.setdefault(arm, []).append(of(run.meters))
    known = {**told, **{arm: statistics.median(values) for arm, values in measured.items()}}
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


def _look(
    workspace: Workspace,
    scale: str,
    job: Job,
    note: dict[str, Any] | None,
    run: Summary | None,
    other: tuple[State, str] | None,
) -> None:
    """Put a run into its state: by its summary, else by its note, else by what its last attempt's log says."""
    if run is not None:
        job.state, job.fraction, job.flops, job.left = "done", 1.0, run.meters.flops, 0.0
        if run.diverged is not None:
            job.state, job.words = "diverged", f"at step {run.diverged.step}: {run.diverged.what}"
        return
    log = logs(workspace, scale, job.study) / f"{job.arm}-seed{job.seed}.log"
    summary = workspace.run_folder(scale, job.study, job.arm, job.seed) / "summary.json"
    if note is not None:
        job.fraction, job.where, job.words = note["fraction"], note["host"], note["stage"]
        rate, seconds = note["rate"], job.seconds
        job.left = (1 - job.fraction) / rate if rate > 0 else seconds and (1 - job.fraction) * seconds
        job.state = _alive(note)
    elif failure := failure_of(log, summary):
        job.state, job.words = "failed", failure
    elif other is not None:
        job.state, job.words = other


def stages(workspace: Workspace, scale: str, studies: list[str]) -> list[Stage]:
    """What is no run and is at work or failed: what needs it waits for ever."""
    found: list[Stage] = []
    for name, log, output in _others_of(workspace, scale, studies):
        if failure := failure_of(log, output):
            found.append(Stage(name, "failed", failure))
    for study in studies:
        for name, reference in workspace.study(study).scale(scale).references.items():
            note = note_of(workspace, scale, study, f"reference-{name}", reference.seed)
            if note is not None:
                words = f"on {note['host']}: {note['stage']}, {note['fraction']:.1%}"
                found.append(Stage(f"{study} reference {name}", _alive(note), words))
    return found


def _others_of(workspace: Workspace, scale: str, studies: list[str]) -> Iterator[tuple[str, Path, Path]]:
    """The name, the log and an output of all that a scale needs beside runs."""
    known, datasets = workspace.datasets(), dict[str, None]()
    for study in studies:
        config, results = workspace.study(study), workspace.results(scale, study)
        folder, sizes = logs(workspace, scale, study), config.scale(scale)
        used = [name for workload in sizes.workloads.values() for name in workload.datasets.values()]
        datasets |= dict.fromkeys(name for one in used if one in known for name in (*known[one].needs, one))
        for name in sizes.references:
            summary = workspace.reference_folder(scale, study, name) / "summary.json"
            yield f"{study} reference {name}", folder / f"reference-{name}.log", summary
        for name in sizes.probes:
            yield f"{study} probe {name}", folder / f"probe-{name}.log", results / "probes" / f"{name}.parquet"
        yield f"{study} claims", folder / "claims.log", results / "claims.json"
        drawn = [results / "figures" / f"{name}.svg" for name in config.figures]
        written = [results / "tables" / f"{name}.csv" for name in config.tables]
        if drawn or written:
            yield f"{study} figures", folder / "figures.log", [*drawn, *written][-1]
    for name in datasets:
        log = workspace.root / "results" / "logs" / "shard" / f"{name}.log"
        yield f"shard {name}", log, workspace.shards(name) / "manifest.json"


def logs(workspace: Workspace, scale: str, study: str) -> Path:
    """Where a workflow leaves the logs of a study's jobs."""
    return workspace.root / "results" / "logs" / scale / study


def note_of(workspace: Workspace, scale: str, study: str, arm: str, seed: int) -> dict[str, Any] | None:
    """What a run has noted beside its checkpoint, if it is at work or was killed there."""
    path = workspace.checkpoint(scale, study, arm, seed).with_suffix(".progress.json")
    try:
        note: dict[str, Any] = read_json(path)
        return note if {"fraction", "rate", "host", "stage", "when"} <= set(note) else None
    except (ScrimpError, TypeError):
        return None


def _alive(note: dict[str, Any]) -> State:
    return "running" if time.time() - note["when"] < FRESH else "stopped"


def failure_of(log: Path, output: Path) -> str:
    """With which words the job of a log failed; empty where it did not, or where its output is newer than the log.

    A verb that fails ends with a line that begins with `error:`, a fault of the program with a traceback.
    """
    try:
        status = log.stat()
        if output.exists() and output.stat().st_mtime > status.st_mtime:
            return ""
        with log.open("rb") as file:
            file.seek(max(0, status.st_size - TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [stripped for line in text.splitlines() if (stripped := ESCAPES.sub("", line).strip())]
    errors = [line for line in lines if line.startswith("error:")]
    if errors:
        return errors[-1]
    return lines[-1] if any("Traceback (most recent call last)" in line for line in lines) else ""


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
    return {
        "scale": scale,
        "all": summed(jobs),
        "studies": by_study,
        "runs": [asdict(job) for job in jobs],
        "stages": [asdict(stage) for stage in stages(workspace, scale, studies)],
    }


def finished(jobs: list[Job]) -> bool:
    return all(job.state in ("done", "diverged") for job in jobs)


def view(jobs: list[Job], scale: str, others: Sequence[Stage] = ()) -> Group:
    """The same for people."""
    states = [state for state in STATES if state in ALWAYS_SHOWN or any(job.state == state for job in jobs)]
    table = Table("study", *states, "FLOPs", "left", title=f"scale {scale}", title_justify="left")
    studies = list(dict.fromkeys(job.study for job in jobs))
    for name, part in [(s, [job for job in jobs if job.study == s]) for s in studies] + [("all", jobs)]:
        total = summed(part)
        share = "not known yet"
        if total["flops_planned"]:
            share = f"{total['flops_spent'] / total['flops_planned']:.1%} of {total['flops_planned']:.2e}"
            share += f" (without {total['unknown']} runs)" if total["unknown"] else ""
        left = "" if finished(part) else "?" if total["seconds_left"] is None else duration(total["seconds_left"])
        table.add_row(name, *(str(total[state] or "") for state in states), share, left)
    told = [f"{stage.state}: {stage.name}: {stage.words}" for stage in others]
    for job in jobs:
        name = f"{job.study} {job.arm} seed {job.seed}"
        if job.state in ("running", "stopped"):
            left = f", {duration(job.left)} left" if job.left is not None and job.state == "running" else ""
            told.append(f"{job.state}: {name} on {job.where}: {job.words}, {job.fraction:.1%}{left}")
        elif job.state in ("failed", "diverged", "damaged"):
            told.append(f"{job.state}: {name}: {job.words}")
    return Group(table, Text("\n".join(told)))
