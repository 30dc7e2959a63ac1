"""Sparse layers in two processes that train together: they must stay one network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ranks import together
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from scrimp import sparsify

SIZE, STEPS, WORLD = 16, 7, 2

pytestmark = pytest.mark.slow


def train_alone(path: Path, rank: int, world: int) -> None:
    """Train for some steps on a rank's part of each batch; write down how many weights each layer kept, step by step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 2)).double()
    sparse = sparsify(model, weights=0.3, activations=1.0, budget="momentum", refresh=3)
    wrapped = DistributedDataParallel(model) if world > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    draws = torch.Generator().manual_seed(1)
    counts = []
    for step in range(STEPS):
        x = torch.randn(SIZE, 6, generator=draws, dtype=torch.float64)
        # The first half and the second are of unlike kinds, so that ranks on their own would share out otherwise.
        labels = torch.where(torch.arange(SIZE) < SIZE // 2, x[:, 0] > 0, x[:, 1] * x[:, 2] > 0).long()
        part = slice(rank * SIZE // world, (rank + 1) * SIZE // world)
        optimizer.zero_grad()
        F.cross_entropy(wrapped(x[part]), labels[part]).backward()
        optimizer.step()
        if step == STEPS - 1 and rank == 0:  # a pass more than the other: both share out, one early
            model(x)
            model(x)
        sparse.after_step(model, 0.0)
        counts.append([state.count for state in sparse.states.values()])
    path.joinpath(f"{world}-{rank}.json").write_text(json.dumps(counts))


def test_ranks_share_weights_out_as_one_process_does(tmp_path: Path) -> None:
    together(train_alone, tmp_path, WORLD)
    train_alone(tmp_path, 0, 1)
    first, second, alone = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("2-0", "2-1", "1-0"))
    assert first == second
    assert first[:-1] == alone[:-1]
    assert first[0] != first[2] != first[5] != first[6]
