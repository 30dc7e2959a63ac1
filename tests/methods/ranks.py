"""Work that is done by several processes of one gloo group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

Work = Callable[[Path, int, int], None]  # (folder, rank, world)


def together(work: Work, folder: Path, world: int = 2) -> None:
    """Run a function of a module's top level in `world` processes that find each other through a file in `folder`."""
    torch.multiprocessing.spawn(_begin, args=(world, folder, work), nprocs=world)


def _begin(rank: int, world: int, folder: Path, work: Work) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    try:
        work(folder, rank, world)
    finally:
        dist.destroy_process_group()
