"""Two gloo processes that train together and share their plans: with forked workers, resuming, killed, without room."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from scrimp import InfoBatch
from scrimp.methods import plan_memory, shared_plan
from scrimp.methods.base import Selection, derived_generator
from scrimp.methods.infobatch import InfoBatchSelector
from scrimp.methods.plan import Plan, chosen

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="plans are shared on Linux")]

SIZE, EPOCHS, BATCH = 401, 5, 20

Record = dict[str, Any]


# ------------------------------------------------------------------------------------------------------ in each process
def data_of() -> InfoBatch[Any]:
    return InfoBatch(TensorDataset(torch.arange(float(SIZE))), epochs=EPOCHS, delta=0.8)


def scores_of(data: InfoBatch[Any]) -> Tensor:
    assert isinstance(data.selector, InfoBatchSelector)
    return data.selector.scores.clone()


def losses_at(epoch: int) -> Tensor:
    return torch.rand(SIZE, generator=torch.Generator().manual_seed(100 + epoch))


def train(data: InfoBatch[Any], epoch: int, record: Record, files: Path, steps: int = 1000, workers: int = 0) -> None:
    """Train for an epoch, or some steps of it, and write down by what plan, from which scores, with which files."""
    found: dict[str, Any] = {"scores": scores_of(data)}
    loader = DataLoader(data, batch_size=BATCH, sampler=data.sampler, num_workers=workers)
    found["told"], found["steps"] = len(loader), 0
    for _, index in loader:
        data.update(losses_at(epoch)[index], index)
        found["steps"] += 1
        if found["steps"] == 2:
            planned = data._epoch
            assert planned is not None
            found["plan"] = tuple(part.clone() for part in (planned.order, planned.weight_of, planned.left, planned.place))
            found["files"] = len(list(files.iterdir()))
        if found["steps"] == steps:
            break
    record.setdefault("epochs", []).append(found)


def whole(data: InfoBatch[Any], record: Record, files: Path) -> None:
    for epoch in range(EPOCHS):
        train(data, epoch, record, files, workers=int(epoch == 1))  # forked while the file of epoch 0 is held
    record["end"] = scores_of(data)


def resumed(data: InfoBatch[Any], record: Record, files: Path) -> None:
    train(data, 0, record, files)
    train(data, 1, record, files, steps=3)
    again = data_of()
    again.load_state_dict(data.state_dict())
    for epoch in range(1, EPOCHS):
        train(again, epoch, record, files)
    record["end"] = scores_of(again)


def killed(data: InfoBatch[Any], record: Record, files: Path) -> None:
    """Two steps, and then both end as a machine's lack of memory would end them."""
    train(data, 0, record, files, steps=2)
    dist.barrier()
    os.kill(os.getpid(), signal.SIGKILL)


def killed_while_making(data: InfoBatch[Any], record: Record, files: Path) -> None:
    """The first ends with its file half filled; the second has been waiting for it."""
    if dist.get_rank() == 0:
        empty = plan_memory.PlanFile.empty

        def ends(self: plan_memory.PlanFile, *counts: int) -> Plan:
            empty(self, *counts).order.zero_()
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        plan_memory.PlanFile.empty = ends  # type: ignore[method-assign]
    else:
        until = time.monotonic() + 60
        while not list(files.iterdir()):
            assert time.monotonic() < until
            time.sleep(0.001)
    iterator = iter(data.sampler)
    next(iterator)
    planned = data._epoch
    assert planned is not None
    record["plan"] = planned.order, planned.weight_of, planned.left, planned.place
    record["files"] = [path.stat().st_size for path in files.iterdir()]


