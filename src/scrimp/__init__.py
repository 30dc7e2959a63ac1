"""Scrimp: does cheaper training hold up? This module is the drop-in library: few names, each usable alone."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scrimp.cascade import Cascade
    from scrimp.methods import jest
    from scrimp.methods.dropin import SelectedData
    from scrimp.methods.dropin_infobatch import InfoBatch
    from scrimp.methods.own_model import BatchSchedule, GhostBatchNorm, sparsify
    from scrimp.training.losses import sigmoid_loss

__all__ = [
    "BatchSchedule",
    "Cascade",
    "GhostBatchNorm",
    "InfoBatch",
    "SelectedData",
    "__version__",
    "jest",
    "sigmoid_loss",
    "sparsify",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # torch takes a second to import: the command line and the workflow do without it until they train.
    if name == "InfoBatch":
        from scrimp.methods.dropin_infobatch import InfoBatch

        return InfoBatch
    if name == "SelectedData":
        from scrimp.methods.dropin import SelectedData

        return SelectedData
    if name in ("BatchSchedule", "GhostBatchNorm", "sparsify"):
        from scrimp.methods import own_model

        return getattr(own_model, name)
    if name == "Cascade":
        from scrimp.cascade import Cascade

        return Cascade
    if name == "jest":
        return importlib.import_module("scrimp.methods.jest")
    if name == "sigmoid_loss":
        from scrimp.training.losses import sigmoid_loss

        return sigmoid_loss
    raise AttributeError(f"module 'scrimp' has no attribute {name!r}")
