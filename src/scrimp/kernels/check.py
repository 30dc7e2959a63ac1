"""Every implementation of every op on this machine's devices, held against the float64 specification.

Inputs are drawn afresh at each call (the seed is printed), memory is poisoned with NaN first, and everything runs twice: two
results that differ in a bit are an error. Bounds on the error are stated per case, from the rounding of what is computed.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from scrimp.kernels import cross_entropy, cuda, learnability, prototypes, prune, sigmoid, topk
from scrimp.kernels.dispatch import VARIABLE, Implementation, has_fast_bf16

# Of a product of unit vectors, at most: float32 sums of exact products; float32 split in two halves of bf16; a product that
# torch rounds to bf16 where the CPU multiplies bf16 itself.
PRODUCT = {"sum": 1e-6, "split": 4e-5, "rounded": 2.0**-8}
SHAPES = [(1, 1, 16), (7, 3, 64), (130, 129, 40), (257, 131, 41), (1000, 200, 128), (300, 64, 1024)]


@dataclass(frozen=True)
class Outcome:
    """One case: the largest and the mean error, what they may be, and whether two runs agreed to the bit."""

    op: str
    implementation: str
    device: str
    dtype: str
    case: str
    largest: float
    mean: float
    bound: float
    repeatable: bool

    @property
    def passed(self) -> bool:
        return self.repeatable and self.largest <= self.bound  # False for NaN


@contextmanager
def forcing(implementation: Implementation) -> Iterator[None]:
    """Run every op by one implementation."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = implementation
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def implementations(device: torch.device) -> list[Implementation]:
    """What can run on a device, the specification left out."""
    if device.type == "cuda" and cuda.why_unavailable(device) is None:
        return ["cpu", "cuda"]
    return ["cpu"]


def devices() -> list[torch.device]:
    """The CPU and every GPU."""
    return [torch.device("cpu"), *(torch.device("cuda", index) for index in range(torch.cuda.device_count()))]


def check(seed: int, on_outcome: Callable[[Outcome], None] | None = None) -> list[Outcome]:
    """All cases on all devices."""
    outcomes = []
    for device in devices():
        for implementation in implementations(device):
            for case in cases(device, implementation, torch.Generator().manual_seed(seed)):
                outcomes.append(case)
                if on_outcome is not None:
                    on_outcome(case)
    return outcomes


def cases(device: torch.device, implementation: Implementation, generator: torch.Generator) -> Iterator[Outcome]:
    """Every op's cases by one implementation on one device."""
    for op in OPS:
        yield from OPS[op](device, implementation, generator, SHAPES)


@functools.cache
def trusted(op: str, device: torch.device) -> bool:
    """Whether the CUDA kernels of an op pass a few cases on a device; a warning says so where they do not.

    Asked before an op first runs there unforced: a kernel that is wrong on some card must not choose anybody's data.
    """
    try:
        outcomes = list(OPS[op](device, "cuda", torch.Generator().manual_seed(0), [(257, 300, 72)]))
        failed = [outcome for outcome in outcomes if not outcome.passed]
        problem = f"{len(failed)} of {len(outcomes)} cases, the first {failed[0]}" if failed else None
    except Exception as error:  # whatever a driver, a compiler or an old library may raise
        problem = f"{type(error).__name__}: {error}"
    if problem is not None:
        warnings.warn(
            f"the CUDA kernel of {op} fails its check on {device} ({problem}); torch is used instead", stacklevel=2
        )
    return problem is None


def _products_of(
    case: Callable[..., Outcome], *variants: tuple[Any, ...]
) -> Callable[[torch.device, Implementation, torch.Generator, list[tuple[int, int, int]]], Iterator[Outcome]]:
    """The cases of an op that multiplies matrices: both types, all shapes, and what else a case is given."""

    def all_cases(
        device: torch.device, implementation: Implementation, generator: torch.Generator, shapes: list[tuple[int, int, int]]
    ) -> Iterator[Outcome]:
        for dtype in (torch.bfloat16, torch.float32):
            product = PRODUCT[_rounding(device, implementation, dtype)]
            for shape in shapes:
                for variant in variants or [()]:
                    yield case(device, implementation, dtype, shape, product, generator, *variant)

    return all_cases


def _prunings(device: torch.device, implementation: Implementation, generator: torch.Generator, _: Any) -> Iterator[Outcome]:
    for count in (0, 1, 31, 1000, 100_003):
        for kind in ("random", "equal", "gaps"):
            yield _prune(device, implementation, count, kind, generator)


def _masks(device: torch.device, implementation: Implementation, generator: torch.Generator, _: Any) -> Iterator[Outcome]:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for shape, count, rowwise in (
            ((1,), 1, False),
            ((1000,), 10, False),
            ((70, 300), 20_999, False),
            ((40, 777), 100, True),
        ):
            yield _topk(device, implementation, dtype, shape, count, rowwise, generator)


