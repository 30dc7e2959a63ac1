"""Image classification: labelled pictures, in memory or in shards, one cross-entropy a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scrimp.config.tasks import ClassificationRecipe, ClassificationWorkload
from scrimp.config.training import Augmentation
from scrimp.data.loading import ImageSource, Normalisation, load_classification
from scrimp.data.streaming import open_classification
from scrimp.errors import ScrimpError
from scrimp.methods.embeddings import PictureEncoder, without_head
from scrimp.models import vision
from scrimp.tasks.base import EVALUATION_BATCH, Batch, Task
from scrimp.training import parallel
from scrimp.training.place import Place

if TYPE_CHECKING:
    from scrimp.config.workspace import Workspace


class Classification(Task):
    """Pictures uint8 [N, S, S, 3] with labels int64 [N]; batches are (pictures, labels)."""

    recipe_model = ClassificationRecipe
    workload_model = ClassificationWorkload
    workload: ClassificationWorkload

    def __init__(self, workload: ClassificationWorkload, place: Place) -> None:
        super().__init__(workload, place)
        self.recipe = workload.recipe

    @classmethod
    def model_names(cls) -> list[str]:
        return sorted(vision.BUILDERS)

    def setup(self, workspace: Workspace) -> None:
        workload = self.workload
        if workload.dataset is None or workload.model is None:
            raise ScrimpError("a workload of the task classification needs a `dataset` and a `model`")
        folder, device = workspace.shards(workload.dataset), self.place.device
        if workload.image_size is None:
            in_memory, classes = load_classification(folder)
            _need_splits(workload.dataset, in_memory)
            splits = {name: split.to(device) for name, split in in_memory.items()}
            self.use(splits, len(classes), Normalisation.of(in_memory["train"]))
        else:
            sharded, classes = open_classification(folder, workload.image_size, device)
            _need_splits(workload.dataset, sharded)
            self.use(sharded, len(classes), Normalisation.of(sharded["train"].sample()))

    def use(self, splits: Mapping[str, ImageSource], classes: int, normalise: Normalisation) -> None:
        """Take splits that lie on the device."""
        self.data, self.classes, self.normalise = dict(splits), classes, normalise.to(self.place.device)
        self.held_out = tuple(sorted((name for name in splits if name != "train"), key=lambda name: name != "test"))

    def model(self, seed: int) -> nn.Module:
        spec = self.workload.model
        assert spec is not None  # checked by setup
        built = vision.build(spec.name, self.classes, seed, spec.options)
        return built.to(self.place.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        logits, labels = self.outputs(model, batch)
        if self.on_outputs is not None:
            self.on_outputs(logits.detach(), labels)
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.recipe.label_smoothing)

    def outputs(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        pixels, labels = batch
        return model(self.normalise(pixels)).float(), labels

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Top-1 accuracy in percent and mean cross-entropy in nats, without augmentation and label smoothing."""
        model.eval()
        right, loss = 0, 0.0
        with self.place.autocast():
            for batch in self.batches(split):
                logits, labels = self.outputs(model, batch)
                right += int((logits.argmax(dim=1) == labels).sum())
                loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        model.train()
        return {"accuracy": 100 * right / self.size(split), "loss": loss / self.size(split)}

    def picture_encoder(self, seed: int) -> PictureEncoder:
        model = self.model(seed)
        width = without_head(model)
        return PictureEncoder(model, width, self.normalise, self.flops)

    @property
    def labels(self) -> Tensor:
        labels: Tensor = self.data[self.train_split].labels
        return labels.cpu()

    def size(self, split: str) -> int:
        return len(self.data[split])

    def batch(self, split: str, indices: Tensor, draws: torch.Generator | None = None) -> Batch:
        """Without augmentation: training batches come from `visits`, which a data set on disk reads ahead."""
        return next(self.data[split].visits([indices], Augmentation(), 0, 0, whole))

    def visits(self, batches: Sequence[Tensor], seed: int, number: int) -> Iterator[Batch]:
        images: Any = self.data[self.train_split]
        return images.visits(batches, self.recipe.augmentation, seed, number, parallel.part_of)

    def batches(self, split: str, at_a_time: int = EVALUATION_BATCH) -> Iterator[Batch]:
        return self.data[split].plain(at_a_time)


def whole(count: int) -> tuple[slice, float]:
    """All of a batch of `count`: the part of a process that works alone."""
    return slice(None), 1 / count


def _need_splits(dataset: str, splits: Mapping[str, ImageSource]) -> None:
    for needed in ("train", "test"):
        if needed not in splits:
            raise ScrimpError(f"dataset {dataset} has no split {needed!r}; it has {', '.join(splits)}")


TASK = Classification