def without_room(data: InfoBatch[Any], record: Record, files: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    plan_memory.os.posix_fallocate = full
    whole(data, record, files)


def work(rank: int, path: str, job: Callable[[InfoBatch[Any], Record, Path], None]) -> None:
    files, selections = Path(path, "plans"), []
    shared_plan.SMALLEST, shared_plan.folders = 0, lambda: [files]
    select = InfoBatchSelector.select

    def counted(self: InfoBatchSelector, epoch: int, fraction: float) -> Selection:
        selections.append(epoch)
        return select(self, epoch, fraction)

    InfoBatchSelector.select = counted  # type: ignore[method-assign]
    meeting = Path(path, f"meeting-{job.__name__}")
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    try:
        dist.barrier()  # both are connected, whatever becomes of one
        record: Record = {}
        job(data_of(), record, files)
        torch.save(record | {"selections": selections}, Path(path, f"{job.__name__}-{rank}.pt"))
    finally:
        dist.destroy_process_group()


# ---------------------------------------------------------------------------------------------------------- from outside
def ran(path: Path, job: Callable[[InfoBatch[Any], Record, Path], None]) -> tuple[list[Record], list[int | None]]:
    """What the two processes wrote down, where they came to that, and how they ended."""
    (path / "plans").mkdir(exist_ok=True)
    context = torch.multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(rank, str(path), job)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
        assert process.exitcode is not None
    kept = [path / f"{job.__name__}-{rank}.pt" for rank in range(2)]
    return [torch.load(file) for file in kept if file.exists()], [process.exitcode for process in processes]


def alone(scores: Tensor, epoch: int) -> Plan:
    selector = InfoBatchSelector(SIZE, 0, delta=0.8)
    selector.scores.copy_(scores)
    return chosen(SIZE, lambda: selector.select(epoch, epoch / EPOCHS), derived_generator(0, epoch, "order"))


def assert_same(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> None:
    assert all(torch.equal(mine, its) for mine, its in zip(one, other, strict=True))


def assert_trained(records: list[Record], files: int) -> None:
    """Both by the plans that one process alone would have made of the same losses."""
    for epoch, both in enumerate(zip(*(record["epochs"] for record in records), strict=True)):
        for found in both:
            assert_same(found["plan"], alone(found["scores"], epoch))
            assert found["told"] == found["steps"]
            assert found["files"] == files
        assert torch.equal(*(found["scores"].nan_to_num(-1) for found in both))
    assert torch.equal(records[0]["end"].nan_to_num(-1), records[1]["end"].nan_to_num(-1))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], Path]:
    path = tmp_path_factory.mktemp("trained")
    records, ends = ran(path, whole)
    assert ends == [0, 0]
    return records, path


def test_every_plan_is_made_once_and_is_the_one_of_a_single_process(trained: tuple[list[Record], Path]) -> None:
    records, path = trained
    assert_trained(records, files=1)
    assert sorted(records[0]["selections"] + records[1]["selections"]) == list(range(EPOCHS))
    assert not list((path / "plans").iterdir())


def test_without_room_each_makes_its_own(trained: tuple[list[Record], Path], tmp_path: Path) -> None:
    records, ends = ran(tmp_path, without_room)
    assert ends == [0, 0]
    assert_trained(records, files=0)
    assert all(set(record["selections"]) == set(range(EPOCHS)) for record in records)
    assert torch.equal(records[0]["end"].nan_to_num(-1), trained[0][0]["end"])


def test_a_resumed_run_shares_the_rest_of_its_epoch(trained: tuple[list[Record], Path], tmp_path: Path) -> None:
    records, ends = ran(tmp_path, resumed)
    assert ends == [0, 0]
    for record in records:
        rest = record["epochs"][2]
        assert rest["told"] == rest["steps"] == record["epochs"][1]["told"] - 3
        order, weight_of, left, place = record["epochs"][1]["plan"]
        assert_same(rest["plan"], (order, weight_of, left[2 * 3 * BATCH :], place))
        assert rest["files"] >= 1  # beside it the one that the broken-off loop holds
        assert torch.equal(record["end"], trained[0][0]["end"])
    # Of the rest of epoch 1 nothing was chosen anew.
    assert sorted(records[0]["selections"] + records[1]["selections"]) == list(range(EPOCHS))
    assert not list((tmp_path / "plans").iterdir())


def test_one_that_is_killed_while_making_a_plan_holds_nobody_up(tmp_path: Path) -> None:
    records, ends = ran(tmp_path, killed_while_making)
    assert ends == [-signal.SIGKILL, 0]
    (record,) = records
    assert_same(record["plan"], alone(torch.full((SIZE,), torch.nan), 0))
    assert len(record["files"]) == 1
    assert not list((tmp_path / "plans").iterdir())


def test_what_a_killed_run_left_is_not_read_and_is_swept(trained: tuple[list[Record], Path], tmp_path: Path) -> None:
    _, ends = ran(tmp_path, killed)
    assert ends == [-signal.SIGKILL] * 2
    (left,) = (tmp_path / "plans").iterdir()
    content = bytearray(left.read_bytes())
    content[plan_memory.HEADER :] = bytes(len(content) - plan_memory.HEADER)
    left.write_bytes(content)  # the same name, and it calls itself filled
    other = left.with_name(f"scrimp-plan-{os.geteuid()}-{0:032}")
    other.write_bytes(content)
    records, ends = ran(tmp_path, whole)
    assert ends == [0, 0]
    assert_trained(records, files=1)
    assert torch.equal(records[0]["end"].nan_to_num(-1), trained[0][0]["end"])
    assert not list((tmp_path / "plans").iterdir())
