"""The sigmoid loss in blocks: against the formula by hand, the dense form, and numerical gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from scrimp import sigmoid_loss
from scrimp.kernels import sigmoid


def embeddings(count: int, width: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    draw = torch.randn(2, count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    image, text = F.normalize(draw, dim=2).to(dtype)
    return image.requires_grad_(), text.requires_grad_()


def dense(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    logits = scale * image @ text.T + bias
    return F.softplus(-(2 * torch.eye(len(image), dtype=logits.dtype) - 1) * logits).sum() / len(image)


def test_two_pairs_by_hand() -> None:
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    text = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    # Logits 2 z.t - 1: pairs 1 and .6; image 0 with text 1 gives .2, image 1 with text 0 gives -1.
    softplus = [math.log(1 + math.exp(x)) for x in (-1, -0.6, 0.2, -1)]
    assert sigmoid_loss(image, text, 2.0, -1.0).item() == pytest.approx(sum(softplus) / 2, rel=1e-6)


@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_loss_and_gradients_are_those_of_the_dense_form_for_any_block(count: int, block: int, seed: int) -> None:
    image, text = embeddings(count, 4, seed)
    scale, bias = torch.tensor(9.0, dtype=torch.float64).requires_grad_(), torch.tensor(-8.0).double().requires_grad_()
    ours, theirs = sigmoid_loss(image, text, scale, bias, block), dense(image, text, scale, bias)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    inputs = [image, text, scale, bias]
    for mine, other in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs, inputs), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


def test_gradients_are_the_numerical_ones() -> None:
    image, text = embeddings(5, 3, 0)
    scale, bias = torch.tensor(3.0, dtype=torch.float64).requires_grad_(), torch.tensor(-1.0).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda *inputs: sigmoid_loss(*inputs, 2), (image, text, scale, bias))


def test_single_precision_agrees_with_the_dense_form_within_its_rounding() -> None:
    image, text = embeddings(700, 64, 1, torch.float32)
    scale, bias = torch.tensor(20.0).requires_grad_(), torch.tensor(-10.0).requires_grad_()
    inputs = [image, text, scale, bias]
    exact = [value.detach().double().requires_grad_() for value in inputs]
    ours, theirs = sigmoid_loss(*inputs, 64), dense(*exact)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    for mine, other in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs, exact), strict=True):
        torch.testing.assert_close(mine.double(), other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_bfloat16_embeddings_under_autocast_keep_a_float32_loss() -> None:
    image, text = embeddings(64, 16, 2, torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sigmoid_loss(image, text, 10.0, -10.0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert image.grad is not None
    assert image.grad.dtype == torch.bfloat16
    exact = dense(image.detach().double(), text.detach().double(), torch.tensor(10.0), torch.tensor(-10.0))
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)


def test_autocast_touches_neither_the_loss_nor_its_gradients() -> None:
    image, text = embeddings(64, 16, 2, torch.float32)
    plain = sigmoid_loss(image, text, 10.0, -5.0)
    plain_gradients = torch.autograd.grad(plain, [image, text])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sigmoid_loss(image, text, 10.0, -5.0)
        gradients = torch.autograd.grad(loss, [image, text])
    assert torch.equal(loss, plain)
    assert all(torch.equal(a, b) for a, b in zip(gradients, plain_gradients, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_aligned_pairs_cost_next_to_nothing_and_never_less(dtype: torch.dtype) -> None:
    image = torch.eye(64, dtype=dtype)
    # A pair has the logit 50, all others -50: 64 softplus(-50) in all, over 64.
    assert sigmoid_loss(image, image, 100.0, -50.0).item() == pytest.approx(64 * math.exp(-50), rel=1e-4)
    noisy = embeddings(64, 16, 3, dtype)[0].detach()
    loss = sigmoid_loss(noisy, noisy, 40.0, -20.0).item()
    assert loss == pytest.approx(dense(*[noisy.double()] * 2, torch.tensor(40.0), torch.tensor(-20.0)).item(), rel=0.05)


def test_a_block_bounds_what_is_made() -> None:
    image, text = embeddings(200, 4, 0)
    sizes: list[int] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            sizes.extend(one.numel() for one in (made if isinstance(made, tuple) else [made]) if isinstance(one, Tensor))
            return made

    scale, bias = torch.tensor(10.0).double(), torch.tensor(-10.0).double()
    for run in (  # what the op and its backward pass are made of: an op's own inside cannot be watched
        lambda: sigmoid.blocked(image, text, scale, bias, 5),
        lambda: sigmoid.gradients(torch.ones(()).double(), image, text, scale, bias, 5),
    ):
        sizes.clear()
        with Watch():
            run()
        assert max(sizes) == 5 * 200


@pytest.mark.parametrize(("image", "text"), [((3, 2), (4, 2)), ((3,), (3,)), ((0, 2), (0, 2))])
def test_shapes_that_are_no_pairs_are_told(image: tuple[int, ...], text: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="two matrices"):
        sigmoid_loss(torch.zeros(image), torch.zeros(text), 1.0, 0.0)


def test_a_model_without_a_bias_is_told_what_to_do() -> None:
    image, text = embeddings(4, 3, 0)
    with pytest.raises(ValueError, match=r"the model's bias is None, as a CLIP model's is.*a bias of 0\.0"):
        sigmoid_loss(image, text, 10.0, None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_embeddings_of_other_lengths_are_an_error_with_a_switch(dtype: torch.dtype) -> None:
    image, text = (part.detach() for part in embeddings(40, 16, 0, dtype))
    long = text.clone()
    long[3] *= 1.5
    with pytest.raises(ValueError, match=r"the model's text embeddings are not of length 1 \(row 3 has 1\.5\).*unit=False"):
        sigmoid_loss(image, long, 2.0, -1.0)
    loss = sigmoid_loss(image, long, 2.0, -1.0, unit=False).item()
    assert loss == pytest.approx(
        dense(image.double(), long.double(), torch.tensor(2.0), torch.tensor(-1.0)).item(), rel=0.02
    )
