"""InfoBatch, or another selector, under Lightning.

    loader = SelectedLoader(InfoBatch(dataset, epochs=10), batch_size=32)                              # 1
    trainer = Trainer(max_epochs=10, callbacks=[SelectedDataCallback(loader)])                         # 2
    # in training_step: (x, y), index = batch
    loss = loader.dataset.update(F.cross_entropy(self(x), y, reduction="none"), index)                 # 3

The sampler splits by itself and says so by its type, which Lightning respects. A schedule of the learning rate follows
`loader.dataset.fraction`, as `LambdaLR(optimizer, lambda _: 1 - data.fraction)` with `interval: step`.
"""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from scrimp.methods.dropin import SelectedData


class SelectedLoader(DataLoader[Any]):
    """A loader that goes on inside an epoch: its state is the data's, and its length counts the batches that are done.

    `options` are DataLoader's, but for the sampler and `shuffle`.
    """

    dataset: SelectedData[Any]

    def __init__(self, data: SelectedData[Any], batch_size: int = 1, **options: Any) -> None:
        options.setdefault("sampler", data.sampler)  # Lightning copies loaders with all of their arguments
        super().__init__(data, batch_size=batch_size, **options)

    def __len__(self) -> int:
        assert self.batch_size is not None
        return math.ceil(self.dataset.restored / self.dataset.sampler.num_replicas / self.batch_size) + super().__len__()

    def state_dict(self) -> dict[str, Any]:
        return self.dataset.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.dataset.load_state_dict(state)


class SelectedDataCallback(Callback):
    """Has Lightning ask for the loader's length anew in every epoch, and checks that all epochs are run.

    A fit from the first step on starts the data anew, whatever trained on it before, such as `Tuner.lr_find`. Where it goes
    on from a checkpoint, Lightning restores the loader's state after that.
    """

    def __init__(self, loader: SelectedLoader) -> None:
        self.loader = loader

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        epochs = self.loader.dataset.epochs
        known: Any = trainer  # a trainer gets more attributes than its class names
        if known.max_epochs != epochs and not known.fast_dev_run:  # a trial of a few batches has one epoch of its own
            raise ValueError(
                f"Trainer(max_epochs={trainer.max_epochs}) and data of epochs={epochs} differ: the last epoch is whole, and "
                "a learning rate that follows data.fraction ends with them; give both the same number"
            )
        known.reload_dataloaders_every_n_epochs = 1  # an epoch's length is known when it begins
        if trainer.global_step == 0 and self.loader.dataset.trained:
            self.loader.dataset.reset()  # before the loader is asked for its length

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.loader.dataset.finish_epoch()
