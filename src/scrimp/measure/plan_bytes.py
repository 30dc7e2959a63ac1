"""What InfoBatch's plan takes in memory, an example and process, where the processes of a node share it. For Linux.

    python -m scrimp.measure.plan_bytes 10_000_000 1 2 4      # examples, then numbers of processes

Held is what the second epoch holds (three quarters of the examples planned), peak the most that was held at a time while
its plan was made beside the first's. Both are the processes' own memory and what /dev/shm holds, read 50 times a second,
so nothing else should use /dev/shm meanwhile.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
import tempfile
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import Dataset

from scrimp.methods.dropin_infobatch import InfoBatch
from scrimp.methods.infobatch import InfoBatchSelector

INTERVAL = 0.02  # seconds


class Nothing(Dataset[int]):
    """So many examples without any content."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        return index


def bytes_per_example(examples: int, processes: int) -> tuple[float, float]:
    """(held, peak) of each of so many processes, over the number of examples.

    Raises RuntimeError where other plans lie in /dev/shm.
    """
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(processes)]
    with tempfile.TemporaryDirectory() as folder:
        started = [
            context.Process(target=_train, args=(rank, processes, examples, folder, theirs))
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for process in started:
            process.start()
        mine = [pipe for pipe, _ in pipes]
        pids = [process.pid for process in started if process.pid is not None]
        _until_all(mine, pids)  # have imported what they need
        left = sum(path.stat().st_size for path in Path("/dev/shm").glob("scrimp-plan-*"))
        if left:
            raise RuntimeError(f"/dev/shm holds {left:,} bytes of other plans, which may go away meanwhile: remove them")
        before = _memory(pids)
        for pipe in mine:
            pipe.send("go")
        peak = _until_all(mine, pids) - before
        held = _memory(pids) - before
        for pipe, process in zip(mine, started, strict=True):
            pipe.send("end")
            process.join()
    share = examples * processes
    return held / share, max(held, peak) / share


def _until_all(pipes: list[Connection], pids: list[int]) -> int:
    """Wait for a word from everyone; the most memory seen meanwhile."""
    silent, most = list(pipes), 0
    while silent:
        for pipe in wait(silent, timeout=INTERVAL):
            assert isinstance(pipe, Connection)
            pipe.recv()
            silent.remove(pipe)
        most = max(most, _memory(pids))
    return most


def _memory(pids: list[int]) -> int:
    """Bytes of the processes' own memory, and of /dev/shm, where what they share lies."""
    shared = os.statvfs("/dev/shm")
    own = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    anonymous = sum(1024 * int(re.findall(r"Pss_Anon: +(\d+)", told)[0]) for told in own)
    return anonymous + (shared.f_blocks - shared.f_bfree) * shared.f_frsize


def _train(rank: int, world: int, examples: int, folder: str, pipe: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    data = InfoBatch(Nothing(8), epochs=3)  # loads what a first use loads
    next(iter(data.sampler))
    pipe.send("ready")
    pipe.recv()
    data = InfoBatch(Nothing(examples), epochs=10)
    assert isinstance(data.selector, InfoBatchSelector)
    torch.rand(examples, generator=torch.Generator().manual_seed(0), out=data.selector.scores)
    for _ in range(2):
        iteration = iter(data.sampler)
        index = [next(iteration) for _ in range(100)]
        data.update(torch.rand(100), index)
        if data.next_epoch == 0:
            del iteration  # the loop of the first is left
            data.finish_epoch()
    time.sleep(2 * INTERVAL)
    pipe.send("planned")
    pipe.recv()
    dist.destroy_process_group()


if __name__ == "__main__":
    count = int(sys.argv[1])
    for number in map(int, sys.argv[2:]):
        held, peak = bytes_per_example(count, number)
        print(f"{count:,} examples, {number} processes: {held:.1f} bytes held, {peak:.1f} at the peak", flush=True)
