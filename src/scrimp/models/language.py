"""One transformer over tokens: a decoder that predicts the next, or with `causal=False` an encoder for masked positions.

Pre-norm with RMSNorm and without biases (LLaMA, arXiv 2302.13971, 2.2), rotary (arXiv 2104.09864) or learned positions,
gated (SwiGLU, arXiv 2002.05202) or GELU feed-forward, embeddings that also read out. Initial weights, learning rates and
the read-out's factor follow the width (Yang et al. 2022, arXiv 2203.03466, table 8, with tied embeddings), so that the
best learning rate of a narrow model serves a wide one.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scrimp.errors import ScrimpError

Positions = Literal["rotary", "learned"]
FeedForward = Literal["glu", "gelu"]
ParameterConvention = Literal["total", "non-embedding"]
FlopConvention = Literal["matmul", "6n-total", "6n-non-embedding"]

BASE_WIDTH = 64  # learning rates are told for this width
ROTARY_BASE = 10_000.0
EMBEDDING_STD = 0.1


class Language(nn.Module):
    """Token ids int64 [B, T], T at most `context`, to logits [B, T, vocabulary]; `hidden` stops before the read-out.

    `heads` must divide `width`, and where positions are rotary into parts of an even size. `expansion` is the hidden size
    of the feed-forward over the width; by default 4, or 8/3 with a gate, which has as many parameters.
    """

    def __init__(
        self,
        vocabulary: int,
        context: int,
        *,
        width: int,
        depth: int,
        heads: int,
        feed_forward: FeedForward = "glu",
        positions: Positions = "rotary",
        causal: bool = True,
        expansion: float | None = None,
    ) -> None:
        super().__init__()
        for value, known in ((feed_forward, FeedForward), (positions, Positions)):
            if value not in get_args(known):
                raise ScrimpError(f"model.options: {value!r} is none of {', '.join(get_args(known))}")
        if width % heads or (positions == "rotary" and width // heads % 2):
            raise ScrimpError(f"model.options: {heads} heads do not share a width of {width} in even parts")
        self.vocabulary, self.context, self.width, self.depth, self.causal = vocabulary, context, width, depth, causal
        # Whole multiples of 8 keep matrix products on their fast paths.
        self.inner = 8 * round((expansion or (8 / 3 if feed_forward == "glu" else 4.0)) * width / 8)
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(context, width)) if positions == "learned" else None
        self.blocks = nn.ModuleList(
            Block(width, heads, self.inner, feed_forward == "glu", causal, rotary=positions == "rotary")
            for _ in range(depth)
        )
        self.norm = nn.RMSNorm(width)
        if positions == "rotary":
            self.register_buffer("turns", rotary_turns(context, width // heads), persistent=False)
        else:
            self.turns = None
        self._initialise()

    def _initialise(self) -> None:
        """Unit-variance pre-activations at every width; what is added to the residual stream shrinks with the depth."""
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_STD)
        if self.positions is not None:
            nn.init.normal_(self.positions, std=EMBEDDING_STD)
        for block in self.blocks:
            for name, weight in block.named_parameters():
                if weight.ndim == 2:
                    residual = name.partition(".")[0] in ("attention_out", "down")
                    std = weight.shape[1] ** -0.5 / (math.sqrt(2 * self.depth) if residual else 1.0)
                    nn.init.normal_(weight, std=std)

    def hidden(self, ids: Tensor) -> Tensor:
        """What is multiplied by the embeddings to give logits: [B, T, width], the read-out's factor included."""
        if ids.shape[1] > self.context:
            raise ValueError(f"{ids.shape[1]} tokens do not fit the context of {self.context}")
        x = self.embedding(ids)  # [B, T, width]
        if self.positions is not None:
            x = x + self.positions[: ids.shape[1]]
        # Embeddings start small, for the read-out's sake; the residual stream is to start at unit size.
        x = F.rms_norm(x, (self.width,))
        for block in self.blocks:
            x = block(x, self.turns)
        return self.norm(x) * (BASE_WIDTH / self.width)

    def forward(self, ids: Tensor) -> Tensor:
        return F.linear(self.hidden(ids), self.embedding.weight)

    # ------------------------------------------------------------------------------------------------- size and learning
    def learning_rate_scales(self) -> dict[str, float]:
        """Parameter name -> its share of the learning rate: matrices inside the blocks as 1 / width, all else 1."""
        return {
            name: BASE_WIDTH / self.width if name.startswith("blocks.") and weight.ndim == 2 else 1.0
            for name, weight in self.named_parameters()
        }

    def count_parameters(self, convention: ParameterConvention = "total") -> int:
        """`total` (Chinchilla): all, the tied embeddings once. `non-embedding` (Kaplan): without tokens and positions."""
        total = sum(weight.numel() for weight in self.parameters())
        if convention == "total":
            return total
        return total - self.embedding.weight.numel() - (0 if self.positions is None else self.positions.numel())

    def flops_per_token(self, convention: FlopConvention = "matmul", *, training: bool = True) -> float:
        """FLOPs of a token in a window of `context`; forward and backward together, or with `training=False` forward.

        `matmul` counts every matrix product that is computed: weights, read-out, attention over the whole window (a
        causal mask halves what is needed, not what frameworks count). `6n-total` and `6n-non-embedding` are the usual
        approximations of six FLOPs a parameter (Kaplan et al. 2020, 2.1), which leave attention out.
        """
        passes = 3 if training else 1
        if convention != "matmul":
            return 2.0 * passes * self.count_parameters("total" if convention == "6n-total" else "non-embedding")
        weights = sum(w.numel() for block in self.blocks for w in block.parameters() if w.ndim == 2)
        attention = 2 * self.depth * self.context * self.width  # scores and their sum of values
        return 2.0 * passes * (weights + self.vocabulary * self.width + attention)


