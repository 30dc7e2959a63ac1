"""What the tests of the adapters share: data that tells what was trained on, and two processes."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from scrimp import SelectedData
from scrimp.methods.epsilon_greedy import EpsilonGreedy

SIZE, EPOCHS, BATCH, WORLD = 36, 3, 3, 2
LENGTHS = [36, 24, 24]  # of the epochs: all, then two thirds, mostly those of the highest loss
STOP = 8  # updates after which a run is killed: after the six of epoch 0 and two of the four of epoch 1


class Points(Dataset[Any]):
    """Two classes in the plane, as dicts for Hugging Face's sake. Every fifth point has the other's label."""

    def __init__(self, keys: bool) -> None:
        draws = torch.Generator().manual_seed(0)
        self.labels = torch.arange(SIZE) % 2
        self.x = torch.randn(SIZE, 2, generator=draws) + 3 * self.labels[:, None]
        self.labels = torch.where(torch.arange(SIZE) % 5 == 0, 1 - self.labels, self.labels)
        self.keys = keys

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> Any:
        x, label = self.x[index], self.labels[index]
        return {"x": x, "labels": label} if self.keys else (x, label)


class Watched(SelectedData[Any]):
    """Writes down which examples every update had, and what was planned."""

    def __init__(self, keys: bool = False) -> None:
        super().__init__(Points(keys), EpsilonGreedy(SIZE, 0, ratio=1 / 3, epsilon=0.25, period=1), epochs=EPOCHS)
        self.seen: list[tuple[int, list[int]]] = []
        self.plans: dict[int, list[int]] = {}

    def update(self, losses: Tensor, index: Tensor) -> Tensor:  # type: ignore[override]
        loss = super().update(losses, index)
        state = self.state_dict()
        self.seen.append((state["epoch"], index.tolist()))
        self.plans[state["epoch"]] = sorted(state["order"].tolist())
        return loss

    def record(self, path: Path, **more: Any) -> None:
        path.write_text(json.dumps({"seen": self.seen, "plans": list(self.plans.items()), **more}))


def linear() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(2, 2)


def together(work: Callable[..., None], folder: Path, *args: Any) -> list[dict[str, Any]]:
    """Run `work(folder, rank, *args)` in two processes that find each other, and read what each wrote down."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_begin, (work, folder, port, args), nprocs=WORLD)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORLD)]


def _begin(rank: int, work: Callable[..., None], folder: Path, port: int, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD), "NODE_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}
    os.chdir(folder)
    try:
        work(folder, rank, *args)
    finally:
        if torch.distributed.is_initialized():  # gloo's threads outlive an interpreter that ends without this, and abort it
            torch.distributed.destroy_process_group()


def check_whole(ranks: list[dict[str, Any]]) -> None:
    """Every epoch's plan was trained on, each example once, by one of the processes."""
    plans = dict(ranks[0]["plans"])
    assert ranks[0]["plans"] == ranks[1]["plans"]
    assert [len(plans[epoch]) for epoch in range(EPOCHS)] == LENGTHS
    for epoch, plan in plans.items():
        seen = [at for rank in ranks for number, batch in rank["seen"] if number == epoch for at in batch]
        assert sorted(seen) == plan


def check_resumed(whole: list[dict[str, Any]], first: list[dict[str, Any]], rest: list[dict[str, Any]]) -> None:
    """A run that was killed inside an epoch, and went on in other processes, trained on the same and ended alike."""
    for alone, before, after in zip(whole, first, rest, strict=True):
        assert before["seen"] == alone["seen"][:STOP]
        assert after["seen"] == alone["seen"][STOP:]
        assert after["weights"] == alone["weights"]
