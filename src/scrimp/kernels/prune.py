"""InfoBatch's epoch over N scores: the mean, an exact number of those below it kept at random, indices and weights.

Qin et al. 2024 (arXiv 2303.04947), section 2.2. The random order comes from a counter (SplitMix64 of the seed and the
index; Steele, Lea, Flood 2014), so that every device chooses alike, whatever its threads: of the n scores below the mean
those int((1 - r) n) are kept whose keys are smallest. Bytes: the scores a few times, indices and weights once.
"""

from __future__ import annotations

import math
import sys

import numpy as np
import torch
from torch import Tensor

from scrimp.kernels import cuda
from scrimp.kernels.define import op
from scrimp.kernels.dispatch import implementation_for

GAMMA = 0x9E3779B97F4A7C15
BLOCK = 1 << 14  # keys that are made at a time: they stay in a core's cache


@op
def prune_and_rescale(
    scores: Tensor, ratio: float, seed: int, threshold: float | None = None, rescale: bool = True
) -> tuple[Tensor, Tensor]:
    """Which of the scores float32 [N] stay (int64 [n]), and their weights (float32 [n]).

    Scores that are not below the threshold, NaN and infinite ones among them, stay with weight 1 and come first, in
    ascending order; of the others int((1 - ratio) m) stay, with weight 1 / (1 - ratio) if `rescale`, in ascending order
    too. `threshold` None is the mean of the finite scores. Raises ValueError for scores and ratios that do not fit.
    """
    if scores.ndim != 1 or scores.dtype != torch.float32:
        raise ValueError(f"scores must be float32 [N], got {scores.dtype} {tuple(scores.shape)}")
    if not 0 <= ratio < 1:
        raise ValueError(f"ratio lies in [0, 1), got {ratio}")
    chosen = implementation_for("prune_and_rescale", scores.device)
    if chosen == "reference":
        high, low = reference(scores, ratio, seed, threshold)
    elif chosen == "cuda":
        high, low = _on_gpu(scores.contiguous(), ratio, seed, threshold)
    else:
        high, low = (part.to(scores.device) for part in _by_counting(scores.detach().cpu(), ratio, seed, threshold))
    weights = torch.ones(len(high) + len(low), dtype=torch.float32, device=scores.device)
    if rescale:
        weights[len(high) :] = 1 / (1 - ratio)
    return torch.cat([high, low]), weights


def kept_of(count: int, ratio: float) -> int:
    """How many of `count` low scores stay: int((1 - ratio) count), without binary fractions' losses."""
    return min(count, math.floor(round((1 - ratio) * count, 6)))


def threshold_of(total: float, count: int) -> float:
    """The mean as the smallest float32 that is not below it: float32 scores below either are the same."""
    if count == 0:
        return -math.inf
    mean = total / count
    rounded = np.float32(mean)
    return float(rounded if float(rounded) >= mean else np.nextafter(rounded, np.float32(np.inf)))


def key_of(seed: int, index: int) -> int:
    """The 64-bit key of an index: SplitMix64's output number index + 1 from `seed`."""
    mask = (1 << 64) - 1
    z = (seed + (index + 1) * GAMMA) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def reference(scores: Tensor, ratio: float, seed: int, threshold: float | None = None) -> tuple[Tensor, Tensor]:
    """The specification: number by number, in whole numbers and float64."""
    values = scores.tolist()
    finite = [value for value in values if math.isfinite(value)]
    limit = threshold_of(math.fsum(finite), len(finite)) if threshold is None else threshold
    low = [index for index, value in enumerate(values) if value < limit]
    below = set(low)
    low = sorted(sorted(low, key=lambda index: key_of(seed, index))[: kept_of(len(low), ratio)])
    high = [index for index in range(len(values)) if index not in below]
    return (torch.tensor(part, dtype=torch.int64, device=scores.device) for part in (high, low))  # type: ignore[return-value]


# ------------------------------------------------------------------------------------------------------------------ CPU
def _by_counting(scores: Tensor, ratio: float, seed: int, threshold: float | None) -> tuple[Tensor, Tensor]:
    """By numpy: keys in blocks, and a count by their upper bits in place of a sort."""
    if threshold is None:
        threshold = mean_threshold(scores)
    below = (scores < threshold).numpy()
    low = np.flatnonzero(below)
    kept = kept_of(len(low), ratio)
    return torch.from_numpy(np.flatnonzero(~below)), torch.from_numpy(low.compress(_smallest(_keys(low, seed), kept)))


