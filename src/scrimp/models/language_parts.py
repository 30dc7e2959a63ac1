"""What the transformer of `language.py` is made of: norms, positions, blocks, the head that reads masked tokens out."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Positions = Literal["rotary", "learned", "sinusoidal"]
FeedForward = Literal["glu", "gelu", "geglu"]
Norm = Literal["rms", "layer"]
NormOrder = Literal["pre", "post"]
Head = Literal["linear", "transform"]

ROTARY_BASE = 10_000.0


def make_norm(kind: Norm, width: int, eps: float | None, bias: bool) -> nn.Module:
    """A norm over the last dimension of size `width`; `eps` None: torch's own. Only LayerNorm has a bias."""
    if kind == "rms":
        return nn.RMSNorm(width, eps=eps)
    return nn.LayerNorm(width, eps=1e-5 if eps is None else eps, bias=bias)


class Block(nn.Module):
    """Attention, then a feed-forward layer, both added to the stream: [B, T, width] to the same.

    Pre-norm puts a norm before each of the two, x + f(norm(x)) (LLaMA); post-norm after each sum, norm(x + f(x)) (Vaswani
    et al. 2017, arXiv 1706.03762, and BERT). `dropout` falls on attention weights and on what is added (BERT, A.2).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        inner: int,
        feed_forward: FeedForward,
        causal: bool,
        *,
        norm: Norm = "rms",
        norm_order: NormOrder = "pre",
        norm_eps: float | None = None,
        biases: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.feed_forward, self.causal = heads, feed_forward, causal
        self.post, self.dropout = norm_order == "post", dropout
        self.attention_norm, self.norm = (make_norm(norm, width, norm_eps, biases) for _ in range(2))
        self.attention_in = nn.Linear(width, 3 * width, bias=biases)
        self.attention_out = nn.Linear(width, width, bias=biases)
        self.up = nn.Linear(width, inner if feed_forward == "gelu" else 2 * inner, bias=biases)
        self.down = nn.Linear(inner, width, bias=biases)

    def forward(self, x: Tensor, turns: Tensor | None, valid: Tensor | None = None) -> Tensor:
        """`valid`: which keys may be attended to, bool [B, T]; None: all."""
        if self.post:
            x = self.attention_norm(x + self._dropped(self.attention_out(self._attend(x, turns, valid))))
            return self.norm(x + self._dropped(self._feed(x)))
        x = x + self._dropped(self.attention_out(self._attend(self.attention_norm(x), turns, valid)))
        return x + self._dropped(self._feed(self.norm(x)))

    def _feed(self, x: Tensor) -> Tensor:
        y = self.up(x)
        if self.feed_forward == "gelu":
            return self.down(F.gelu(y))
        gate, y = y.chunk(2, dim=-1)
        return self.down((F.silu(gate) if self.feed_forward == "glu" else F.gelu(gate)) * y)

    def _attend(self, x: Tensor, turns: Tensor | None, valid: Tensor | None) -> Tensor:
        batch, length, width = x.shape
        mixed = self.attention_in(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # [3, B, H, T, w / H]
        q, k, v = mixed if turns is None else (*rotated(mixed[:2], turns[:, :length]), mixed[2])
        dropout = self.dropout if self.training else 0.0
        if valid is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, dropout_p=dropout)
        else:
            allowed = valid[:, None, None, :].expand(batch, 1, length, length)
            if self.causal:
                allowed = allowed & torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)
        return y.transpose(1, 2).reshape(batch, length, width)

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Transform(nn.Module):
    """BERT's head before the read-out: a dense layer, GELU, a norm (Devlin et al. 2019's code, `cls/predictions`)."""

    def __init__(self, width: int, norm: Norm, eps: float | None, biases: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width, bias=biases)
        self.norm = make_norm(norm, width, eps, biases)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(F.gelu(self.dense(x)))
        return normed


def sinusoids(context: int, width: int) -> Tensor:
    """Fixed positions of Vaswani et al. 2017 (3.5): sines in the even places, cosines in the odd, [context, width]."""
    frequencies = ROTARY_BASE ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.outer(torch.arange(context, dtype=torch.float64), frequencies)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width].float()


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
