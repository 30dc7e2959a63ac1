"""Registering an op with torch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def op(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Make a function of tensors and numbers the op `torch.ops.scrimp.NAME`, of the same signature, for every device.

    Not `torch.library.custom_op`, whose first call imports the compiler and whose every call costs more.
    """
    name = f"scrimp::{function.__name__.lstrip('_')}"
    torch.library.define(name, torch.library.infer_schema(function, mutates_args=()))
    torch.library.impl(name, "CompositeExplicitAutograd")(function)
    registered = getattr(torch.ops.scrimp, function.__name__.lstrip("_"))

    @functools.wraps(function)
    def call(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        result: Result = registered(*arguments, **options)
        return result

    return call
