"""`scrimp audit` and `scrimp try`: which method saves in a training of your own. Everything heavy is imported inside."""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def audit(
    context: typer.Context,
    task: Annotated[
        Path, typer.Argument(help="a Python file with one subclass of scrimp.tasks.base.Task", metavar="TASK.py")
    ],
    to: Annotated[Path | None, typer.Option(help="the audit's folder; default: audit-NAME beside you")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="say what it would take and could show; train nothing but a pilot")
    ] = False,
    budget: Annotated[str | None, typer.Option(help="such as 2h or 30m: fewer seeds, methods and lengths, to fit")] = None,
    methods: Annotated[str | None, typer.Option(help="methods, arms, or files of your own, with commas between")] = None,
    seeds: Annotated[int, typer.Option(min=2, help="of every arm")] = 5,
    cores: Annotated[int | None, typer.Option(min=1, help="default: all")] = None,
    threads: Annotated[int, typer.Option(min=1, help="of a run")] = 1,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: CUDA where one is there")] = "auto",
    gpus: Annotated[
        int | None, typer.Option(min=0, help="of a run, where runs are made; default: 1 if this machine has one")
    ] = None,
) -> None:
    """Hold training methods against your own plain recipe: which saves, by how much, at equal quality?

    What follows `--` goes to Snakemake: `scrimp audit my_task.py -- --executor slurm --jobs 20`.
    """
    from scrimp.audit.folder import study_name
    from scrimp.audit.work import Machine, conduct

    folder = to or Path(f"audit-{study_name(task)}")
    wanted = [name.strip() for name in (methods or "").split(",") if name.strip()]
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends, too
    try:
        conduct(task, folder, Machine.of(cores, threads, device, gpus), seeds, wanted, budget, plan, context.args)
    finally:
        signal.signal(signal.SIGTERM, before)


def _and_those_of(other: Callable[..., None]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """For a command `(context, ..., **options)`: it takes the options of `other`, too, and finds them in `options`."""

    def extended(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            one for one in inspect.signature(command, eval_str=True).parameters.values() if one.kind is not one.VAR_KEYWORD
        ]
        more = [one for one in inspect.signature(other, eval_str=True).parameters.values() if one.default is not one.empty]
        command.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
        return command

    return extended


@_and_those_of(audit)
def try_data(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option(help="a folder of pictures, a class a subfolder")] = None,
    text: Annotated[Path | None, typer.Option(help="a table of texts (CSV, TSV or parquet)")] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(help="tars of pictures with captions: a folder, a glob, a pattern with braces; may be repeated"),
    ] = None,
    text_column: Annotated[str, typer.Option(help="of the table")] = "text",
    label_column: Annotated[str, typer.Option(help="of the table")] = "label",
    model: Annotated[
        str | None, typer.Option(help="of pictures: built in, timm:NAME, hf:NAME, file.py:function; of texts: hf:NAME")
    ] = None,
    size: Annotated[int, typer.Option(min=8, help="pixels a side that pictures are scaled to")] = 32,
    epochs: Annotated[int, typer.Option(min=1, help="of the plain recipe")] = 15,
    file: Annotated[Path | None, typer.Option(help="what to write; default: try_NAME.py")] = None,
    **options: Any,
) -> None:
    """Write a task over pictures, texts or image-text pairs, and audit it; the file is yours to edit."""
    from scrimp.audit.starters import starter

    given = list(pairs or [])
    while given and context.args and context.args[0].endswith(".tar"):  # the shell has put many files in a pattern's place
        given.append(context.args.pop(0))
    task = starter(data, text, model, size, text_column, label_column, epochs, file, given)
    print(f"wrote {task}; it is yours to edit, and `scrimp audit {task}` goes on with it")
    audit(context, task, **options)
