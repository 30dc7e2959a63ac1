"""`scrimp audit my_task.py`: which method saves in a training of your own. Everything heavy is imported inside."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

Task = Annotated[Path, typer.Argument(help="a Python file with one subclass of scrimp.tasks.base.Task", metavar="TASK.py")]


def audit(
    context: typer.Context,
    task: Task,
    to: Annotated[Path | None, typer.Option(help="the audit's folder; default: audit-NAME beside you")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="say what it would take and what it could show; train a pilot alone")
    ] = False,
    budget: Annotated[str | None, typer.Option(help="such as 2h or 30m: fewer seeds, methods and lengths, to fit")] = None,
    methods: Annotated[str | None, typer.Option(help="of methods, arms, or files of your own, with commas between")] = None,
    seeds: Annotated[int, typer.Option(min=2, help="of every arm")] = 5,
    cores: Annotated[int | None, typer.Option(min=1, help="default: all")] = None,
    threads: Annotated[int, typer.Option(min=1, help="of a run")] = 1,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: CUDA where one is there")] = "auto",
) -> None:
    """Hold training methods against your own plain recipe: which saves, by how much, at equal quality?

    What follows `--` goes to Snakemake: `scrimp audit my_task.py -- --executor slurm --jobs 20`.
    """
    from scrimp.audit.design import Design, candidates, fitted, hours_of
    from scrimp.audit.folder import load, write_folder
    from scrimp.audit.plan import outline, pace_of, pilot_arms, resolution, words
    from scrimp.audit.verdict import conclude
    from scrimp.audit.work import StoppedError, at_a_time, runs_left, snakemake, targets_of, work
    from scrimp.config import Workspace
    from scrimp.errors import ScrimpError

    limit = None if budget is None else hours_of(budget)
    folder = to or Path(f"audit-{task.stem.replace('_', '-')}")
    begin = time.perf_counter()
    audited = load(task, Workspace(folder), device, threads)
    setup = time.perf_counter() - begin
    wanted = [name.strip() for name in (methods or "").split(",") if name.strip()]
    chosen = candidates(audited.task.model(0), audited.task.workload.recipe.batch_size, wanted)
    design, left_out = Design(chosen, seeds=seeds), []
    pace = pace_of(audited, setup)
    beside = at_a_time(cores or os.cpu_count() or 1, threads, audited.gpus)
    if limit is not None:
        design, left_out = fitted(design, lambda one: pace.hours_of(one, beside), limit)
    workspace = write_folder(folder, audited, design)
    print("\n".join(outline(design, pace, audited, beside)))
    if left_out:
        print(f"left out to fit {budget}: {', '.join(left_out)}")
    count = cores or os.cpu_count() or 1
    pilot = min(3, design.seeds)
    shares = {arm: share for arm, share in design.arms().items() if arm in pilot_arms(design)}
    failed = None
    try:
        command = snakemake(folder, count, context.args, targets_of(audited.name, list(shares), pilot))
        work(workspace, audited.name, command, shares, pilot, pace, beside)
        resolved = resolution(workspace, audited, design)
        if resolved is not None:
            print("\n".join(words(resolved, audited, design)))
        if plan:
            print(f"the plan is written: {folder}; the whole of it: the same command without --plan")
            return
        work(workspace, audited.name, snakemake(folder, count, context.args), design.arms(), design.seeds, pace, beside)
    except StoppedError:
        print("interrupted; what is finished is judged, and the same command goes on", file=sys.stderr)
    except ScrimpError as error:
        failed = error
    verdict = conclude(workspace, audited, design, pace, beside, runs_left(workspace, audited.name, design))
    print()
    for method in verdict.methods:
        print(method.sentence)
    print(f"\n{verdict.recommendation}\n{folder / 'report.html'}\n{folder / 'verdict.json'}")
    if failed is not None:
        raise failed
