"""The sigmoid loss of two, three and four processes, whose texts go around a ring, against one that has all pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from scrimp import sigmoid_loss

pytestmark = pytest.mark.slow
COUNT, WIDTH, BLOCK = 7, 5, 2
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bf16": torch.bfloat16}
Inputs = list[Tensor]  # image, text, scale, bias


def batch(world: int, dtype: torch.dtype) -> Inputs:
    draws = torch.randn(2, world * COUNT, WIDTH, generator=torch.Generator().manual_seed(world), dtype=torch.float64)
    image, text = F.normalize(draws, dim=2).to(dtype)
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    return [image, text, torch.tensor(7.0, dtype=exact), torch.tensor(-3.0, dtype=exact)]


def part(inputs: Inputs, rank: int) -> Inputs:
    """One process's share, whose gradients are asked for."""
    mine = slice(rank * COUNT, (rank + 1) * COUNT)
    return [value.clone().requires_grad_() for value in (inputs[0][mine], inputs[1][mine], *inputs[2:])]


def towers() -> nn.Module:
    torch.manual_seed(0)
    return Towers().double()


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 4)
        self.log_scale, self.bias = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(-3.0))

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        embeddings = (F.normalize(tower(x), dim=1) for tower, x in ((self.image, image), (self.text, text)))
        return *embeddings, self.log_scale.exp(), self.bias


