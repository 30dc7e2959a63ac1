"""Registering an op with torch, and refusing second derivatives where a backward pass has none."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

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


class NotTwiceError(RuntimeError):
    """A second derivative was asked for that would be wrong."""

    def __init__(self, what: str, instead: str) -> None:
        super().__init__(f"{what} cannot be differentiated twice (create_graph=True): {instead}")


def once_differentiable(what: str, instead: str) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Decorate the backward pass of an autograd Function so that it raises NotTwiceError under `create_graph=True`.

    torch's own decorator raises only where the gradient it is given has one, which that of a loss has not: what passes
    through saved tensors would be missing without a word.
    """

    def decorate(backward: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        @functools.wraps(backward)
        def call(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
            if torch.is_grad_enabled():
                raise NotTwiceError(what, instead)
            return backward(*arguments, **options)

        return call

    return decorate


def refuse_second_derivative(op_name: str, what: str, instead: str) -> None:
    """Let the derivative of an op that computes gradients be an error, `op_name` as in `scrimp::NAME`."""

    def refuse(ctx: Any, *gradients: Tensor) -> None:
        raise NotTwiceError(what, instead)

    torch.library.register_autograd(op_name, refuse)
