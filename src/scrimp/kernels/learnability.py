"""JEST's chunk update: what a newly chosen chunk adds to the scores of the candidates that are left.

For candidate j: the sum over the chunk's k, and over the models by their signs, of softplus(l_jk) + softplus(l_kj), with
l = scale image . text + bias. Evans et al. 2024 (arXiv 2406.17711), Algorithm 1, where whole rows and columns of a B x B
matrix are summed again for every chunk; here only the new rows are, and no matrix is kept.
Work: 4 M n c d FLOPs for M models, and 2 M n c softplus; bytes: the embeddings once. On a GPU the product bounds it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from scrimp.kernels import cuda
from scrimp.kernels.blocks import as_multiplied, block_rows, exact_type
from scrimp.kernels.define import op
from scrimp.kernels.dispatch import implementation_for

HOPPER_SHARED = 232_448  # bytes a block can have
HOPPER_WIDTH = 512  # 128 rows of more leave no room for three slices of columns
FEW_ELEMENTS = 1 << 16  # below, one call for all softplus costs less than many cheaper ones


@op
def pairwise_learnability_update(
    candidates: Tensor, chunk: Tensor, scale: Tensor, bias: Tensor, sign: Tensor, block: int = 0
) -> Tensor:
    """The sums [n], float32 (float64 for float64 embeddings), for candidates [2 M, n, d] and a chunk [2 M, c, d].

    Layers are the images and the texts of each model in turn; `scale`, `bias` and `sign` [2 M] are those of a layer's
    model. `block` candidates are taken at a time (0: as many as suit the device); the CUDA kernel has its own tiles.
    Raises ValueError for shapes that do not fit.
    """
    _check(candidates, chunk, scale, bias, sign)
    chosen = implementation_for("pairwise_learnability_update", candidates.device)
    if candidates.shape[1] == 0 or chunk.shape[1] == 0:
        return torch.zeros(candidates.shape[1], dtype=exact_type(candidates), device=candidates.device)
    if chosen == "reference":
        return reference(candidates, chunk, scale, bias, sign).to(exact_type(candidates))
    if chosen == "cuda" and candidates.dtype != torch.float64:
        return _on_gpu(candidates, chunk, scale, bias, sign)
    return blocked(candidates, chunk, scale, bias, sign, block)


def reference(candidates: Tensor, chunk: Tensor, scale: Tensor, bias: Tensor, sign: Tensor) -> Tensor:
    """The specification: float64 [n], by all products at once."""
    logits = torch.bmm(candidates.double(), partners(chunk).double().transpose(1, 2))  # [2 M, n, c]
    logits = logits * scale.double().view(-1, 1, 1) + bias.double().view(-1, 1, 1)
    return (softplus(logits).sum(dim=2) * sign.double().view(-1, 1)).sum(dim=0)


def blocked(candidates: Tensor, chunk: Tensor, scale: Tensor, bias: Tensor, sign: Tensor, block: int = 0) -> Tensor:
    """By torch, a block of candidates at a time; nothing larger than a block times the chunk is ever held."""
    exact = exact_type(candidates)
    layers, count, _ = candidates.shape
    sums = torch.empty(count, dtype=exact, device=candidates.device)
    size = min(count, block or block_rows(candidates.device, layers * chunk.shape[1]))
    keys = as_multiplied(partners(chunk))
    scale, bias, sign = scale.to(exact).view(-1, 1, 1), bias.to(exact).view(-1, 1, 1), sign.to(exact).view(-1, 1)
    into_keys = keys.dtype == exact  # bf16 would be rounded a second time
    keys = keys * scale if into_keys else keys
    room = torch.empty(layers * chunk.shape[1] * size, dtype=exact, device=candidates.device)
    halves = torch.empty_like(room, dtype=keys.dtype) if not into_keys else room

    def logits_of(part: Tensor) -> Tensor:
        """[2 M, c, rows]: sums run along whole rows of memory."""
        number = layers * chunk.shape[1] * part.shape[2]
        logits = room[:number].view(layers, -1, part.shape[2])
        if into_keys:
            return torch.baddbmm(bias, keys, part, out=logits)
        products = halves[:number].view_as(logits)
        if candidates.device.type == "cpu" and number >= FEW_ELEMENTS:
            for layer in range(layers):  # `bmm` would copy what is transposed
                torch.mm(keys[layer], part[layer], out=products[layer])
        else:
            torch.bmm(keys, part, out=products)
        return torch.addcmul(bias, logits.copy_(products), scale, out=logits)

    with torch.autocast(candidates.device.type, enabled=False):
        for begin in range(0, count, size):
            part = candidates[:, begin : begin + size].transpose(1, 2).to(keys.dtype)
            losses = softplus_sums(logits_of(part), whole=candidates.device.type == "cpu")
            if candidates.device.type == "cpu" and not losses.sum().isfinite():
                losses = softplus_sums(logits_of(part))
            sums[begin : begin + size] = (losses * sign).sum(dim=0)
    return sums


def softplus_sums(logits: Tensor, whole: bool = False) -> Tensor:
    """The sums of softplus over the rows of logits [M, c, n], which may be overwritten: [M, n].

    With t = exp(-|y|), softplus(y) is relu(y) + log(1 + t), and the logarithms of up to 32 rows are taken as one of the
    product of their 1 + t: an exponential is several times cheaper than a logarithm. What is kept is the product less 1,
    lest a small t vanish beside the 1; 32 factors of at most 2 cannot overflow. `whole` takes t = exp(y) instead, which
    needs no relu, and gives infinity where that overflows: on 32 logits of more than 2.7 on average.
    """
    if logits.numel() < FEW_ELEMENTS:
        return softplus(logits).sum(dim=1)
    if whole:
        sums = torch.zeros_like(logits[:, 0])
        excess = logits.exp_()  # [M, c, n]
    else:
        sums = logits.clamp(min=0).sum(dim=1)
        excess = logits.abs_().neg_().exp_()
    for _ in range(5):
        half = excess.shape[1] // 2
        if half == 0:
            break
        if excess.shape[1] % 2:
            sums += excess[:, -1].log1p()
        one, other = excess[:, :half], excess[:, half : 2 * half]
        excess = one.addcmul_(one, other).add_(other)
    return sums.add_(excess.log1p_().sum(dim=1))


def softplus(logits: Tensor) -> Tensor:
    """log(1 + exp(logits)); torch's own takes logits above 20 for it, which in float64 is off by up to 2e-9."""
    return F.softplus(logits, threshold=50.0)