class Block(nn.Module):
    """Attention, then a feed-forward layer, each behind an RMSNorm and added to the stream: [B, T, width] to the same."""

    def __init__(self, width: int, heads: int, inner: int, gated: bool, causal: bool, rotary: bool) -> None:
        super().__init__()
        self.heads, self.gated, self.causal, self.rotary = heads, gated, causal, rotary
        self.attention_norm, self.norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention_in = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 2 * inner if gated else inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, turns: Tensor | None) -> Tensor:
        x = x + self.attention_out(self._attend(self.attention_norm(x), turns))
        y = self.up(self.norm(x))
        if self.gated:
            gate, y = y.chunk(2, dim=-1)
            y = F.silu(gate) * y
        else:
            y = F.gelu(y)
        return x + self.down(y)

    def _attend(self, x: Tensor, turns: Tensor | None) -> Tensor:
        batch, length, width = x.shape
        mixed = self.attention_in(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # [3, B, H, T, w / H]
        q, k, v = mixed if turns is None else (*rotated(mixed[:2], turns[:, :length]), mixed[2])
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return y.transpose(1, 2).reshape(batch, length, width)


def rotary_turns(context: int, size: int) -> Tensor:
    """Of every position's turns the cosines, and the sines that the other half is multiplied by: [2, context, size]."""
    frequencies = ROTARY_BASE ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    angles = torch.outer(torch.arange(context, dtype=torch.float64), frequencies)
    cosine, sine = angles.cos(), angles.sin()
    return torch.stack([torch.cat([cosine, cosine], dim=1), torch.cat([-sine, sine], dim=1)]).float()


def rotated(x: Tensor, turns: Tensor) -> Tensor:
    """[..., T, size] with the pair (i, i + size / 2) turned by its position's angle; `turns` as `rotary_turns` gives."""
    cosine, sine = turns.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.addcmul(x * cosine, torch.cat([second, first], dim=-1), sine)


def build(vocabulary: int, context: int, seed: int, options: dict[str, Any]) -> Language:
    """A model from the `model.options` of a config; `seed` decides its initial weights, whatever the caller's state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return Language(vocabulary, context, **options)
        except TypeError as error:
            raise ScrimpError(f"model.options: {error}") from error
