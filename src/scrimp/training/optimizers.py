"""Optimisers by name. torch has SGD and AdamW; LARS and LAMB, which the recipes also need, are below."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from scrimp.config import Recipe


class LayerwiseOptimizer(Optimizer):
    """Base of LARS and LAMB: both scale a tensor's step by a ratio of norms, one tensor at a time."""

    def _direction(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        raise TypeError(f"{type(self).__name__} defines no direction")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        if closure is not None:
            raise ValueError(f"{type(self).__name__} takes no closure: it evaluates nothing anew")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(self._direction(parameter, parameter.grad, group))


def trust_ratio(parameter: Tensor, update: Tensor) -> Tensor:
    """Norm of a parameter over the norm of its update, 1 where either is zero: a scalar tensor."""
    size, step = parameter.norm(), update.norm()
    return torch.where((size > 0) & (step > 0), size / step, torch.ones_like(size))


class LARS(LayerwiseOptimizer):
    """You, Gitman, Ginsburg 2017 (arXiv 1708.03888), algorithm 1. Groups with `adapt=False` take plain momentum steps."""

    def __init__(
        self, params: Any, lr: float, momentum: float = 0.9, weight_decay: float = 0.0, trust: float = 0.001
    ) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapt": True}
        )

    def _direction(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        update = gradient.add(parameter, alpha=group["weight_decay"])
        if group["adapt"]:
            # The paper's denominator |g| + wd |w| is an upper bound of |g + wd w|; it keeps the ratio from exploding.
            size, bound = parameter.norm(), gradient.norm() + group["weight_decay"] * parameter.norm()
            scale = torch.where((size > 0) & (bound > 0), group["trust"] * size / bound, torch.ones_like(size))
            update = update * scale
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        # The learning rate goes into the buffer, as in the paper, so that a change of it acts slowly.
        return state["momentum_buffer"].mul_(group["momentum"]).add_(update * group["lr"])


class LAMB(LayerwiseOptimizer):
    """You et al. 2019 (arXiv 1904.00962), algorithm 2. Groups with `adapt=False` take plain AdamW steps."""

    def __init__(
        self,
        params: Any,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "eps": eps, "adapt": True})

    def _direction(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        mean = state["exp_avg"].lerp_(gradient, 1 - beta1) / (1 - beta1 ** state["step"].item())
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        update = mean / ((square / (1 - beta2 ** state["step"].item())).sqrt() + group["eps"])
        update = update.add(parameter, alpha=group["weight_decay"])
        ratio = trust_ratio(parameter, update) if group["adapt"] else torch.ones(())
        return group["lr"] * ratio.to(update.device) * update


def build_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """The recipe's optimiser over a model's parameters.

    AdamW, LARS and LAMB spare biases and norm scales (tensors of one dimension) the weight decay and, for LARS and LAMB,
    the layer-wise ratio, as their papers' code does; SGD decays everything, as the CIFAR recipes do.
    """
    parameters = list(model.parameters())
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=True,  # one pass over all parameters: a fifth of the time for small models
        )
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    groups[1]["adapt"] = False
    if recipe.optimizer == "lars":
        return LARS(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
    return LAMB(groups, lr=recipe.learning_rate)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Give every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors: `STATE.NUMBER`, numbered in the order of its parameters."""
    return {
        f"{name}.{number}": value if isinstance(value, Tensor) else torch.tensor(value)
        for number, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state.get(parameter, {}).items()
        if value is not None
    }


def restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    parameters = list(_parameters(optimizer))
    for key, value in tensors.items():
        name, _, number = key.rpartition(".")
        parameter = parameters[int(number)]
        # Moments lie as their parameter does, in memory too: the order of summation in a norm hangs on it. Step counts
        # stay on the CPU, where torch and the classes above keep them.
        optimizer.state[parameter][name] = value.clone() if name == "step" else torch.empty_like(parameter).copy_(value)


def _parameters(optimizer: Optimizer) -> Iterable[Tensor]:
    for group in optimizer.param_groups:
        yield from group["params"]
