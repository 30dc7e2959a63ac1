"""Masked language modelling: shares of masks, loss on their rows alone, fixed held-out masks, order, dropout, FLOPs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from scrimp.config.tasks import MaskedLmRecipe, MaskedLmWorkload
from scrimp.config.training import ModelSpec
from scrimp.data.text import Text
from scrimp.errors import ScrimpError
from scrimp.flops import flops_per_example
from scrimp.models.language import Language
from scrimp.seeding import derived_generator
from scrimp.tasks.masked_lm import MaskedLm, masked
from scrimp.training.place import Place

END = 3
OPTIONS: dict[str, Any] = {"context": 16, "width": 16, "depth": 1, "heads": 2, "positions": "learned"}


def task_of(masking: float = 0.25, order: str = "shuffled", **options: Any) -> MaskedLm:
    recipe = MaskedLmRecipe(optimizer="adamw", learning_rate=0.01, masking=masking, order=order)  # type: ignore[arg-type]
    spec = ModelSpec(name="encoder", options={**OPTIONS, **options})
    task = MaskedLm(
        MaskedLmWorkload(recipe=recipe, model=spec, steps=1, arms=[], evaluation_tokens=160), Place(torch.device("cpu"))
    )
    tokens = torch.randint(50, (16 * 40 + 1,), generator=torch.Generator().manual_seed(0)).to(torch.int16)
    splits = {"train": tokens, "validation": tokens, "test": tokens[: 16 * 20 + 1]}
    task.use(Text(splits, 50, dict.fromkeys(splits, 4.0), END, None, None))
    return task


def test_places_and_kinds_have_their_shares() -> None:
    ids = torch.randint(4, 50, (4000, 16), generator=torch.Generator().manual_seed(0))
    inputs, places = masked(ids, 5, 50, 50, END, torch.Generator().manual_seed(1))
    assert places.shape == (4000, 5)
    assert (places.diff(dim=1) > 0).all()  # five different places, in ascending order
    counts = torch.zeros(16).scatter_add_(0, places.flatten(), torch.ones(20_000))
    # 20,000 places over 16: 1,250 each, deviation sqrt(4000 x 5/16 x 11/16) = 29.
    assert (counts - 1250).abs().max() < 4 * 29.4
    hidden, tokens = inputs.gather(1, places), ids.gather(1, places)
    mask, same = (hidden == 50).float().mean(), (hidden == tokens).float().mean()
    # Of 20,000 80 % are the mask; 10 % stay, and one in fifty of the 10 % random ones is the same by chance.
    assert mask.item() == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / 20_000))
    assert same.item() == pytest.approx(0.1 + 0.1 / 50, abs=4 * math.sqrt(0.09 / 20_000))
    untouched = torch.ones_like(ids, dtype=torch.bool).scatter(1, places, False)
    assert torch.equal(inputs[untouched], ids[untouched])


def test_ends_of_texts_are_hidden_only_where_nothing_else_is_left() -> None:
    ids = torch.full((200, 16), END)
    ids[:, :4] = 7
    _, places = masked(ids, 4, 50, 50, END, torch.Generator().manual_seed(0))
    assert (places == torch.arange(4)).all()


def test_masks_follow_from_seed_and_step() -> None:
    task = task_of()
    batches = [torch.arange(8)]

    def drawn(seed: int, step: int) -> torch.Tensor:
        inputs: torch.Tensor = next(iter(task.visits(batches, seed, step)))[0]
        return inputs

    assert torch.equal(drawn(0, 3), drawn(0, 3))
    assert not torch.equal(drawn(0, 3), drawn(0, 4))
    assert not torch.equal(drawn(0, 3), drawn(1, 3))


@pytest.mark.parametrize(("masking", "count"), [(0.15, 2), (0.25, 4), (0.156, 2), (0.01, 1)])
def test_a_window_has_a_whole_number_of_masks(masking: float, count: int) -> None:
    inputs, places, tokens, noise = task_of(masking).batch("train", torch.arange(3), derived_generator(0, 0, "x"))
    assert places.shape == tokens.shape == (3, count)
    assert inputs.shape == (3, 16)
    assert noise.shape == (3,)


def test_a_published_rate_is_twenty_of_128() -> None:
    assert task_of(0.156, context=128).predicted(0.156) == 20
    assert task_of(0.25, context=128).predicted(0.25) == 32


@pytest.mark.parametrize("options", [{}, {"head": "transform", "norm": "layer", "biases": True}, {"tied": False}])
def test_the_loss_of_masked_rows_is_that_of_all_rows(options: dict[str, Any]) -> None:
    task = task_of(**options)
    model = task.model(0)
    inputs, places, tokens, noise = task.batch("train", torch.arange(6), derived_generator(0, 0, "x"))
    dense = F.log_softmax(model(inputs), dim=-1)  # [b, T, V]
    expected = torch.stack([-dense[row, places[row], tokens[row]].mean() for row in range(6)])
    torch.testing.assert_close(task.losses(model, (inputs, places, tokens, noise)), expected, rtol=1e-5, atol=1e-6)
    gradients = torch.autograd.grad(task.losses(model, (inputs, places, tokens, noise)).sum(), model.embedding.weight)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected.sum(), model.embedding.weight), rtol=1e-4, atol=1e-5)


def test_held_out_masks_are_the_same_for_every_recipe_and_batch() -> None:
    few, many = task_of(0.1), task_of(0.5)
    together = many.batch("test", torch.arange(10))
    assert torch.equal(few.batch("test", torch.arange(10))[0], together[0])
    for place in (0, 7):
        alone = many.batch("test", torch.tensor([place]))
        assert all(torch.equal(one[0], all_of[place]) for one, all_of in zip(alone, together, strict=True))
    assert not torch.equal(together[0][:10], many.batch("validation", torch.arange(10))[0])


def test_evaluation_is_the_mean_over_its_masks_in_nats_and_bits() -> None:
    task = task_of()
    model = task.model(0)
    found = task.evaluate(model, "test")
    chosen = torch.arange(10) * 20 // 10  # 160 tokens are ten of the twenty windows
    expected = task.losses(model, task.batch("test", chosen)).mean().item()
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(expected / math.log(2) / 4)


def test_the_stored_order_goes_round_and_the_other_is_drawn() -> None:
    stored, shuffled = task_of(order="stored"), task_of()
    assert stored.examples == 40
    assert stored.draw(38, 4, 0).tolist() == [38, 39, 0, 1]
    assert sorted(shuffled.draw(0, 40, 0).tolist()) == list(range(40))
    assert shuffled.draw(0, 40, 0).tolist() != list(range(40))


def test_dropout_hangs_on_the_batch_and_leaves_the_global_state() -> None:
    task = task_of(dropout=0.3)
    model = task.model(0).train()
    batch = task.batch("train", torch.arange(4), derived_generator(0, 0, "x"))
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = task.losses(model, batch)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(task.losses(model, batch), first)
    other = (*batch[:3], batch[3] + 1)
    assert not torch.equal(task.losses(model, other), first)


@pytest.mark.parametrize("options", [{}, {"head": "transform"}])
def test_flops_are_those_that_torch_counts(options: dict[str, Any]) -> None:
    task = task_of(**options)
    model, batch = task.model(0), task.batch("train", torch.arange(2), derived_generator(0, 0, "x"))
    counted = flops_per_example(model, lambda: task.losses(model, batch), 2)
    assert counted.forward == pytest.approx(task.flops.forward)
    # The first layer's inputs need no gradient of their own only where they are no parameters: here all are.
    assert counted.training == pytest.approx(task.flops.training, rel=0.01)
    assert task.facts(model, 3)["flops_matmul"] == 3 * task.flops.training


def test_the_mask_has_a_row_of_its_own_and_both_sides_are_seen() -> None:
    model = task_of().model(0)
    assert isinstance(model, Language)
    assert (model.vocabulary, model.causal) == (51, False)
    with pytest.raises(ScrimpError, match="causal: a masked language model sees both sides"):
        task_of(causal=True).model(0)
