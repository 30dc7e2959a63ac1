"""Launching the CUDA kernels on torch's tensors and streams."""

from __future__ import annotations

import ctypes
import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scrimp.kernels import build

# Tiles of kernels/layout.cuh.
TILE = 128
THREADS = 256
OLDEST = (8, 0)
OF_NUMPY = {np.int32: ctypes.c_int32, np.int64: ctypes.c_int64, np.uint64: ctypes.c_uint64, np.float32: ctypes.c_float}


@functools.cache
def why_unavailable(device: torch.device) -> str | None:
    """Why the kernels cannot run on a GPU; None where they can."""
    if (reason := build.compiler_missing()) is not None:
        return reason
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST:
        return f"{torch.cuda.get_device_name(device)} is sm_{capability[0]}{capability[1]}; the kernels need sm_80 or newer"
    return None


def architecture_of(device: torch.device) -> str:
    """What to compile for; "sm_90a" is Hopper with the instructions of its own."""
    major, minor = torch.cuda.get_device_capability(device)
    return "sm_90a" if (major, minor) == (9, 0) else f"sm_{major}{minor}"


def has_hopper(device: torch.device) -> bool:
    """Whether the device has Hopper's own instructions (sm_90a)."""
    return torch.cuda.get_device_capability(device) == (9, 0)


@functools.cache
def _kernel(source: str, name: str, device: torch.device, dynamic_shared: int) -> Any:
    from cuda.core import Device

    Device(device.index).set_current()
    kernel = build.cubin(source, architecture_of(device)).get_kernel(name)
    if dynamic_shared:
        from cuda.bindings import driver

        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        (error,) = driver.cuKernelSetAttribute(attribute, dynamic_shared, kernel.handle, driver.CUdevice(device.index))
        _expect_success(error, f"give {name} {dynamic_shared} bytes of shared memory")
    return kernel


class Boxes(NamedTuple):
    """bf16 [layers, rows, d] as Hopper's copy engine sees it: fetched in boxes of [1, rows, 64], swizzled by 128 bytes."""

    tensor: Tensor
    rows: int


def run(
    source: str,
    name: str,
    grid: tuple[int, ...],
    *arguments: Any,
    device: torch.device,
    threads: int = THREADS,
    dynamic_shared: int = 0,
) -> None:
    """Launch a kernel on the device's current stream.

    Tensors go as pointers, `Boxes` as tensor maps, whole numbers as `int`, numpy's numbers as what they are.
    """
    from cuda.bindings import driver

    device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
    with torch.cuda.device(device):
        kernel = _kernel(source, name, device, dynamic_shared)
        stream = torch.cuda.current_stream(device).cuda_stream
        values, types = zip(*map(_as_argument, arguments), strict=True)
        function = driver.CUfunction(int(kernel.handle))
        (error,) = driver.cuLaunchKernel(
            function, *(*grid, 1, 1)[:3], threads, 1, 1, dynamic_shared, driver.CUstream(stream), (values, types), 0
        )
        _expect_success(error, f"launch {name}")


def _as_argument(value: Any) -> tuple[Any, Any]:
    """An argument and its C type; none for what the driver's bindings know themselves."""
    if isinstance(value, Boxes):
        return _tensor_map(value), None
    if isinstance(value, Tensor):
        return value.data_ptr(), ctypes.c_void_p
    if isinstance(value, int):
        return value, ctypes.c_int32
    return value.item(), OF_NUMPY[type(value)]


def _tensor_map(boxes: Boxes) -> Any:
    from cuda.bindings import driver

    layers, count, width = boxes.tensor.shape
    whole = driver.cuuint64_t
    part = driver.cuuint32_t
    error, encoded = driver.cuTensorMapEncodeTiled(
        driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        3,
        boxes.tensor.data_ptr(),
        [whole(width), whole(count), whole(layers)],
        [whole(2 * width), whole(2 * width * count)],
        [part(64), part(boxes.rows), part(1)],
        [part(1)] * 3,
        driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B,
        driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    )
    _expect_success(error, "describe a tensor to the copy engine")
    return encoded


def _expect_success(error: Any, what: str) -> None:
    from cuda.bindings import driver

    if error != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"the driver refused to {what}: {error}")


def splits(columns: int, blocks: int, device: torch.device, tile: int = TILE) -> tuple[int, int]:
    """Into how many parts to split the tiles of columns, and how many tiles a part has: enough blocks to fill the GPU."""
    tiles = -(-columns // tile)
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    wanted = max(1, min(tiles, -(-4 * processors // blocks)))
    a_split = -(-tiles // wanted)
    return -(-tiles // a_split), a_split


def as_bf16(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Two operands [..., d] as bf16 whose products are theirs, the inner dimension padded to whole chunks of 16 bytes.

    Numbers of more than 8 significant bits are split in two, and (high, high, low) meets (high, low, high): three times the
    work, and an error of 2^-16 of the factors where bf16 alone would leave 2^-9.
    """
    if left.dtype != torch.bfloat16 or right.dtype != torch.bfloat16:
        (high, low), (other_high, other_low) = _halves(left), _halves(right)
        left, right = torch.cat([high, high, low], dim=-1), torch.cat([other_high, other_low, other_high], dim=-1)
    short = -left.shape[-1] % 8
    if short:
        left, right = (torch.nn.functional.pad(operand, (0, short)) for operand in (left, right))
    return left.contiguous(), right.contiguous()


def _halves(values: Tensor) -> tuple[Tensor, Tensor]:
    high = values.to(torch.bfloat16)
    return high, (values.float() - high.float()).to(torch.bfloat16)
