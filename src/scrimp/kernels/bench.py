"""How fast the ops are on this machine, against what a user would write instead.

On a CPU: a whole selection of JEST against Algorithm 1 as printed, written in torch; an epoch's pruning against the
algorithm of InfoBatch's official code, written in numpy and lists; two losses with their gradients against all logits at
once. The ways of doing one thing are timed in turn, in one
process, so that a busy machine slows all of them alike, and compared by CPU seconds; each way's peak memory is measured
in a process of its own.
On a GPU: device events, several sets of inputs in turn, medians; against chunked torch, compiled torch, and the framework's
bare matrix product of the same shape, whose speed is the ceiling.
"""

from __future__ import annotations

import functools
import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scrimp.kernels import cuda, pairwise_learnability_update, prune_and_rescale, rowwise_cross_entropy
from scrimp.kernels.check import forcing
from scrimp.kernels.dispatch import Implementation, has_fast_bf16
from scrimp.kernels.learnability import blocked, softplus
from scrimp.kernels.sigmoid import sigmoid_loss_of
from scrimp.measure.hardware import peak_memory

Row = dict[str, Any]
Select = Callable[..., Tensor]
Ways = dict[str, Callable[[], Any]]  # of doing one thing; the first is what the others are held against
CPU_SHAPE = (8192, 2048, 128, 16)  # super-batch, sub-batch, width, chunks
GPU_SHAPES = [(65_536, 32_768), (163_840, 32_768), (327_680, 32_768)]
IMAGENET = 1_281_167


def bench(select: Select, on_row: Callable[[Row], None], quick: bool = False) -> list[Row]:
    """All measurements that this machine can make; `quick` takes small sizes, to see that everything runs.

    `select` is `scrimp.jest.select`, which lies above this package: a whole selection is timed, draws included.
    """
    rows: list[Row] = []

    def note(row: Row) -> None:
        rows.append(row)
        on_row(row)

    shape = (512, 128, 32, 16) if quick else CPU_SHAPE
    for row in cpu_selection(select, shape):
        note(row)
    for row in cpu_pruning(20_000 if quick else IMAGENET):
        note(row)
    for count in (16,) if quick else (128, 512, 2048):
        for row in cpu_sigmoid(count):
            note(row)
    for sizes in ((8, 64),) if quick else ((64, 4096), (256, 4096), (1024, 16_384)):
        for row in cpu_cross_entropy(*sizes):
            note(row)
    for index in range(torch.cuda.device_count()):
        for row in gpu_selection(torch.device("cuda", index), [(4096, 2048)] if quick else GPU_SHAPES):
            note(row)
    return rows


# ------------------------------------------------------------------------------------------------------ a whole selection
def embeddings(count: int, width: int, dtype: torch.dtype, device: torch.device, seed: int) -> list[Tensor]:
    """Two models' unit embeddings as the op takes them, [4, B, d], with scale, bias and sign."""
    generator = torch.Generator(device).manual_seed(seed)
    rows = torch.empty(4, count, width, dtype=dtype, device=device)
    for layer in rows:
        layer.copy_(F.normalize(torch.randn(count, width, generator=generator, device=device), dim=1))
    scalars = ([12.0, 12.0, 20.0, 20.0], [-9.0, -9.0, -10.0, -10.0], [1.0, 1.0, -1.0, -1.0])
    return [rows, *(torch.tensor(values, device=device) for values in scalars)]


def selected(
    inputs: list[Tensor], size: int, chunks: int, update: Callable[..., Tensor], generator: torch.Generator
) -> Tensor:
    """The update's part of a selection: chunks at random in place of draws, each compacted away, the last one's left out."""
    rows, *scalars = inputs
    part = size // chunks
    order = torch.randperm(rows.shape[1], generator=generator).to(rows.device)
    sums = torch.zeros(len(order), device=rows.device)
    for number in range(chunks - 1):
        chunk = rows[:, order[number * part : (number + 1) * part]]
        left = order[(number + 1) * part :]
        sums[left] += update(rows[:, left], chunk, *scalars)
    return sums


