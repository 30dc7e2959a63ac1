"""The batches of an epoch: none of a single example, which batch norm refuses, unless there is but one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from scrimp.training.examples import Epochs


@pytest.mark.parametrize(
    ("count", "sizes"), [(8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2]), (5, [5]), (1, [1])], ids=lambda value: str(value)
)
def test_a_rest_of_one_joins_the_batch_before(count: int, sizes: list[int]) -> None:
    of_four = SimpleNamespace(batch_size=lambda fraction, size: size)
    epochs = SimpleNamespace(methods=of_four, recipe=SimpleNamespace(batch_size=4), epoch=0, planned=count)
    session = SimpleNamespace(
        spent=SimpleNamespace(), budget=SimpleNamespace(fraction=lambda ahead: 0.0), count=lambda *given: None
    )
    assert Epochs._sizes(cast(Any, epochs), count, cast(Any, session)) == sizes
