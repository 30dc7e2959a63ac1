"""A plan that the processes of a node share is the one that each would make, and nothing of it is left behind."""

from __future__ import annotations

import copy
import errno
import fcntl
import os
import pickle
import sys
import threading
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from scrimp import InfoBatch
from scrimp.methods import plan_memory, shared_plan
from scrimp.methods.base import Selection, derived_generator
from scrimp.methods.infobatch import InfoBatchSelector
from scrimp.methods.plan import Plan, chosen
from scrimp.methods.rs2 import RS2
from scrimp.methods.shared_plan import NodePlans

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="plans are shared on Linux")

SIZE, EPOCHS = 1000, 10


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shared_plan, "SMALLEST", 0)
    monkeypatch.setattr(shared_plan, "folders", lambda: [tmp_path])
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    return tmp_path


def selector_of(seed: int = 0, kind: type[InfoBatchSelector] = InfoBatchSelector, **params: Any) -> InfoBatchSelector:
    """One that knows the losses of all examples but the last ten."""
    selector = kind(SIZE, seed, **params)
    losses = torch.rand(SIZE - 10, generator=torch.Generator().manual_seed(5))
    selector.observe(torch.arange(SIZE - 10), losses)
    return selector


def alone(selector: InfoBatchSelector, number: int = 1) -> Plan:
    """What a single process makes, in the plainest way."""
    plan = selector.select(number, number / EPOCHS)
    shuffle = torch.randperm(len(plan.indices), generator=derived_generator(3, number, "order"))
    weight_of, place = torch.ones(SIZE), torch.full((SIZE,), -1, dtype=torch.int32)
    weight_of[plan.indices] = plan.weights
    order = plan.indices[shuffle]
    left = torch.arange(len(order), dtype=torch.int32)
    place[order] = left
    return Plan(order, weight_of, left, place)


def asked(plans: NodePlans, selector: InfoBatchSelector | RS2, number: int = 1, world: int = 2) -> Plan:
    return plans.of(selector, 3, number, EPOCHS, world)


def assert_same(one: Plan, other: Plan) -> None:
    for name, mine, its in zip(Plan._fields, one, other, strict=True):
        assert mine.dtype == its.dtype, name
        assert torch.equal(mine, its), name


def refuse(*_: object) -> None:
    raise AssertionError("this one was to read")


def test_the_second_reads_what_the_first_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = NodePlans(), NodePlans()
    made = asked(first, selector_of())
    monkeypatch.setattr(InfoBatchSelector, "select", refuse)
    read = asked(second, selector_of())
    monkeypatch.undo()
    assert_same(made, read)
    assert_same(read, alone(selector_of()))


def test_one_alone_makes_the_same_without_a_file(folder: Path) -> None:
    assert_same(asked(NodePlans(), selector_of(), world=1), alone(selector_of()))
    assert not list(folder.iterdir())


def test_a_small_plan_gets_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_plan, "SMALLEST", SIZE + 1)
    assert_same(asked(NodePlans(), selector_of()), alone(selector_of()))
    assert not list(folder.iterdir())


def test_another_system_makes_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_plan.sys, "platform", "darwin")
    plan = asked(NodePlans(), selector_of())
    monkeypatch.undo()
    assert_same(plan, alone(selector_of()))
    assert not list(folder.iterdir())


OTHERS = {
    "seed": lambda: (selector_of(seed=1), 1),
    "parameters": lambda: (selector_of(ratio=0.3), 1),
    "epoch": lambda: (selector_of(), 2),
    "losses": lambda: (_with_one_loss_more(), 1),
}


def _with_one_loss_more() -> InfoBatchSelector:
    selector = selector_of()
    selector.observe(torch.tensor([SIZE - 1]), torch.tensor([0.0]))
    return selector


@pytest.mark.parametrize("other", OTHERS)
def test_another_plan_is_not_read(folder: Path, other: str) -> None:
    first, second = NodePlans(), NodePlans()
    made = asked(first, selector_of())
    selector, number = OTHERS[other]()
    plan = asked(second, selector, number)
    assert len(list(folder.iterdir())) == 2
    assert_same(plan, alone(selector, number))
    assert not torch.equal(plan.order, made.order)


