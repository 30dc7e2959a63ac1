"""The plain recipe: every example, every epoch. Its sweep of horizons is the yardstick of all others.

Cost: none. Source: none needed; that short, fully decayed schedules are the baseline to beat is the finding of
Kaddour et al. 2023, *No Train No Gain* (arXiv 2307.06440).
"""

from __future__ import annotations

from scrimp.methods.base import EpochSelector


class Full(EpochSelector):
    """All examples with weight 1, which is what a selector does that selects nothing."""


METHOD = Full
