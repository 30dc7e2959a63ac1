"""An epoch's plan as four arrays, and how they are filled: for one process, or in memory that the node's processes map."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from scrimp.methods.base import Selection


class Plan(NamedTuple):
    """What is planned of `size` examples. Nobody writes to these once they are filled: other processes may have them too.

    Places are 32-bit numbers where they fit: at 1e8 examples every byte is 100 MB.
    """

    order: Tensor  # int64 [n]: the examples, distinct
    weight_of: Tensor  # float32 [size]: 1 for what is not planned
    left: Tensor  # int32 or int64 [m], ascending: the places in the order that are still to be visited
    place: Tensor  # as left, [size]: where an example is in the order, or -1


Empty = Callable[[int, int, int], Plan]  # (size, n, m) -> a plan to be filled


def places_of(size: int) -> torch.dtype:
    return torch.int32 if size < 2**31 else torch.int64


def private(size: int, planned: int, left: int) -> Plan:
    """An empty plan in memory of this process alone."""
    places = places_of(size)
    return Plan(
        torch.empty(planned, dtype=torch.int64),
        torch.empty(size),
        torch.empty(left, dtype=places),
        torch.empty(size, dtype=places),
    )


def chosen(size: int, select: Callable[[], Selection], shuffle: torch.Generator, empty: Empty = private) -> Plan:
    """The plan of what `select` chooses, in an order drawn from `shuffle`: all of it is to be visited."""
    selection = select()
    indices, weights = selection.indices.long(), selection.weights
    del selection  # at 1e8 examples each of these is most of a GB, so none stays longer than it must
    plan = empty(size, len(indices), len(indices))
    plan.weight_of.fill_(1)[indices] = weights
    del weights
    torch.take(indices, torch.randperm(len(indices), generator=shuffle), out=plan.order)
    del indices
    torch.arange(len(plan.order), out=plan.left)
    plan.place.fill_(-1)[plan.order] = plan.left
    return plan


def restored(order: Tensor, weights: Tensor, seen: Tensor, empty: Empty = private) -> Plan:
    """The plan that a state holds: `order` (int64 [n]), `weights` (float32 [size]), `seen` (bool [n]) by place."""
    size = len(weights)
    places = torch.arange(len(order), dtype=places_of(size))
    left = places[~seen]
    plan = empty(size, len(order), len(left))
    plan.order.copy_(order)
    plan.weight_of.copy_(weights)
    plan.left.copy_(left)
    plan.place.fill_(-1)[order] = places
    return plan
