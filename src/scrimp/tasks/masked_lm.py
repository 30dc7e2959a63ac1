"""Masked language modelling (BERT, arXiv 1810.04805, 3.1): tokens of a window that are hidden, from all the others.

An example is a window of text, of which a fixed number of tokens is predicted, round(masking x context), as Cramming does
(arXiv 2212.14034, 4.3: 15.6 % are 20 of 128). Of these 80 % become the mask, 10 % a random token, 10 % stay. Places and
kinds are drawn from (seed, step). The read-out is computed for those rows alone. Held-out windows have masks that no recipe
changes, so that losses of one tokenizer compare; bits a byte, over the bytes of all tokens, compare across tokenizers, but
are no code length. With `downstream`, the finished model is fine-tuned on labelled texts too (`downstream.py`).
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scrimp.config.tasks import MaskedLmRecipe, MaskedLmWorkload
from scrimp.config.training import Workload
from scrimp.data.text import windows
from scrimp.errors import ScrimpError
from scrimp.flops import ExampleFlops
from scrimp.models.language import Language, build
from scrimp.seeding import derived_generator
from scrimp.tasks.base import Batch
from scrimp.tasks.causal_lm import EVALUATION_WINDOWS, CausalLm
from scrimp.tasks.noise import with_noise
from scrimp.training.place import Place

if TYPE_CHECKING:
    from scrimp.config.workspace import Workspace

MASKED, RANDOM = 0.8, 0.1  # shares of what is predicted; the rest stays as it is


class MaskedLm(CausalLm):
    """A batch is inputs [b, T], places [b, k] and tokens [b, k] of what is predicted, and noise [b], all int64."""

    recipe_model = MaskedLmRecipe
    workload_model = MaskedLmWorkload
    workload: MaskedLmWorkload

    @classmethod
    def model_names(cls) -> list[str]:
        return ["encoder"]

    def __init__(self, workload: Workload, place: Place) -> None:
        super().__init__(workload, place)
        self._fixed: dict[str, list[Batch]] = {}  # split -> what it is evaluated on

    def setup(self, workspace: Workspace) -> None:
        self.workspace = workspace
        super().setup(workspace)

    @property
    def mask(self) -> int:
        """The mask's id: the one behind the vocabulary's last."""
        return self.text.vocabulary

    def model(self, seed: int) -> Language:
        assert self.workload.model is not None
        options = {key: value for key, value in self.workload.model.options.items() if key != "context"}
        if options.pop("causal", False):
            raise ScrimpError("model.options: causal: a masked language model sees both sides; leave it out")
        return build(self.mask + 1, self.context, seed, {**options, "causal": False}).to(self.place.device)

    # --- batches ---
    def predicted(self, share: float) -> int:
        """How many tokens of a window are predicted."""
        return max(1, round(share * self.context))

    def batch(self, split: str, indices: Tensor, draws: torch.Generator | None = None) -> Batch:
        """Windows with masks from `draws`, or with the fixed ones of the evaluation."""
        ids, _ = windows(self.data[split], self.context, indices)
        if draws is None:
            count = self.predicted(self.workload.evaluation_masking)
            each = [
                self._masked(row[None], count, derived_generator(0, index, f"masks of {split}"))
                for row, index in zip(ids, indices.tolist(), strict=True)
            ]
            found = tuple(torch.cat(part) for part in zip(*each, strict=True))
        else:
            found = self._masked(ids, self.predicted(self.workload.recipe.masking), draws)
        return tuple(tensor.to(self.place.device) for tensor in found)

    def _masked(self, ids: Tensor, count: int, draws: torch.Generator) -> tuple[Tensor, ...]:
        inputs, places = masked(ids, count, self.text.vocabulary, self.mask, self.text.end_of_text, draws)
        noise = torch.randint(2**62, (len(ids),), generator=draws)
        return inputs, places, ids.gather(1, places), noise

    def draw(self, first: int, count: int, seed: int) -> Tensor:
        if self.workload.recipe.order == "stored":
            return torch.arange(first, first + count) % self.examples
        return super().draw(first, count, seed)

    # --- loss, measurement ---
    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean cross-entropy of each window's predicted tokens, nats: [b]."""
        assert isinstance(model, Language)
        inputs, places, tokens, noise = batch
        with with_noise(noise, model.training and model.dropout > 0):
            x = model.body(inputs)  # [b, T, width]
        rows = x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))  # [b, k, width]
        logits = model.logits(rows).float()  # [b, k, V]
        return F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view(tokens.shape).mean(dim=1)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Mean cross-entropy of fixed masked tokens, in nats and in bits a byte, over windows evenly spaced."""
        count = self.size(split)
        wanted = max(1, min(count, self.workload.evaluation_tokens // self.context))
        chosen = (torch.arange(wanted) * count) // wanted
        if split not in self._fixed:  # drawing a window's masks takes as long as its forward pass does
            self._fixed[split] = [self.batch(split, indices) for indices in chosen.split(EVALUATION_WINDOWS)]
        model.eval()
        total = 0.0
        for batch in self._fixed[split]:
            with self.place.autocast():
                total += float(self.losses(model, batch).sum(dtype=torch.float64))
        model.train()
        loss = total / wanted
        return {"loss": loss, "bits_per_byte": loss / math.log(2) / self.text.bytes_per_token[split]}

    def extras(self, model: nn.Module) -> dict[str, float]:
        """What the model reaches on labelled texts, fine-tuned on each."""
        if self.workload.downstream is None:
            return {}
        from scrimp.tasks.downstream import fine_tuned

        assert isinstance(model, Language)
        return fine_tuned(self.workspace, model, self.text, self.workload.downstream, self.place)

    # --- FLOPs ---
    @property
    def _read(self) -> float:
        """The share of tokens that are read out."""
        return self.predicted(self.workload.recipe.masking) / self.context

    def step_flops(self, count: int) -> float:
        return super().step_flops(count) + self._update

    @cached_property
    def _update(self) -> float:
        """FLOPs of an update itself, where it takes matrix products."""
        if self.workload.recipe.optimizer != "muon":
            return 0.0
        from scrimp.training.muon import update_flops

        return update_flops(self.model(0))

    def facts(self, model: nn.Module, examples: int) -> dict[str, float]:
        assert isinstance(model, Language)
        flops = examples * self.context * model.flops_per_token(read=self._read)
        return {**super().facts(model, examples), "flops_matmul": flops}

    @property
    def flops(self) -> ExampleFlops:
        """Of one window, derived from the model's shape."""
        if not hasattr(self, "_flops"):
            model = self.model(0)
            per_token = (model.flops_per_token(training=training, read=self._read) for training in (False, True))
            self._flops = ExampleFlops(*(self.context * of_one for of_one in per_token))
        return self._flops


def masked(
    ids: Tensor, count: int, vocabulary: int, mask: int, end_of_text: int, draws: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Windows int64 [b, T] with `count` tokens of each hidden, and their places in ascending order, int64 [b, count].

    Ends of texts are never hidden, unless nothing else is left. `draws` is a CPU generator.
    """
    scores = torch.rand(ids.shape, generator=draws)
    scores[ids == end_of_text] -= 1
    places = scores.topk(count, dim=1).indices.sort(dim=1).values
    kinds = torch.rand(places.shape, generator=draws)
    other = torch.randint(vocabulary, places.shape, generator=draws)
    hidden = torch.where(kinds < MASKED, mask, torch.where(kinds < MASKED + RANDOM, other, ids.gather(1, places)))
    return ids.scatter(1, places, hidden), places


TASK = MaskedLm
