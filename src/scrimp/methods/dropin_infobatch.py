"""InfoBatch for somebody else's training loop: a SelectedData with its selector, and what it expects of it."""

from __future__ import annotations

import warnings
from typing import Literal

import torch.distributed as dist
from torch.utils.data import Dataset

from scrimp.methods.dropin import Exchange, Item, SelectedData
from scrimp.methods.infobatch import InfoBatchSelector, below_threshold


class InfoBatch(SelectedData[Item]):
    """InfoBatch (Qin et al., ICLR 2024) around a map-style dataset: see scrimp/methods/infobatch.py for the method.

    `ratio` is the share pruned of the examples below the mean loss, `delta` the share of the epochs after which all data
    is used, `rescale` and `anneal` switch the two corrections, `threshold` is "mean" or a quantile in (0, 1). The last of
    several epochs is whole wherever delta is below 1, so that runs below eight epochs end on all data too. Nothing can be
    pruned in the first epoch, which has no losses yet, nor in that last one: where no other is left, a warning says so.
    """

    def __init__(
        self,
        dataset: Dataset[Item],
        epochs: int,
        ratio: float = 0.5,
        delta: float = 0.875,
        *,
        rescale: bool = True,
        anneal: bool = True,
        threshold: Literal["mean"] | float = "mean",
        seed: int = 0,
        process_group: dist.ProcessGroup | None = None,
        exchange: Exchange = "update",
    ) -> None:
        size = len(dataset) if hasattr(dataset, "__len__") else 0
        if delta < 1 and epochs > 1:
            delta = min(delta, (epochs - 1) / epochs)
        selector = InfoBatchSelector(
            size, seed, ratio=ratio, delta=delta, rescale=rescale, anneal=anneal, threshold=threshold
        )
        super().__init__(dataset, selector, epochs, seed, process_group, exchange)
        if ratio > 0 and (epochs == 1 or (anneal and 1 / epochs >= delta)):
            remedy = {1: "train for three epochs or more", 2: "train for three epochs or more, or give delta=1"}
            warnings.warn(
                f"InfoBatch prunes nothing in {epochs} epoch{'s' * (epochs > 1)} with delta={delta:g}: the first has no "
                f"losses to prune by, and from delta on all data is used; {remedy.get(epochs, 'give a larger delta')}",
                stacklevel=3,  # past the metaclass's call
            )

    def _expected_share(self, epoch: int) -> float:
        assert isinstance(self.selector, InfoBatchSelector)
        options, scores = self.selector.params, self.selector.scores
        if epoch == 0 or (options.anneal and epoch / self.epochs >= options.delta):
            return 1.0
        known = scores[scores.isfinite()]
        below = float(below_threshold(known, options.threshold).float().mean()) if len(known) else 0.5
        return 1.0 - float(options.ratio) * below
