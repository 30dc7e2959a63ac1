"""The CUDA kernels and the code that launches them, run thread for thread on the CPU against the specification.

What this cannot see: timing, memory ordering between blocks (none share anything but whole-number counters), and how far the
units' approximations of 2^x and log2 are off. `scrimp kernels check` looks at those on a GPU.
"""

from __future__ import annotations

import ctypes

import pytest
import torch

from scrimp.kernels import check, cuda, nearest_prototype, prototypes, prune
from scrimp.kernels.dispatch import implementation_for

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("op", "kernels"),
    [
        ("_learnability", {"learnability"}),
        ("_sigmoid", {"sigmoid_rows"}),
        ("_cross_entropy", {"log_sum_exp"}),
        ("_nearest", {"nearest"}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
@pytest.mark.parametrize("shape", [(1, 1, 16), (7, 3, 64), (130, 129, 40), (257, 300, 41), (100, 700, 72)], ids=str)
def test_products_reduced_by_rows(
    op: str, kernels: set[str], dtype: torch.dtype, shape: tuple[int, int, int], emulated: list[str]
) -> None:
    product = check.PRODUCT["split" if dtype == torch.float32 else "sum"]
    generator = torch.Generator().manual_seed(sum(shape))
    if op == "_learnability":
        outcomes = [
            check._learnability(CPU, "cuda", dtype, shape, product, generator, scale, bias)
            for scale, bias in ((10.0, -10.0), (100.0, -10.0), (100.0, 30.0))
        ]
    else:
        variants = [(True,), (False,)] if op == "_sigmoid" else [()]  # with pairs and without
        outcomes = [getattr(check, op)(CPU, "cuda", dtype, shape, product, generator, *rest) for rest in variants]
    assert all(outcome.passed for outcome in outcomes), outcomes
    assert set(emulated) == kernels


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
@pytest.mark.parametrize("shape", [(1, 1, 16), (130, 300, 40), (70, 600, 164), (257, 700, 72)], ids=str)
def test_the_chunk_update_on_hopper(
    dtype: torch.dtype, shape: tuple[int, int, int], emulated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "has_hopper", lambda device: True)
    product = check.PRODUCT["split" if dtype == torch.float32 else "sum"]
    for scale, bias in ((10.0, -10.0), (100.0, 30.0)):
        outcome = check._learnability(CPU, "cuda", dtype, shape, product, torch.Generator().manual_seed(1), scale, bias)
        assert outcome.passed, outcome
    assert set(emulated) == {"learnability_hopper"}


@pytest.mark.parametrize("count", [1, 31, 1000, 10_003])
@pytest.mark.parametrize("kind", ["random", "equal", "gaps"])
def test_pruning(count: int, kind: str, emulated: list[str]) -> None:
    outcome = check._prune(CPU, "cuda", count, kind, torch.Generator().manual_seed(count))
    assert outcome.passed, outcome
    assert {"finite_sums", "count_digits", "count_kept", "write_kept"} <= set(emulated)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("shape", "count", "rowwise"),
    [((1,), 1, False), ((10_000,), 17, False), ((70, 300), 20_999, False), ((9, 777), 100, True)],
)
def test_masks(dtype: torch.dtype, shape: tuple[int, ...], count: int, rowwise: bool, emulated: list[str]) -> None:
    outcome = check._topk(CPU, "cuda", dtype, shape, count, rowwise, torch.Generator().manual_seed(count))
    assert outcome.passed, outcome
    assert {"count_magnitudes", "choose_digit", "count_equal", "write_mask"} == set(emulated)


def test_a_kernel_that_fails_its_check_is_left_out_with_a_warning(
    emulated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCRIMP_KERNELS", raising=False)
    check.trusted.cache_clear()
    points, centres = torch.randn(9, 8, generator=torch.Generator().manual_seed(0)), torch.eye(8)
    assert implementation_for("nearest_prototype", CPU) == "cuda"
    check.trusted.cache_clear()
    monkeypatch.setattr(cuda, "run", lambda *_, **__: None)  # writes nothing
    with pytest.warns(UserWarning, match="nearest_prototype fails its check on cpu"):
        best, at = nearest_prototype(points, centres)
    expected, place = prototypes.reference(points, centres)
    torch.testing.assert_close(best.double(), expected, rtol=0, atol=1e-6)
    assert torch.equal(at, place)
    monkeypatch.setattr(cuda, "run", lambda *_, **__: 1 / 0)
    check.trusted.cache_clear()
    with pytest.warns(UserWarning, match="ZeroDivisionError"):
        assert implementation_for("nearest_prototype", CPU) == "cpu"
    check.trusted.cache_clear()


def test_indices_beyond_what_32_bits_count(library: ctypes.CDLL) -> None:
    """Keys of indices past 2^32: the kernel's and the specification's, without as many scores."""
    library.key_at.restype = ctypes.c_uint64
    for seed, index in ((0, 0), (5, 2**33 + 7), (2**63 - 1, 2**40)):
        got = library.key_at(ctypes.c_uint64(seed), ctypes.c_int64(index))
        assert got == prune.key_of(seed, index)


def test_an_emulated_kernel_that_reads_too_early_is_found(library: ctypes.CDLL) -> None:
    """The emulator holds copies back until they are waited for, so that a missing wait shows."""
    library.read_without_waiting.restype = ctypes.c_float
    assert library.read_without_waiting(ctypes.c_int(0)) != library.read_without_waiting(ctypes.c_int(0))  # NaN
    assert library.read_without_waiting(ctypes.c_int(1)) == 3.0
