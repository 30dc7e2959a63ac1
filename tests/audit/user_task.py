"""A task as a user would write it, small enough for tests: a straight line through noisy points, lower is better."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scrimp.tasks.base import Task, seeded


class Line(Task):
    plain = {
        "epochs": 4,
        "recipe": {"optimizer": "sgd", "learning_rate": 0.05, "weight_decay": 0.0, "batch_size": 16},
        "metric": "mse",
    }

    def setup(self, workspace) -> None:
        draws = torch.Generator().manual_seed(0)
        inputs = torch.randn(192, 4, generator=draws)
        targets = inputs.sum(dim=1) + 0.1 * torch.randn(192, generator=draws)
        self.data = {"train": (inputs[:128], targets[:128]), "test": (inputs[128:], targets[128:])}

    def model(self, seed: int) -> nn.Module:
        return seeded(seed, lambda: nn.Linear(4, 1))

    def losses(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, targets = batch
        return (model(inputs)[:, 0] - targets).square()

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        return {"loss": self.mean_loss(model, split), "mse": self.mean_loss(model, split)}
