"""What a forward pass keeps for its backward pass, in bytes, as autograd tells it through saved-tensor hooks.

A storage that is kept several times counts once. Parameters, which are there anyway, are not counted.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def kept_bytes(model: nn.Module, forward: Callable[[], Tensor]) -> int:
    """Bytes of the tensors that `forward()` leaves for the gradient of its result, but for the model's parameters."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}  # tensors, too: an address may be given away again while it is counted

    def pack(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in parameters:
            kept.setdefault(address, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del result
    return total
