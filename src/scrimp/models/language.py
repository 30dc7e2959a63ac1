"""One transformer over tokens: a decoder that predicts the next, or with `causal=False` an encoder for masked positions.

By default pre-norm with RMSNorm and without biases (LLaMA, arXiv 2302.13971, 2.2), rotary positions (arXiv 2104.09864), a
gated feed-forward layer (SwiGLU, arXiv 2002.05202), embeddings that also read out. Options turn it into BERT (arXiv
1810.04805) or into the encoder of Cramming (arXiv 2212.14034). Initial weights, learning rates and the read-out's factor
follow the width (Yang et al. 2022, arXiv 2203.03466, table 8, with tied embeddings), so that the best learning rate of a
narrow model serves a wide one; `initialisation: normal` leaves all that out, as BERT does.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scrimp.errors import ScrimpError
from scrimp.models.language_parts import (
    Block,
    FeedForward,
    Head,
    Norm,
    NormOrder,
    Positions,
    Transform,
    make_norm,
    rotary_turns,
    rotated,
    sinusoids,
)

__all__ = ["BASE_WIDTH", "Language", "build", "rotary_turns", "rotated"]

Initialisation = Literal["width-scaled", "normal"]
ParameterConvention = Literal["total", "non-embedding"]
FlopConvention = Literal["matmul", "6n-total", "6n-non-embedding"]

BASE_WIDTH = 64  # learning rates are told for this width
EMBEDDING_STD = 0.1
NORMAL_STD = 0.02  # BERT's, of every matrix and embedding


class Language(nn.Module):
    """Token ids int64 [B, T], T at most `context`, to logits [B, T, vocabulary]; `hidden` stops before the read-out.

    `heads` must divide `width`, and where positions are rotary into parts of an even size. `expansion` is the hidden size
    of the feed-forward over the width; by default 4, or 8/3 with a gate, which has as many parameters. `glu` gates with
    SiLU, `geglu` with GELU. Sinusoidal positions have a learned scale (Hua et al. 2022, arXiv 2202.10447).
    `biases` puts one on every layer, on LayerNorms and on the read-out. `embedding_norm`: a norm of its own on embeddings.
    """

    waves: Tensor

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
        norm: Norm = "rms",
        norm_order: NormOrder = "pre",
        norm_eps: float | None = None,
        biases: bool = False,
        embedding_norm: bool = False,
        head: Head = "linear",
        tied: bool = True,
        dropout: float = 0.0,
        initialisation: Initialisation = "width-scaled",
    ) -> None:
        super().__init__()
        for value, known in (
            (feed_forward, FeedForward),
            (positions, Positions),
            (norm, Norm),
            (norm_order, NormOrder),
            (head, Head),
            (initialisation, Initialisation),
        ):
            if value not in get_args(known):
                raise ScrimpError(f"model.options: {value!r} is none of {', '.join(get_args(known))}")
        if width % heads or (positions == "rotary" and width // heads % 2):
            raise ScrimpError(f"model.options: {heads} heads do not share a width of {width} in even parts")
        if not 0 <= dropout < 1:
            raise ScrimpError(f"model.options: dropout: must be at least 0 and below 1 (got {dropout})")
        self.vocabulary, self.context, self.width, self.depth, self.causal = vocabulary, context, width, depth, causal
        self.dropout, self.scaled = dropout, initialisation == "width-scaled"
        # Whole multiples of 8 keep matrix products on their fast paths.
        self.inner = 8 * round((expansion or (4.0 if feed_forward == "gelu" else 8 / 3)) * width / 8)
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(context, width)) if positions == "learned" else None
        self.blocks = nn.ModuleList(
            Block(
                width, heads, self.inner, feed_forward, causal,
                norm=norm, norm_order=norm_order, norm_eps=norm_eps, biases=biases, dropout=dropout,
            )
            for _ in range(depth)
        )  # fmt: skip
        # A post-norm block ends with its norm.
        self.norm = make_norm(norm, width, norm_eps, biases) if norm_order == "pre" else nn.Identity()
        self.embedding_norm = make_norm(norm, width, norm_eps, biases) if embedding_norm else None
        self.head = Transform(width, norm, norm_eps, biases) if head == "transform" else None
        self.output = None if tied else nn.Parameter(torch.empty(vocabulary, width))
        self.output_bias = nn.Parameter(torch.zeros(vocabulary)) if biases else None
        self.position_scale = nn.Parameter(torch.tensor([width**-0.5])) if positions == "sinusoidal" else None
        if positions == "sinusoidal":
            self.register_buffer("waves", sinusoids(context, width), persistent=False)
        if positions == "rotary":
            self.register_buffer("turns", rotary_turns(context, width // heads), persistent=False)
        else:
            self.turns = None
        self._initialise()

    def _initialise(self) -> None:
        """Unit-variance pre-activations at every width; what is added to the residual stream shrinks with the depth.

        `normal`: BERT's, N(0, 0.02) everywhere.
        """
        embedding = EMBEDDING_STD if self.scaled else NORMAL_STD
        nn.init.normal_(self.embedding.weight, std=embedding)
        for extra in (self.positions, self.output):
            if extra is not None:
                nn.init.normal_(extra, std=embedding)
        for block in [*self.blocks, *([] if self.head is None else [self.head])]:
            for name, weight in block.named_parameters():
                if weight.ndim == 2:
                    residual = name.partition(".")[0] in ("attention_out", "down")
                    std = weight.shape[1] ** -0.5 / (math.sqrt(2 * self.depth) if residual else 1.0)
                    nn.init.normal_(weight, std=std if self.scaled else NORMAL_STD)
                elif name.endswith("bias"):
                    nn.init.zeros_(weight)

    @property
    def read_out(self) -> Tensor:
        """The rows that hidden states are multiplied by: [vocabulary, width]."""
        return self.embedding.weight if self.output is None else self.output

    def body(self, ids: Tensor, valid: Tensor | None = None) -> Tensor:
        """The stream behind the last block and its norm: [B, T, width]. `valid` (bool [B, T]): what is no padding."""
        if ids.shape[1] > self.context:
            raise ValueError(f"{ids.shape[1]} tokens do not fit the context of {self.context}")
        x = self.embedding(ids)  # [B, T, width]
        if self.positions is not None:
            x = x + self.positions[: ids.shape[1]]
        if self.position_scale is not None:
            x = x + self.position_scale * self.waves[: ids.shape[1]]
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        elif self.scaled:
            # Embeddings start small, for the read-out's sake; the residual stream is to start at unit size.
            x = F.rms_norm(x, (self.width,))
        if self.dropout:
            x = F.dropout(x, self.dropout, self.training)
        for block in self.blocks:
            x = block(x, self.turns, valid)
        normed: Tensor = self.norm(x)
        return normed

    def read(self, x: Tensor) -> Tensor:
        """What is multiplied by `read_out` to give logits, of some rows of the body: [..., width] to the same."""
        if self.head is not None:
            x = self.head(x)
        return x * (BASE_WIDTH / self.width) if self.scaled else x

    def hidden(self, ids: Tensor) -> Tensor:
        """`read` of the whole body: [B, T, width]."""
        return self.read(self.body(ids))

    def logits(self, x: Tensor) -> Tensor:
        """Logits of some rows of the body: [..., width] to [..., vocabulary]."""
        return F.linear(self.read(x), self.read_out, self.output_bias)

    def forward(self, ids: Tensor) -> Tensor:
        return self.logits(self.body(ids))

    # ------------------------------------------------------------------------------------------------- size and learning
    def learning_rate_scales(self) -> dict[str, float]:
        """Parameter name -> its share of the learning rate: matrices inside the blocks as 1 / width, all else 1."""
        share = BASE_WIDTH / self.width if self.scaled else 1.0
        return {
            name: share if name.startswith(("blocks.", "head.")) and weight.ndim == 2 else 1.0
            for name, weight in self.named_parameters()
        }

    def count_parameters(self, convention: ParameterConvention = "total") -> int:
        """`total` (Chinchilla): all, tied embeddings once. `non-embedding` (Kaplan): without tokens, positions, read-out."""
        total = sum(weight.numel() for weight in self.parameters())
        if convention == "total":
            return total
        embeddings = (self.embedding.weight, self.positions, self.output, self.output_bias)
        return total - sum(weight.numel() for weight in embeddings if weight is not None)

    def flops_per_token(self, convention: FlopConvention = "matmul", *, training: bool = True, read: float = 1.0) -> float:
        """FLOPs of a token in a window of `context`; forward and backward together, or with `training=False` forward.

        `matmul` counts every matrix product that is computed: weights, head and read-out (of the share `read` of the
        tokens), attention over the whole window (a causal mask halves what is needed, not what frameworks count).
        `6n-total` and `6n-non-embedding` are the usual approximations of six FLOPs a parameter (Kaplan et al. 2020, 2.1),
        which leave attention out.
        """
        passes = 3 if training else 1
        if convention != "matmul":
            return 2.0 * passes * self.count_parameters("total" if convention == "6n-total" else "non-embedding")
        weights = sum(w.numel() for block in self.blocks for w in block.parameters() if w.ndim == 2)
        attention = 2 * self.depth * self.context * self.width  # scores and their sum of values
        head = self.vocabulary * self.width + (0 if self.head is None else self.width**2)
        return 2.0 * passes * (weights + (head if read == 1 else read * head) + attention)


def build(vocabulary: int, context: int, seed: int, options: dict[str, Any]) -> Language:
    """A model from the `model.options` of a config; `seed` decides its initial weights, whatever the caller's state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return Language(vocabulary, context, **options)
        except TypeError as error:
            raise ScrimpError(f"model.options: {error}") from error
