"""Muon beside AdamW: which weights each moves, the size of an update, its FLOPs by hand, and that it resumes."""

from __future__ import annotations

import pytest
import torch

from scrimp.config.training import Recipe
from scrimp.errors import ScrimpError
from scrimp.models.language import Language, build
from scrimp.training.muon import MuonAdamW, of_muon, update_flops
from scrimp.training.optimizers import build_optimizer, optimizer_tensors, restore_optimizer, set_learning_rate

RECIPE = Recipe(optimizer="muon", learning_rate=0.01, weight_decay=0.0)


def model_of(seed: int = 0) -> Language:
    return build(40, 12, seed, {"width": 16, "depth": 1, "heads": 2, "feed_forward": "gelu", "causal": False})


def step(model: Language, optimizer: object, seed: int) -> None:
    ids = torch.randint(0, 40, (4, 12), generator=torch.Generator().manual_seed(seed))
    model(ids).square().mean().backward()
    optimizer.step()  # type: ignore[attr-defined]
    optimizer.zero_grad()  # type: ignore[attr-defined]


def test_matrices_in_blocks_move_by_orthogonal_steps_of_adamws_size() -> None:
    model = model_of()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer = build_optimizer(model, RECIPE, model.learning_rate_scales())
    assert isinstance(optimizer, MuonAdamW)
    assert list(of_muon(model)) == [f"blocks.0.{name}.weight" for name in ("attention_in", "attention_out", "up", "down")]
    set_learning_rate(optimizer, 0.01)
    scales = model.learning_rate_scales()
    step(model, optimizer, 0)
    for name, weight in model.named_parameters():
        moved = weight.detach() - before[name]
        rate = 0.01 * scales[name]
        if name in of_muon(model):
            singular = torch.linalg.svdvals(moved) / (0.2 * max(moved.shape) ** 0.5 * rate)
            assert (singular > 0.5).all(), name  # all near 1: the step is orthogonal, as far as five iterations bring it
            assert (singular < 1.4).all(), name
        elif name.endswith("norm.weight"):
            assert moved.abs().max().item() == pytest.approx(rate, rel=0.01)  # Adam's first step


def test_flops_of_an_update_by_hand() -> None:
    # 48 x 16, 16 x 16, 64 x 16 and 16 x 64; each of five steps: two products of 2 m m n and one of 2 m m m.
    expected = sum(5 * (2 * 2 * 16 * 16 * n + 2 * 16**3) for n in (48, 16, 64, 64))
    assert update_flops(model_of()) == expected


def test_it_goes_on_from_its_saved_state() -> None:
    whole, first = model_of(), model_of()
    a, b = (build_optimizer(model, RECIPE, model.learning_rate_scales()) for model in (whole, first))
    for seed in range(2):
        step(whole, a, seed)
    step(first, b, 0)
    kept = {name: value.clone() for name, value in optimizer_tensors(b).items()}
    second = model_of()
    second.load_state_dict(first.state_dict())
    c = build_optimizer(second, RECIPE, second.learning_rate_scales())
    restore_optimizer(c, kept)
    step(second, c, 1)
    assert all(torch.equal(x, y) for x, y in zip(whole.parameters(), second.parameters(), strict=True))


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(ScrimpError, match="muon takes matrices inside `blocks`"):
        build_optimizer(torch.nn.Linear(3, 3), RECIPE)
