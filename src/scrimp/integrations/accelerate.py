"""InfoBatch, or another selector, under Accelerate.

    model, optimizer = accelerator.prepare(model, optimizer)
    loader = prepare_loader(accelerator, InfoBatch(dataset, epochs=10), batch_size=32)      # 1
    scheduler = LambdaLR(optimizer, lambda _: 1 - loader.dataset.fraction)                  # 2
    for batch, index in loader:
        loss = loader.dataset.update(losses(model, batch), index)                           # 3

Accelerate splits a prepared loader's batches over the processes, so the loader gets the sampler that does not split. The
data's state goes into `accelerator.save_state`, and `load_state` goes on inside the epoch: skip no batches yourself.
"""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator
from torch.utils.data import DataLoader

from scrimp.methods.dropin import SelectedData


def prepare_loader(accelerator: Accelerator, data: SelectedData[Any], batch_size: int, **options: Any) -> DataLoader[Any]:
    """A prepared loader over `data`, `batch_size` examples a process (with `split_batches` in all); `options`: DataLoader's.

    Raises ValueError where the main process alone would read the data (`dispatch_batches`).
    """
    if accelerator.dispatch_batches:
        raise ValueError(
            "dispatch_batches=True reads the data in the main process alone, and the others would never learn the plan: "
            "leave it out of DataLoaderConfiguration"
        )
    accelerator.register_for_checkpointing(data)
    loader: DataLoader[Any] = accelerator.prepare(
        DataLoader(data, batch_size=batch_size, sampler=data.plain_sampler, **options)
    )
    return loader