# ------------------------------------------------------------------------------------------------- what a process does
def begin(rank: int, world: int, folder: str, work: Callable[[int, int, Path], None]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    try:
        work(rank, world, Path(folder))
    finally:
        dist.destroy_process_group()


def with_gradients(inputs: Inputs, block: int | None, group: dist.ProcessGroup | None, factor: float = 1.0) -> Inputs:
    loss = sigmoid_loss(*inputs, block, process_group=group)  # type: ignore[misc, arg-type]
    return [loss.detach(), *torch.autograd.grad(factor * loss, inputs)]


def all_cases(rank: int, world: int, folder: Path) -> None:
    everyone = dist.group.WORLD
    found: dict[str, Any] = {}
    for name, dtype in DTYPES.items():
        mine = part(batch(world, dtype), rank)
        for block in (None, 1, BLOCK, 100):
            found[f"{name}, block {block}"] = with_gradients(mine, block, everyone)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found[f"{name}, autocast"] = with_gradients(mine, BLOCK, everyone)
    mine = part(batch(world, torch.float64), rank)
    found["own factor"] = with_gradients(mine, None, everyone, factor=1.0 + rank)
    turned = [value.detach().T.contiguous().T.requires_grad_() for value in mine[:2]]
    found["columns first"] = with_gradients([*turned, *mine[2:]], None, everyone)
    for at, name in ((0, "image alone"), (1, "text alone"), (2, "scale alone")):
        inputs = [value.detach() for value in mine]
        inputs[at].requires_grad_()
        loss = sigmoid_loss(*inputs, process_group=everyone)  # type: ignore[misc]
        found[name] = [loss.detach(), *torch.autograd.grad(loss, [inputs[at]])]
    with torch.no_grad():
        found["no gradients"] = [sigmoid_loss(*mine, process_group=everyone)]  # type: ignore[misc]
    loss = sigmoid_loss(*mine, process_group=everyone)  # type: ignore[misc]
    torch.autograd.grad(loss, mine, retain_graph=True)
    found["twice"] = [loss.detach(), *torch.autograd.grad(loss, mine)]
    if world == 3:  # once is enough for what imports the compiler
        model = DistributedDataParallel(towers())
        sigmoid_loss(*model(*(value.detach() for value in mine[:2])), process_group=everyone).backward()
        found["parallel"] = [value.grad for value in model.module.parameters()]
        loss = torch.compile(sigmoid_loss, backend="aot_eager")(*mine, process_group=everyone)  # type: ignore[misc]
        found["compiled"] = [loss.detach(), *torch.autograd.grad(loss, mine)]
    found["told"] = refusals(rank, mine)
    found["watched"] = watched(mine)
    torch.save(found, folder / f"{rank}.pt")


def refusals(rank: int, mine: Inputs) -> list[str]:
    """What is said where the second process differs: by pairs, width, type, and by what needs gradients."""
    image, text, *_ = mine
    few = COUNT - (rank == 1)
    wide = image if rank != 1 else F.pad(image, (0, 1))
    fixed = text.detach() if rank == 1 else text
    told = []
    for one, other in (
        (image[:few], text[:few]),
        (wide, F.pad(text, (0, wide.shape[1] - WIDTH))),
        (image.to(torch.float32 if rank == 1 else torch.float64), text.to(torch.float32 if rank == 1 else torch.float64)),
        (image.detach(), fixed),
        (image, fixed),
    ):
        try:
            sigmoid_loss(one, other, 7.0, -3.0, process_group=dist.group.WORLD)
            told.append("nothing")
        except ValueError as error:
            told.append(str(error))
    return told


def watched(mine: Inputs) -> dict[str, dict[str, Any]]:
    """Each exchange, and the size of the largest tensor that torch makes, of a loss and of its gradients."""
    exchanges: list[list[tuple[int, int]]] = []  # of what is sent and what it is received into: elements, address
    sizes: list[int] = []
    true = dist.batch_isend_irecv

    def note(operations: list[dist.P2POp]) -> list[dist.Work]:
        exchanges.append([(one.tensor.numel(), one.tensor.data_ptr()) for one in operations])
        return true(operations)

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            if not str(func).startswith("c10d"):
                flat = made if isinstance(made, tuple | list) else [made]
                sizes.extend(one.numel() for one in flat if isinstance(one, Tensor) and one.is_floating_point())
            return made

    dist.batch_isend_irecv = note
    found: dict[str, dict[str, Any]] = {}
    with Watch():
        loss = sigmoid_loss(*mine, BLOCK, process_group=dist.group.WORLD)  # type: ignore[misc]
    for name in ("forward", "backward"):
        if name == "backward":
            with Watch():
                loss.backward()
        found[name] = {"exchanges": list(exchanges), "largest": max(sizes)}
        exchanges.clear()
        sizes.clear()
    dist.batch_isend_irecv = true
    return found


@pytest.fixture(scope="module", params=[2, 3, 4])
def processes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process found, by case: one start serves all questions."""
    folder, world = tmp_path_factory.mktemp("ring"), request.param
    torch.multiprocessing.spawn(begin, (world, str(folder), all_cases), nprocs=world)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]


def together(processes: list[dict[str, Any]], case: str) -> Inputs:
    """Loss and gradients of all pairs: a process's gradient is of its own loss, and their mean is that of the whole."""
    loss, image, text, scale, bias = zip(*(found[case] for found in processes), strict=True)
    means = [torch.stack(values).mean(dim=0) for values in (loss, scale, bias)]
    return [means[0], torch.cat(image) / len(processes), torch.cat(text) / len(processes), *means[1:]]


def alone(world: int, dtype: torch.dtype) -> Inputs:
    """The same by one process, of all logits at once in float64."""
    image, text, scale, bias = inputs = [value.double().requires_grad_() for value in batch(world, dtype)]
    signs = 2 * torch.eye(len(image), dtype=torch.float64) - 1
    loss = F.softplus(-signs * (scale * image @ text.T + bias), threshold=50).sum() / len(image)
    return [loss.detach(), *torch.autograd.grad(loss, inputs)]


# ------------------------------------------------------------------------------------------------------------ as of one
@pytest.mark.parametrize("how", ["block None", "block 1", f"block {BLOCK}", "block 100", "autocast"])
def test_loss_and_gradients_in_float64_are_those_of_one_process(processes: list[dict[str, Any]], how: str) -> None:
    expected = alone(len(processes), torch.float64)
    for got, known in zip(together(processes, f"float64, {how}"), expected, strict=True):
        torch.testing.assert_close(got, known, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("how", ["block None", "block 1", f"block {BLOCK}", "block 100", "autocast"])
def test_in_float32_within_its_rounding(processes: list[dict[str, Any]], how: str) -> None:
    expected = alone(len(processes), torch.float32)
    for got, known in zip(together(processes, f"float32, {how}"), expected, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), known, rtol=1e-5, atol=1e-6 * float(known.abs().max()))


def test_autocast_touches_neither_loss_nor_gradients(processes: list[dict[str, Any]]) -> None:
    for found in processes:
        for name in DTYPES:
            pairs = zip(found[f"{name}, autocast"], found[f"{name}, block {BLOCK}"], strict=True)
            assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("how", ["block None", f"block {BLOCK}", "autocast"])
def test_gradients_of_bf16_embeddings_are_rounded_once(processes: list[dict[str, Any]], how: str) -> None:
    case, world = f"bf16, {how}", len(processes)
    loss, of_image, of_text, *of_scalars = alone(world, torch.bfloat16)
    assert [value.dtype for value in processes[0][case]] == [torch.float32, *[torch.bfloat16] * 2, *[torch.float32] * 2]
    got = [found[case] for found in processes]
    # A product of bf16 may come rounded to bf16: an error of 2^-8 of a cosine, 7 times that of a logit.
    assert torch.stack([found[0] for found in got]).mean().item() == pytest.approx(loss.item(), rel=7 * 2**-8)
    for at, known in ((1, of_image), (2, of_text)):
        gradient = torch.cat([found[at] for found in got]).double() / world
        torch.testing.assert_close(gradient, known, rtol=2**-8, atol=1e-6 * float(known.abs().max()))
    for at, known in ((3, of_scalars[0]), (4, of_scalars[1])):
        torch.testing.assert_close(torch.stack([found[at] for found in got]).mean().double(), known, rtol=1e-5, atol=1e-6)


def test_each_process_may_weigh_its_loss(processes: list[dict[str, Any]]) -> None:
    """A text's gradient is the sum of what its copies found, each times the factor of the process that found it."""
    world = len(processes)
    image, text, scale, bias = inputs = [value.requires_grad_() for value in batch(world, torch.float64)]
    signs = 2 * torch.eye(len(image), dtype=torch.float64) - 1
    losses = F.softplus(-signs * (scale * image @ text.T + bias), threshold=50).sum(dim=1) / COUNT
    factors = (torch.arange(world) + 1.0).repeat_interleave(COUNT)
    of_image, of_text, of_scale, _ = torch.autograd.grad((losses * factors).sum(), inputs)
    got = [found["own factor"] for found in processes]
    torch.testing.assert_close(torch.cat([found[1] for found in got]), of_image, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(torch.cat([found[2] for found in got]), of_text, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(torch.stack([found[3] for found in got]).sum(), of_scale, rtol=1e-12, atol=1e-13)


def test_what_is_asked_for_changes_no_number(processes: list[dict[str, Any]]) -> None:
    for found in processes:
        whole = found["float64, block None"]
        assert all(torch.equal(one, other) for one, other in zip(found["twice"], whole, strict=True))
        for got, known in zip(found["columns first"], whole, strict=True):
            torch.testing.assert_close(got, known, rtol=1e-12, atol=1e-13)
        for at, case in enumerate(("no gradients", "image alone", "text alone", "scale alone")):
            assert torch.equal(found[case][0], whole[0])
            assert at == 0 or torch.equal(found[case][1], whole[at])


@pytest.mark.parametrize("processes", [3], indirect=True)
def test_a_model_under_distributed_data_parallel_has_the_gradients_of_one_process(
    processes: list[dict[str, Any]],
) -> None:
    image, text, *_ = batch(len(processes), torch.float64)
    model = towers()
    sigmoid_loss(*model(image, text)).backward()
    for found in processes:
        for got, known in zip(found["parallel"], model.parameters(), strict=True):
            torch.testing.assert_close(got, known.grad, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("processes", [3], indirect=True)
def test_a_compiled_loss_is_the_eager_one(processes: list[dict[str, Any]]) -> None:
    for found in processes:
        for got, known in zip(found["compiled"], found["float64, block None"], strict=True):
            torch.testing.assert_close(got, known, rtol=1e-12, atol=1e-13)


# ------------------------------------------------------------------------------- what is exchanged, held, and refused
def test_texts_go_around_once_and_gradients_come_home(processes: list[dict[str, Any]]) -> None:
    world = len(processes)
    for found in processes:
        forward, backward = (found["watched"][name] for name in ("forward", "backward"))
        assert len(forward["exchanges"]) == world - 1  # texts
        assert len(backward["exchanges"]) == 2 * (world - 1)  # texts, and their gradients
        sent_or_received = [one for exchange in forward["exchanges"] + backward["exchanges"] for one in exchange]
        assert {size for size, _ in sent_or_received} == {COUNT * WIDTH}
        assert len({room for _, (_, room) in forward["exchanges"]}) == min(2, world - 1)
        assert len({room for _, (_, room) in backward["exchanges"]}) == min(2, world - 1) + 1
        assert forward["largest"] == backward["largest"] == COUNT * WIDTH


def test_processes_that_do_not_fit_together_are_all_told(processes: list[dict[str, Any]]) -> None:
    def values(usual: object, of_second: object) -> str:
        return str([usual, of_second, usual, usual][: len(processes)])

    unlike = "the processes have unlike"
    for found in processes:
        assert found["told"] == [
            f"the processes have {values(COUNT, COUNT - 1)} pairs: give each as many, with drop_last=True",
            f"{unlike} widths of the embeddings, {values(WIDTH, WIDTH + 1)}: make them the same",
            f"{unlike} types of the embeddings, {values('torch.float64', 'torch.float32')}: make them the same",
            f"{unlike} needs of gradients, {values(1, 0)}: make them the same",
            f"{unlike} needs of the texts' gradients, {values(1, 0)}: make them the same",
        ]


# ----------------------------------------------------------------------------------------------------------- subgroups
MEMBERS = [1, 3]


def in_a_subgroup(rank: int, world: int, folder: Path) -> None:
    group, single = dist.new_group(MEMBERS), dist.new_group([2])
    found: dict[str, Any] = {}
    if rank in MEMBERS:
        found["pair"] = with_gradients(part(batch(2, torch.float64), MEMBERS.index(rank)), BLOCK, group)
    elif rank == 2:
        found["single"] = with_gradients(part(batch(1, torch.float64), 0), BLOCK, single)
    else:
        try:
            sigmoid_loss(*batch(1, torch.float64), process_group=group)  # type: ignore[misc]
        except ValueError as error:
            (folder / "told.txt").write_text(str(error))
    torch.save(found, folder / f"{rank}.pt")


def test_a_subgroup_has_the_loss_of_its_own_pairs(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(begin, (4, str(tmp_path), in_a_subgroup), nprocs=4)
    processes = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(4)]
    for got, known in zip(together([processes[rank] for rank in MEMBERS], "pair"), alone(2, torch.float64), strict=True):
        torch.testing.assert_close(got, known, rtol=1e-12, atol=1e-13)
    for got, known in zip(processes[2]["single"], alone(1, torch.float64), strict=True):
        torch.testing.assert_close(got, known, rtol=1e-12, atol=1e-13)
    assert (tmp_path / "told.txt").read_text().startswith("this process is not in process_group")