def published(inputs: list[Tensor], size: int, chunks: int, generator: torch.Generator) -> Tensor:
    """Algorithm 1 of the JEST paper as printed: two matrices B x B, and masked sums over all of it for every chunk."""
    rows, scale, bias, _ = inputs
    signs = 2 * torch.eye(rows.shape[1]) - 1
    losses = [F.softplus(-signs * (scale[2 * m] * rows[2 * m] @ rows[2 * m + 1].T + bias[2 * m])) for m in range(2)]
    scores = losses[0] - losses[1]
    own = scores.diagonal()
    chosen = torch.multinomial(own.softmax(dim=0), size // chunks, generator=generator)
    for _ in range(chunks - 1):
        marks = torch.zeros(len(own)).index_fill_(0, chosen, 1.0)
        by_column = (scores * marks[:, None]).sum(dim=0)
        by_row = (scores * marks[None, :]).sum(dim=1)
        logits = own + by_column + by_row - marks * 1e8
        chosen = torch.cat([chosen, torch.multinomial(logits.softmax(dim=0) + 1e-30, size // chunks, generator=generator)])
    return chosen


def cpu_selection(select: Select, shape: tuple[int, int, int, int]) -> list[Row]:
    """Seconds and memory of one selection on the CPU, by the published pseudo-code and by ours."""
    count, size, width, chunks = shape
    what = f"selection, B = {count:,}, b = {size:,}, d = {width}, {chunks} chunks"
    return compared(what, functools.partial(_selection_ways, select, shape), repeats=5)


def _selection_ways(select: Select, shape: tuple[int, int, int, int]) -> Ways:
    count, size, width, chunks = shape
    generator = torch.Generator().manual_seed(0)
    inputs = embeddings(count, width, torch.float32, torch.device("cpu"), 0)
    ways: Ways = {
        "published pseudo-code, float32": functools.partial(published, inputs, size, chunks, generator),
        "the products alone, float32": functools.partial(selected, inputs, size, chunks, _bare_products, generator),
        "ours, float32": _our_selection(select, inputs, size, chunks, generator),
    }
    if has_fast_bf16(torch.device("cpu")):
        halved = [inputs[0].bfloat16(), *inputs[1:]]
        ways["ours, bfloat16"] = _our_selection(select, halved, size, chunks, generator)
    return ways


def _our_selection(
    select: Select, inputs: list[Tensor], size: int, chunks: int, generator: torch.Generator
) -> Callable[[], Tensor]:
    rows, scale, bias, _ = inputs
    models = [(rows[2 * m], rows[2 * m + 1], float(scale[2 * m]), float(bias[2 * m])) for m in range(2)]
    return functools.partial(select, models[0], models[1], size, chunks, generator=generator)


# ---------------------------------------------------------------------------------------------------------------- pruning
def official_pruning(scores: np.ndarray, ratio: float, generator: np.random.Generator) -> tuple[list[int], np.ndarray]:
    """An epoch's choice by the algorithm of InfoBatch's official code: lists, a choice without replacement, a shuffle."""
    below = scores < scores.mean()
    remained = np.where(~below)[0].tolist()
    candidates = np.where(below)[0]
    weights = np.ones(len(scores))
    kept = generator.choice(candidates, int((1 - ratio) * len(candidates)), replace=False)
    weights[kept] = 1 / (1 - ratio)
    remained.extend(kept.tolist())
    generator.shuffle(remained)
    return remained, weights


def cpu_pruning(count: int) -> list[Row]:
    """Seconds and memory of one epoch's pruning on the CPU."""
    return compared(f"pruning, N = {count:,}", functools.partial(_pruning_ways, count), repeats=7)


def _pruning_ways(count: int) -> Ways:
    scores = torch.rand(count, generator=torch.Generator().manual_seed(0)).square()
    generator = np.random.default_rng(0)
    return {
        "official algorithm": functools.partial(official_pruning, scores.numpy(), 0.5, generator),
        "ours": functools.partial(prune_and_rescale, scores, 0.5, 1),
    }


# ----------------------------------------------------------------------------------------------------------------- losses
def cpu_sigmoid(count: int, width: int = 128) -> list[Row]:
    """Seconds and memory of a sigmoid loss and its gradients on the CPU."""
    return compared(
        f"sigmoid loss and gradients, B = {count:,}, d = {width}", functools.partial(_sigmoid_ways, count, width), 15
    )


def _sigmoid_ways(count: int, width: int) -> Ways:
    rows, *_ = embeddings(count, width, torch.float32, torch.device("cpu"), 0)
    inputs = [value.clone().requires_grad_() for value in (rows[0], rows[1], torch.tensor(10.0), torch.tensor(-10.0))]
    image, text, scale, bias = inputs

    def by_hand() -> Tensor:
        signs = 2 * torch.eye(count) - 1
        return -F.logsigmoid(signs * (scale * image @ text.T + bias)).sum() / count

    return {
        "by hand, all logits": lambda: _often(lambda: torch.autograd.grad(by_hand(), inputs), count),
        "ours": lambda: _often(lambda: torch.autograd.grad(sigmoid_loss_of(image, text, scale, bias), inputs), count),
    }


def cpu_cross_entropy(count: int, vocabulary: int, width: int = 128) -> list[Row]:
    """Seconds and memory of the rows' cross-entropy and its gradients on the CPU."""
    what = f"cross-entropy and gradients, n = {count:,}, V = {vocabulary:,}, d = {width}"
    return compared(what, functools.partial(_cross_entropy_ways, count, vocabulary, width), 5)


def _cross_entropy_ways(count: int, vocabulary: int, width: int) -> Ways:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, width, generator=generator).requires_grad_() for n in (count, vocabulary))
    labels = torch.randint(vocabulary, (count,), generator=generator)

    def run(loss: Callable[[], Tensor]) -> None:
        _often(lambda: torch.autograd.grad(loss().sum(), (hidden, weight)), count)

    return {
        "by hand, all logits": lambda: run(lambda: F.cross_entropy(hidden @ weight.T, labels, reduction="none")),
        "ours": lambda: run(lambda: rowwise_cross_entropy(hidden, weight, labels)),
    }


def _often(work: Callable[[], Any], count: int) -> None:
    """Small work several times, so that a clock can tell."""
    for _ in range(max(1, 2048 // count)):
        work()


# -------------------------------------------------------------------------------------------------------------------- GPU
def gpu_selection(device: torch.device, shapes: list[tuple[int, int]]) -> list[Row]:
    """A whole selection of 16 chunks for two models, by each implementation, and the bare products of the same shape."""
    rows = []
    kernels: list[Implementation] = ["cuda"] if cuda.why_unavailable(device) is None else []
    compiled = torch.compile(blocked_eagerly, dynamic=True)
    for count, size in shapes:
        for width in (256, 512, 768):
            sets = [embeddings(count, width, torch.bfloat16, device, seed) for seed in range(2)]
            ways: dict[str, Callable[..., Tensor]] = {
                "bare products": _bare_products,
                "chunked torch": blocked,
                "compiled torch": compiled,
            }
            if find_spec("triton") is not None:
                from scrimp.kernels import bench_triton

                ways["Triton"] = bench_triton.update
            for implementation in kernels:
                ways[implementation] = functools.partial(_forced, implementation)
            flops = 2 * 2.0 * width * 2 * sum(size // 16 * (count - size // 16 * number) for number in range(1, 16))
            what = f"selection, B = {count:,}, b = {size:,}, d = {width}, 16 chunks"
            group: list[Row] = []
            for name, update in ways.items():
                try:
                    seconds, memory = _timed_on_gpu(sets, size, update, device)
                except Exception as error:  # a compiler that is missing, memory that does not suffice: said, not hidden
                    group.append(
                        {"device": _name(device), "what": what, "way": name, "error": str(error).splitlines()[0][:200]}
                    )
                    continue
                row = _row(_name(device), what, name, seconds, memory)
                group.append({**row, "tflops": flops / row["seconds"] / 1e12})
            ceiling = next((row.get("tflops") for row in group if row["way"] == "bare products"), None)
            for row in group:
                if ceiling and "tflops" in row:
                    row["share_of_products"] = row["tflops"] / ceiling
            rows += group
            del sets
            torch.cuda.empty_cache()
    return rows


def blocked_eagerly(candidates: Tensor, chunk: Tensor, scale: Tensor, bias: Tensor, sign: Tensor) -> Tensor:
    """What a compiler gets to fuse: products, softplus and sums, 4,096 candidates at a time."""
    sums = []
    for part in candidates.split(4096, dim=1):
        logits = torch.bmm(part, chunk.unflatten(0, (-1, 2)).flip(1).flatten(0, 1).transpose(1, 2)).float()
        losses = softplus(logits * scale[:, None, None] + bias[:, None, None]).sum(dim=2)
        sums.append((losses * sign[:, None]).sum(dim=0))
    return torch.cat(sums)


def _bare_products(candidates: Tensor, chunk: Tensor, *_: Tensor) -> Tensor:
    """The products alone, 8,192 candidates at a time, so that they fit any card."""
    for part in candidates.split(8192, dim=1):
        last = torch.bmm(part, chunk.transpose(1, 2))
    return last[0, 0, 0].float().expand(candidates.shape[1])


def _forced(implementation: Implementation, *inputs: Any) -> Tensor:
    with forcing(implementation):
        sums: Tensor = pairwise_learnability_update(*inputs)
    return sums


def _timed_on_gpu(
    sets: list[list[Tensor]], size: int, update: Callable[..., Tensor], device: torch.device
) -> tuple[list[float], int]:
    generator = torch.Generator().manual_seed(0)
    selected(sets[0], size, 16, update, generator)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    seconds = []
    for turn in range(6):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        selected(sets[turn % len(sets)], size, 16, update, generator)
        end.record()
        torch.cuda.synchronize(device)
        seconds.append(begin.elapsed_time(end) / 1e3)
    return seconds, torch.cuda.max_memory_allocated(device) - before


# ---------------------------------------------------------------------------------------------------------------- timing
def compared(what: str, make: Callable[[], Ways], repeats: int) -> list[Row]:
    """A row for each way that `make` makes: wall and CPU seconds of a run (medians), and memory."""
    ways = make()
    wall, cpu = _in_turn(ways, repeats)
    rows = []
    for name in ways:
        row = _row("cpu", what, name, wall[name], _apart(_memory, make, name))
        rows.append({**row, "cpu_seconds": statistics.median(cpu[name])})
    first = rows[0]
    for row in rows:
        row["times_as_fast"] = first["cpu_seconds"] / row["cpu_seconds"]
        row["memory_share"] = row["memory"] / max(1, first["memory"])
    return rows


def _in_turn(ways: Ways, repeats: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Wall and CPU seconds of every run of each way; a turn runs every way once, the first turn warms up."""
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, run in ways.items():
            begin, begin_cpu = time.perf_counter(), time.process_time()
            run()
            if turn > 0:
                wall[name].append(time.perf_counter() - begin)
                cpu[name].append(time.process_time() - begin_cpu)
    return wall, cpu


def _memory(make: Callable[[], Ways], name: str) -> int:
    """By how many bytes the process grows while it runs one way twice; its inputs were there before."""
    run = make()[name]
    gc.collect()
    before = peak_memory(torch.device("cpu"))
    for _ in range(2):
        run()
    return peak_memory(torch.device("cpu")) - before


def _apart(function: Callable[..., int], *arguments: Any) -> int:
    """In a fresh process: the largest resident set of this one may be older than what is measured."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _row(device: str, what: str, way: str, seconds: list[float], memory: int) -> Row:
    return {
        "device": device,
        "what": what,
        "way": way,
        "seconds": statistics.median(seconds),
        "fastest": min(seconds),
        "slowest": max(seconds),
        "memory": memory,
    }


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device)