def _rounding(device: torch.device, implementation: Implementation, dtype: torch.dtype) -> str:
    if implementation == "cuda":
        return "split" if dtype == torch.float32 else "sum"
    return "rounded" if dtype == torch.bfloat16 and has_fast_bf16(device) else "sum"


def _units(generator: torch.Generator, *shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1)


def _outcome(
    op: str,
    implementation: Implementation,
    device: torch.device,
    dtype: torch.dtype,
    case: str,
    bound: float,
    compute: Callable[[], Any],
    errors_of: Callable[[Any], Tensor],
) -> Outcome:
    """Run twice on poisoned memory, and measure."""
    results = []
    for _ in range(2):
        for size in (1 << 10, 1 << 16, 1 << 22):
            torch.full((size,), torch.nan, device=device)
        with forcing(implementation):
            results.append(compute())
    first, second = (result if isinstance(result, tuple) else (result,) for result in results)
    repeatable = all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    errors = errors_of(results[0]).double().flatten()
    largest, mean = (float(errors.max()), float(errors.mean())) if len(errors) else (0.0, 0.0)
    name = str(dtype).removeprefix("torch.")
    return Outcome(op, implementation, str(device), name, case, largest, mean, bound, repeatable)


def _learnability(
    device: torch.device,
    implementation: Implementation,
    dtype: torch.dtype,
    shape: tuple[int, int, int],
    product: float,
    generator: torch.Generator,
    scale: float = 10.0,
    bias: float = -10.0,
) -> Outcome:
    """Sums of one model at a time, relative: the difference of two models' has no bound of its own."""
    rows, columns, width = shape
    candidates = _units(generator, 4, rows, width).to(dtype)
    chunk = _units(generator, 4, columns, width).to(dtype)
    chunk[:, -1] = chunk[:, 0]  # a pair drawn twice
    candidates[1, 0] = chunk[0, 0]  # and one that matches exactly
    of_layers = torch.tensor([scale, scale, scale / 2, scale / 2]), torch.tensor([bias, bias, bias - 1, bias - 1])
    signs = (torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    expected = [learnability.reference(candidates, chunk, *of_layers, sign) for sign in signs]
    rows_there, chunk_there, scales, biases = (operand.to(device) for operand in (candidates, chunk, *of_layers))

    def compute() -> tuple[Tensor, ...]:
        return tuple(
            learnability.pairwise_learnability_update(rows_there, chunk_there, scales, biases, sign.to(device))
            for sign in signs
        )

    def errors(result: tuple[Tensor, ...]) -> Tensor:
        return torch.cat([(got.cpu() - known).abs() / known for got, known in zip(result, expected, strict=True)])

    case = f"{rows} x {columns}, d = {width}, {scale:g} x {bias:+g}"
    # The logarithm of softplus has a slope of at most 1.
    bound = scale * product + 2e-5
    return _outcome("pairwise_learnability_update", implementation, device, dtype, case, bound, compute, errors)


def _sigmoid(
    device: torch.device,
    implementation: Implementation,
    dtype: torch.dtype,
    shape: tuple[int, int, int],
    product: float,
    generator: torch.Generator,
    pairs: bool = True,
) -> Outcome:
    """The loss and its gradients, relative to the largest of each; a scalar's, whose terms may cancel, to theirs."""
    (count, others, width), scale = shape, 10.0
    others = count if pairs else others
    operands = [_units(generator, rows, width).to(dtype) for rows in (count, others)]
    scalars = [torch.tensor(scale), torch.tensor(-9.0)]

    def with_gradients(loss: Callable[..., Tensor], inputs: list[Tensor]) -> tuple[Tensor, ...]:
        inputs = [value.detach().requires_grad_() for value in inputs]
        value = loss(*inputs, pairs=pairs)
        return (value.detach(), *torch.autograd.grad(value, inputs))

    expected = with_gradients(sigmoid.reference, [value.double() for value in (*operands, *scalars)])
    on_device = [value.to(device) for value in (*operands, *scalars)]
    sizes = [known.abs().max() for known in expected]
    cosines = operands[0].double() @ operands[1].double().T
    signs = 2 * pairs * torch.eye(count, others, dtype=torch.float64) - 1
    slopes = torch.sigmoid(-signs * (scale * cosines - 9.0)) / count  # [n, c], the size of the loss's slope in each logit
    sizes[3:] = [(slopes * cosines.abs()).sum(), slopes.sum()]

    def errors(result: tuple[Tensor, ...]) -> Tensor:
        parts = zip(result, expected, sizes, strict=True)
        return torch.stack([(got.cpu().double() - known).abs().max() / size.clamp(min=1e-12) for got, known, size in parts])

    rounding = 2.0**-8 if dtype == torch.bfloat16 else 1e-5  # gradients come in the embeddings' type
    return _outcome(
        "chunked_sigmoid_loss",
        implementation,
        device,
        dtype,
        f"{count}, d = {width}" if pairs else f"{count} x {others}, no pairs, d = {width}",
        2 * scale * product + rounding,
        lambda: with_gradients(sigmoid.chunked_sigmoid_loss, on_device),
        errors,
    )


def _cross_entropy(
    device: torch.device,
    implementation: Implementation,
    dtype: torch.dtype,
    shape: tuple[int, int, int],
    product: float,
    generator: torch.Generator,
) -> Outcome:
    rows, columns, width = shape
    norm = 20.0
    hidden = (norm * _units(generator, rows, width)).to(dtype)
    weight = _units(generator, columns, width).to(dtype)
    labels = torch.randint(columns, (rows,), generator=generator)
    labels[-1] = cross_entropy.IGNORED
    expected = cross_entropy.reference(hidden, weight, labels)
    on_device: list[Any] = [operand.to(device) for operand in (hidden, weight, labels)]
    return _outcome(
        "rowwise_cross_entropy",
        implementation,
        device,
        dtype,
        f"{rows} x {columns}, d = {width}",
        2 * norm * product + 1e-5,
        lambda: torch.ops.scrimp.rowwise_cross_entropy(*on_device),  # not torch's own steps
        lambda result: (result.cpu() - expected).abs(),
    )


def _nearest(
    device: torch.device,
    implementation: Implementation,
    dtype: torch.dtype,
    shape: tuple[int, int, int],
    product: float,
    generator: torch.Generator,
) -> Outcome:
    """The error of the cosine, and how much less near than the nearest the chosen prototype is."""
    rows, columns, width = shape
    points, centres = (_units(generator, count, width).to(dtype) for count in (rows, columns))
    centres[-1] = centres[0]
    points[0] = 3 * centres[0]
    best, _ = prototypes.reference(points, centres)
    unit_points, unit_centres = (F.normalize(operand.double(), dim=1) for operand in (points, centres))
    on_device: list[Any] = [points.to(device), centres.to(device)]

    def errors(result: tuple[Tensor, Tensor]) -> Tensor:
        value, at = (part.cpu() for part in result)
        chosen = (unit_points * unit_centres[at]).sum(dim=1)
        return torch.cat([(value - best).abs(), best - chosen])

    rounding = 2.0**-7 if dtype == torch.bfloat16 else 1e-6  # normalised in the points' own type
    return _outcome(
        "nearest_prototype",
        implementation,
        device,
        dtype,
        f"{rows} x {columns}, d = {width}",
        2 * product + rounding,
        lambda: prototypes.nearest_prototype(*on_device),
        errors,
    )


def _prune(
    device: torch.device, implementation: Implementation, count: int, kind: str, generator: torch.Generator
) -> Outcome:
    scores = torch.rand(count, generator=generator)
    if kind == "equal":
        scores = torch.full_like(scores, 0.1)
    if kind == "gaps" and count > 3:
        scores[::7], scores[1], scores[2], scores[3] = torch.nan, torch.inf, -torch.inf, 0.0
    seed = int(torch.randint(1 << 62, (), generator=generator))
    high, low = prune.reference(scores, 0.3, seed)
    expected = torch.cat([high, low]), torch.cat([torch.ones(len(high)), torch.full((len(low),), 1 / 0.7)])
    there = scores.to(device)

    def errors(result: tuple[Tensor, Tensor]) -> Tensor:
        same = all(torch.equal(got.cpu(), known) for got, known in zip(result, expected, strict=True))
        return torch.tensor([0.0 if same else 1.0])

    return _outcome(
        "prune_and_rescale",
        implementation,
        device,
        torch.float32,
        f"{count}, {kind}",
        0.0,
        lambda: prune.prune_and_rescale(there, 0.3, seed),
        errors,
    )


def _topk(
    device: torch.device,
    implementation: Implementation,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    count: int,
    rowwise: bool,
    generator: torch.Generator,
) -> Outcome:
    values = torch.randn(shape, generator=generator).to(dtype)
    values[values.abs() < 0.3] = 0.3  # ties
    rows = values if rowwise else values.reshape(1, -1)
    expected = topk.reference(rows, count).view(values.shape)
    there = values.to(device)
    return _outcome(
        "topk_mask",
        implementation,
        device,
        dtype,
        f"{count} of {shape}{', by row' if rowwise else ''}",
        0.0,
        lambda: topk.topk_mask(there, count, rowwise),
        lambda result: (result.cpu() != expected).float(),
    )


OPS: dict[str, Callable[..., Iterator[Outcome]]] = {
    "pairwise_learnability_update": _products_of(_learnability, (10.0, -10.0), (100.0, -10.0), (1.0, 0.0), (100.0, 30.0)),
    "chunked_sigmoid_loss": _products_of(_sigmoid, (True,), (False,)),
    "rowwise_cross_entropy": _products_of(_cross_entropy),
    "nearest_prototype": _products_of(_nearest),
    "prune_and_rescale": _prunings,
    "topk_mask": _masks,
}


def as_rows(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """For JSON."""
    return [{**asdict(outcome), "passed": outcome.passed} for outcome in outcomes]
