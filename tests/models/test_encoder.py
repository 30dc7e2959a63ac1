"""The encoder's switches: BERT's and Cramming's shapes by hand, the order of norms, positions, padding, dropout, counts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from scrimp.errors import ScrimpError
from scrimp.models.language import Language, build
from scrimp.models.language_parts import Block, sinusoids

SMALL: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2, "causal": False}
BERT: dict[str, Any] = {
    "causal": False,
    "positions": "learned",
    "feed_forward": "gelu",
    "norm": "layer",
    "norm_order": "post",
    "norm_eps": 1e-12,
    "biases": True,
    "embedding_norm": True,
    "head": "transform",
    "initialisation": "normal",
}
CRAMMED: dict[str, Any] = {
    "causal": False,
    "positions": "sinusoidal",
    "feed_forward": "geglu",
    "expansion": 2,
    "norm": "layer",
    "norm_eps": 1e-12,
    "embedding_norm": True,
    "initialisation": "normal",
}
KINDS = [
    BERT | {"width": 16, "depth": 2, "heads": 2},
    CRAMMED | {"width": 16, "depth": 2, "heads": 2},
    SMALL | {"norm_order": "post", "tied": False},
]


def ids_of(count: int = 3, length: int = 12) -> torch.Tensor:
    return torch.randint(0, 40, (count, length), generator=torch.Generator().manual_seed(1))


def test_published_sizes_by_hand() -> None:
    with torch.device("meta"):
        crammed = Language(32768, 128, width=768, depth=16, heads=12, **CRAMMED)
        bert = Language(30522, 512, width=768, depth=12, heads=12, **BERT)
    # Cramming: embeddings; a block's attention 4 w^2, its gated layer w x 3072 and 1536 x w, two norms; two norms more and
    # the scale of positions. The report's 120M.
    block = 4 * 768**2 + 768 * 3072 + 1536 * 768 + 2 * 768
    assert crammed.count_parameters() == 32768 * 768 + 16 * block + 2 * 768 + 1 == 119_563_777
    # BERT-base without its two segment embeddings and its pooler: 109,482,240 - 2 x 768 - 590,592, and a head of 622,650.
    head = 768 * 768 + 768 + 2 * 768 + 30522
    assert bert.count_parameters() == 109_482_240 - 2 * 768 - (768 * 768 + 768) + head


def test_pre_and_post_norm_are_in_their_order() -> None:
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    for order in ("pre", "post"):
        torch.manual_seed(0)
        block = Block(16, 2, 32, "gelu", False, norm="layer", norm_order=order, biases=True)  # type: ignore[arg-type]
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.normal_(std=0.3)

        def attend(y: torch.Tensor, block: Block = block) -> torch.Tensor:
            q, k, v = block.attention_in(y).view(2, 5, 3, 2, 8).permute(2, 0, 3, 1, 4)
            scores = (q @ k.transpose(-1, -2) / math.sqrt(8)).softmax(-1) @ v
            return block.attention_out(scores.transpose(1, 2).reshape(2, 5, 16))

        def feed(y: torch.Tensor, block: Block = block) -> torch.Tensor:
            return block.down(F.gelu(block.up(y)))

        if order == "pre":
            middle = x + attend(block.attention_norm(x))
            expected = middle + feed(block.norm(middle))
        else:
            middle = block.attention_norm(x + attend(x))
            expected = block.norm(middle + feed(middle))
        torch.testing.assert_close(block(x, None), expected, rtol=1e-4, atol=1e-5)


def test_a_post_norm_stream_ends_normed_and_a_pre_norm_one_too() -> None:
    for kind in (KINDS[0], KINDS[1]):
        out = build(40, 12, 0, kind).body(ids_of())
        torch.testing.assert_close(out.mean(-1), torch.zeros(3, 12), atol=1e-5, rtol=0)
        torch.testing.assert_close(out.square().mean(-1), torch.ones(3, 12), atol=1e-3, rtol=0)


def test_sinusoids_by_hand_and_their_scale() -> None:
    waves = sinusoids(4, 6)
    assert waves[0].tolist() == [0, 1, 0, 1, 0, 1]
    assert waves[3, 0].item() == pytest.approx(math.sin(3))
    assert waves[3, 3].item() == pytest.approx(math.cos(3 * 10_000 ** (-2 / 6)))
    model = build(40, 12, 0, KINDS[1])
    assert model.position_scale is not None
    assert model.position_scale.tolist() == [0.25]  # 1 / sqrt(16)
    ids = ids_of(1)
    assert not torch.allclose(model(ids).sum(dim=1), model(ids.flip(1)).sum(dim=1), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS, ids=["bert", "crammed", "untied"])
def test_padding_changes_nothing(kind: dict[str, Any]) -> None:
    model, ids = build(40, 12, 0, kind).eval(), ids_of()
    valid = torch.ones(3, 12, dtype=torch.bool)
    torch.testing.assert_close(model.body(ids, valid), model.body(ids))
    valid[:, 8:] = False
    other = ids.clone()
    other[:, 8:] = 7
    torch.testing.assert_close(model.body(ids, valid)[:, :8], model.body(other, valid)[:, :8])
    torch.testing.assert_close(model.body(ids, valid)[:, :8], model.body(ids[:, :8]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS, ids=["bert", "crammed", "untied"])
def test_flops_are_those_that_torch_counts_with_a_part_of_the_rows_read_out(kind: dict[str, Any]) -> None:
    model, ids = build(40, 12, 0, kind), ids_of()
    with FlopCounterMode(display=False) as counter:
        model.logits(model.body(ids)[:, :3])
    attention = 2 * 2 * 2 * 12 * 12 * 16 * 3  # the counter does not know the CPU's fused attention
    assert counter.get_total_flops() + attention == 3 * 12 * model.flops_per_token(training=False, read=0.25)
    assert model.flops_per_token(read=0.25) < model.flops_per_token()


def test_dropout_falls_in_training_alone() -> None:
    model, ids = build(40, 12, 0, {**KINDS[0], "dropout": 0.5}), ids_of()
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))
    plain = build(40, 12, 0, KINDS[0]).eval()
    assert torch.equal(plain(ids), model(ids))  # the same weights


def test_initial_weights_are_berts_or_follow_the_width() -> None:
    normal, scaled = build(400, 12, 0, {**KINDS[0], "width": 256}), build(400, 12, 0, {**SMALL, "width": 256})
    assert normal.blocks[0].down.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert normal.embedding.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not any(bias.any() for name, bias in normal.named_parameters() if name.endswith("bias"))
    assert scaled.blocks[0].up.weight.std().item() == pytest.approx(1 / 16, rel=0.02)
    assert set(normal.learning_rate_scales().values()) == {1.0}
    assert set(scaled.learning_rate_scales().values()) == {1.0, 0.25}


def test_an_untied_read_out_is_a_matrix_of_its_own() -> None:
    tied, untied = build(40, 12, 0, SMALL), build(40, 12, 0, {**SMALL, "tied": False})
    assert untied.count_parameters() - tied.count_parameters() == 40 * 16
    assert untied.count_parameters("non-embedding") == tied.count_parameters("non-embedding")
    assert tied.read_out is tied.embedding.weight


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"norm": "batch"}, "'batch' is none of rms, layer"),
        ({"norm_order": "sandwich"}, "'sandwich' is none of pre, post"),
        ({"head": "mlp"}, "'mlp' is none of linear, transform"),
        ({"initialisation": "zero"}, "'zero' is none of width-scaled, normal"),
        ({"dropout": 1.0}, "dropout: must be at least 0 and below 1"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ScrimpError, match=told):
        build(40, 12, 0, {**SMALL, **options})