def partners(chunk: Tensor) -> Tensor:
    """The layers that a candidate's layers meet: the texts for images, the images for texts."""
    return chunk.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def _on_gpu(candidates: Tensor, chunk: Tensor, scale: Tensor, bias: Tensor, sign: Tensor) -> Tensor:
    rows, columns = cuda.as_bf16(candidates, chunk)
    scale, bias = scale.float().contiguous(), bias.float().contiguous()
    launch = _hopper if rows.shape[2] <= HOPPER_WIDTH and cuda.has_hopper(rows.device) else _portable
    sums = launch(rows, columns, scale, bias)
    return (sums.sum(dim=0) * sign.float().view(-1, 1)).sum(dim=0)


def _portable(rows: Tensor, columns: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Sums of softplus [parts, layers, n] by mma.sync (rowwise.cu)."""
    layers, count, width = rows.shape
    tiles = -(-count // cuda.TILE)
    parts, tiles_a_part = cuda.splits(columns.shape[1], tiles * layers, rows.device)
    sums = torch.empty(parts, layers, count, dtype=torch.float32, device=rows.device)
    shapes = (count, columns.shape[1], width, tiles_a_part)
    grid = (tiles, layers, parts)
    cuda.run("rowwise.cu", "learnability", grid, rows, columns, scale, bias, sums, *shapes, device=rows.device)
    return sums


def _hopper(rows: Tensor, columns: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """The same by wgmma (hopper.cu); what shared memory the rows leave is for slices of columns in flight."""
    layers, count, width = rows.shape
    slices = -(-width // 64)
    stages = min(6, (HOPPER_SHARED - 1024 - slices * 16_384) // 32_768)
    shared = slices * 16_384 + stages * 32_768 + 16 * stages + 8
    tiles = -(-count // 128)
    parts, tiles_a_part = cuda.splits(columns.shape[1], tiles * layers, rows.device, tile=256)
    sums = torch.empty(parts, layers, count, dtype=torch.float32, device=rows.device)
    maps = cuda.Boxes(rows, 128), cuda.Boxes(columns, 256)
    shapes = (count, columns.shape[1], slices, stages, tiles_a_part)
    arguments = (*maps, scale, bias, sums, *shapes)
    grid = (tiles, layers, parts)
    cuda.run("hopper.cu", "learnability_hopper", grid, *arguments, device=rows.device, threads=384, dynamic_shared=shared)
    return sums


def _check(candidates: Tensor, chunk: Tensor, scale: Tensor, bias: Tensor, sign: Tensor) -> None:
    if candidates.ndim != 3 or chunk.ndim != 3 or candidates.shape[::2] != chunk.shape[::2] or len(candidates) % 2:
        raise ValueError(
            f"candidates and chunk must be [2 M, n, d] and [2 M, c, d], got {tuple(candidates.shape)}, {tuple(chunk.shape)}"
        )
    if candidates.dtype != chunk.dtype or not candidates.is_floating_point():
        raise ValueError(f"candidates and chunk must be of one float type, got {candidates.dtype} and {chunk.dtype}")
    if any(value.shape != (len(candidates),) for value in (scale, bias, sign)):
        raise ValueError(f"scale, bias and sign must be [{len(candidates)}], one for each layer")


@torch.library.register_fake("scrimp::pairwise_learnability_update")
def _fake(candidates: Tensor, chunk: Tensor, scale: Tensor, bias: Tensor, sign: Tensor, block: int = 0) -> Tensor:
    return candidates.new_empty(candidates.shape[1], dtype=exact_type(candidates))


@register_flop_formula(torch.ops.scrimp.pairwise_learnability_update)
def _flops(candidates: torch.Size, chunk: torch.Size, *_: object, **__: object) -> int:
    layers, count, width = candidates
    return 2 * layers * count * chunk[1] * width
