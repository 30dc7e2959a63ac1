"""What the stages of a cascade on texts are: a rule of key tokens, and trained readers; all give probabilities.

Stages take texts as one tensor, int64 [n, T + 1]: the tokens, filled up, and in the last column how many there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from scrimp.cascade import Floats, Integers
from scrimp.flops import counted
from scrimp.tasks.fine_tuning import FineTuning

AT_A_TIME = 128
COUNTED = 64  # texts of all lengths, whose FLOPs are counted one by one


def texts_of(task: FineTuning, split: str) -> tuple[Tensor, Integers]:
    """The texts of a split [n, T + 1] and their labels [n]."""
    ids, lengths, labels = task.data[split]
    return torch.cat([ids, lengths[:, None]], dim=1), labels.numpy().astype(np.int64)


class KeyTokens:
    """A rule: the most telling token of a text decides, as in a decision list (Rivest 1987).

    A token that m training texts have, k of them of one class, speaks for that class with k / (m + 1): a rare token speaks
    with reservations. A text without a known token has no answer.
    """

    def __init__(self, texts: Tensor, labels: Integers, classes: int, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        of_class = torch.from_numpy(labels)[:, None] == torch.arange(classes)
        counts = self._present(texts).T @ of_class.float()  # [V, C]
        self.shares = counts / (counts.sum(dim=1, keepdim=True) + 1)
        self.telling = self.shares.amax(dim=1)

    def __call__(self, texts: Tensor) -> Floats:
        """Probabilities [n, C], whose rows sum to less than 1: those of each text's most telling token."""
        telling = self._present(texts) * self.telling  # [n, V]
        found: Floats = self.shares[telling.argmax(dim=1)].double().numpy()
        return np.where(telling.amax(dim=1, keepdim=True).numpy() > 0, found, 0.0)

    def _present(self, texts: Tensor) -> Tensor:
        """Which tokens each text has, float [n, V]; the filling behind its end does not count."""
        ids, lengths = texts[:, :-1], texts[:, -1:]
        inside = (torch.arange(ids.shape[1]) < lengths).float()
        return torch.zeros(len(ids), self.vocabulary).scatter_reduce_(1, ids, inside, "amax")

    @staticmethod
    def flops(texts: Tensor) -> float:
        """Of one text on average: a comparison a token."""
        return float(texts[:, -1].double().mean())


@dataclass(frozen=True)
class Reader:
    """A trained model that takes texts and gives probabilities [n, C]."""

    task: FineTuning
    model: nn.Module

    @torch.no_grad()
    def __call__(self, texts: Tensor) -> Tensor:
        return torch.cat([self._logits(part).softmax(dim=1) for part in texts.split(AT_A_TIME)])

    def _logits(self, texts: Tensor) -> Tensor:
        lengths = texts[:, -1]
        logits: Tensor = self.model(texts[:, : int(lengths.max())], lengths)
        return logits.float()

    @torch.no_grad()
    def flops(self, texts: Tensor) -> float:
        """FLOPs of one text's answer, the mean over texts of evenly spread ranks of length, each read alone."""
        ranked = texts[texts[:, -1].argsort(stable=True)]
        ranks = np.unique(np.linspace(0, len(texts) - 1, COUNTED).round().astype(int))
        return float(np.mean([counted(partial(self._logits, ranked[at : at + 1])) for at in ranks]))
