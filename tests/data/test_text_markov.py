"""The chain: its entropy by hand, its walk against its own probabilities, and that a seed gives the same one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from scrimp.data.shards import building, write_manifest
from scrimp.data.text import Text, ids, load_text
from scrimp.data.text_markov import (
    Options,
    build,
    entropy_rate,
    probabilities,
    stationary_distribution,
    successor_table,
)
from scrimp.data.text_packing import SCHEMA

SMALL = Options(symbols=40, successors=6, train=200_000, validation=5000, test=5000)


def walked(folder: Path, options: Options = SMALL) -> Text:
    with building(folder) as temporary:
        write_manifest(temporary, folder.name, "digest", SCHEMA, **build(temporary, options))
    return load_text(folder)


def test_the_entropy_of_a_chain_of_two_symbols_is_the_textbook_s() -> None:
    # p(1|0) = a, p(0|1) = b: stationary (b, a) / (a + b), and the rate is the mean of the two binary entropies.
    a, b = 0.25, 0.5
    chain = np.array([[1 - a, a], [b, 1 - b]])
    stationary = stationary_distribution(chain)
    np.testing.assert_allclose(stationary, [2 / 3, 1 / 3], atol=1e-12)

    def binary(p: float) -> float:
        return -p * math.log(p) - (1 - p) * math.log(1 - p)

    assert entropy_rate(chain, stationary) == pytest.approx(2 / 3 * binary(a) + 1 / 3 * binary(b), abs=1e-12)


def test_a_chain_has_the_successors_asked_for_and_reaches_every_symbol() -> None:
    chain = probabilities(successor_table(SMALL))
    np.testing.assert_allclose(chain.sum(axis=1), 1)
    assert ((chain > 0).sum(axis=1) == 6).all()
    assert (chain[np.arange(40), (np.arange(40) + 1) % 40] > 0).all()
    stationary = stationary_distribution(chain)
    np.testing.assert_allclose(stationary @ chain, stationary, atol=1e-12)
    assert (stationary > 0).all()


def test_the_true_chain_loses_the_stated_entropy_on_its_own_walk(tmp_path: Path) -> None:
    text = walked(tmp_path / "chain")
    chain = probabilities(successor_table(SMALL))
    tokens = ids(text.splits["train"]).numpy()
    losses = -np.log(chain[tokens[:-1], tokens[1:]])  # infinite if the walk ever took a step that the chain has not
    assert text.entropy is not None
    # Five standard errors, as if steps were independent; they nearly are.
    assert abs(losses.mean() - text.entropy) < 5 * losses.std() / math.sqrt(len(losses))
    assert 0 < text.entropy < math.log(6)
    assert text.vocabulary == 41
    assert text.bytes_per_token["train"] == 1


def test_the_splits_are_parts_of_one_walk_and_a_seed_gives_the_same_one(tmp_path: Path) -> None:
    one, two = walked(tmp_path / "one" / "chain"), walked(tmp_path / "two" / "chain")
    for file in ("train-00000.tar", "samples.parquet", "manifest.json"):
        assert (tmp_path / "one/chain" / file).read_bytes() == (tmp_path / "two/chain" / file).read_bytes()
    chain = probabilities(successor_table(SMALL))
    last, first = ids(one.splits["train"])[-1], ids(two.splits["validation"])[0]
    assert chain[last, first] > 0
    other = walked(tmp_path / "other", SMALL.model_copy(update={"seed": 1}))
    assert other.entropy != one.entropy


def test_more_successors_than_symbols_are_refused() -> None:
    with pytest.raises(ValidationError, match="`successors` is at most `symbols`"):
        Options(symbols=10, successors=11)
