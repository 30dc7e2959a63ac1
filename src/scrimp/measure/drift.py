"""How far weights are from where they began, and whether that distance grows as log t.

Hoffer et al. read an ultra-slow diffusion off this: distance ~ log t, where an ordinary random walk would go as sqrt t.
Source: Hoffer, Hubara, Soudry 2017 (arXiv 1705.08741), section 3 and figure 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Growth:
    """R^2 of distance = a + b log t and of distance = a + b sqrt t; `advantage` is the first less the second."""

    slope: float
    of_log: float
    of_root: float

    @property
    def advantage(self) -> float:
        return self.of_log - self.of_root


@torch.no_grad()
def distance(weights: Iterable[Tensor], start: Iterable[Tensor]) -> float:
    """The Euclidean distance of some weights from others of the same shapes."""
    squares = [(now.double() - then.double()).square().sum() for now, then in zip(weights, start, strict=True)]
    return float(torch.stack(squares).sum().sqrt())


def growth_of_distance(steps: Sequence[float], distances: Sequence[float]) -> Growth:
    """Two straight lines through distances after so many steps (1 or more): over log t and over sqrt t.

    `slope` is the distance gained each time t grows e-fold. Raises ValueError for fewer than four points.
    """
    at, found = np.asarray(steps, dtype=float), np.asarray(distances, dtype=float)
    if len(at) < 4 or at.shape != found.shape or (at < 1).any() or np.ptp(found) == 0:
        raise ValueError("give four or more distances that differ, each after 1 step or more")
    slope = float(np.polyfit(np.log(at), found, 1)[0])
    of_log, of_root = (float(np.corrcoef(x, found)[0, 1] ** 2) for x in (np.log(at), np.sqrt(at)))
    return Growth(slope, of_log, of_root)
