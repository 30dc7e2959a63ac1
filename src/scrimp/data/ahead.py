"""Pictures that are read and decoded while a step trains on those before: the same pictures, sooner.

What a step will ask for is mostly known when the one before begins. What is not, or was expected in vain, costs time alone.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from scrimp.data.pairs import PairSource
from scrimp.data.tables import Rows

LARGEST = 2**32  # bytes of pictures that are read for one step; of a larger one the rest is read when it is asked for


class Ahead:
    """Pairs whose next pictures, uint8 [S, S, 3] each, can be told beforehand; it holds those of two steps, `size` being S.

    A picture that cannot be read is an error where it is asked for, as without. Where nobody asks any more, nothing is
    raised, and the thread ends by itself.
    """

    def __init__(self, pairs: PairSource, size: int) -> None:
        self.pairs = pairs
        self.most = max(1, LARGEST // (3 * size * size))
        # One thread: a source decodes with as many as there are cores.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pictures-ahead")
        self._held: tuple[Tensor, Future[Tensor]] | None = None
        self._coming: tuple[Tensor, Future[Tensor]] | None = None

    @property
    def length(self) -> int:
        """Tokens of a caption."""
        return self.pairs.length

    def __len__(self) -> int:
        return len(self.pairs)

    def captions(self, at: Tensor) -> Tensor:
        """The token ids of the pairs `at` (int64 [n]): int64 [n, L]."""
        return self.pairs.captions(at)

    def subset(self, at: Rows) -> PairSource:
        """The pairs `at`, without what is read ahead of these."""
        return self.pairs.subset(at)

    def expect(self, at: Tensor) -> None:
        """Begin to read the pictures `at` (int64 [n]), which the next step will ask for, or some of them."""
        if self._coming is not None:
            self._coming[1].cancel()
        known = at[: self.most].unique()
        self._coming = (known, self._thread.submit(self.pairs.images, known))

    def images(self, at: Tensor) -> Tensor:
        """The pictures of the pairs `at` (int64 [n]): uint8 [n, S, S, 3]. ScrimpError for one that cannot be read."""
        held = None if self._held is None else _places(self._held[0], at)
        if self._coming is not None and (held is None or bool((held < 0).any())):
            coming = _places(self._coming[0], at)
            if bool((coming >= 0).any()):  # the next step has begun
                self._held, self._coming, held = self._coming, None, coming
        if self._held is None or held is None or not bool((held >= 0).any()):
            return self.pairs.images(at)
        pictures, there = self._held[1].result(), held >= 0
        if bool(there.all()):
            return pictures.index_select(0, held)
        found = pictures.new_empty(len(at), *pictures.shape[1:])
        found[there], found[~there] = pictures[held[there]], self.pairs.images(at[~there])
        return found


def _places(known: Tensor, at: Tensor) -> Tensor:
    """Where each of `at` stands in `known`, which is sorted and has one at least; -1: nowhere. int64 [n]."""
    places = torch.searchsorted(known, at).clamp(max=len(known) - 1)
    return torch.where(known[places] == at, places, -1)
