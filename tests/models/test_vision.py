"""Image classifiers: FLOPs and parameters against counts by hand, shapes, and initial weights that depend on the seed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scrimp.errors import ScrimpError
from scrimp.flops import flops_per_example
from scrimp.models import vision

SIDE = {"cifar": 32, "half": 16, "quarter": 8, "imagenet": 8}  # of the map that the first stage sees, of 32 x 32 pictures
STEM_SIDE = {"cifar": 32, "half": 16, "quarter": 16, "imagenet": 16}
KERNEL = {"cifar": 3, "half": 3, "quarter": 5, "imagenet": 7}


def narrow_weights(stem: str, width: int, classes: int) -> list[tuple[int, int]]:
    """(weights, places each is used at) of every convolution and linear map of the narrow ResNet, the stem first."""
    side, w = SIDE[stem], width
    layers = [(KERNEL[stem] ** 2 * 3 * w, STEM_SIDE[stem] ** 2)]
    layers += [(9 * w * w, side**2)] * 2
    for channels_in, channels in ((w, 2 * w), (2 * w, 4 * w)):
        side //= 2
        layers += [
            (9 * channels_in * channels, side**2),
            (9 * channels * channels, side**2),
            (channels_in * channels, side**2),
        ]
    return [*layers, (4 * w * classes, 1)]


@pytest.mark.parametrize("stem", ["cifar", "half", "quarter", "imagenet"])
@pytest.mark.parametrize(("width", "classes"), [(4, 3), (16, 100)])
def test_flops_and_parameters_of_the_narrow_resnet(stem: str, width: int, classes: int) -> None:
    model = vision.build("resnet-narrow", classes, 0, {"stem": stem, "width": width})
    layers = narrow_weights(stem, width, classes)
    # Batch norms have a scale and a shift: stem, two a stage, and one in each of the two skips; the head has a bias.
    norms = 2 * (width + 2 * width + 3 * 2 * width + 3 * 4 * width)
    assert sum(p.numel() for p in model.parameters()) == sum(weights for weights, _ in layers) + norms + classes
    flops = flops_per_example(model, lambda: model(torch.zeros(2, 3, 32, 32)).sum(dim=1), 2)
    assert flops.forward == sum(2 * weights * places for weights, places in layers)
    stem_flops = 2 * layers[0][0] * layers[0][1]
    assert flops.training == 3 * flops.forward - stem_flops  # nothing goes back through the stem to the picture


@pytest.mark.parametrize(("patch", "width", "depth", "heads"), [(8, 16, 1, 4), (8, 64, 3, 4), (4, 32, 2, 2)])
def test_flops_and_parameters_of_the_vit(patch: int, width: int, depth: int, heads: int) -> None:
    options = {"patch": patch, "width": width, "depth": depth, "heads": heads}
    model = vision.build("vit", 10, 0, options)
    places, w = (32 // patch) ** 2, width
    embedding = 2 * places * 3 * patch**2 * w
    maps = depth * 2 * places * (3 + 1 + 4 + 4) * w * w  # query, key, value; out; up; down
    attention = depth * 2 * 2 * places * places * w  # scores and mixture, however many heads
    head = 2 * w * 10
    flops = flops_per_example(model, lambda: model(torch.zeros(2, 3, 32, 32)).sum(dim=1), 2)
    assert flops.forward == embedding + maps + attention + head
    assert flops.training == 3 * flops.forward - embedding
    block = 12 * w * w + (3 + 1 + 4 + 1) * w + 4 * w  # weights, biases, two norms
    outside = (3 * patch**2 + 1) * w + places * w + 2 * w + (w + 1) * 10
    assert sum(p.numel() for p in model.parameters()) == depth * block + outside


# Published counts of the CIFAR variants (a 3 x 3 stem, 10 classes) in the usual reimplementations.
@pytest.mark.parametrize(("name", "parameters"), [("resnet-18", 11_173_962), ("resnet-50", 23_520_842)])
def test_the_large_resnets_have_their_known_number_of_parameters(name: str, parameters: int) -> None:
    assert sum(p.numel() for p in vision.build(name, 10, 0).parameters()) == parameters


MODELS: list[tuple[str, dict[str, Any]]] = [
    ("resnet-narrow", {"width": 4}),
    ("resnet-narrow", {"width": 4, "stem": "quarter"}),
    ("resnet-18", {"stem": "imagenet"}),
    ("vit", {"width": 16, "depth": 1}),
]


@pytest.mark.parametrize(("name", "options"), MODELS)
def test_weights_hang_on_the_seed_alone_and_the_global_state_is_left(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = vision.build(name, 5, 3, options)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    second, other = vision.build(name, 5, 3, options), vision.build(name, 5, 4, options)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    assert first(torch.randn(2, 3, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize(("name", "options"), MODELS)
def test_every_parameter_learns(name: str, options: dict[str, Any]) -> None:
    model = vision.build(name, 5, 0, options)
    logits = model(torch.randn(4, 3, 32, 32))
    torch.nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    still = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert still == set()


def test_pictures_of_a_batch_do_not_mix_when_evaluated() -> None:
    pictures = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for name, options in MODELS:
        model = vision.build(name, 5, 0, options).eval()
        with torch.no_grad():
            together, alone = model(pictures), torch.cat([model(picture[None]) for picture in pictures])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet-narow", {}, "unknown model 'resnet-narow': known: resnet-narrow, resnet-18"),
        ("resnet-narrow", {"stem": "huge"}, "unknown stem 'huge' of a ResNet: known: cifar, half, quarter, imagenet"),
        ("resnet-narrow", {"depth": 3}, "model 'resnet-narrow' does not take these options: .*depth"),
        ("vit", {"patch": 5}, "size % patch == 0"),
        ("vit", {"width": 30}, "width % heads == 0"),
    ],
)
def test_what_cannot_be_built_is_said(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ScrimpError, match=message):
        vision.build(name, 10, 0, options)


def test_few_channels_take_their_stride_first_and_give_the_same() -> None:
    """The gradient of the plain module crashes on AVX2 (oneDNN 3.12), so it is held against a matrix product by hand."""
    torch.manual_seed(0)
    conv = vision.Pointwise(4, 8, 1, 2, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(16, 4, 8, 8).to(memory_format=torch.channels_last)
    conv(x).square().sum().backward()
    taken = x[:, :, ::2, ::2].permute(0, 2, 3, 1).reshape(-1, 4).double()  # [positions, 4]
    weight = conv.weight.detach().flatten(1).double()  # [8, 4]
    expected = 2 * (taken @ weight.T).T @ taken
    torch.testing.assert_close(conv.weight.grad.flatten(1).double(), expected, rtol=1e-4, atol=1e-3)
