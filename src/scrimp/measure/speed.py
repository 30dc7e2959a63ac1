"""How fast Scrimp is beside its kernels, for `scrimp kernels bench`: InfoBatch's epochs, masks, icons, starting a process.

As there, the ways of doing one thing are timed in turn in one process, and compared by CPU seconds.
"""

from __future__ import annotations

import functools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scrimp.fork_server import ADDRESS, THREADS, serving
from scrimp.kernels import topk_mask
from scrimp.kernels.bench import IMAGENET, Row, Ways, compared, official_pruning
from scrimp.methods.dropin_infobatch import InfoBatch

BATCH = 256
PARTS = ("plan", "iteration", "update")
Epoch = Callable[[], dict[str, tuple[float, float]]]  # wall and CPU seconds by part


def speed(on_row: Callable[[Row], None], quick: bool = False) -> list[Row]:
    """All measurements; `quick` takes small sizes, to see that everything runs."""
    rows: list[Row] = []
    measures: list[Callable[[], list[Row]]] = [
        *(functools.partial(masks, count) for count in ((1000,) if quick else (100_000, 10_000_000))),
        functools.partial(epochs, 5000 if quick else IMAGENET, 1 if quick else 5),
        functools.partial(icons, 20 if quick else 2000),
        functools.partial(starts, *((1, 4) if quick else (7, 20))),
    ]
    for measure in measures:
        for row in measure():
            rows.append(row)
            on_row(row)
    return rows


# ------------------------------------------------------------------------------------------------------------------ masks
def masks(count: int) -> list[Row]:
    """Seconds and memory of the mask of the tenth of some numbers that is largest in magnitude."""
    return compared(f"largest tenth, N = {count:,}", functools.partial(_mask_ways, count), 7)


def _mask_ways(count: int) -> Ways:
    values = torch.randn(count, generator=torch.Generator().manual_seed(0))
    kept = count // 10

    def by_hand() -> np.ndarray:
        mask = np.zeros(count, dtype=bool)
        mask[np.argpartition(np.abs(values.numpy()), count - kept)[count - kept :]] = True
        return mask

    return {"by hand, numpy's partition": by_hand, "ours": lambda: topk_mask(values, kept)}


# -------------------------------------------------------------------------------------------------------------- InfoBatch
class Official:
    """InfoBatch's official code, as far as it costs time: a list that is stepped through, scores and weights in numpy."""

    def __init__(self, count: int) -> None:
        self.scores, self.weights = np.full(count, 3.0), np.ones(count)
        self.generator = np.random.default_rng(0)

    def plan(self) -> Iterator[int]:
        order, self.weights = official_pruning(self.scores, 0.5, self.generator)
        return _Stepped(order)

    def update(self, losses: Tensor, index: Tensor) -> Tensor:
        at = index.numpy()
        self.scores[at] = losses.numpy()
        return (losses * torch.from_numpy(self.weights[at]).float()).mean()


class _Stepped(Iterator[int]):
    """As the official sampler, whose every step is a call."""

    def __init__(self, order: list[int]) -> None:
        self.inner = iter(order)

    def __next__(self) -> int:
        return next(self.inner)


def epochs(count: int, repeats: int) -> list[Row]:
    """Wall and CPU seconds of what InfoBatch adds to an epoch, in parts and summed: no example is read, no loss computed."""
    losses = torch.rand(count, generator=torch.Generator().manual_seed(0)).square()
    official = Official(count)
    ours = InfoBatch(torch.utils.data.TensorDataset(losses), epochs=1000)
    ways: dict[str, Epoch] = {
        "official algorithm": lambda: _epoch(official.plan, official.update, losses),
        "ours": lambda: _epoch(lambda: iter(ours.sampler), ours.update, losses),
    }
    found: dict[str, list[dict[str, tuple[float, float]]]] = {name: [] for name in ways}
    for turn in range(repeats + 2):
        for name, run in ways.items():
            parts = run()
            if turn > 1:  # the first epoch is whole, the second the first that is pruned
                found[name].append({**parts, "summed": tuple(map(sum, zip(*parts.values(), strict=True)))})  # type: ignore[dict-item]
    rows = []
    for part in (*PARTS, "summed"):
        first = statistics.median(one[part][1] for one in found["official algorithm"])
        for name, runs in found.items():
            wall, cpu = zip(*(one[part] for one in runs), strict=True)
            row = _row(f"InfoBatch, N = {count:,}: {part}", name, list(wall), statistics.median(cpu))
            rows.append({**row, "times_as_fast": first / max(1e-9, row["cpu_seconds"])})
    return rows


