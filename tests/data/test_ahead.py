"""Pictures read while a step runs: the same ones, each once, errors where they are asked for, and no thread that stays."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import pytest
import torch
from torch import Tensor

from scrimp.data import ahead
from scrimp.data.ahead import Ahead
from scrimp.data.large_orders import large_stream, permuted
from scrimp.errors import ScrimpError


class Slow:
    """Pairs whose picture i is full of i; number 13 is corrupt. Notes what was read, and waits until it may."""

    length = 1

    def __init__(self) -> None:
        self.read: list[list[int]] = []
        self.may = threading.Event()
        self.may.set()

    def __len__(self) -> int:
        return 100

    def images(self, at: Tensor) -> Tensor:
        self.may.wait(10)
        self.read.append(at.tolist())
        if 13 in self.read[-1]:
            raise ScrimpError("picture 13 is corrupt")
        return at.to(torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3).clone()

    def captions(self, at: Tensor) -> Tensor:
        return at[:, None]

    def subset(self, at: Any) -> Any:
        raise AssertionError("reading ahead takes no subset")


def shown(images: Tensor) -> list[int]:
    assert images.shape[1:] == (2, 2, 3)
    return images[:, 0, 0, 0].tolist()


def test_pictures_that_were_expected_are_read_once_whatever_is_asked_of_them() -> None:
    source = Slow()
    pairs = Ahead(source, 2)
    assert shown(pairs.images(torch.tensor([4, 2]))) == [4, 2]
    pairs.expect(torch.tensor([9, 3, 7, 3]))
    assert shown(pairs.images(torch.tensor([9, 3]))) == [9, 3]
    assert shown(pairs.images(torch.tensor([7, 3, 7]))) == [7, 3, 7]
    pairs.expect(torch.tensor([3, 5]))
    assert shown(pairs.images(torch.tensor([7]))) == [7]  # still of this step
    assert shown(pairs.images(torch.tensor([5, 8, 3]))) == [5, 8, 3]  # of the next, and one that nobody expected
    assert source.read == [[4, 2], [3, 7, 9], [3, 5], [8]]
    assert shown(pairs.images(torch.tensor([], dtype=torch.int64))) == []
    assert len(pairs) == 100
    assert pairs.captions(torch.tensor([6])).tolist() == [[6]]


def test_what_is_more_than_may_be_held_is_read_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "LARGEST", 2 * 12)
    source = Slow()
    pairs = Ahead(source, 2)
    pairs.expect(torch.tensor([5, 6, 1]))
    assert shown(pairs.images(torch.tensor([1, 5, 6]))) == [1, 5, 6]
    assert source.read == [[5, 6], [1]]


def test_reading_goes_on_while_nobody_waits_and_ends_with_its_source() -> None:
    source = Slow()
    pairs = Ahead(source, 2)
    source.may.clear()
    pairs.expect(torch.tensor([1, 2]))  # returns at once
    assert not source.read
    source.may.set()
    deadline = time.monotonic() + 10
    while not source.read and time.monotonic() < deadline:
        time.sleep(0.001)
    assert source.read == [[1, 2]]
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("pictures-ahead")]
    assert threads
    del pairs
    gc.collect()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_a_corrupt_picture_is_an_error_where_it_is_asked_for() -> None:
    pairs = Ahead(Slow(), 2)
    pairs.expect(torch.tensor([12, 13]))
    assert shown(pairs.images(torch.tensor([4]))) == [4]
    for _ in range(2):
        with pytest.raises(ScrimpError, match="picture 13 is corrupt"):
            pairs.images(torch.tensor([13]))
    pairs.expect(torch.tensor([13]))  # and nobody asks


# ---------------------------------------------------------------------------------------------------------- large orders
@pytest.mark.parametrize("size", [1, 2, 3, 100, 1024, 1025])
def test_every_pass_of_a_large_order_has_each_pair_once(size: int) -> None:
    drawn = large_stream(size, 0, 3 * size, 7)
    for first in range(0, 3 * size, size):
        assert sorted(drawn[first : first + size].tolist()) == list(range(size))
    assert torch.equal(large_stream(size, size - 1, size + 1, 7), drawn[size - 1 : 2 * size])
    if size >= 100:
        assert drawn[:size].tolist() != drawn[size : 2 * size].tolist()
        assert drawn[:size].tolist() != large_stream(size, 0, size, 8).tolist()


def test_a_large_order_is_as_mixed_as_a_shuffle() -> None:
    size = 100_000
    order = torch.from_numpy(permuted(torch.arange(size).numpy(), size, 3, 0).astype("int64")).double()
    place = torch.arange(size).double()
    # A shuffle's correlations are normal with deviation 1 / sqrt(size); five of these are .016.
    for pair in ((place, order), (order[1:], order[:-1])):
        assert abs(float(torch.corrcoef(torch.stack(pair))[0, 1])) < 0.016
    # How many of the first tenth of the places lead to the first tenth of the pairs: 1,000 of a shuffle, deviation 28.
    assert abs(int((order[: size // 10] < size // 10).sum()) - 1000) < 150
    assert large_stream(1_280_000_000, 10**9, 5, 0).tolist() == large_stream(1_280_000_000, 10**9 - 2, 7, 0)[2:].tolist()
