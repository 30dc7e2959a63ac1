"""Two towers for image-text pairs, trained with the sigmoid loss: a FlexiViT for images, a small transformer for captions.

Sources: SigLIP (Zhai et al. 2023, arXiv 2303.15343) for the loss, its learned scale and bias and their starting values;
FlexiViT (Beyer et al. 2022, arXiv 2212.08013) for one image tower at several patch sizes.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scrimp.errors import ScrimpError
from scrimp.models.vision import TransformerBlock


class TowerSpec(NamedTuple):
    """The size of a tower."""

    width: int
    depth: int
    heads: int


@functools.cache
def pi_resize_matrix(old: int, new: int) -> Tensor:
    """How a square patch kernel of side `old` turns into one of side `new`: float32 [new^2, old^2].

    The pseudo-inverse of the transposed bilinear resize of patches, so that a resized kernel answers to a resized patch as
    the kernel did to the patch: exactly where patches grow, in least squares where they shrink. Source: FlexiViT, eq. 3-5.
    """
    with torch.inference_mode(False), torch.no_grad():  # it is kept, and may be asked for again to train
        basis = torch.eye(old * old, dtype=torch.float64).view(old * old, 1, old, old)
        resized = F.interpolate(basis, size=(new, new), mode="bilinear", align_corners=False, antialias=False)
        resize = resized.view(old * old, new * new).T  # x_new = resize @ x_old
        return torch.linalg.pinv(resize.T).float()


class ImageTower(nn.Module):
    """A ViT whose patch size is chosen at every call: the patch kernel is PI-resized, positions are resized bilinearly.

    Takes float images [B, 3, S, S] and gives [B, width], the mean over patches. `patch` is the side the kernel is stored
    at; positions are stored for the finest grid, that of `finest_patch`.
    """

    def __init__(self, size: int, patch: int, finest_patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        if size % patch or size % finest_patch:
            raise ScrimpError(f"patches of {patch} and {finest_patch} do not tile a picture of {size}")
        self.size, self.patch = size, patch
        self.kernel = nn.Parameter(torch.empty(width, 3, patch, patch))
        nn.init.trunc_normal_(self.kernel, std=1 / math.sqrt(3 * patch * patch))
        self.offset = nn.Parameter(torch.zeros(width))
        grid = size // finest_patch
        self.positions = nn.Parameter(torch.randn(1, width, grid, grid) * 0.02)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, patch: int | None = None) -> Tensor:
        side = patch or self.patch
        if self.size % side:
            raise ScrimpError(f"patches of {side} do not tile a picture of {self.size}")
        y = F.conv2d(x, self._kernel(side), self.offset, stride=side)  # [B, width, g, g]
        y = (y + self._positions(self.size // side)).flatten(2).transpose(1, 2)  # [B, g^2, width]
        for block in self.blocks:
            y = block(y)
        return self.norm(y).mean(dim=1)

    def _kernel(self, side: int) -> Tensor:
        if side == self.patch:
            return self.kernel
        matrix = pi_resize_matrix(self.patch, side).to(self.kernel.device)
        return (self.kernel.flatten(2) @ matrix.T).unflatten(2, (side, side))

    def _positions(self, grid: int) -> Tensor:
        if grid == self.positions.shape[-1]:
            return self.positions
        return F.interpolate(self.positions, size=(grid, grid), mode="bilinear", align_corners=False, antialias=False)


class TextTower(nn.Module):
    """Token embeddings with positions, transformer blocks, and the mean over the caption's tokens.

    Takes token ids int64 [B, L], 0 where a caption is over, and gives [B, width].
    """

    def __init__(self, vocabulary: int, length: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width, padding_idx=0)
        nn.init.normal_(self.tokens.weight, std=0.02)
        with torch.no_grad():
            self.tokens.weight[0].zero_()
        self.positions = nn.Parameter(torch.randn(1, length, width) * 0.02)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: Tensor) -> Tensor:
        given = ids != 0  # [B, L]
        y = self.tokens(ids) + self.positions[:, : ids.shape[1]]
        for block in self.blocks:
            y = block(y, given)
        weights = given.unsqueeze(2) / given.sum(dim=1).clamp(min=1)[:, None, None]
        return (self.norm(y) * weights).sum(dim=1)


class TwoTowers(nn.Module):
    """Both towers, a linear head each into a common space of `width_out`, and the loss's learned scale and bias.

    `image` and `text` are (width, depth, heads); pictures have sides of `size`, captions at most `length` tokens.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        size: int = 32,
        length: int = 12,
        patch: int = 8,
        finest_patch: int = 4,
        image: tuple[int, int, int] = (64, 2, 4),
        text: tuple[int, int, int] = (64, 1, 4),
        width_out: int = 64,
    ) -> None:
        super().__init__()
        of_image, of_text = TowerSpec(*image), TowerSpec(*text)
        self.image_tower = ImageTower(size, patch, finest_patch, *of_image)
        self.text_tower = TextTower(vocabulary, length, *of_text)
        self.image_head = nn.Linear(of_image.width, width_out, bias=False)
        self.text_head = nn.Linear(of_text.width, width_out, bias=False)
        self.patch = patch
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(-10.0))

    def embed_images(self, x: Tensor, patch: int | None = None) -> Tensor:
        """Unit embeddings [B, d] of images [B, 3, S, S], in patches of side `patch`."""
        return F.normalize(self.image_head(self.image_tower(x, patch)).float(), dim=1)

    def embed_texts(self, ids: Tensor) -> Tensor:
        """Unit embeddings [B, d] of token ids [B, L]."""
        return F.normalize(self.text_head(self.text_tower(ids)).float(), dim=1)

    def forward(self, x: Tensor, ids: Tensor, patch: int | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `jest.select` and `sigmoid_loss` take: image and text embeddings [B, d], scale and bias."""
        return self.embed_images(x, patch), self.embed_texts(ids), self.log_scale.exp(), self.bias


def build_two_towers(vocabulary: int, seed: int, options: dict[str, Any] | None = None) -> TwoTowers:
    """Two towers whose weights are a function of the seed; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not the GPUs', which the fork leaves alone
        try:
            return TwoTowers(vocabulary, **(options or {}))
        except TypeError as error:
            raise ScrimpError(f"two towers take no such options: {error}") from error
