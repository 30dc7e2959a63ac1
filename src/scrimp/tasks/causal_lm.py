"""Language modelling: the next token of windows of text, one mean cross-entropy a window.

Windows are drawn by the step in a seeded order, the same for every model and schedule, so runs of one seed see the same
tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scrimp.config.tasks import CausalLmRecipe, CausalLmWorkload
from scrimp.data.text import Text, load_text, window_count, windows
from scrimp.errors import ScrimpError
from scrimp.flops import ExampleFlops
from scrimp.kernels.cross_entropy import rowwise_cross_entropy
from scrimp.models.language import Language, build
from scrimp.tasks.base import Batch, Task
from scrimp.training.place import Place

if TYPE_CHECKING:
    from scrimp.config.workspace import Workspace

CONTEXT = 128  # tokens, where the model's options name none
EVALUATION_WINDOWS = 64


class CausalLm(Task):
    """Splits are tokens [N]; an example is a window of them, a batch inputs and targets, int64 [b, T] each."""

    recipe_model = CausalLmRecipe
    workload_model = CausalLmWorkload
    workload: CausalLmWorkload
    held_out = ("test",)
    by_epochs = False

    @classmethod
    def model_names(cls) -> list[str]:
        return ["transformer"]

    def setup(self, workspace: Workspace) -> None:
        if self.workload.dataset is None or self.workload.model is None:
            raise ScrimpError("a workload of the task causal-lm needs a `dataset` and a `model`")
        text = load_text(workspace.shards(self.workload.dataset))
        for needed in ("train", "validation", "test"):
            if needed not in text.splits:
                has = ", ".join(text.splits)
                raise ScrimpError(f"dataset {self.workload.dataset} has no split {needed!r}; it has {has}")
        self.use(text)

    def use(self, text: Text) -> None:
        """Take tokens by split."""
        assert self.workload.model is not None
        self.text, self.data = text, text.splits
        self.context = int(self.workload.model.options.get("context", CONTEXT))

    def model(self, seed: int) -> Language:
        assert self.workload.model is not None
        options = {key: value for key, value in self.workload.model.options.items() if key != "context"}
        return build(self.text.vocabulary, self.context, seed, options).to(self.place.device)

    def size(self, split: str) -> int:
        return window_count(self.data[split], self.context)

    def batch(self, split: str, indices: Tensor, draws: torch.Generator | None = None) -> Batch:
        return tuple(ids.to(self.place.device) for ids in windows(self.data[split], self.context, indices))

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        inputs, targets = batch
        logits = model(inputs).float()  # [b, T, V]
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape).mean(dim=1)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Mean cross-entropy in nats a token, and in bits a byte, over whole windows evenly spaced over the split."""
        assert isinstance(model, Language)
        loss = mean_loss(model, self.data[split], self.workload.evaluation_tokens, self.place)
        return {"loss": loss, "bits_per_byte": loss / math.log(2) / self.text.bytes_per_token[split]}

    def facts(self, model: nn.Module, examples: int) -> dict[str, float]:
        """Sizes by the conventions that scaling laws are stated in."""
        assert isinstance(model, Language)
        tokens = examples * self.context
        return {
            "tokens": float(tokens),
            "parameters_total": float(model.count_parameters("total")),
            "parameters_non_embedding": float(model.count_parameters("non-embedding")),
            "flops_matmul": tokens * model.flops_per_token("matmul"),
            "flops_6n_total": tokens * model.flops_per_token("6n-total"),
            "flops_6n_non_embedding": tokens * model.flops_per_token("6n-non-embedding"),
        }

    @property
    def flops(self) -> ExampleFlops:
        """Of one window, derived from the model's shape."""
        if not hasattr(self, "_flops"):
            model = self.model(0)
            per_token = (model.flops_per_token(training=False), model.flops_per_token())
            self._flops = ExampleFlops(*(self.context * of_one for of_one in per_token))
        return self._flops

    def learning_rate_scales(self, model: nn.Module) -> Mapping[str, float] | None:
        assert isinstance(model, Language)
        return model.learning_rate_scales()


@torch.no_grad()
def mean_loss(model: Language, tokens: Tensor, limit: int, place: Place) -> float:
    """Mean cross-entropy, nats a token, over at most `limit` tokens of a split, in whole windows evenly spaced over it."""
    count = window_count(tokens, model.context)
    wanted = max(1, min(count, limit // model.context))
    chosen = (torch.arange(wanted) * count) // wanted
    model.eval()
    total = 0.0
    for at in chosen.split(EVALUATION_WINDOWS):
        inputs, targets = (ids.to(place.device) for ids in windows(tokens, model.context, at))
        with place.autocast():
            hidden = model.hidden(inputs).flatten(0, 1)  # [b T, width]
        weight = model.embedding.weight.to(hidden.dtype)
        total += float(rowwise_cross_entropy(hidden, weight, targets.flatten()).sum(dtype=torch.float64))
    model.train()
    return total / (wanted * model.context)


TASK = CausalLm
