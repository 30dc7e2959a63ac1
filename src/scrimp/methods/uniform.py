"""Uniform batches: every candidate drawn is trained on. The yardstick of image-text studies; costs nothing.

Source: none, the common recipe (SigLIP, arXiv 2303.15343, trains so). Deviations: none.
"""

from __future__ import annotations

from scrimp.methods.batch import BatchSelector


class Uniform(BatchSelector):
    """Train on what the pool's order gives."""


METHOD = Uniform
