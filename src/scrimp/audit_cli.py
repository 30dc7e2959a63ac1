"""`scrimp audit` and `scrimp try`: which method saves in a training of your own. Everything heavy is imported inside."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

Task = Annotated[Path, typer.Argument(help="a Python file with one subclass of scrimp.tasks.base.Task", metavar="TASK.py")]
To = Annotated[Path | None, typer.Option(help="the audit's folder; default: audit-NAME beside you")]
Plan = Annotated[bool, typer.Option("--plan", help="say what it would take and could show; train nothing but a pilot")]
Budget = Annotated[str | None, typer.Option(help="such as 2h or 30m: fewer seeds, methods and lengths, to fit")]
Methods = Annotated[str | None, typer.Option(help="methods, arms, or files of your own, with commas between")]
Seeds = Annotated[int, typer.Option(min=2, help="of every arm")]
Cores = Annotated[int | None, typer.Option(min=1, help="default: all")]
Threads = Annotated[int, typer.Option(min=1, help="of a run")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: CUDA where one is there")]


def audit(
    context: typer.Context,
    task: Task,
    to: To = None,
    plan: Plan = False,
    budget: Budget = None,
    methods: Methods = None,
    seeds: Seeds = 5,
    cores: Cores = None,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Hold training methods against your own plain recipe: which saves, by how much, at equal quality?

    What follows `--` goes to Snakemake: `scrimp audit my_task.py -- --executor slurm --jobs 20`.
    """
    from scrimp.audit.work import Machine, conduct

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends, too
    folder = to or Path(f"audit-{task.stem.replace('_', '-')}")
    wanted = [name.strip() for name in (methods or "").split(",") if name.strip()]
    conduct(task, folder, Machine.of(cores, threads, device), seeds, wanted, budget, plan, context.args)


def try_data(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option(help="a folder of pictures, a class a subfolder")] = None,
    text: Annotated[Path | None, typer.Option(help="a table of texts (CSV, TSV or parquet)")] = None,
    text_column: Annotated[str, typer.Option(help="of the table")] = "text",
    label_column: Annotated[str, typer.Option(help="of the table")] = "label",
    model: Annotated[
        str, typer.Option(help="of pictures: built in, timm:NAME, hf:NAME, file.py:function")
    ] = "resnet-narrow",
    size: Annotated[int, typer.Option(min=8, help="pixels a side that pictures are scaled to")] = 32,
    epochs: Annotated[int, typer.Option(min=1, help="of the plain recipe")] = 15,
    file: Annotated[Path | None, typer.Option(help="what to write; default: try_NAME.py")] = None,
    to: To = None,
    plan: Plan = False,
    budget: Budget = None,
    methods: Methods = None,
    seeds: Seeds = 5,
    cores: Cores = None,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Write a task over a folder of pictures or a table of texts, and audit it; the file is yours to edit."""
    from scrimp.audit.starters import starter

    task = starter(data, text, model, size, text_column, label_column, epochs, file)
    print(f"wrote {task}; it is yours to edit, and `scrimp audit {task}` goes on with it")
    audit(context, task, to, plan, budget, methods, seeds, cores, threads, device)
