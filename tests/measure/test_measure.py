"""Clock, FLOPs, hardware and provenance: what is measured, and that what cannot be measured is null."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from scrimp.flops import ExampleFlops, flops_per_example
from scrimp.measure.clock import Clock
from scrimp.measure.hardware import EnergyCounter, cpu_model, peak_memory
from scrimp.measure.provenance import git_state, lock_digest, provenance

CPU = torch.device("cpu")


# --------------------------------------------------------------------------------------------------------------- clock
@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set by hand."""
    time = [0.0]
    monkeypatch.setattr("scrimp.measure.clock.time.perf_counter", lambda: time[0])
    return time


def test_a_span_inside_another_stops_the_outer_one(now: list[float]) -> None:
    clock = Clock(CPU)
    with clock.span("train"):
        now[0] = 2
        with clock.span("evaluation"):
            now[0] = 5
            with clock.span("selection"):
                now[0] = 6
            now[0] = 10
        now[0] = 11
    now[0] = 100  # outside every span
    with clock.span("train"):
        now[0] = 103
    assert clock.state()["wall"] == {"train": 2 + 1 + 3, "evaluation": 3 + 4, "selection": 1}
    assert clock["never"] == 0.0


def test_a_span_that_fails_is_charged_and_closed(now: list[float]) -> None:
    clock = Clock(CPU)
    clock.restore({"wall": {"train": 10.0}, "cpu": {"train": 7.0}})

    def fail() -> None:
        with clock.span("train"):
            now[0] = 3
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    now[0] = 50
    with clock.span("selection"):
        now[0] = 51
    assert clock.state()["wall"] == {"train": 13.0, "selection": 1.0}
    assert clock.cpu("train") >= 7.0


# --------------------------------------------------------------------------------------------------------------- FLOPs
def flops_of(model: nn.Module, shape: tuple[int, ...], batch: int = 2) -> ExampleFlops:
    return flops_per_example(model, lambda: model(torch.zeros(batch, *shape)).sum(dim=1), batch)


def test_a_linear_map_costs_two_a_weight_forward_and_twice_that_backward_but_for_the_input() -> None:
    first, second = nn.Linear(7, 5), nn.Linear(5, 3)
    flops = flops_of(nn.Sequential(first, second), (7,))
    assert flops.forward == 2 * (7 * 5 + 5 * 3)
    # Backward: weights of both, inputs of the second only.
    assert flops.training == flops.forward + 2 * (7 * 5 + 5 * 3) + 2 * 5 * 3


def test_counting_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    flops_of(model, (3, 8, 8))
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("batch", [2, 3, 8])
def test_the_count_of_an_example_does_not_hang_on_the_batch(batch: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Flatten(), nn.Linear(4 * 9, 2))
    # 3 x 3 places of a 3 x 3 x 3 window for 4 channels, and the linear map.
    assert flops_of(model, (3, 8, 8), batch).forward == 2 * (9 * 27 * 4 + 36 * 2)


# ------------------------------------------------------------------------------------------------------------ hardware
def test_what_a_cpu_cannot_tell_is_null() -> None:
    assert EnergyCounter(CPU).joules() is None


def test_peak_memory_is_not_that_of_who_started_the_process() -> None:
    held = b"x" * (300 * 2**20)
    code = "import torch; from scrimp.measure.hardware import peak_memory; print(peak_memory(torch.device('cpu')))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(told.stdout) < peak_memory(CPU) - len(held) // 2


def test_peak_memory_is_in_bytes_and_grows() -> None:
    code = (
        "import torch; from scrimp.measure.hardware import peak_memory; cpu = torch.device('cpu'); "
        "before = peak_memory(cpu); block = torch.ones(2**28 // 4); print(before, peak_memory(cpu), block.sum())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert 2**27 <= int(told[1]) - int(told[0]) <= 2**28 * 1.2


def test_peak_memory_of_a_process_whose_name_is_cut_inside_a_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    told = b"Name:\t" + "обучение".encode()[:15] + b"\nVmHWM:\t    2048 kB\n"
    monkeypatch.setattr(Path, "read_bytes", lambda _: told)
    assert peak_memory(CPU) == 2 * 2**20

    def elsewhere(_: Path) -> bytes:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_bytes", elsewhere)
    assert peak_memory(CPU) > 50 * 2**20


def test_the_processor_has_a_name() -> None:
    assert len(cpu_model()) > 2


# ---------------------------------------------------------------------------------------------------------- provenance
def commit(folder: Path) -> str:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    (folder / "file.txt").write_text("one")
    git("add", "file.txt")
    git("commit", "-q", "-m", "one")
    return git("rev-parse", "HEAD")


def test_git_state_is_the_commit_and_whether_tracked_files_differ(tmp_path: Path) -> None:
    head = commit(tmp_path)
    assert git_state(tmp_path) == (head, False)
    (tmp_path / "results.txt").write_text("untracked files are no change of the code")
    assert git_state(tmp_path) == (head, False)
    (tmp_path / "file.txt").write_text("two")
    assert git_state(tmp_path) == (head, True)


def test_outside_a_repository_and_without_git_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) == (None, None)
    commit(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) == (None, None)


def test_provenance_has_every_key_of_the_contract(tmp_path: Path) -> None:
    head = commit(tmp_path)
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "lock.txt").write_text("torch==1\n")
    made = provenance(tmp_path, CPU, seed=3, kernels=None)
    assert set(made) == {
        "commit", "dirty", "lock_digest", "versions", "platform", "cpu", "cpu_count", "gpu", "driver", "device", "threads",
        "written", "seed", "kernels",
    }  # fmt: skip
    assert (made["commit"], made["dirty"], made["seed"], made["device"]) == (head, False, 3, "cpu")
    assert made["lock_digest"] == hashlib.sha256(b"torch==1\n").hexdigest()[:16]
    assert (made["gpu"], made["driver"], made["threads"]) == (None, None, torch.get_num_threads())
    assert made["versions"]["torch"] == torch.__version__
    assert {"python", "scrimp", "numpy", "webdataset"} <= set(made["versions"])
    assert made["written"].endswith("+00:00")


def test_no_lock_file_is_null(tmp_path: Path) -> None:
    assert lock_digest(tmp_path) is None