def mean_threshold(scores: Tensor) -> float:
    """The mean of the finite scores (float32 [N]) as `threshold_of` gives it.

    A float64 sum, because a float32 sum of 1e6 equal scores is off and would split them into below and above.
    """
    total, count = float(scores.sum(dtype=torch.float64)), len(scores)
    if not math.isfinite(total):
        finite = scores[scores.isfinite()]
        total, count = float(finite.sum(dtype=torch.float64)), len(finite)
    return threshold_of(total, count)


def _keys(indices: np.ndarray, seed: int) -> np.ndarray:
    """`key_of` of many indices: uint64 [n]."""
    keys = indices.astype(np.uint64)
    scratch = np.empty(min(BLOCK, len(keys)), dtype=np.uint64)
    start = np.uint64((seed + GAMMA) & ((1 << 64) - 1))
    for begin in range(0, len(keys), BLOCK):
        z = keys[begin : begin + BLOCK]
        shifted = scratch[: len(z)]
        z *= np.uint64(GAMMA)
        z += start
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, None)):
            np.right_shift(z, np.uint64(shift), out=shifted)
            z ^= shifted
            if factor is not None:
                z *= np.uint64(factor)
    return keys


def _smallest(keys: np.ndarray, count: int) -> np.ndarray:
    """Which of the keys, all different, are the `count` smallest: bool [n]."""
    if count == 0:
        return np.zeros(len(keys), dtype=bool)
    upper = keys.view(np.uint16)[3 if sys.byteorder == "little" else 0 :: 4].copy()  # of each its upper 16 bits
    at_most = np.bincount(upper, minlength=1 << 16).cumsum()
    digit = int(np.searchsorted(at_most, count))
    missing = count - (int(at_most[digit - 1]) if digit else 0)
    chosen = upper < digit
    same = np.flatnonzero(upper == digit)
    chosen[same[np.argsort(keys[same])[:missing]]] = True
    return chosen


# ------------------------------------------------------------------------------------------------------------------ GPU
DIGITS = 1 << 12  # of the keys' upper bits: a block's counts fit its shared memory


def _on_gpu(scores: Tensor, ratio: float, seed: int, threshold: float | None) -> tuple[Tensor, Tensor]:
    """Blocks own stretches of the scores, so that what they write is in order; counts are whole numbers."""
    device, count = scores.device, len(scores)
    blocks = max(1, min(-(-count // 2048), 8 * torch.cuda.get_device_properties(device).multi_processor_count))
    stretch = np.int64(-(-count // blocks))
    size, start = np.int64(count), np.uint64(seed & ((1 << 64) - 1))

    def launch(name: str, *arguments: object) -> None:
        cuda.run("prune.cu", name, (blocks,), *arguments, device=device)

    def empty(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    if threshold is None:
        sums, counts = empty(blocks, dtype=torch.float64), empty(blocks)
        launch("finite_sums", scores, sums, counts, size, stretch)
        threshold = threshold_of(float(sums.sum()), int(counts.sum()))
    limit = np.float32(threshold)
    digits = empty(DIGITS)
    launch("count_digits", scores, digits, limit, start, size, stretch)
    at_most = digits.cumsum(0)
    kept = kept_of(int(at_most[-1]), ratio)
    last = _last_key(scores, at_most, kept, launch, limit, start, size, stretch) if kept else None
    some, largest = np.int32(last is not None), np.uint64(last or 0)
    parts = empty(blocks, 2)  # how many high and kept low scores each block has
    launch("count_kept", scores, parts, limit, start, largest, some, size, stretch)
    ends = parts.cumsum(0)
    high, low = (empty(int(number)) for number in ends[-1])
    launch("write_kept", scores, ends - parts, high, low, limit, start, largest, some, size, stretch)
    return high, low


def _last_key(scores: Tensor, at_most: Tensor, kept: int, launch: object, *shape: object) -> int:
    """The `kept`-th smallest key: only those that share its upper bits are looked at."""
    assert callable(launch)
    digit = int(torch.searchsorted(at_most, kept))
    before = int(at_most[digit - 1]) if digit else 0
    same = torch.zeros(int(at_most[digit]) - before, dtype=torch.int64, device=scores.device)
    launch("gather_keys", scores, same, torch.zeros_like(same[:1]), np.int32(digit), *shape)
    # They differ in their lower bits alone, which a signed sort orders as an unsigned one does.
    return int(same.sort().values[kept - before - 1]) & ((1 << 64) - 1)


@torch.library.register_fake("scrimp::prune_and_rescale")
def _fake(
    scores: Tensor, ratio: float, seed: int, threshold: float | None = None, rescale: bool = True
) -> tuple[Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    return scores.new_empty(count, dtype=torch.int64), scores.new_empty(count)
