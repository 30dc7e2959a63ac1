"""Scoring primitives: one `torch.library` op each, with a specification, a fast CPU path and a CUDA kernel.

`docs/kernels.md` says what each computes, what bounds it, and what was measured where; `dispatch` which one runs.
"""

from scrimp.kernels.cross_entropy import rowwise_cross_entropy
from scrimp.kernels.learnability import pairwise_learnability_update
from scrimp.kernels.prototypes import nearest_prototype
from scrimp.kernels.prune import prune_and_rescale
from scrimp.kernels.sigmoid import chunked_sigmoid_loss
from scrimp.kernels.topk import topk_mask

__all__ = [
    "chunked_sigmoid_loss",
    "nearest_prototype",
    "pairwise_learnability_update",
    "prune_and_rescale",
    "rowwise_cross_entropy",
    "topk_mask",
]
