"""What a training loop's time goes into, and which share of the processor's matrix products it reaches; on one thread.

    python -m scrimp.measure.loops STUDY [ARM [STEPS]]      # at the scale mini; the study's data must be there

FLOPs are those that a run counts, so a loop that spends all its time in products of their best size reaches 100 %. The
steps are taken three times: to warm up, by the clock, and under torch's profiler, whose own time is in no share.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile

from scrimp.config import Workspace
from scrimp.measure.clock import Clock
from scrimp.methods.combined import Methods
from scrimp.tasks import load_task
from scrimp.tasks.base import Task
from scrimp.training.budget import Budget
from scrimp.training.loop import train

SIZES = (256, 512, 1024)  # of square products, of which the fastest is the peak
# What an op's name holds -> what it is; the first that fits.
KINDS = {
    "products": ("mm", "convolution", "scaled_dot_product", "linear"),
    "norms": ("norm",),
    "optimizer": ("_foreach_", "_fused_"),
    "gathering, copies": (
        "index",
        "copy_",
        "gather",
        "scatter",
        "embedding",
        "cat",
        "select",
        "contiguous",
        "clone",
        "to_copy",
    ),
}
REST = "other elementwise steps and sums"


def measure(
    workspace: Workspace, study: str, arm: str | None = None, steps: int = 100, scale: str = "mini"
) -> dict[str, float]:
    """GFLOP a CPU second of the loop and at the peak, the loop's share of it, and each kind's share of the ops' time.

    The arm, by default the study's first, is trained as the plain recipe: its methods are left out.
    """
    config = workspace.study(study)
    _, workload = config.resolve(scale, arm or config.arm_ids(scale)[0])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        task = load_task(config.task, workspace, workload, torch.device("cpu"))
        _train(task, steps)
        begin = time.process_time()
        flops = _train(task, steps)
        rate = flops / (time.process_time() - begin) / 1e9
        with profile(activities=[ProfilerActivity.CPU]) as watched:
            _train(task, steps)
        peak = max(_products(size) for size in SIZES)
    finally:
        torch.set_num_threads(threads)
    return {"GFLOP/s": rate, "peak, GFLOP/s": peak, "share of the peak": rate / peak} | shares(watched.key_averages())


def shares(events: list[FunctionEventAvg]) -> dict[str, float]:
    """The share of each kind of op in the time of all, by what they spent themselves."""
    spent = dict.fromkeys((*KINDS, REST), 0.0)
    for event in events:
        name = str(event.key)
        if name.startswith(("aten::", "scrimp::")):
            spent[kind_of(name)] += event.self_cpu_time_total
    whole = sum(spent.values()) or 1.0
    return {f"{kind}, of the ops' time": value / whole for kind, value in spent.items()}


def kind_of(op: str) -> str:
    """`aten::addmm` -> `products`."""
    name = op.partition("::")[2]
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), REST)


def _train(task: Task, steps: int) -> float:
    """FLOPs of so many steps from the beginning."""
    budget = Budget("steps", steps)
    clock = Clock(task.place.device)
    return train(task, task.model(0), Methods({}), task.workload.recipe, budget, 0, clock=clock).spent.flops


def _products(size: int) -> float:
    """GFLOP a CPU second of products of two square matrices, the best of ten."""
    one, other = torch.randn(2, size, size)

    def seconds() -> float:
        begin = time.process_time()
        for _ in range(max(1, 2048 // size)):
            one @ other
        return (time.process_time() - begin) / max(1, 2048 // size)

    return 2 * size**3 / min(seconds() for _ in range(10)) / 1e9


def main(arguments: list[str], say: Callable[[str], None] = print) -> None:
    """Print it for a study of the workspace in the current folder."""
    study, arm, steps = [*arguments, None, None][:3]
    for name, value in measure(Workspace(Path.cwd()), str(study), arm, int(steps or 100)).items():
        say(f"{name:<60} {value:>8.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
