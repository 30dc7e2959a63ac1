"""What image-text embeddings are good for: retrieval both ways, and classification by the names of the classes."""

from __future__ import annotations

import torch
from torch import Tensor

RANKS = (1, 5, 10)


def ranks(queries: Tensor, keys: Tensor, block: int = 1024) -> Tensor:
    """The place, from 1, of key i among all keys for query i: int64 [N].

    `queries` and `keys` are unit embeddings [N, d]. Keys that score as high as the right one stand before it, so that
    embeddings that tell nothing apart earn nothing.
    """
    places = []
    for begin in range(0, len(queries), block):
        scores = queries[begin : begin + block] @ keys.T  # [b, N]
        own = scores.diagonal(begin).unsqueeze(1)
        places.append((scores >= own).sum(dim=1))
    return torch.cat(places)


def retrieval(image: Tensor, text: Tensor) -> dict[str, float]:
    """Recall in percent and mean reciprocal rank of N pairs, from unit embeddings [N, d] each.

    `i2t_r5`: how often an image's caption is among the five nearest; `t2i_r5` the other way; `r5` the mean of both; `mrr`
    the mean of 1 / rank over both ways. Captions should be distinct, or a right answer counts as wrong.
    """
    ways = {"i2t": ranks(image, text), "t2i": ranks(text, image)}
    found = {f"{way}_r{k}": 100 * float((places <= k).double().mean()) for way, places in ways.items() for k in RANKS}
    both = {f"r{k}": (found[f"i2t_r{k}"] + found[f"t2i_r{k}"]) / 2 for k in RANKS}
    return {**found, **both, "mrr": float(torch.stack([1 / places.double() for places in ways.values()]).mean())}


def zero_shot_accuracy(image: Tensor, names: Tensor, labels: Tensor) -> float:
    """Percent of images [N, d] that are nearest to the text embedding of their class's name ([C, d]; labels int64 [N])."""
    return 100 * float(((image @ names.T).argmax(dim=1) == labels).double().mean())
