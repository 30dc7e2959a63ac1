"""Accelerate with a SelectedData, in two processes, killed inside an epoch and resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from integration_worlds import BATCH, EPOCHS, STOP, Watched, check_resumed, check_whole, linear, together
from torch.nn import functional as F

pytest.importorskip("accelerate")
pytestmark = pytest.mark.slow


def train(folder: Path, rank: int, killed: bool = False, checkpoint: str | None = None) -> None:
    from accelerate import Accelerator

    from scrimp.integrations.accelerate import prepare_loader

    accelerator, model, data = Accelerator(cpu=True), linear(), Watched()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, optimizer = accelerator.prepare(model, optimizer)
    loader = prepare_loader(accelerator, data, BATCH)
    if checkpoint:
        accelerator.load_state(checkpoint)
    while data.next_epoch < EPOCHS and not (killed and len(data.seen) == STOP):
        for (x, labels), index in loader:
            loss = data.update(F.cross_entropy(model(x), labels, reduction="none"), index)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            if killed and len(data.seen) == STOP:
                accelerator.save_state(str(folder / "state"))
                break
    data.record(folder / f"{rank}.json", weights=[value.tolist() for value in model.parameters()], fraction=data.fraction)
    accelerator.end_training()


def test_two_processes_and_resuming_inside_an_epoch(tmp_path: Path) -> None:
    for name in ("whole", "killed", "resumed"):
        (tmp_path / name).mkdir()
    whole = together(train, tmp_path / "whole")
    check_whole(whole)
    assert whole[0]["fraction"] == 1.0
    first = together(train, tmp_path / "killed", True)
    rest = together(train, tmp_path / "resumed", False, str(tmp_path / "killed" / "state"))
    check_resumed(whole, first, rest)


def train_on_the_wrong_sampler(folder: Path, rank: int) -> None:
    from accelerate import Accelerator
    from torch.utils.data import DataLoader

    data = Watched()
    loader = Accelerator(cpu=True).prepare(DataLoader(data, batch_size=BATCH, sampler=data.sampler))
    told = ""
    try:
        for _, index in loader:
            data.update(torch.ones(len(index)), index)
    except RuntimeError as error:
        told = str(error)
    data.record(folder / f"{rank}.json", told=told)


def test_a_sampler_that_is_split_twice_is_told_by_the_second_update(tmp_path: Path) -> None:
    for rank in together(train_on_the_wrong_sampler, tmp_path):
        assert "another component splits data.sampler's examples" in rank["told"]
        assert len(rank["seen"]) == 1
