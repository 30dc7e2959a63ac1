"""The sigmoid loss, and JEST's choice, in two processes against one that has all pairs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from scrimp import jest, sigmoid_loss

pytestmark = pytest.mark.slow
COUNT, WORLD = 6, 2


def model() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draws = torch.randn(2, WORLD * COUNT, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    image, text = F.normalize(draws, dim=2)
    return image, text, torch.tensor(7.0, dtype=torch.float64), torch.tensor(-3.0, dtype=torch.float64)


def work(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    try:
        image, text, scale, bias = model()
        mine = slice(rank * COUNT, (rank + 1) * COUNT)
        inputs = [value.clone().requires_grad_() for value in (image[mine], text[mine], scale, bias)]
        loss = sigmoid_loss(*inputs, block=4, process_group=dist.group.WORLD)  # type: ignore[misc]
        gradients = torch.autograd.grad(loss, inputs)
        # One choice over all candidates: gathered embeddings, one seed.
        parts = [torch.empty_like(image[mine]) for _ in range(2 * WORLD)]
        dist.all_gather(parts[:WORLD], image[mine].contiguous())
        dist.all_gather(parts[WORLD:], text[mine].contiguous())
        learner = (torch.cat(parts[:WORLD]), torch.cat(parts[WORLD:]), 7.0, -3.0)
        chosen = jest.select(learner, None, 4, 2, "hard-learner", generator=torch.Generator().manual_seed(5))
        torch.save([loss.detach(), *gradients, chosen], f"{folder}/{rank}.pt")
        told = ""
        try:
            fewer = [value[: COUNT - rank] for value in (image[mine], text[mine])]
            sigmoid_loss(*fewer, 7.0, -3.0, process_group=dist.group.WORLD)
        except ValueError as error:
            told = str(error)
        Path(folder, f"{rank}.txt").write_text(told)
        try:
            loss = sigmoid_loss(*inputs, block=4, process_group=dist.group.WORLD)  # type: ignore[misc]
            torch.autograd.grad(loss, inputs, create_graph=True)
        except RuntimeError as error:
            Path(folder, f"{rank}-twice.txt").write_text(str(error))
    finally:
        dist.destroy_process_group()


def test_two_processes_are_as_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (str(tmp_path),), nprocs=WORLD)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]
    inputs = [value.requires_grad_() for value in model()]
    loss = sigmoid_loss(*inputs)
    of_image, of_text, of_scale, of_bias = torch.autograd.grad(loss, inputs)
    torch.testing.assert_close(torch.stack([rank[0] for rank in ranks]).mean(), loss.detach())
    # Each process's gradient is of its own loss; their mean is that of the whole.
    torch.testing.assert_close(torch.cat([rank[1] for rank in ranks]) / WORLD, of_image)
    torch.testing.assert_close(torch.cat([rank[2] for rank in ranks]) / WORLD, of_text)
    torch.testing.assert_close(torch.stack([rank[3] for rank in ranks]).mean(), of_scale)
    torch.testing.assert_close(torch.stack([rank[4] for rank in ranks]).mean(), of_bias)
    image, text, scale, bias = (value.detach() for value in inputs)
    alone = jest.select(
        (image, text, scale, bias), None, 4, 2, "hard-learner", generator=torch.Generator().manual_seed(5)
    ).tolist()
    assert [rank[5].tolist() for rank in ranks] == [alone, alone]
    for rank in range(WORLD):
        assert (tmp_path / f"{rank}.txt").read_text().startswith("the processes have [6, 5] pairs")
        assert "cannot be differentiated twice" in (tmp_path / f"{rank}-twice.txt").read_text()
