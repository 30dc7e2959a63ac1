"""Optimisers by name. torch has SGD and AdamW's arithmetic; LARS and LAMB, which the recipes also need, are below."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from scrimp.config.training import Recipe
from scrimp.errors import ScrimpError


class AdamW:
    """torch's fused AdamW, number for number, for processes that live for seconds.

    `torch.optim.AdamW` imports torch's whole compiler before its first step, 2 to 4 s of a run; the function underneath,
    which this keeps the state for, does not.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float = 1e-8) -> None:
        self.param_groups = [{"lr": lr, "betas": betas, "eps": eps, **group} for group in groups]
        self.state: dict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    @torch.no_grad()
    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in parameters:
                if "step" not in self.state[parameter]:
                    # As torch keeps them: steps as float32, beside the parameter, since the fused kernel counts them.
                    self.state[parameter] |= {
                        "step": torch.zeros((), device=parameter.device),
                        "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                        "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                    }
            states = [self.state[parameter] for parameter in parameters]
            beta1, beta2 = group["betas"]
            adamw(
                parameters,
                [parameter.grad for parameter in parameters if parameter.grad is not None],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=beta1,
                beta2=beta2,
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop every gradient, or with `set_to_none=False` fill it with zeros."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad.zero_()


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


class OwnOptimizer:
    """An optimiser that a task makes itself: schedules scale the learning rate that each of its groups begins with.

    So they follow each arm's length, and the recipe's own rate stands for all of them. Raises ScrimpError for one that
    cannot take a step by itself.
    """

    def __init__(self, inner: Optimizer, learning_rate: float) -> None:
        if not isinstance(inner, Optimizer) or isinstance(inner, torch.optim.LBFGS):
            raise ScrimpError(
                f"optimizer(model) gave a {type(inner).__name__}: it must be a torch.optim.Optimizer "
                "whose step needs no closure"
            )
        self.inner = inner
        for group in inner.param_groups:
            group["scale"] = float(group["lr"]) / learning_rate

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.inner.param_groups

    @property
    def state(self) -> Any:
        return self.inner.state

    def step(self) -> None:
        self.inner.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.inner.zero_grad(set_to_none=set_to_none)


AnyOptimizer = Optimizer | AdamW | OwnOptimizer
NUMBER, GROUP = "number:", "group:"  # what a checkpoint calls an optimiser's plain numbers, and its groups'


def build_optimizer(model: nn.Module, recipe: Recipe, scales: Mapping[str, float] | None = None) -> AnyOptimizer:
    """The recipe's optimiser over a model's parameters.

    AdamW, LARS and LAMB spare biases and norm scales (tensors of one dimension) the weight decay and, for LARS and LAMB,
    the layer-wise ratio, as their papers' code does; SGD decays everything, as the CIFAR recipes do. `scales`, for AdamW,
    gives parameters by name their share of the learning rate.
    """
    parameters = list(model.parameters())
    if recipe.optimizer == "muon":
        from scrimp.training import muon  # torch's own, which takes seconds to import

        return muon.build(model, recipe, scales)
    if scales is not None and recipe.optimizer != "adamw":
        raise ScrimpError(f"recipe.optimizer: {recipe.optimizer} takes one learning rate; this model wants adamw")
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
        if scales is not None:
            groups = _by_scale(model, groups, scales)
        return AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.eps)
    groups[1]["adapt"] = False
    if recipe.optimizer == "lars":
        return LARS(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
    return LAMB(groups, lr=recipe.learning_rate, betas=recipe.betas)


def _by_scale(model: nn.Module, groups: list[dict[str, Any]], scales: Mapping[str, float]) -> list[dict[str, Any]]:
    """Groups split so that all parameters of one have one share of the learning rate, `scale`."""
    share = {id(parameter): scales[name] for name, parameter in model.named_parameters()}
    return [
        {**group, "params": [p for p in group["params"] if share[id(p)] == scale], "scale": scale}
        for group in groups
        for scale in sorted({share[id(p)] for p in group["params"]})
    ]


def set_learning_rate(optimizer: AnyOptimizer, learning_rate: float) -> None:
    """Give every parameter group the learning rate, or its share of it."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("scale", 1.0)


def optimizer_tensors(optimizer: AnyOptimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors: `STATE.NUMBER`, numbered in the order of its parameters.

    Of a user's own also the numbers that it keeps in its groups, but not the learning rate, which the schedule sets.
    """
    tensors = {}
    for number, parameter in enumerate(_parameters(optimizer)):
        for name, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{name}.{number}"] = value
            elif isinstance(value, int | float):
                tensors[f"{NUMBER}{name}.{number}"] = _number(value)
            elif value is not None:
                raise ScrimpError(
                    f"the optimiser keeps a {type(value).__name__} under {name!r}: a checkpoint holds tensors and numbers"
                )
    if isinstance(optimizer, OwnOptimizer):
        for number, group in enumerate(optimizer.param_groups):
            numbers = {name: value for name, value in group.items() if name not in ("lr", "scale")}
            tensors |= {
                f"{GROUP}{name}.{number}": _number(value)
                for name, value in numbers.items()
                if isinstance(value, int | float) and not isinstance(value, bool)
            }
    return tensors


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)


def restore_optimizer(optimizer: AnyOptimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    parameters = list(_parameters(optimizer))
    for key, value in tensors.items():
        name, _, number = key.rpartition(".")
        if name.startswith(GROUP):
            optimizer.param_groups[int(number)][name.removeprefix(GROUP)] = value.item()
            continue
        parameter = parameters[int(number)]
        if name.startswith(NUMBER):
            numbers: dict[str, Any] = optimizer.state[parameter]
            numbers[name.removeprefix(NUMBER)] = value.item()
        elif name == "step":
            # LARS and LAMB count on the CPU, a fused kernel where it computes.
            beside = isinstance(optimizer, AdamW) or _counts_beside(optimizer, parameter)
            optimizer.state[parameter][name] = value.to(parameter.device if beside else "cpu", copy=True)
        elif value.shape != parameter.shape:  # sums over rows and columns, as Adafactor keeps
            optimizer.state[parameter][name] = value.to(parameter.device, copy=True)
        else:
            # Moments lie as their parameter does, in memory too: the order of summation in a norm depends on it.
            optimizer.state[parameter][name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _counts_beside(optimizer: AnyOptimizer, parameter: Tensor) -> bool:
    """Whether torch's optimisers keep the number of steps where the parameter is: for a fused or captured kernel."""
    group = next(group for group in optimizer.param_groups if any(parameter is one for one in group["params"]))
    return bool(group.get("fused") or group.get("capturable"))


def _parameters(optimizer: AnyOptimizer) -> Iterable[Tensor]:
    for group in optimizer.param_groups:
        yield from group["params"]
