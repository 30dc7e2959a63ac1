"""Two towers: shapes, PI-resizing against its definition, masking, and weights that depend on the seed alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from scrimp import jest, sigmoid_loss
from scrimp.errors import ScrimpError
from scrimp.models.contrastive import ImageTower, TextTower, build_two_towers, pi_resize_matrix

OPTIONS = {"image": (16, 1, 2), "text": (16, 1, 2), "width_out": 8}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def resized(patches: torch.Tensor, side: int) -> torch.Tensor:
    return F.interpolate(patches, size=(side, side), mode="bilinear", align_corners=False)


# -------------------------------------------------------------------------------------------------------------- patch sizes
@pytest.mark.parametrize(("old", "new"), [(4, 8), (4, 16), (8, 12)])
def test_a_grown_kernel_answers_to_grown_patches_as_before(old: int, new: int) -> None:
    kernel, patches = torch.randn(old * old, generator=seeded()), torch.randn(50, 1, old, old, generator=seeded(1))
    grown = pi_resize_matrix(old, new) @ kernel
    torch.testing.assert_close(resized(patches, new).flatten(1) @ grown, patches.flatten(1) @ kernel, rtol=1e-4, atol=1e-4)


def test_a_shrunk_kernel_is_the_least_squares_answer() -> None:
    kernel, patches = torch.randn(64, generator=seeded()).double(), torch.eye(64).double().view(64, 1, 8, 8)
    shrunk = pi_resize_matrix(8, 4).double() @ kernel
    # Over patches of white noise the mean squared difference is the squared distance of the answers to the unit patches.
    best = torch.linalg.lstsq(resized(patches, 4).flatten(1), kernel[:, None]).solution[:, 0]
    torch.testing.assert_close(shrunk, best, rtol=1e-4, atol=1e-5)


def test_no_resize_is_the_identity() -> None:
    torch.testing.assert_close(pi_resize_matrix(5, 5), torch.eye(25), rtol=0, atol=1e-6)


def test_one_tower_takes_several_patch_sizes_and_a_smooth_picture_looks_alike_to_them() -> None:
    torch.manual_seed(0)
    tower = ImageTower(32, patch=8, finest_patch=4, width=16, depth=1, heads=2)
    with torch.no_grad():
        tower.positions.zero_()
    flat = torch.full((1, 3, 32, 32), 0.7)
    by_size = [tower(flat, side) for side in (4, 8, 16)]
    assert [out.shape for out in by_size] == [(1, 16)] * 3
    # Of a picture without edges every patch gives one token, whatever its size, where kernels grow.
    torch.testing.assert_close(by_size[1], by_size[2], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(tower(flat), by_size[1])
    with pytest.raises(ScrimpError, match="patches of 5 do not tile a picture of 32"):
        tower(flat, 5)
    with pytest.raises(ScrimpError, match="do not tile a picture of 30"):
        ImageTower(30, patch=8, finest_patch=4, width=16, depth=1, heads=2)


def test_scoring_in_inference_mode_leaves_training_possible() -> None:
    pi_resize_matrix.cache_clear()
    towers, images = build_two_towers(20, 0, OPTIONS), torch.rand(2, 3, 32, 32, generator=seeded())
    with torch.inference_mode():
        towers.embed_images(images, 16)
    towers.embed_images(images, 16).sum().backward()
    assert towers.image_tower.kernel.grad is not None


def test_positions_keep_their_place_when_they_are_resized() -> None:
    tower = ImageTower(16, patch=4, finest_patch=4, width=2, depth=1, heads=2)
    with torch.no_grad():
        tower.positions[0, 0] = torch.arange(4.0)[:, None].expand(4, 4)  # the row
        tower.positions[0, 1] = torch.arange(4.0)[None, :].expand(4, 4)  # the column
    halved = tower._positions(2)[0]
    torch.testing.assert_close(halved[0], torch.tensor([[0.5, 0.5], [2.5, 2.5]]))
    torch.testing.assert_close(halved[1], torch.tensor([[0.5, 2.5], [0.5, 2.5]]))


# ---------------------------------------------------------------------------------------------------------------- captions
def test_padding_changes_nothing_and_order_matters() -> None:
    torch.manual_seed(0)
    tower = TextTower(vocabulary=20, length=6, width=16, depth=2, heads=2)
    caption, longer = torch.tensor([[3, 7, 5]]), torch.tensor([[3, 7, 5, 0, 0, 0]])
    torch.testing.assert_close(tower(caption), tower(longer))
    assert not torch.allclose(tower(caption), tower(torch.tensor([[5, 7, 3]])), atol=1e-4)
    together = tower(torch.tensor([[3, 7, 5, 0], [9, 2, 4, 8]]))
    torch.testing.assert_close(together[:1], tower(caption))


# -------------------------------------------------------------------------------------------------------------- both towers
def test_what_it_gives_is_what_the_loss_and_the_choice_take() -> None:
    towers = build_two_towers(20, 0, OPTIONS)
    images, ids = torch.rand(6, 3, 32, 32, generator=seeded()), torch.randint(1, 20, (6, 5), generator=seeded())
    image, text, scale, bias = embedded = towers(images, ids)
    for part in (image, text):
        assert part.shape == (6, 8)
        torch.testing.assert_close(part.norm(dim=1), torch.ones(6))
    assert scale.item() == pytest.approx(10.0)
    assert bias.item() == -10.0
    sigmoid_loss(*embedded).backward()
    assert all(parameter.grad is not None for parameter in towers.parameters())
    chosen = jest.select(tuple(part.detach() for part in embedded), None, 2, 2, "hard-learner", generator=seeded())
    assert len(set(chosen.tolist())) == 2


def test_a_starting_loss_is_near_that_of_the_bias_alone() -> None:
    towers = build_two_towers(20, 0, OPTIONS)
    images, ids = torch.rand(64, 3, 32, 32, generator=seeded()), torch.randint(1, 20, (64, 5), generator=seeded())
    # With bias -10 and scale 10 a pair costs 10 - 10 z.t, and every other combination next to nothing.
    embedded = towers(images, ids)
    matching = (embedded[0] * embedded[1]).sum(dim=1)
    expected = float((10 - 10 * matching.detach()).clamp(min=0).mean())
    assert float(sigmoid_loss(*embedded)) == pytest.approx(expected, rel=0.1)


def test_weights_hang_on_the_seed_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (build_two_towers(20, seed, OPTIONS) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.image_tower.kernel, other.image_tower.kernel)
    assert math.isclose(float(one.log_scale), math.log(10), rel_tol=1e-6)
    with pytest.raises(ScrimpError, match="two towers take no such options"):
        build_two_towers(20, 0, {"depth": 3})