def _epoch(
    plan: Callable[[], Iterator[int]], update: Callable[[Tensor, Tensor], Tensor], losses: Tensor
) -> dict[str, tuple[float, float]]:
    clocks = [_clocks()]
    indices = plan()
    clocks.append(_clocks())
    order = list(indices)
    clocks.append(_clocks())
    batches = torch.tensor(order).split(BATCH)
    found = [losses[batch] for batch in batches]
    begin = _clocks()
    for values, batch in zip(found, batches, strict=True):
        update(values, batch)
    end = _clocks()
    spans = [(clocks[0], clocks[1]), (clocks[1], clocks[2]), (begin, end)]
    return {part: (after[0] - before[0], after[1] - before[1]) for part, (before, after) in zip(PARTS, spans, strict=True)}


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


# ------------------------------------------------------------------------------------------------------------------ icons
def icons(count: int) -> list[Row]:
    """Seconds and memory of drawing made-up icons, against resvg alone; a word where resvg-py is not installed."""
    what = f"icons, {count:,} made up"
    if find_spec("resvg_py") is None:
        return [{"device": "cpu", "what": what, "way": "ours", "error": "resvg-py is not installed"}]
    rows = compared(what, functools.partial(_icon_ways, count), 3)
    return [{**row, "per_second": count / row["cpu_seconds"]} for row in rows]


def _icon_ways(count: int) -> Ways:
    import resvg_py

    from scrimp.data.icons import SIZE, render

    generator = np.random.default_rng(0)
    drawings = [_drawing(generator) for _ in range(count)]

    def plain() -> list[bytes]:
        return [bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE)) for svg in drawings]

    return {"plain resvg": plain, "ours": lambda: [render(svg) for svg in drawings]}


def _drawing(generator: np.random.Generator) -> str:
    """A few strokes and a disc in a box of 24, which is what an icon of one colour mostly is."""
    points = generator.uniform(2, 22, (6, 4)).round(1)
    strokes = "".join(f"M{x} {y}L{to_x} {to_y}" for x, y, to_x, to_y in points[:5])
    disc = f'<circle cx="{points[5, 0]}" cy="{points[5, 1]}" r="3" fill="currentColor"/>'
    path = f'<path d="{strokes}" fill="none" stroke="currentColor" stroke-width="2"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" color="#222">{path}{disc}</svg>'


# ----------------------------------------------------------------------------------------------------------- starting
def starts(repeats: int, forks: int) -> list[Row]:
    """Wall and CPU seconds until a training process begins its work, by itself and as a fork of a workflow's server.

    The command imports what a run does and is then told that its folder is no workspace. A server's own start is left out:
    it is made once a workflow.
    """
    what = "a training process until its work"
    with tempfile.TemporaryDirectory() as folder:
        alone = [_children(lambda: _start(folder)) for _ in range(repeats)]
        try:
            server, both = (_children(functools.partial(_with_server, folder, count)) for count in (0, forks))
        except RuntimeError as error:
            return [{"device": "cpu", "what": what, "way": "forked", "error": str(error)}]
    first = statistics.median(cpu for _, cpu in alone)
    wall, cpu = (max(1e-3, (some - none) / forks) for some, none in zip(both, server, strict=True))
    return [
        {**_row(what, "by itself", [wall for wall, _ in alone], first), "times_as_fast": 1.0},
        {**_row(what, "forked", [wall], cpu), "times_as_fast": first / cpu},
    ]


def _with_server(folder: str, forks: int) -> None:
    """Start a server, and so many commands one after the other when it has its imports; RuntimeError where there is none."""
    before = os.environ.get(ADDRESS)
    try:
        with serving(1):
            address, until = os.environ.get(ADDRESS, ""), time.monotonic() + 120
            while not os.path.exists(address):
                if not address or time.monotonic() > until:
                    raise RuntimeError("no server can be had on this system")
                time.sleep(0.05)
            for _ in range(forks):
                _start(folder, address)
    finally:
        os.environ.pop(ADDRESS, None)
        if before is not None:
            os.environ[ADDRESS] = before


def _start(folder: str, address: str = "") -> None:
    environment = {**os.environ, **dict.fromkeys(THREADS, "1"), ADDRESS: address}
    command = [sys.executable, "-m", "scrimp", "run", "none", "none"]
    subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True)


def _children(work: Callable[[], None]) -> tuple[float, float]:
    """Wall seconds of some work, and the CPU seconds of the processes that it started and waited for."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begin, cpu


def _row(what: str, way: str, seconds: list[float], cpu: float) -> dict[str, Any]:
    wall = {"seconds": statistics.median(seconds), "fastest": min(seconds), "slowest": max(seconds)}
    return {"device": "cpu", "what": what, "way": way, **wall, "cpu_seconds": cpu}
