"""A segmentation task with one loss a picture: which pixels belong to the disc? Drawn here; mean intersection over union."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scrimp.tasks.base import Task, seeded

SIZE = 24


def draw(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """A disc on stripes in noise: float [n, 1, 24, 24], and its mask: float [n, 24, 24]."""
    draws = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    middle = torch.randint(6, SIZE - 6, (count, 2, 1, 1), generator=draws)
    radius = torch.randint(3, 7, (count, 1, 1), generator=draws)
    mask = ((y - middle[:, 0]) ** 2 + (x - middle[:, 1]) ** 2 <= radius**2).float()
    stripes = torch.sin(x * (0.5 + torch.rand(count, 1, 1, generator=draws)))
    noise = 0.7 * torch.randn(count, SIZE, SIZE, generator=draws)
    return (mask + 0.5 * stripes + noise)[:, None], mask


class Silhouettes(Task):
    plain = {
        "epochs": 6,
        "recipe": {"optimizer": "adamw", "learning_rate": 3e-3, "weight_decay": 0.01, "batch_size": 16},
        "metric": "miou",
    }

    def setup(self, workspace) -> None:
        self.data = {"train": draw(800, 0), "test": draw(400, 1)}

    def model(self, seed: int) -> nn.Module:
        def make() -> nn.Module:
            layers: list[nn.Module] = []
            for channels in (1, 16, 16):
                layers += [nn.Conv2d(channels, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
            return nn.Sequential(*layers, nn.Conv2d(16, 1, 1))

        return seeded(seed, make)

    def losses(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        pictures, mask = batch
        return F.binary_cross_entropy_with_logits(model(pictures)[:, 0], mask, reduction="none").mean(dim=(1, 2))

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        model.eval()
        shares = []
        for pictures, mask in self.batches(split):
            said = model(pictures)[:, 0] > 0
            both, either = (said & (mask > 0)).sum(dim=(1, 2)), (said | (mask > 0)).sum(dim=(1, 2))
            shares.append(both / either.clamp(min=1))
        model.train()
        return {"miou": 100 * torch.cat(shares).double().mean().item()}
