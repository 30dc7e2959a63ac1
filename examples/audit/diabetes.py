"""A regression, where lower is better: scikit-learn's diabetes table, 442 rows of ten columns."""

from __future__ import annotations

import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from scrimp.tasks.base import Task, seeded


class Diabetes(Task):
    plain = {
        "epochs": 60,
        "recipe": {"optimizer": "adamw", "learning_rate": 3e-3, "weight_decay": 0.01, "batch_size": 32},
        "metric": "rmse",
    }

    def setup(self, workspace) -> None:
        rows, targets = load_diabetes(return_X_y=True, scaled=True)
        parts = [torch.from_numpy(part).float() for part in train_test_split(rows, targets, test_size=0.4, random_state=0)]
        x_train, x_test, y_train, y_test = parts
        mean, std = y_train.mean(), y_train.std()
        self.data = {"train": (20 * x_train, (y_train - mean) / std), "test": (20 * x_test, (y_test - mean) / std)}

    def model(self, seed: int) -> nn.Module:
        return seeded(seed, lambda: nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1)))

    def losses(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        rows, targets = batch
        return (model(rows)[:, 0] - targets).square()

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        return {"rmse": self.mean_loss(model, split) ** 0.5}
