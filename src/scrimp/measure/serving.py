"""A server that answers requests in batches as they arrive: throughput and latency against the largest batch and the wait.

One worker. When it is free and requests are there, it waits for more until the batch is full or the first of them has waited
`wait` seconds, then serves them together. Time is simulated: arrivals come from a stated law, and each batch takes what
`service` says, which may run a real model and give the seconds that it took. Nothing sleeps, so that a slow machine gives
the same queue for the same service times.
Source: the policy is that of auto-batching servers; the survey's number is from arXiv 2109.09541. Poisson arrivals are the
textbook law of many independent users.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


@dataclass(frozen=True)
class Served:
    """`latencies` (requests,) from arrival to answer and `sizes` of the batches (calls,); `busy` and `span` in seconds."""

    latencies: Times
    sizes: NDArray[np.int64]
    busy: float
    span: float

    @property
    def calls(self) -> int:
        return len(self.sizes)

    @property
    def throughput(self) -> float:
        """Requests answered a second, over the time from the first arrival to the last answer."""
        return len(self.latencies) / self.span

    @property
    def busy_per_request(self) -> float:
        """Seconds of the worker that a request took."""
        return self.busy / len(self.latencies)


def poisson_arrivals(rate: float, count: int, seed: int) -> Times:
    """`count` arrival times in seconds of a Poisson process of `rate` requests a second: exponential gaps."""
    if rate <= 0 or count < 1:
        raise ValueError(f"want a rate above 0 and a request or more, got {rate} and {count}")
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))


def serve(arrivals: Times, service: Callable[[int, int], float], largest: int, wait: float) -> Served:
    """Serve sorted arrivals in batches of at most `largest`, the first of which waits at most `wait` seconds for others.

    `service(first, count)` gives the seconds that requests `first` to `first + count - 1` take together. Raises ValueError
    for no arrivals, arrivals out of order, a batch below 1 or a negative wait.
    """
    if len(arrivals) == 0 or (np.diff(arrivals) < 0).any() or largest < 1 or wait < 0:
        raise ValueError("want sorted arrivals, a largest batch of 1 or more and a wait of 0 or more")
    latencies, sizes, free, busy, first = np.empty(len(arrivals)), [], 0.0, 0.0, 0
    while first < len(arrivals):
        # The batch is closed when it is full or the wait is over, and not before the worker is free.
        full = arrivals[first + largest - 1] if first + largest <= len(arrivals) else np.inf
        begin = max(free, min(full, arrivals[first] + wait))
        count = min(largest, int(np.searchsorted(arrivals, begin, side="right")) - first)
        seconds = service(first, count)
        free = begin + seconds
        latencies[first : first + count] = free - arrivals[first : first + count]
        sizes.append(count)
        busy += seconds
        first += count
    return Served(latencies, np.asarray(sizes, dtype=np.int64), busy, free - float(arrivals[0]))
