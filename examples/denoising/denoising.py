"""A task of one's own in one file: remove noise from pictures, one mean squared error a picture.

Everything that selects by example, weighs examples, or changes batch size or rate works on it. The study beside it compares
the plain recipe at three lengths with RS2, InfoBatch and a growing batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scrimp.config.workspace import Workspace
from scrimp.data.loading import load_classification
from scrimp.seeding import derived_generator
from scrimp.tasks.base import Task, seeded

NOISE = 0.3  # standard deviation, where pictures lie in [0, 1]


class Denoising(Task):
    """Batches are (noisy, clean), float [b, 3, S, S] each."""

    def setup(self, workspace: Workspace) -> None:
        splits, _ = load_classification(workspace.shards(str(self.workload.dataset)))
        for name, images in splits.items():
            clean = images.pixels.permute(0, 3, 1, 2).float() / 255
            noise = torch.randn(clean.shape, generator=derived_generator(0, 0, name))  # the same for every run
            self.data[name] = (clean + NOISE * noise, clean)

    def model(self, seed: int) -> nn.Module:
        return seeded(seed, Denoiser).to(self.place.device)

    def losses(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        noisy, clean = batch
        return (model(noisy) - clean).square().flatten(1).mean(dim=1)  # [b]

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        return {"mse": self.mean_loss(model, split)}


class Denoiser(nn.Module):
    """Predicts the noise, which is what is taken away: [b, 3, S, S] to the same."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 3, 3, padding=1),
        )

    def forward(self, noisy: Tensor) -> Tensor:
        return noisy - self.layers(noisy)
