"""A multi-label task: which of five shapes does a picture show? Drawn here; F1 over all labels, so higher is better."""

from __future__ import annotations

import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.nn import functional as F

from scrimp.tasks.base import Task, seeded

SIZE, SHAPES = 16, 5


def draw(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise with any of five marks at random places: float [n, 1, 16, 16], and which are there: float [n, 5]."""
    draws = torch.Generator().manual_seed(seed)
    there = (torch.rand(count, SHAPES, generator=draws) < 0.4).float()
    pictures = 0.6 * torch.randn(count, 1, SIZE, SIZE, generator=draws)
    marks = torch.stack([torch.eye(4), torch.eye(4).flip(0), torch.zeros(4, 4), torch.zeros(4, 4), torch.ones(4, 4)])
    marks[2, 1] = marks[3, :, 1] = 1.0
    places = torch.randint(0, SIZE - 4, (count, SHAPES, 2), generator=draws)
    for picture in range(count):
        for shape in there[picture].nonzero()[:, 0].tolist():
            y, x = places[picture, shape].tolist()
            pictures[picture, 0, y : y + 4, x : x + 4] += 1.5 * marks[shape]
    return pictures, there


class Scenes(Task):
    plain = {
        "epochs": 10,
        "recipe": {"optimizer": "adamw", "learning_rate": 3e-3, "weight_decay": 0.01, "batch_size": 32},
        "metric": "f1",
    }

    def setup(self, workspace) -> None:
        self.data = {"train": draw(1500, 0), "test": draw(1000, 1)}

    def model(self, seed: int) -> nn.Module:
        def make() -> nn.Module:
            layers = [nn.Conv2d(1, 16, 5, padding=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1)]
            head = [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(32, SHAPES)]
            return nn.Sequential(*layers, nn.BatchNorm2d(32), nn.ReLU(), *head)

        return seeded(seed, make)

    def losses(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        pictures, there = batch
        return F.binary_cross_entropy_with_logits(model(pictures), there, reduction="none").mean(dim=1)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        model.eval()
        said, true = zip(*((model(pictures) > 0, there) for pictures, there in self.batches(split)), strict=True)
        model.train()
        return {"f1": 100 * f1_score(torch.cat(true), torch.cat(said), average="macro")}
