"""Muon (Jordan et al. 2024) for the matrices inside blocks, AdamW for all else: torch's own Muon beside our AdamW.

Its updates are scaled to the size of AdamW's (Liu et al. 2025, arXiv 2502.16982, 2.2), so that one learning rate and one
decay serve both. Cost: five Newton-Schulz steps a matrix and update (`update_flops`), 5 n over the tokens of a batch times
the training FLOPs of a square matrix of side n: little at the published sizes, a quarter for small models and batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scrimp.config.training import Recipe
from scrimp.errors import ScrimpError
from scrimp.training.optimizers import AdamW

NEWTON_SCHULZ_STEPS = 5


class MuonAdamW(AdamW):
    """Both as one optimiser; `param_groups` are all of their groups, `state` finds a parameter's in whichever has it."""

    def __init__(self, matrices: list[dict[str, Any]], others: list[dict[str, Any]], recipe: Recipe) -> None:
        self.adamw = AdamW(others, lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.eps)
        self.muon = torch.optim.Muon(
            matrices,
            lr=recipe.learning_rate,
            momentum=0.95,
            nesterov=True,
            ns_steps=NEWTON_SCHULZ_STEPS,
            adjust_lr_fn="match_rms_adamw",
        )
        self.param_groups = [*self.adamw.param_groups, *self.muon.param_groups]
        self.state = _States(self.adamw.state, self.muon.state, [p for group in matrices for p in group["params"]])  # type: ignore[assignment]

    def step(self) -> None:
        self.adamw.step()
        self.muon.step()


class _States:
    """The state of a parameter by the optimiser that has it."""

    def __init__(self, others: Any, matrices: Any, of_muon: list[Tensor]) -> None:
        self.others, self.matrices, self.of_muon = others, matrices, {id(parameter) for parameter in of_muon}

    def __getitem__(self, parameter: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = (self.matrices if id(parameter) in self.of_muon else self.others)[parameter]
        return found

    def get(self, parameter: Tensor, default: dict[str, Tensor]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = (self.matrices if id(parameter) in self.of_muon else self.others).get(parameter, default)
        return found


def update_flops(model: nn.Module) -> float:
    """FLOPs of an update of all matrices: five times x x' (m m n), its square (m m m) and a product with x, for m <= n."""
    sides = [sorted(weight.shape) for weight in of_muon(model).values()]
    return float(sum(NEWTON_SCHULZ_STEPS * 2 * (2 * m * m * n + m**3) for m, n in sides))


def of_muon(model: nn.Module) -> dict[str, Tensor]:
    """The matrices inside blocks, wherever the blocks are, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.ndim == 2 and "blocks." in name}


def build(model: nn.Module, recipe: Recipe, scales: Mapping[str, float] | None) -> MuonAdamW:
    """Muon for matrices whose names lie in `blocks`, wherever the blocks are; raises ScrimpError for a model without any."""
    matrices, others, inside = list[dict[str, Any]](), list[dict[str, Any]](), of_muon(model)
    for name, parameter in model.named_parameters():
        group: dict[str, Any] = {"params": [parameter], "scale": 1.0 if scales is None else scales[name]}
        group["weight_decay"] = recipe.weight_decay if parameter.ndim > 1 else 0.0
        (matrices if name in inside else others).append(group)
    if not matrices:
        raise ScrimpError("recipe.optimizer: muon takes matrices inside `blocks`; this model has none: take adamw")
    return MuonAdamW(list(_merged(matrices)), list(_merged(others)), recipe)


def _merged(groups: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One group for all parameters that share a scale and a decay, in the order of the first of each."""
    by_key: dict[tuple[float, float], dict[str, Any]] = {}
    for group in groups:
        known = by_key.setdefault((group["scale"], group["weight_decay"]), {**group, "params": []})
        known["params"] += group["params"]
    return iter(by_key.values())
