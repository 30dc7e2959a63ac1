"""Running an audit: plan, pilot, all runs by Snakemake with a line of progress, verdict."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from scrimp.audit.design import Design, Traits, candidates, duration, fitted, hours_of
from scrimp.audit.folder import SCALE, Audited, check_place, load, study_name, write_folder
from scrimp.audit.plan import PILOT_SEEDS, Pace, fraction_doubt, outline, pace_of, pilot_arms, resolution, words
from scrimp.audit.verdict import Verdict, conclude
from scrimp.config import Workspace
from scrimp.errors import ScrimpError

LOG = "audit.log"
EVERY = 2.0  # seconds between two looks at the files
LINE_EVERY = 30.0  # without a terminal


class StoppedError(Exception):
    """The user stopped the work; what is finished counts."""


@dataclass(frozen=True)
class Machine:
    """What an audit may use."""

    cores: int
    threads: int  # of a run
    device: Literal["auto", "cpu", "cuda"]
    gpus: int | None = None  # of a run; None: one where this machine has one

    @classmethod
    def of(cls, cores: int | None, threads: int, device: Literal["auto", "cpu", "cuda"], gpus: int | None = None) -> Machine:
        """With all cores of the machine where no number is given."""
        return cls(cores or os.cpu_count() or 1, threads, device, gpus)

    def at_a_time(self, gpus: int) -> int:
        """How many runs share it."""
        by_cores = max(1, self.cores // self.threads)
        return min(by_cores, max(1, torch.cuda.device_count())) if gpus else by_cores


@dataclass(frozen=True)
class Work:
    """An audit under way: what is audited, where its files are, and how fast it goes."""

    audited: Audited
    workspace: Workspace
    design: Design
    pace: Pace
    machine: Machine

    @property
    def at_a_time(self) -> int:
        return self.machine.at_a_time(self.audited.gpus)

    def done(self, shares: dict[str, float], seeds: int) -> list[str]:
        """The arms of the finished runs, once a run."""
        place = self.workspace.results(SCALE, self.audited.name) / "runs"
        return [arm for arm in shares for seed in range(seeds) if (place / arm / f"seed{seed}" / "summary.json").exists()]

    @property
    def missing(self) -> int:
        """How many runs are still to come."""
        return self.design.runs - len(self.done(self.design.arms(), self.design.seeds))

    def pilot(self, more: Sequence[str]) -> None:
        """Make the runs that the plan is sized by."""
        seeds = min(PILOT_SEEDS, self.design.seeds)
        shares = {arm: share for arm, share in self.design.arms().items() if arm in pilot_arms(self.design)}
        place = f"results/{SCALE}/{self.audited.name}/runs"
        targets = [f"{place}/{arm}/seed{seed}/summary.json" for arm in shares for seed in range(seeds)]
        self.snakemake([*targets, *more], shares, seeds)

    def everything(self, more: Sequence[str]) -> None:
        """Make all runs, and what is made of them."""
        self.snakemake(more, self.design.arms(), self.design.seeds)

    def snakemake(self, arguments: Sequence[str], shares: dict[str, float], seeds: int) -> None:
        """Run Snakemake in the workspace and say how far the runs of `shares`, by arm, are; what it prints goes to a log.

        Raises StoppedError on control-C, ScrimpError where it fails.
        """
        command = [sys.executable, "-m", "snakemake", "--cores", str(self.machine.cores), *arguments]
        log = self.workspace.root / LOG
        with log.open("ab") as output:
            # In a session of its own: a control-C reaches this process, which passes it on to all of that one's, once.
            process = subprocess.Popen(
                command, cwd=self.workspace.root, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                self.watch(process.poll, shares, seeds)
            except KeyboardInterrupt as stopped:
                raise StoppedError from stopped
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGINT)
                    process.wait()
        if process.returncode:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
            raise ScrimpError(
                f"the workflow failed ({process.returncode}); all that it said: {log}; its last lines:\n{last}"
            )

    def watch(self, ended: Callable[[], int | None], shares: dict[str, float], seeds: int) -> None:
        """Say how far it is until it has ended: on a terminal one line that changes, elsewhere a line at times."""
        terminal, begin, said, width = sys.stderr.isatty(), time.monotonic(), 0.0, 0

        def hours() -> tuple[int, float]:
            finished = self.done(shares, seeds)
            return len(finished), sum(self.pace.hours(shares[arm]) for arm in finished)

        before, whole = hours()[1], seeds * sum(map(self.pace.hours, shares.values()))
        while ended() is None:
            count, spent = hours()
            elapsed = (time.monotonic() - begin) / 3600
            # By the pace of this work once some of it is done, by the plan's before.
            rate = (spent - before) / elapsed if spent > before else float(self.at_a_time)
            left = f"{count} of {seeds * len(shares)} runs, about {duration(max(0.0, whole - spent) / rate)} left"
            if terminal:
                print(f"\r{left:<{width}}", end="", file=sys.stderr, flush=True)
                width = len(left)
            elif time.monotonic() - said > LINE_EVERY:
                print(left, file=sys.stderr, flush=True)
                said = time.monotonic()
            time.sleep(EVERY)
        if terminal:
            print(f"\r{'':<{width}}\r", end="", file=sys.stderr)


def conduct(
    file: Path,
    folder: Path,
    machine: Machine,
    seeds: int,
    methods: Sequence[str],
    budget: str | None,
    plan: bool,
    more: Sequence[str],
) -> None:
    """The whole of `scrimp audit`: `methods` as `candidates` takes them, `more` for Snakemake.

    Raises ScrimpError for what is wrong with the task or the arguments, and, once what there is was judged, for runs that
    failed.
    """
    limit = None if budget is None else hours_of(budget)
    check_place(folder, study_name(file))
    begin = time.perf_counter()
    audited = load(file, Workspace(folder), machine.device, machine.threads, machine.gpus)
    pace = pace_of(audited, time.perf_counter() - begin)
    chosen = candidates(Traits.of(audited.task), methods)
    left_out: list[str] = []
    design = Design(chosen, seeds=seeds)
    if limit is not None:
        at_a_time = machine.at_a_time(audited.gpus)
        design, left_out = fitted(design, lambda one: pace.hours_of(one, at_a_time), limit)
    work = Work(audited, write_folder(folder, audited, design), design, pace, machine)
    print("\n".join(outline(design, pace, audited, work.at_a_time)))
    if left_out:
        print(f"left out to fit {budget}: {', '.join(left_out)}")
    failed = None
    try:
        work.pilot(more)
        resolved = resolution(work.workspace, audited, design)
        print("\n".join(words(resolved, audited, design)) if resolved else "the pilot has too few runs to size anything by")
        if doubt := fraction_doubt(work.workspace, audited):
            print(f"warning: {doubt}")
        if plan:
            print(f"{folder} holds the plan; the same command without --plan does it")
            return
        work.everything(more)
    except StoppedError:
        print("stopped; what is finished is judged, and the same command goes on", file=sys.stderr)
    except ScrimpError as error:
        failed = error
    _say(conclude(work.workspace, audited, design, pace, work.at_a_time, work.missing), folder)
    if failed is not None:
        raise failed


def _say(verdict: Verdict, folder: Path) -> None:
    print("", *(method.sentence for method in verdict.methods), sep="\n")
    if not verdict.complete:
        print(f"{verdict.missing_runs} runs are missing: the same command makes them")
    print("", verdict.recommendation, folder / "report.html", folder / "verdict.json", sep="\n")
