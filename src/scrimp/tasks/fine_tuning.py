"""Fine-tuning a pre-trained encoder on labelled texts, one head a task: GLUE's protocol (Wang et al. 2018, BERT 4.1).

A text ends with end-of-text, a pair is one text after the other. Both are cut to the context, the longer one first. Classes
are learned by cross-entropy; grades by squared error, of grades that have mean 0 and variance 1 on the training split.
Epochs visit all of the training split. Deviation from BERT: no marks of the first and second text, since Cramming has none.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scrimp.config.base import unknown
from scrimp.config.tasks import FineTuningRecipe, FineTuningWorkload
from scrimp.data.shards import read_manifest, read_samples
from scrimp.data.text import Text, load_text
from scrimp.errors import ScrimpError
from scrimp.measure.scores import score
from scrimp.models.language import Language, build
from scrimp.models.language_heads import TextHead
from scrimp.tasks.base import Batch, Task, seeded
from scrimp.tasks.noise import with_noise
from scrimp.training.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from scrimp.config.workspace import Workspace

CONTEXT = 128  # tokens, where the model's options name none
NEEDED = ("split", "text", "other", "label")


class FineTuning(Task):
    """A batch is ids [b, T], lengths [b], labels float [b] and noise [b], T being the longest text's."""

    recipe_model = FineTuningRecipe
    workload_model = FineTuningWorkload
    workload: FineTuningWorkload
    held_out = ("validation", "test", "test-mismatched")
    fresh: Callable[[int], Language] | None = None  # makes a seed's own body where none was pre-trained

    @classmethod
    def model_names(cls) -> list[str]:
        return ["encoder"]

    def setup(self, workspace: Workspace) -> None:
        given = self.workload
        if given.dataset is None or given.tokens_of is None or given.model is None:
            raise ScrimpError(
                "a workload of the task fine-tuning needs a `dataset`, a `model`, and `tokens_of`: a tokenizer's"
            )
        text = load_text(workspace.shards(given.tokens_of))
        options = {**given.model.options, "causal": False, "dropout": given.recipe.dropout}
        context = int(options.pop("context", CONTEXT))
        body = build(text.vocabulary + 1, context, 0, options)
        if given.start is not None:
            load_body(body, workspace.root / given.start)
        self.use(workspace.shards(given.dataset), text, body)
        if given.start is None:
            self.fresh = lambda seed: build(text.vocabulary + 1, context, seed, options)

    def use(self, folder: Path, text: Text, body: Language) -> None:
        """Take a labelled dataset, what its texts are read by, and the pre-trained body, which is left as it is."""
        about, table = read_manifest(folder), read_samples(folder)
        if missing := [column for column in NEEDED if column not in table.columns]:
            raise ScrimpError(unknown("column", missing[0], map(str, table.columns), str(folder / "samples.parquet")))
        if text.tokenizer is None:
            raise ScrimpError("generated symbols have no tokenizer that could read a labelled text")
        self.text, self.body = text, body
        self.classes: list[str] | None = about["classes"]
        self.metrics: list[str] = about["metrics"]
        labels = table["label"].to_numpy(np.float64)
        if self.classes is not None and not np.isin(labels, np.arange(len(self.classes))).all():
            wrong = next(label for label in labels if label not in range(len(self.classes)))
            raise ScrimpError(f"{folder.name}: the label {wrong:g} is none of the {len(self.classes)} classes")
        self.data = {str(split): self._encoded(rows) for split, rows in table.groupby("split", sort=False)}
        grades = self.data[self.train_split][2]
        self.centre, self.spread = float(grades.mean()), float(grades.std().clamp(min=1e-6))

    def _encoded(self, rows: pd.DataFrame) -> tuple[Tensor, ...]:
        """Ids int64 [n, T], filled up with end-of-text; lengths [n]; labels float [n]."""
        if rows["split"].iloc[0] == self.train_split and self.workload.training_examples is not None:
            rows = rows.iloc[: self.workload.training_examples]
        tokenizer = self.text.tokenizer
        assert tokenizer is not None  # `use` refuses such
        texts, others = (tokenizer.encode(rows[column].tolist()) for column in ("text", "other"))
        joined = []
        for text, other in zip(texts, others, strict=True):
            room = self.body.context - (2 if len(other) else 1)
            first, second = text, other
            while len(first) + len(second) > room:  # the longer one loses its end
                over = len(first) + len(second) - room
                if len(first) > len(second):
                    first = first[: max(len(second), len(first) - over)]
                elif len(second) > len(first):
                    second = second[: max(len(first), len(second) - over)]
                else:
                    first, second = first[: (room + 1) // 2], second[: room // 2]
            end = [self.text.end_of_text]
            joined.append(np.concatenate([first, end, second, end] if len(other) else [first, end]).astype(np.int64))
        lengths = torch.tensor([len(ids) for ids in joined])
        ids = torch.full((len(joined), int(lengths.max())), self.text.end_of_text)
        for row, found in enumerate(joined):
            ids[row, : len(found)] = torch.from_numpy(found)
        return ids, lengths, torch.tensor(rows["label"].to_numpy(np.float32))

    def model(self, seed: int) -> TextHead:
        """The body with a fresh head; without pre-training, the body is fresh too."""
        recipe, outputs = self.workload.recipe, len(self.classes or [0])
        body = copy.deepcopy(self.body) if self.fresh is None else self.fresh(seed)
        options: dict[str, Any] = {"pooling": recipe.pooling, "head_width": recipe.head_width, "dropout": recipe.dropout}
        return seeded(seed, lambda: TextHead(body, outputs, **options)).to(self.place.device)

    def batch(self, split: str, indices: Tensor, draws: torch.Generator | None = None) -> Batch:
        ids, lengths, labels = (tensor[indices] for tensor in self.data[split])
        noise = torch.zeros_like(lengths) if draws is None else torch.randint(2**62, (len(indices),), generator=draws)
        ids = ids[:, : int(lengths.max())]
        return tuple(tensor.to(self.place.device) for tensor in (ids, lengths, labels, noise))

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        ids, lengths, labels, noise = batch
        with with_noise(noise, model.training and self.workload.recipe.dropout > 0):
            logits = model(ids, lengths).float()  # [b, outputs]
        if self.classes is None:
            return (logits[:, 0] - (labels - self.centre) / self.spread).square()
        return F.cross_entropy(logits, labels.long(), reduction="none")

    def learning_rate_scales(self, model: nn.Module) -> Mapping[str, float] | None:
        """The body's, and all of the rate for the head."""
        assert isinstance(model, TextHead)
        scales = {f"body.{name}": share for name, share in model.body.learning_rate_scales().items()}
        return {name: scales.get(name, 1.0) for name, _ in model.named_parameters()}

    def outputs(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        if self.classes is None:
            return super().outputs(model, batch)
        return model(batch[0], batch[1]).float(), batch[2].long()

    @property
    def labels(self) -> Tensor:
        if self.classes is None:
            return super().labels
        found: Tensor = self.data[self.train_split][2].long()
        return found

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """The dataset's metrics, the one that counts first."""
        model.eval()
        found = []
        # Texts of a length lie together, so that little is computed for padding.
        for indices in self.data[split][1].argsort(stable=True).split(128):
            ids, lengths, labels, _ = self.batch(split, indices)
            with self.place.autocast():
                logits = model(ids, lengths).float()
            guess = logits[:, 0] if self.classes is None else logits.argmax(dim=1).float()
            found.append(torch.stack([guess, labels]).cpu())
        model.train()
        predicted, labels = torch.cat(found, dim=1).double().numpy()
        return {metric: score(metric, predicted, labels) for metric in self.metrics}


def load_body(body: Language, path: Path) -> None:
    """Put the weights of a run's saved state into a model of the same options.

    Raises ScrimpError where the file is missing or damaged, or where its model is another one.
    """
    state = load_checkpoint(path, None)
    if state is None:
        raise ScrimpError(f"{path} is no run's saved state, or is damaged: train it first, or mend `start`")
    try:
        body.load_state_dict(state[0]["model"])
    except RuntimeError as error:
        why = str(error).splitlines()[-1].strip()
        raise ScrimpError(f"{path} holds another model than `model.options` say: {why}") from error


TASK = FineTuning
