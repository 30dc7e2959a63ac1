"""`markov`: a text of known entropy, for checking what a scaling law says of the loss that no model can go below.

A Markov chain of first order: each symbol has a few successors, and how probable each of them is is known exactly. With
`p(j | i)` the probability that j follows i and `q` the stationary distribution, its entropy rate is
`-sum_i q(i) sum_j p(j | i) log p(j | i)`: no model's expected loss, in nats per token, is lower (Shannon 1948, section 7).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt, model_validator

from scrimp.config import Closed
from scrimp.data.text_packing import PackedWriter
from scrimp.data.text_tokens import SPLITS, Ids

SLOTS = 1024  # probabilities are multiples of 1/1024, so that what is drawn from and what is stated are the same
DRAWN_AT_ONCE = 2**20


class Options(Closed):
    """The chain, and how many tokens of it each split has; the splits are consecutive parts of one walk."""

    symbols: int = Field(256, ge=3, lt=2**16)
    successors: int = Field(16, ge=2, le=SLOTS // 2)
    seed: int = Field(0, ge=0)
    train: PositiveInt = 20_000_000
    validation: PositiveInt = 1_000_000
    test: PositiveInt = 1_000_000

    @model_validator(mode="after")
    def _successors_are_symbols(self) -> Options:
        if self.successors > self.symbols:
            raise ValueError("`successors` is at most `symbols`")
        return self


def build(folder: Path, options: Options) -> dict[str, Any]:
    """Write the shards and `samples.parquet` into `folder`; returns facts for the manifest, `entropy` (nats) among them.

    A token counts as a byte; end-of-text has an id for the sake of one interface, but never occurs.
    """
    table = successor_table(options)
    chain = probabilities(table)
    stationary = stationary_distribution(chain)
    writer = PackedWriter(folder)
    walk = _Walk(table, options.seed)
    for split in SPLITS:
        for tokens in walk.tokens(getattr(options, split)):
            writer.add(split, tokens)
    return {
        **writer.close(),
        "bytes": {split: getattr(options, split) for split in SPLITS},
        "tokenizer": "none",
        "vocabulary": options.symbols + 1,
        "end_of_text": options.symbols,
        "entropy": entropy_rate(chain, stationary),
        "entropy_of_single_tokens": _entropy(stationary),
    }


def successor_table(options: Options) -> npt.NDArray[np.int64]:
    """The symbol that follows each symbol for each of SLOTS equally probable draws: int64 [symbols, SLOTS].

    Successors are drawn at random, but i + 1 always is one of i's, so that every symbol is reached from every other. The
    k-th of them has a probability near 1 / k, as words have in texts (Zipf).
    """
    draws = _Draws(options.seed, "table")
    weights = 1 / np.arange(1, options.successors + 1)
    counts = np.maximum(np.floor(weights / weights.sum() * SLOTS).astype(np.int64), 1)
    counts[0] += SLOTS - counts.sum()
    table = np.empty((options.symbols, SLOTS), dtype=np.int64)
    for symbol in range(options.symbols):
        following = (symbol + 1) % options.symbols
        others = np.argsort(draws.raw(options.symbols), kind="stable")
        chosen = [following, *others[others != following][: options.successors - 1]]
        order = np.argsort(draws.raw(options.successors), kind="stable")
        table[symbol] = np.repeat(np.array(chosen)[order], counts)
    return table


def probabilities(table: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """p(j | i) of a successor table: float64 [symbols, symbols], rows sum to 1."""
    symbols = len(table)
    places = (np.arange(symbols)[:, None] * symbols + table).ravel()
    return np.bincount(places, minlength=symbols**2).reshape(symbols, symbols) / table.shape[1]


def stationary_distribution(chain: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The distribution q with q P = q: float64 [symbols]; the chain must be irreducible."""
    symbols = len(chain)
    system = np.vstack([chain.T - np.eye(symbols), np.ones(symbols)])  # q (P - 1) = 0 and sum(q) = 1
    solution: npt.NDArray[np.float64] = np.linalg.lstsq(system, np.append(np.zeros(symbols), 1.0), rcond=None)[0]
    return solution


def entropy_rate(chain: npt.NDArray[np.float64], stationary: npt.NDArray[np.float64]) -> float:
    """Nats per token of the chain: what its best predictor loses on average."""
    return float(sum(share * _entropy(row) for share, row in zip(stationary, chain, strict=True)))


def _entropy(distribution: npt.NDArray[np.float64]) -> float:
    positive = distribution[distribution > 0]
    return float(-(positive * np.log(positive)).sum())


class _Draws:
    """Random 64-bit numbers; PCG64's raw stream, unlike numpy's distributions, is the same in every version."""

    def __init__(self, seed: int, purpose: str) -> None:
        self.generator = np.random.PCG64([seed, *purpose.encode()])

    def raw(self, count: int) -> npt.NDArray[np.uint64]:
        return self.generator.random_raw(count)


class _Walk:
    """One walk of the chain, drawn piece by piece."""

    def __init__(self, table: npt.NDArray[np.int64], seed: int) -> None:
        self.rows: list[list[int]] = table.tolist()
        self.draws = _Draws(seed, "walk")
        self.symbol = 0

    def tokens(self, count: int) -> Iterator[Ids]:
        for begin in range(0, count, DRAWN_AT_ONCE):
            slots = (self.draws.raw(min(DRAWN_AT_ONCE, count - begin)) % SLOTS).tolist()
            rows, symbol = self.rows, self.symbol
            yield np.array([symbol := rows[symbol][slot] for slot in slots], dtype=np.uint16)
            self.symbol = symbol
