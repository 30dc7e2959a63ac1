"""Lightning with a SelectedData, in two processes with its defaults, killed inside an epoch and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from integration_worlds import BATCH, EPOCHS, LENGTHS, SIZE, STOP, Watched, check_resumed, check_whole, linear, together
from torch.nn import functional as F

pytest.importorskip("lightning")
pytestmark = pytest.mark.slow


def module_of(data: Watched, rates: list[float]) -> Any:
    """A linear model that notes the learning rate after every step."""
    import lightning as L
    from torch.optim.lr_scheduler import LambdaLR

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.lr = linear(), 0.1

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            (x, labels), index = batch
            return data.update(F.cross_entropy(self.layer(x), labels, reduction="none"), index)

        def on_train_batch_end(self, *_: Any) -> None:
            rates.append(self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
            schedule = LambdaLR(optimizer, lambda _: 1 - data.fraction)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    return Module()


QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def test_a_fit_after_another_or_a_search_for_a_rate_starts_the_data_anew(tmp_path: Path) -> None:
    import lightning as L
    from lightning.pytorch.tuner import Tuner

    from scrimp.integrations.lightning import SelectedDataCallback, SelectedLoader

    data, rates = Watched(), []
    loader = SelectedLoader(data, batch_size=BATCH)

    def fresh() -> Any:
        quiet = {**QUIET, "default_root_dir": tmp_path, "enable_checkpointing": False}
        return L.Trainer(max_epochs=EPOCHS, callbacks=[SelectedDataCallback(loader)], **quiet)

    trainer, module = fresh(), module_of(data, rates)
    Tuner(trainer).lr_find(module, loader, num_training=20, update_attr=False)
    assert data.seen
    for _ in range(2):
        data.seen, rates[:] = [], []
        trainer.fit(module, loader)
        lengths = [sum(len(at) for number, at in data.seen if number == epoch) for epoch in range(EPOCHS)]
        assert lengths == LENGTHS
        assert rates[0] == pytest.approx(0.1 * (1 - BATCH / SIZE / EPOCHS))
        assert rates[-1] == 0
        trainer = fresh()


def test_a_fit_goes_on_with_a_checkpoint_after_another_training(tmp_path: Path) -> None:
    import lightning as L
    from lightning.pytorch.callbacks import ModelCheckpoint

    from scrimp.integrations.lightning import SelectedDataCallback, SelectedLoader

    data = Watched()
    loader = SelectedLoader(data, batch_size=BATCH)
    saves = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=16, save_top_k=-1)  # inside epoch 1

    def fit(*callbacks: Any, checkpoint: str | None = None) -> list[Any]:
        data.seen = []
        options = {**QUIET, "default_root_dir": tmp_path, "enable_checkpointing": bool(callbacks)}
        trainer = L.Trainer(max_epochs=EPOCHS, callbacks=[SelectedDataCallback(loader), *callbacks], **options)
        trainer.fit(module_of(data, []), loader, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
        return data.seen

    whole = fit(saves)
    assert fit() == whole
    assert fit(checkpoint=str(tmp_path / "step=16.ckpt")) == whole[16:]


def train(folder: Path, rank: int, killed: bool = False, checkpoint: str | None = None) -> None:
    import lightning as L
    from torch.optim.lr_scheduler import LambdaLR

    from scrimp.integrations.lightning import SelectedDataCallback, SelectedLoader

    data = Watched()
    loader = SelectedLoader(data, batch_size=BATCH)

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = linear()

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            (x, labels), index = batch
            return data.update(F.cross_entropy(self.layer(x), labels, reduction="none"), index)

        def on_train_batch_end(self, *_: Any) -> None:
            if killed and len(data.seen) == STOP:
                self.trainer.save_checkpoint(str(folder / "state.ckpt"))
                self.trainer.should_stop = True

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            schedule = LambdaLR(optimizer, lambda _: 1 - data.fraction)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    module = Module()
    trainer = L.Trainer(
        accelerator="cpu",
        strategy="ddp",
        devices=2,
        max_epochs=EPOCHS,
        callbacks=[SelectedDataCallback(loader)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    weights, rate = [value.tolist() for value in module.parameters()], trainer.optimizers[0].param_groups[0]["lr"]
    data.record(folder / f"{rank}.json", weights=weights, rate=rate)


def test_two_processes_and_resuming_inside_an_epoch(tmp_path: Path) -> None:
    for name in ("whole", "killed", "resumed"):
        (tmp_path / name).mkdir()
    whole = together(train, tmp_path / "whole")
    check_whole(whole)
    assert whole[0]["rate"] == 0
    first = together(train, tmp_path / "killed", True)
    rest = together(train, tmp_path / "resumed", False, str(tmp_path / "killed" / "state.ckpt"))
    check_resumed(whole, first, rest)


def test_a_trial_of_one_batch_runs() -> None:
    import lightning as L

    from scrimp.integrations.lightning import SelectedDataCallback, SelectedLoader

    data = Watched()
    loader = SelectedLoader(data, batch_size=BATCH)
    trainer = L.Trainer(fast_dev_run=True, callbacks=[SelectedDataCallback(loader)], **QUIET)
    trainer.fit(module_of(data, []), loader)
    assert len(data.seen) == 1
    trainer = L.Trainer(max_epochs=EPOCHS, callbacks=[SelectedDataCallback(loader)], enable_checkpointing=False, **QUIET)
    trainer.fit(module_of(data, []), loader)
    assert [len(data.plans[epoch]) for epoch in range(EPOCHS)] == LENGTHS


def test_other_epochs_than_the_datas_are_refused() -> None:
    import lightning as L

    from scrimp.integrations.lightning import SelectedDataCallback, SelectedLoader

    trainer = L.Trainer(max_epochs=7, logger=False, enable_checkpointing=False, accelerator="cpu")
    with pytest.raises(ValueError, match=r"max_epochs=7.*epochs=3"):
        SelectedDataCallback(SelectedLoader(Watched(), BATCH)).setup(trainer, L.LightningModule(), "fit")
