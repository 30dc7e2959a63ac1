"""What every selector promises, whatever it selects: found by name, closed parameters, counts, determinism, resuming."""

from __future__ import annotations

from typing import Any

import pytest
import safetensors.torch
import torch

from scrimp.errors import ScrimpError
from scrimp.methods import check_method, method_class, method_names
from scrimp.methods.base import EpochSelector, Selection, derived_generator, share_of
from scrimp.methods.combined import Methods

SIZE, EPOCHS = 97, 9

# One mapping per selector, as in a study's YAML; a new file in scrimp/methods fails the first test until it is here.
SPECS: dict[str, dict[str, Any]] = {
    "full": {},
    "infobatch": {"ratio": 0.5},
    "rs2": {"ratio": 0.3},
    "random-static": {"ratio": 0.3},
    "epsilon-greedy": {"ratio": 0.3, "period": 3},
    "ucb": {"ratio": 0.3, "period": 3},
    "el2n": {"ratio": 0.3},
    "forgetting": {"ratio": 0.3},
    "ccs": {"ratio": 0.3},
    "prototypes": {"ratio": 0.3},
    "semdedup": {"ratio": 0.3},
}
FIXED_SIZE = sorted(set(SPECS) - {"full", "infobatch"})  # their epochs have int((1 - ratio) N) examples
WITHOUT_CHANCE = {"full", "ucb", "el2n", "forgetting", "prototypes", "semdedup"}

each = pytest.mark.parametrize("name", sorted(SPECS))


def selector_of(spec: dict[str, Any], seed: int) -> EpochSelector:
    selector: EpochSelector = Methods.of([spec], SIZE, 8, seed).selector
    return selector


def built(name: str, seed: int = 0, **changes: Any) -> EpochSelector:
    """A selector over SIZE examples that has the scores it asks for."""
    selector = selector_of({"name": name, **SPECS[name], **changes}, seed)
    if selector.scoring() is not None:
        scores = torch.rand(SIZE, generator=derived_generator(0, 0, "scores"))
        selector.accept_scores(scores, torch.arange(SIZE) % 10)
    return selector


def epoch_of(selector: EpochSelector, epoch: int) -> Selection:
    """Select, then show losses that depend on the epoch and the example alone."""
    plan = selector.select(epoch, epoch / EPOCHS)
    losses = torch.rand(SIZE, generator=derived_generator(1, epoch, "losses"))
    selector.observe(plan.indices, losses[plan.indices])
    return plan


def as_lists(plans: list[Selection]) -> list[tuple[list[int], list[float]]]:
    return [(plan.indices.tolist(), plan.weights.tolist()) for plan in plans]


def test_every_selector_is_tested_here() -> None:
    of_epochs = [name for name in method_names() if issubclass(method_class(name), EpochSelector)]
    assert of_epochs == sorted(SPECS)


@each
def test_epochs_have_distinct_examples_and_one_weight_each(name: str) -> None:
    selector = built(name)
    for epoch in range(EPOCHS):
        plan = epoch_of(selector, epoch)
        assert plan.indices.dtype == torch.int64
        assert plan.weights.dtype == torch.float32
        assert plan.weights.shape == plan.indices.shape
        assert len(set(plan.indices.tolist())) == len(plan.indices)
        assert set(plan.indices.tolist()) <= set(range(SIZE))
        assert float(plan.weights.min()) >= 1


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("name", FIXED_SIZE)
def test_size_of_an_epoch(name: str, ratio: float) -> None:
    selector = built(name, ratio=ratio)
    first = epoch_of(selector, 0)
    # The two that rank by the losses of training take all of the first epoch, since there is nothing to rank yet.
    assert len(first.indices) == (SIZE if selector.needs_losses else SIZE * round(10 - 10 * ratio) // 10)
    assert [len(epoch_of(selector, e).indices) for e in (1, 2, 3, 4)] == [SIZE * round(10 - 10 * ratio) // 10] * 4


@each
def test_the_same_seed_selects_the_same(name: str) -> None:
    first, second = built(name, seed=5), built(name, seed=5)
    torch.manual_seed(1)
    mine = [epoch_of(first, epoch) for epoch in range(EPOCHS)]
    torch.manual_seed(2)
    assert as_lists(mine) == as_lists([epoch_of(second, epoch) for epoch in range(EPOCHS)])


@each
def test_another_seed_selects_others_where_chance_has_a_part(name: str) -> None:
    first, second = built(name, seed=5), built(name, seed=6)
    mine, other = ([set(epoch_of(s, epoch).indices.tolist()) for epoch in range(EPOCHS)] for s in (first, second))
    assert (mine == other) is (name in WITHOUT_CHANCE)


@each
def test_global_random_state_is_untouched(name: str) -> None:
    before = torch.get_rng_state()
    selector = built(name)
    for epoch in range(EPOCHS):
        epoch_of(selector, epoch)
    assert torch.equal(torch.get_rng_state(), before)


@each
@pytest.mark.parametrize("done", [1, 4, 8])
def test_a_restored_selector_goes_on_identically(name: str, done: int) -> None:
    selector = built(name, seed=3)
    for epoch in range(done):
        epoch_of(selector, epoch)
    stored = safetensors.torch.save(selector.state_dict())  # as a checkpoint keeps it
    rest = as_lists([epoch_of(selector, epoch) for epoch in range(done, EPOCHS)])
    # A resumed run builds the selector anew and does not score again.
    restored = selector_of({"name": name, **SPECS[name]}, 3)
    restored.load_state_dict(safetensors.torch.load(stored))
    assert as_lists([epoch_of(restored, epoch) for epoch in range(done, EPOCHS)]) == rest


@each
def test_asking_twice_changes_nothing(name: str) -> None:
    asked, other = built(name), built(name)
    for epoch in range(EPOCHS):
        asked.select(epoch, epoch / EPOCHS)
        assert as_lists([epoch_of(asked, epoch)]) == as_lists([epoch_of(other, epoch)])


def test_a_stateless_selector_refuses_a_state() -> None:
    with pytest.raises(ValueError, match=r"Full keeps no state, but was given \['scores'\]"):
        built("full").load_state_dict({"scores": torch.ones(3)})


def test_a_selector_that_asks_for_no_scores_refuses_them() -> None:
    with pytest.raises(TypeError, match="RS2 asks for no scores"):
        built("rs2").accept_scores(torch.ones(SIZE), torch.zeros(SIZE))


# ------------------------------------------------------------------------------------------------------------ parameters
@each
def test_an_unknown_parameter_is_named(name: str) -> None:
    with pytest.raises(ScrimpError, match="arm x: ratoi: unknown key"):
        check_method({"name": name, **SPECS[name], "ratoi": 0.5}, "arm x")


@pytest.mark.parametrize("ratio", [-0.1, 1.0, "half"])
@pytest.mark.parametrize("name", sorted(set(SPECS) - {"full"}))
def test_an_impossible_ratio_is_named(name: str, ratio: Any) -> None:
    with pytest.raises(ScrimpError, match=f"method {name}: ratio: .*{ratio}"):
        selector_of({"name": name, "ratio": ratio}, 0)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("infobatch", "delta", 1.1),
        ("infobatch", "threshold", 0.0),
        ("infobatch", "threshold", 1.0),
        ("infobatch", "threshold", "median"),
        ("epsilon-greedy", "epsilon", -0.1),
        ("epsilon-greedy", "period", 0),
        ("ucb", "momentum", 1.0),
        ("ucb", "confidence", -1.0),
        ("el2n", "models", 0),
        ("forgetting", "horizon", 0.0),
        ("ccs", "cutoff", 1.0),
        ("ccs", "strata", 0),
        ("ccs", "statistic", "grand"),
    ],
)
def test_other_impossible_values_are_named(name: str, key: str, value: Any) -> None:
    with pytest.raises(ScrimpError, match=f"{key}.*{value}"):
        selector_of({"name": name, "ratio": 0.5, key: value}, 0)


