"""Running an audit: Snakemake in its workspace, with a line of progress from the files that runs leave."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from scrimp.audit.design import Design, duration
from scrimp.audit.folder import SCALE
from scrimp.audit.plan import Pace
from scrimp.config import Workspace
from scrimp.errors import ScrimpError

LOG = "audit.log"
EVERY = 2.0  # seconds between two looks at the files
LINE_EVERY = 30.0  # without a terminal


def snakemake(folder: Path, cores: int, more: Sequence[str], targets: Sequence[str] = ()) -> list[str]:
    """The command that makes an audit's files, or `targets` of them; `more` goes to Snakemake as it is."""
    return [sys.executable, "-m", "snakemake", "--cores", str(cores), *targets, *more]


def targets_of(name: str, arms: Sequence[str], seeds: int) -> list[str]:
    """The summaries of some arms' runs."""
    return [f"results/{SCALE}/{name}/runs/{arm}/seed{seed}/summary.json" for arm in arms for seed in range(seeds)]


class StoppedError(Exception):
    """The user stopped the work; what is finished counts."""


def work(
    workspace: Workspace, name: str, command: list[str], shares: dict[str, float], seeds: int, pace: Pace, at_a_time: int
) -> None:
    """Run a command in the workspace and say how far the runs of `shares`, by arm, are; what it prints goes to `audit.log`.

    Raises StoppedError on control-C, ScrimpError where the command fails.
    """
    log = workspace.root / LOG
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=workspace.root, stdout=output, stderr=subprocess.STDOUT)
        try:
            _watch(process, lambda: done_of(workspace, name, shares, seeds), shares, seeds, pace, at_a_time)
        except KeyboardInterrupt as stopped:
            process.wait()  # it had the signal too, and leaves whole files
            raise StoppedError from stopped
    if process.returncode:
        raise ScrimpError(f"the workflow failed ({process.returncode}); its last lines:\n{_tail(log)}\nall of them: {log}")


def done_of(workspace: Workspace, name: str, arms: dict[str, float], seeds: int) -> list[str]:
    """The arms of the finished runs, once a run."""
    place = workspace.results(SCALE, name) / "runs"
    return [arm for arm in arms for seed in range(seeds) if (place / arm / f"seed{seed}" / "summary.json").exists()]


def _watch(
    process: subprocess.Popen[bytes],
    done: Callable[[], list[str]],
    shares: dict[str, float],
    seeds: int,
    pace: Pace,
    at_a_time: int,
) -> None:
    """Print progress until the process ends: on a terminal one line that changes, elsewhere a line at times."""
    terminal, begin, said, width = sys.stderr.isatty(), time.monotonic(), 0.0, 0
    total, before = seeds * len(shares), sum(pace.hours(shares[arm]) for arm in done())
    whole = seeds * sum(map(pace.hours, shares.values()))
    while process.poll() is None:
        finished = done()
        spent = sum(pace.hours(shares[arm]) for arm in finished)
        elapsed = (time.monotonic() - begin) / 3600
        # By the pace of this work once some of it is done, by the plan's before.
        rate = (spent - before) / elapsed if spent > before else float(at_a_time)
        line = f"{len(finished)} of {total} runs, about {duration(max(0.0, whole - spent) / rate)} left"
        if terminal:
            print(f"\r{line:<{width}}", end="", file=sys.stderr, flush=True)
            width = len(line)
        elif time.monotonic() - said > LINE_EVERY:
            print(line, file=sys.stderr, flush=True)
            said = time.monotonic()
        time.sleep(EVERY)
    if terminal:
        print(f"\r{'':<{width}}\r", end="", file=sys.stderr)


def _tail(log: Path, lines: int = 12) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def at_a_time(cores: int, threads: int, gpus: int) -> int:
    """How many runs share the machine."""
    return 1 if gpus else max(1, cores // threads)


def runs_left(workspace: Workspace, name: str, design: Design) -> int:
    """How many runs of a design are still to come."""
    return design.runs - len(done_of(workspace, name, design.arms(), design.seeds))
