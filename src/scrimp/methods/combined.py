"""The methods of one arm as one: their hooks in the order in which the arm lists them, and at most one selector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from scrimp.errors import ScrimpError
from scrimp.methods import check_method, method_class, parameters_of
from scrimp.methods.base import EpochSelector, Method
from scrimp.methods.batch import BatchSelector

Selector = EpochSelector | BatchSelector


class Methods:
    """An arm's methods by name. With none of them it is the plain recipe."""

    def __init__(self, named: Mapping[str, Method]) -> None:
        self.named = dict(named)
        selectors = [name for name, method in named.items() if isinstance(method, Selector)]
        if len(selectors) > 1:
            raise ScrimpError(f"{' and '.join(selectors)} both choose the examples: an arm has one selector at most")
        self.selector: Any = self.named[selectors[0]] if selectors else None
        grows = any(type(method).batch_size is not Method.batch_size for method in named.values())
        if grows and isinstance(self.selector, BatchSelector) and self.selector.super_batch > self.selector.size:
            raise ScrimpError(f"{selectors[0]} chooses sub-batches of one size: it does not go with a batch that grows")

    @classmethod
    def of(cls, specs: Sequence[dict[str, Any]], size: int, batch_size: int, seed: int, task: str | None = None) -> Methods:
        """Made from an arm's `methods`, for `size` examples and a recipe's `batch_size`."""
        named: dict[str, Method] = {}
        for spec in specs:
            check_method(spec, f"method {spec['name']}", task)
            made, name = method_class(spec["name"]), Path(spec["name"]).stem  # of a file of the user's own, or the name
            parameters = parameters_of(spec)
            if issubclass(made, EpochSelector):
                named[name] = made(size, seed, **parameters)
            elif issubclass(made, BatchSelector):
                named[name] = made(batch_size, seed, **parameters)
            else:
                named[name] = made(seed, **parameters)
        return cls(named)

    def adapt(self, model: nn.Module) -> None:
        for method in self.named.values():
            method.adapt(model)

    def batch_size(self, fraction: float, size: int) -> int:
        for method in self.named.values():
            size = method.batch_size(fraction, size)
        return size

    def learning_rate(self, fraction: float, factor: float) -> float:
        for method in self.named.values():
            factor = method.learning_rate(fraction, factor)
        return factor

    def flops(self, fraction: float, training: float) -> float:
        for method in self.named.values():
            training = method.flops(fraction, training)
        return training

    def after_step(self, model: nn.Module, fraction: float) -> None:
        for method in self.named.values():
            method.after_step(model, fraction)

    def diagnostics(self) -> dict[str, float]:
        return {name: value for method in self.named.values() for name, value in method.diagnostics().items()}

    def state_dict(self) -> dict[str, Tensor]:
        return {f"{name}/{key}": value for name, method in self.named.items() for key, value in method.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, method in self.named.items():
            mine = {key.partition("/")[2]: value for key, value in state.items() if key.partition("/")[0] == name}
            method.load_state_dict(mine)