def test_an_unknown_selector_is_answered_with_the_known() -> None:
    with pytest.raises(ScrimpError, match=r"unknown method 'infobach'.*did you mean 'infobatch'\?.*known: batch-growth"):
        method_class("infobach")


# --------------------------------------------------------------------------------------------------------------- helpers
@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(10, 1 - 0.9, 1), (100, 1 - 0.7, 30), (3, 0.5, 1), (1_281_167, 1 - 0.4, 768_700), (7, 1.0, 7), (7, 0.0, 0)],
)
def test_share_of_is_the_integer_part(count: int, share: float, expected: int) -> None:
    assert share_of(count, share) == expected


def test_derived_generators_differ_in_every_argument() -> None:
    arguments = [(0, 0, "a"), (0, 1, "a"), (1, 0, "a"), (0, 0, "b"), (11, 1, "a"), (1, 11, "a")]
    seeds = {derived_generator(*given).initial_seed() for given in arguments}
    assert len(seeds) == len(arguments)
    assert derived_generator(0, 0, "a").initial_seed() in seeds


@pytest.mark.parametrize("name", sorted(name for name in SPECS if selector_of({"name": name, **SPECS[name]}, 0).scoring()))
def test_scores_that_cannot_be_of_this_data_are_told(name: str) -> None:
    selector = selector_of({"name": name, **SPECS[name]}, 0)
    scores, labels = torch.rand(SIZE), torch.zeros(SIZE, dtype=torch.int64)
    with pytest.raises(ScrimpError, match=r"wants one score an example, \[97\], got \[20\]"):
        selector.accept_scores(scores[:20], labels)
    with pytest.raises(ScrimpError, match=r"one score an example, \[97\], got \[97, 1\]"):
        selector.accept_scores(scores[:, None], labels)
    with pytest.raises(ScrimpError, match=r"wants one label an example, \[97\], got \[98\]"):
        selector.accept_scores(scores, torch.zeros(98))
    unscored = scores.clone()
    unscored[:30] = torch.nan
    if name in ("prototypes", "semdedup"):  # what has no score is not in their pool
        selector.accept_scores(unscored, labels)
        assert selector.select(0, 0.0).indices.min() >= 30
        unscored[:] = torch.nan
    with pytest.raises(ScrimpError, match="of 97 scores are not numbers"):
        selector.accept_scores(unscored, labels)


@pytest.mark.parametrize("name", ["rs2", "random-static", "epsilon-greedy", "ucb", "el2n", "forgetting", "ccs"])
def test_a_ratio_that_keeps_nothing_is_told_at_once(name: str) -> None:
    with pytest.raises(ScrimpError, match=r"with ratio=0\.995 keeps none of 97 examples"):
        selector_of({"name": name, **SPECS[name], "ratio": 0.995}, 0)


def test_one_loss_that_is_not_finite_does_not_keep_its_example_for_ever() -> None:
    selector = selector_of({"name": "ucb", "ratio": 0.5, "period": 1}, 0)
    everyone = torch.arange(SIZE)
    losses = torch.rand(SIZE) + 1
    losses[3] = torch.inf
    selector.observe(everyone, losses)
    for _ in range(8):
        selector.observe(everyone, torch.where(everyone == 3, 0.0, torch.rand(SIZE) + 1))
    assert 3 not in selector.select(1, 0.1).indices