# ----------------------------------------------------------------------------------------------------- how a file goes away
def test_the_last_that_lets_go_removes_the_file(folder: Path) -> None:
    first, second = NodePlans(), NodePlans()
    plans = [asked(first, selector_of()), asked(second, selector_of())]
    first.forget()
    assert len(list(folder.iterdir())) == 1
    second.forget()
    assert not list(folder.iterdir())
    for plan in plans:  # those who use it keep it
        assert_same(plan, alone(selector_of()))


def test_the_next_epoch_takes_the_last_ones_place(folder: Path) -> None:
    plans = NodePlans()
    before = {path.name for path in folder.iterdir() if asked(plans, selector_of())}
    asked(plans, selector_of(), number=2)
    assert len(list(folder.iterdir())) == 1
    assert before.isdisjoint(path.name for path in folder.iterdir())


def test_data_that_is_dropped_leaves_nothing(folder: Path) -> None:
    plans = NodePlans()
    asked(plans, selector_of())
    del plans
    assert not list(folder.iterdir())


def test_the_file_goes_as_soon_as_all_have_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    first, second = NodePlans(), NodePlans()
    monkeypatch.setenv("LOCAL_RANK", "1")
    asked(first, selector_of())
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setenv("LOCAL_RANK", "0")
    plan = asked(second, selector_of())
    assert not list(folder.iterdir())
    assert asked(second, selector_of()) is plan
    assert_same(plan, alone(selector_of()))


def test_one_process_a_node_has_nobody_to_share_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert_same(asked(NodePlans(), selector_of()), alone(selector_of()))
    assert not list(folder.iterdir())


def path_of(folder: Path) -> Path:
    """The name of the plan's file."""
    plans = NodePlans()
    asked(plans, selector_of())
    (path,) = folder.iterdir()
    plans.forget()
    return path


def test_what_nobody_holds_is_not_read(folder: Path) -> None:
    plans = NodePlans()
    asked(plans, selector_of())
    (path,) = folder.iterdir()
    content = bytearray(path.read_bytes())
    plans.forget()
    content[5000] ^= 1  # a place in the order, were it read
    path.write_bytes(content)
    assert_same(asked(plans, selector_of()), alone(selector_of()))


def test_what_was_left_half_filled_is_filled_anew(folder: Path) -> None:
    path = path_of(folder)
    path.write_bytes(bytes(10_000_000))
    first, second = NodePlans(), NodePlans()
    assert_same(asked(first, selector_of()), alone(selector_of()))
    assert path.stat().st_size < 100_000
    assert_same(asked(second, selector_of()), alone(selector_of()))


def test_files_of_runs_that_were_killed_are_swept(folder: Path) -> None:
    left, other = folder / f"scrimp-plan-{os.geteuid()}-0123", folder / "something-else"
    left.write_bytes(plan_memory.FILLED + bytes(100))
    other.write_bytes(b"")
    plans = NodePlans()
    asked(plans, selector_of())
    assert not left.exists()
    assert other.exists()
    assert len(list(folder.iterdir())) == 2


# ----------------------------------------------------------------------------------------------- where no file can be had
def test_no_room_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(plan_memory.os, "posix_fallocate", full)
    assert_same(asked(NodePlans(), selector_of()), alone(selector_of()))
    assert not list(folder.iterdir())


def test_a_folder_that_is_too_small_gets_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = os.statvfs(folder)
    monkeypatch.setattr(shared_plan.plan_memory, "bytes_of", lambda *_: (free.f_bavail + 1_000_000) * free.f_frsize * 2)
    assert_same(asked(NodePlans(), selector_of()), alone(selector_of()))
    assert not list(folder.iterdir())


def test_a_folder_that_is_not_there_is_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_plan, "folders", lambda: [folder / "nowhere", folder])
    plans = NodePlans()
    assert_same(asked(plans, selector_of()), alone(selector_of()))
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr(shared_plan, "folders", lambda: [folder / "nowhere"])
    assert_same(asked(NodePlans(), selector_of()), alone(selector_of()))


def test_another_users_file_is_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = path_of(folder)
    path.write_bytes(b"theirs")
    path.chmod(0o600)
    uid = os.geteuid()
    monkeypatch.setattr(plan_memory, "sweep", lambda *_: None)
    monkeypatch.setattr(plan_memory.os, "geteuid", iter([uid, uid + 1]).__next__)
    plan = asked(NodePlans(), selector_of())
    monkeypatch.undo()
    assert_same(plan, alone(selector_of()))
    assert path.read_bytes() == b"theirs"


