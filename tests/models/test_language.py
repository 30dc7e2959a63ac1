"""The transformer: its masks, positions and counts, and that one learning rate serves all widths."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from scrimp.errors import ScrimpError
from scrimp.models.language import BASE_WIDTH, Language, build, rotary_turns, rotated

SMALL: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2}
KINDS = [{"positions": p, "feed_forward": f} for p in ("rotary", "learned") for f in ("glu", "gelu")]


def ids_of(count: int = 3, length: int = 12) -> torch.Tensor:
    return torch.randint(0, 40, (count, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_decoder_sees_no_later_token_and_an_encoder_all(kind: dict[str, Any]) -> None:
    ids = ids_of()
    other = ids.clone()
    other[:, 7] = (other[:, 7] + 1) % 40
    for causal in (True, False):
        model = build(40, 12, 0, {**SMALL, **kind, "causal": causal})
        differs = (model(ids) - model(other)).abs().amax(dim=(0, 2)) > 1e-6  # [T]
        assert differs.tolist() == [place >= 7 if causal else True for place in range(12)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_order_matters(kind: dict[str, Any]) -> None:
    model = build(40, 12, 0, {**SMALL, **kind, "causal": False})
    ids = ids_of(1)
    assert not torch.allclose(model(ids).sum(dim=1), model(ids.flip(1)).sum(dim=1), atol=1e-5)


def test_rotary_scores_hang_on_distance_alone_and_lengths_stay() -> None:
    turns = rotary_turns(20, 8)
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    at = [rotated(x.expand(20, 8), turns) for x in (q, k)]  # the same vector at every position
    scores = at[0] @ at[1].T
    for distance in (0, 1, 5):
        diagonal = scores.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(at[0].norm(dim=1), q.norm().expand(20))
    # The pair (0, 4) turns by one radian a position, whatever the size.
    turned = rotated(torch.eye(8)[:1].expand(20, 8), turns)
    assert turned[1, 0].item() == pytest.approx(0.5403, abs=1e-4)
    assert turned[1, 4].item() == pytest.approx(0.8415, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_flops_are_those_that_torch_counts(kind: dict[str, Any]) -> None:
    model = build(40, 12, 0, {**SMALL, **kind})
    ids = ids_of()
    # The counter knows no formula for the CPU's fused attention: it is added by hand, two products of T x T x width each.
    with FlopCounterMode(display=False) as counter:
        loss = model(ids).sum()
    attention = 2 * 2 * 2 * 12 * 12 * 16 * 3
    assert counter.get_total_flops() + attention == pytest.approx(3 * 12 * model.flops_per_token(training=False))
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    assert counter.get_total_flops() + 2 * attention == pytest.approx(3 * 12 * 2 * model.flops_per_token(training=False))
    assert model.flops_per_token() == 3 * model.flops_per_token(training=False)


def test_parameters_by_both_conventions() -> None:
    # Blocks: attention 4 w^2, a gated layer of 8 round(8/3 w / 8) = 40: 3 x 16 x 40, two norms of 16; one norm at the end.
    model = build(40, 12, 0, SMALL)
    blocks = 2 * (4 * 256 + 3 * 16 * 40 + 32) + 16
    assert model.count_parameters("non-embedding") == blocks
    assert model.count_parameters("total") == blocks + 40 * 16
    assert model.flops_per_token("6n-total") == 6 * (blocks + 640)
    assert model.flops_per_token("6n-non-embedding") == 6 * blocks
    learned = build(40, 12, 0, {**SMALL, "positions": "learned"})
    assert learned.count_parameters("total") - learned.count_parameters("non-embedding") == (40 + 12) * 16


def test_matrices_learn_as_one_over_the_width() -> None:
    scales = build(40, 12, 0, {"width": 4 * BASE_WIDTH, "depth": 1, "heads": 4}).learning_rate_scales()
    assert scales["blocks.0.attention_in.weight"] == 0.25
    assert scales["embedding.weight"] == scales["norm.weight"] == scales["blocks.0.norm.weight"] == 1.0


def test_one_step_moves_the_outputs_of_all_widths_alike() -> None:
    """What makes one learning rate serve: with a fixed rate, the change of the logits does not grow with the width."""

    def change(width: int, scaled: bool) -> float:
        model = build(40, 12, 0, {"width": width, "depth": 2, "heads": 4})
        scales, ids = model.learning_rate_scales(), ids_of(4)
        before = model(ids).detach()
        F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                assert weight.grad is not None
                weight -= 0.002 * (scales[name] if scaled else 1.0) * weight.grad.sign()  # Adam's first step
        return float((model(ids) - before).detach().square().mean().sqrt())

    changes = [change(width, scaled=True) for width in (64, 256, 1024)]
    assert max(changes) < 1.5 * min(changes), changes
    unscaled = [change(width, scaled=False) for width in (64, 256, 1024)]
    assert max(unscaled) > 2 * min(unscaled), unscaled


def test_weights_follow_from_the_seed_and_leave_the_global_state() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = build(40, 12, 3, SMALL)
    assert torch.equal(torch.rand(1), expected)
    again = build(40, 12, 3, SMALL)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.embedding.weight, build(40, 12, 4, SMALL).embedding.weight)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({**SMALL, "heads": 3}, "3 heads do not share a width of 16"),
        ({**SMALL, "heads": 16}, "16 heads do not share a width of 16 in even parts"),
        ({**SMALL, "positions": "alibi"}, "'alibi' is none of rotary, learned, sinusoidal"),
        ({**SMALL, "feed_forward": "relu"}, "'relu' is none of glu, gelu, geglu"),
        ({**SMALL, "widht": 3}, "widht"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ScrimpError, match=told):
        build(40, 12, 0, options)


def test_a_window_longer_than_the_context_is_refused() -> None:
    with pytest.raises(ValueError, match="13 tokens do not fit the context of 12"):
        Language(40, 12, **SMALL)(torch.zeros(1, 13, dtype=torch.int64))
