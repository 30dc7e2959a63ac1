"""`scrimp kernels`: do the scoring kernels build, are they right, how fast are they here? torch is imported inside."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.table import Column, Table

from scrimp.consoles import console, errors
from scrimp.errors import ScrimpError

if TYPE_CHECKING:
    from scrimp.kernels.check import Outcome

app = typer.Typer(no_args_is_help=True, help="The scoring kernels: do they build, are they right, how fast are they here?")
Json = Annotated[bool, typer.Option("--json", help="for scripts")]


@app.command(name="build")
def build_all(
    arch: Annotated[list[str] | None, typer.Option(help="may repeat; default: sm_80, sm_90a, sm_100")] = None,
    as_json: Json = False,
) -> None:
    """Compile every CUDA kernel, on any machine, and say what each takes; spills and build errors are failures."""
    from scrimp.kernels import build

    targets = arch or build.ARCHITECTURES
    reports = [report for target in targets for name in build.sources(target) for report in build.build(name, target)]
    table = Table("source", "arch", Column("kernel", no_wrap=True), "registers", "shared", "stack", "spills", box=SIMPLE)
    for r in reports:
        table.add_row(*map(str, (*r[:5], r.stack, r.spill_stores + r.spill_loads)))
    if as_json:
        print(json.dumps([report._asdict() for report in reports], indent=1))
    else:
        console().print(table)
    spilling = sorted({f"{r.kernel} on {r.architecture}" for r in reports if r.stack or r.spill_stores or r.spill_loads})
    if spilling:
        raise ScrimpError(f"registers spill in {', '.join(spilling)}")


@app.command(name="check")
def check_all(
    seed: Annotated[int | None, typer.Option(help="of the inputs; default: a fresh one")] = None, as_json: Json = False
) -> None:
    """Hold every implementation that runs here against the float64 specification, twice."""
    from scrimp.kernels.check import as_rows, check

    seed = secrets.randbits(31) if seed is None else seed
    outcomes = check(seed)
    if as_json:
        print(json.dumps({"seed": seed, "outcomes": as_rows(outcomes)}, indent=1))
    else:
        whole = [Column(name, no_wrap=True) for name in ("op", "by", "device", "type")]
        table = Table(*whole, "cases", "error", "of bound", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
        groups: dict[tuple[str, ...], list[Outcome]] = {}
        for outcome in outcomes:
            groups.setdefault((outcome.op, outcome.implementation, outcome.device, outcome.dtype), []).append(outcome)
        for names, cases in groups.items():
            shares = [case.largest / case.bound for case in cases if case.bound]
            largest = f"{max(case.largest for case in cases):.2g}"
            table.add_row(*names, str(len(cases)), largest, f"{max(shares):.2f}" if shares else "exact")
        console().print(table, f"seed {seed}")
    for outcome in outcomes:
        if not outcome.passed:
            errors.print(f"failed: {outcome}", soft_wrap=True, markup=False)
    if not all(outcome.passed for outcome in outcomes):
        raise ScrimpError(f"{sum(not o.passed for o in outcomes)} of {len(outcomes)} cases failed; again: --seed {seed}")


@app.command(name="bench")
def bench_all(
    quick: Annotated[bool, typer.Option(help="small sizes, to see that everything runs")] = False, as_json: Json = False
) -> None:
    """Time the ops, InfoBatch's epochs, icons and the start of a process here, against what one would write instead."""
    from scrimp import jest
    from scrimp.kernels.bench import bench
    from scrimp.measure.hardware import cpu_model
    from scrimp.measure.speed import speed

    def show(row: dict[str, Any]) -> None:
        words = [f"{row['what']}: {row['way']}"]
        if "error" in row:
            words.append(row["error"])
        else:
            words.append(f"{1e3 * row['seconds']:.1f} ms ({1e3 * row['fastest']:.1f} to {1e3 * row['slowest']:.1f})")
        if "memory" in row:
            words.append(f"{row['memory'] / 2**20:.0f} MiB")
        extra = {
            "cpu_seconds": "{:.3f} CPU s",
            "times_as_fast": "{:.1f} times as fast",
            "per_second": "{:,.0f} a CPU second",
            "tflops": "{:.0f} TFLOP/s",
            "share_of_products": "{:.0%} of the products",
        }
        words += [form.format(row[key]) for key, form in extra.items() if key in row]
        print(", ".join(words), flush=True)  # a log shows rows as they come

    if not as_json:
        print(cpu_model())
    on_row = (lambda row: None) if as_json else show
    rows = [*bench(jest.select, on_row, quick), *speed(on_row, quick)]
    if as_json:
        print(json.dumps({"cpu": cpu_model(), "rows": rows}, indent=1))