def test_one_that_fills_for_too_long_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = path_of(folder)
    monkeypatch.setattr(plan_memory.opened, "__defaults__", (0.1,))
    with path.open("w") as hung:
        fcntl.flock(hung, fcntl.LOCK_EX)
        assert_same(asked(NodePlans(), selector_of()), alone(selector_of()))


def test_an_error_while_selecting_is_told_and_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("of the user's own")

    monkeypatch.setattr(InfoBatchSelector, "select", broken)
    with pytest.raises(OSError, match="of the user's own"):
        asked(NodePlans(), selector_of())
    assert not list(folder.iterdir())


# ------------------------------------------------------------------------------------------------------- what is not shared
class Own(InfoBatchSelector):
    """Chooses by something that the plan's name does not know."""

    best = 7

    def select(self, epoch: int, fraction: float) -> Selection:
        return Selection(torch.tensor([self.best]), torch.ones(1))


def test_a_selector_that_chooses_in_its_own_way_makes_its_own(folder: Path) -> None:
    own = selector_of(kind=Own)
    assert asked(NodePlans(), own).order.tolist() == [7]
    rs2 = RS2(SIZE, 0, ratio=0.5)
    expected = chosen(SIZE, lambda: rs2.select(1, 0.1), derived_generator(3, 1, "order"))
    assert_same(asked(NodePlans(), rs2), expected)
    assert not list(folder.iterdir())


def test_what_one_writes_the_others_do_not_see(folder: Path) -> None:
    first, second = NodePlans(), NodePlans()
    asked(first, selector_of()).weight_of.zero_()
    assert_same(asked(second, selector_of()), alone(selector_of()))
    assert_same(asked(NodePlans(), selector_of()), alone(selector_of()))


# ---------------------------------------------------------------------------------------------------------- waiting, copies
def test_who_comes_while_it_is_made_waits_for_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()
    select = InfoBatchSelector.select
    calls = []

    def slow(self: InfoBatchSelector, epoch: int, fraction: float) -> Selection:
        calls.append(epoch)
        begun.set()
        assert go.wait(60)
        return select(self, epoch, fraction)

    monkeypatch.setattr(InfoBatchSelector, "select", slow)
    found: dict[int, Plan] = {}
    everyone = [NodePlans() for _ in range(3)]

    def ask(number: int) -> None:
        found[number] = asked(everyone[number], selector_of())

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    go.set()
    for thread in threads:
        thread.join(60)
    monkeypatch.undo()
    assert calls == [1]
    for plan in found.values():
        assert_same(plan, alone(selector_of()))


def as_to_a_spawned_worker(data: InfoBatch[Any]) -> InfoBatch[Any]:
    """Torch moves the tensors to shared memory of its own then, in place."""
    copied: InfoBatch[Any] = pickle.loads(ForkingPickler.dumps(data))
    return copied


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda data: pickle.loads(pickle.dumps(data)), as_to_a_spawned_worker])
def test_copies_have_the_plan_and_hold_no_file(folder: Path, copied: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = InfoBatch(TensorDataset(torch.arange(float(SIZE))), epochs=EPOCHS)
    monkeypatch.setattr(type(data._processes), "world", property(lambda self: 2))
    iteration = iter(data.sampler)
    next(iteration)
    assert len(list(folder.iterdir())) == 1
    other = copied(data)
    assert data._epoch is not None
    assert other._epoch is not None
    assert torch.equal(other._epoch.order, data._epoch.order)
    assert torch.equal(other._epoch.place, data._epoch.place)
    data._plans.forget()
    assert not list(folder.iterdir())
    assert len(list(other.sampler)) == SIZE // 2


def test_a_restored_plan_is_shared_too(folder: Path) -> None:
    plan = alone(selector_of())
    seen = torch.zeros(len(plan.order), dtype=torch.bool)
    seen[:20] = True
    first, second = NodePlans(), NodePlans()
    for plans in (first, second):
        found = plans.restored(plan.order, plan.weight_of, seen, world=2)
        assert_same(found, plan._replace(left=plan.left[20:]))
    assert len(list(folder.iterdir())) == 1
    seen[20] = True
    third = NodePlans()
    assert third.restored(plan.order, plan.weight_of, seen, world=2).left[0] == 21
    assert len(list(folder.iterdir())) == 2
