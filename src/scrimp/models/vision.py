"""Image classifiers for small pictures: ResNets with the CIFAR stem, a narrow ResNet for CPUs, a small ViT.

All take float images [B, 3, S, S] and give logits [B, classes]. He et al. 2015 (ResNet), Dosovitskiy et al. 2020 (ViT).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scrimp.errors import ScrimpError


class Pointwise(nn.Conv2d):
    """A 1 x 1 convolution that takes its stride before it multiplies, where there are few channels.

    oneDNN 3.12 (torch 2.13) on AVX2 writes beyond a buffer in the weights' gradient of a strided 1 x 1 convolution of
    fewer than eight channels, channels last: a crash at best (uxlfoundation/oneDNN, issue 6035).
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.in_channels >= 8 or self.stride == (1, 1):
            return super().forward(x)
        rows, columns = self.stride[0], self.stride[1]
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a skip."""

    expansion = 1

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3(channels_in, width, stride)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3(width, width, 1)
        self.norm2 = nn.BatchNorm2d(width)
        self.skip = _skip(channels_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.skip(x))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions and a skip; the output has four times the width."""

    expansion = 4

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        channels_out = width * self.expansion
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3(width, width, stride)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels_out, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels_out)
        self.skip = _skip(channels_in, channels_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        return F.relu(self.norm3(self.conv3(y)) + self.skip(x))


class ResNet(nn.Module):
    """Stem, stages of blocks (each but the first halves the picture), mean over positions, linear head.

    `stem`: "cifar" is one 3 x 3 convolution of stride 1; "half" the same with stride 2 (a quarter of the FLOPs);
    "imagenet" 7 x 7 of stride 2 and a max pool of stride 2.
    """

    def __init__(
        self,
        classes: int,
        block: type[BasicBlock] | type[Bottleneck],
        widths: list[int],
        blocks: list[int],
        stem: str = "cifar",
    ) -> None:
        super().__init__()
        stems: dict[str, Callable[[], nn.Module]] = {
            "cifar": lambda: _conv3(3, widths[0], 1),
            "half": lambda: _conv3(3, widths[0], 2),
            "quarter": lambda: nn.Conv2d(3, widths[0], 5, 2, 2, bias=False),
            "imagenet": lambda: nn.Conv2d(3, widths[0], 7, 2, 3, bias=False),
        }
        if stem not in stems:
            raise ScrimpError(f"unknown stem {stem!r} of a ResNet: known: {', '.join(stems)}")
        self.stem = stems[stem]()
        self.norm = nn.BatchNorm2d(widths[0])
        self.pool = nn.MaxPool2d(3, 2, 1) if stem in ("imagenet", "quarter") else nn.Identity()
        stages: list[nn.Module] = []
        channels = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for number in range(count):
                stages.append(block(channels, width, 2 if stage > 0 and number == 0 else 1))
                channels = width * block.expansion
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(F.relu(self.norm(self.stem(x))))
        y = self.stages(y)  # [B, C, S', S']
        return self.head(y.mean(dim=(2, 3)))


class ViT(nn.Module):
    """Pre-norm transformer over square patches, with learned positions and a mean over patches (no class token)."""

    def __init__(
        self, classes: int, size: int = 32, patch: int = 4, width: int = 64, depth: int = 4, heads: int = 4
    ) -> None:
        super().__init__()
        if size % patch or width % heads:
            raise ScrimpError(f"a ViT needs size % patch == 0 and width % heads == 0, got {size}, {patch}, {width}, {heads}")
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.positions = nn.Parameter(torch.randn(1, (size // patch) ** 2, width) * 0.02)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2) + self.positions  # [B, P, width]
        y = self.norm(self.blocks(y))
        return self.head(y.mean(dim=1))


class TransformerBlock(nn.Module):
    """Self-attention and a four times wider MLP, each behind a layer norm, each added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        """Tokens [B, L, width] to the same; `given` (bool [B, L]) says which tokens may be attended to (None: all)."""
        batch, length, width = x.shape
        split = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each [B, heads, P, width / heads]
        mask = None if given is None else given[:, None, None, :]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


def _conv3(channels_in: int, channels_out: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)


def _skip(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    if stride == 1 and channels_in == channels_out:
        return nn.Identity()
    return nn.Sequential(Pointwise(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out))


def _resnet_narrow(classes: int, width: int = 16, stem: str = "half") -> nn.Module:
    return ResNet(classes, BasicBlock, [width, 2 * width, 4 * width], [1, 1, 1], stem)


def _resnet18(classes: int, stem: str = "cifar") -> nn.Module:
    return ResNet(classes, BasicBlock, [64, 128, 256, 512], [2, 2, 2, 2], stem)


def _resnet50(classes: int, stem: str = "cifar") -> nn.Module:
    return ResNet(classes, Bottleneck, [64, 128, 256, 512], [3, 4, 6, 3], stem)


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "resnet-narrow": _resnet_narrow,
    "resnet-18": _resnet18,
    "resnet-50": _resnet50,
    "vit": ViT,
}


def build(name: str, classes: int, seed: int, options: dict[str, Any] | None = None) -> nn.Module:
    """A model with initial weights that depend on `seed` alone; the global random state is left as it was.

    Convolutions and linear maps keep torch's default initialisation. Raises ScrimpError for an unknown name or option.
    """
    if name not in BUILDERS:
        raise ScrimpError(f"unknown model {name!r}: known: {', '.join(BUILDERS)}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not the GPUs', which the fork leaves alone
        try:
            return BUILDERS[name](classes, **(options or {}))
        except TypeError as error:
            raise ScrimpError(f"model {name!r} does not take these options: {error}") from error
