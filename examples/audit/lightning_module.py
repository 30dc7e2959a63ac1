"""A Lightning user's module and data, wrapped: everything up to `class Audited` is as it was. `pip install lightning`."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from sklearn.datasets import load_wine
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split

from scrimp.tasks.base import Task, seeded


class Wine(lightning.LightningDataModule):
    """scikit-learn's wine table: 178 rows of 13 columns, three cultivars."""

    def setup(self, stage: str | None = None) -> None:
        rows, labels = map(torch.from_numpy, load_wine(return_X_y=True))
        rows = (rows - rows.mean(dim=0)) / rows.std(dim=0)
        data = TensorDataset(rows.float(), labels)
        self.train: Dataset[Any]
        self.train, self.validation = random_split(data, [0.6, 0.4], torch.Generator().manual_seed(0))

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train, batch_size=16, shuffle=True)


class Net(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3))

    def forward(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.layers(rows)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        rows, labels = batch
        loss = F.cross_entropy(self(rows), labels)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.NAdam(self.parameters(), lr=5e-3)


class Audited(Task):
    # The optimiser is the module's, below; `optimizer` here is not used, and the rate stands for the module's own.
    plain = {
        "epochs": 20,
        "recipe": {"optimizer": "adamw", "learning_rate": 5e-3, "weight_decay": 0.0, "batch_size": 16},
        "metric": "loss",
    }

    def setup(self, workspace: Any) -> None:
        data = Wine()
        data.setup()
        self.data = {"train": data.train, "test": data.validation}

    def model(self, seed: int) -> nn.Module:
        return seeded(seed, Net).to(self.place.device)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        assert isinstance(model, Net)
        return model.configure_optimizers()  # the scheduler stays away: the recipe's follows each arm's length

    def losses(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        rows, labels = batch
        return F.cross_entropy(model(rows), labels, reduction="none")
