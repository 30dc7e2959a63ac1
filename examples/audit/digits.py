"""scikit-learn's digits: 1,797 pictures of 8 x 8, ten classes, a small network. `scrimp audit examples/audit/digits.py`."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

from scrimp.tasks.base import Task, seeded


class Digits(Task):
    plain = {
        "epochs": 20,
        "recipe": {"optimizer": "sgd", "learning_rate": 0.05, "weight_decay": 5e-4, "batch_size": 32},
        "metric": "accuracy",
    }

    def setup(self, workspace) -> None:
        pictures, labels = load_digits(return_X_y=True)
        parts = train_test_split(pictures, labels, test_size=0.4, random_state=0, stratify=labels)
        x_train, x_test, y_train, y_test = map(torch.from_numpy, parts)
        self.data = {"train": (x_train.float() / 16, y_train), "test": (x_test.float() / 16, y_test)}

    def model(self, seed: int) -> nn.Module:
        return seeded(seed, lambda: nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10)))

    def losses(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        pictures, labels = batch
        return F.cross_entropy(model(pictures), labels, reduction="none")

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        model.eval()
        right = torch.cat([model(pictures).argmax(dim=1) == labels for pictures, labels in self.batches(split)])
        model.train()
        return {"accuracy": 100 * right.double().mean().item(), "loss": self.mean_loss(model, split)}
