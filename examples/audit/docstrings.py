"""A Hugging Face model on a table of texts: which library is a docstring of? Read from the installed packages.

It wants `pip install 'scrimp[integrations]'`. The model has random weights here, so that nothing is downloaded; for a
pretrained one see `make`. Texts in a file of your own: `scrimp try --text FILE.csv --model hf:NAME`.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from scrimp.audit.ready import hashed_words, is_test
from scrimp.tasks.base import Task, seeded

LIBRARIES, ROWS, LENGTH, WORDS = ("matplotlib", "pandas", "scipy", "sklearn"), 500, 32, 4096


def docstrings(library: str, limit: int) -> list[str]:
    """First sentences of the docstrings of a library's functions and classes, without their repetitions."""
    spec = importlib.util.find_spec(library)
    assert spec is not None
    assert spec.origin is not None
    found: dict[str, None] = {}
    for path in sorted(Path(spec.origin).parent.rglob("*.py")):
        if len(found) >= limit:
            break
        if "tests" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            told = ast.get_docstring(node) if isinstance(node, ast.FunctionDef | ast.ClassDef) else None
            if told and len(told.split()) > 5:
                found.setdefault(" ".join(told.split("\n\n")[0].split()))
    return list(found)[:limit]


def make() -> nn.Module:
    """For a pretrained one `AutoModelForSequenceClassification.from_pretrained(NAME, num_labels=4)`, and its tokenizer."""
    sizes = {"dim": 64, "hidden_dim": 128, "n_layers": 2, "n_heads": 2, "max_position_embeddings": LENGTH}
    return DistilBertForSequenceClassification(DistilBertConfig(vocab_size=WORDS + 1, num_labels=len(LIBRARIES), **sizes))


class Docstrings(Task):
    plain = {
        "epochs": 8,
        "recipe": {"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.01, "batch_size": 32},
        "metric": "accuracy",
    }

    def setup(self, workspace: Any) -> None:
        rows = [(text, library) for library in LIBRARIES for text in docstrings(library, ROWS)]
        table = pd.DataFrame(rows, columns=["text", "library"])
        numbers = hashed_words(table["text"].tolist(), LENGTH, WORDS)
        labels = torch.tensor([LIBRARIES.index(library) for library in table["library"]])
        held_out = torch.tensor([is_test(text) for text in table["text"]])
        self.data = {"train": (numbers[~held_out], labels[~held_out]), "test": (numbers[held_out], labels[held_out])}

    def model(self, seed: int) -> nn.Module:
        return seeded(seed, make).to(self.place.device)

    def losses(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        numbers, labels = batch
        logits = model(input_ids=numbers, attention_mask=(numbers > 0).long()).logits
        return F.cross_entropy(logits, labels, reduction="none")

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        model.eval()
        right = [model(input_ids=n, attention_mask=(n > 0).long()).logits.argmax(dim=1) == y for n, y in self.batches(split)]
        model.train()
        return {"accuracy": 100 * torch.cat(right).double().mean().item(), "loss": self.mean_loss(model, split)}
