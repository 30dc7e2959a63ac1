"""What image-text embeddings are good for: retrieval both ways, and classification by class names or from few pictures."""

from __future__ import annotations

from collections.abc import Sequence

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
    return _summary({"i2t": ranks(image, text), "t2i": ranks(text, image)})


def mean_retrieval(image: Tensor, text: Tensor, galleries: Sequence[Tensor]) -> dict[str, float]:
    """`retrieval` within each gallery (rows int64 [n] of the embeddings), averaged: every gallery counts alike."""
    measured = [retrieval(image[rows], text[rows]) for rows in (rows.to(image.device) for rows in galleries)]
    return {name: sum(of[name] for of in measured) / len(measured) for name in measured[0]}


def retrieval_many(image: Tensor, text: Tensor, owner: Tensor, block: int = 1024) -> dict[str, float]:
    """The same where images have several right captions, as in COCO: images [N, d], captions [M, d], whose image is `owner`.

    `owner` is int64 [M] in 0..N-1, and every image has a caption. An image's rank is that of its best caption among the
    wrong ones: its other captions do not stand in the way. Ties go to the wrong ones, as in `ranks`.
    """
    places = []
    for begin in range(0, len(image), block):
        scores = image[begin : begin + block] @ text.T  # [b, M]
        right = owner == torch.arange(begin, begin + len(scores), device=owner.device).unsqueeze(1)
        best = scores.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
        places.append(1 + ((scores >= best) & ~right).sum(dim=1))
    ways = {"i2t": torch.cat(places), "t2i": _ranks_of_owners(text, image, owner, block)}
    return _summary(ways)


def _ranks_of_owners(text: Tensor, image: Tensor, owner: Tensor, block: int) -> Tensor:
    """The place, from 1, of a caption's image among all images: int64 [M]."""
    places = []
    for queries, own in zip(text.split(block), owner.split(block), strict=True):
        scores = queries @ image.T  # [b, N]
        places.append((scores >= scores.gather(1, own.unsqueeze(1))).sum(dim=1))
    return torch.cat(places)


def _summary(ways: dict[str, Tensor]) -> dict[str, float]:
    """Recall in percent of each way and of both, and the mean of the ways' mean reciprocal ranks."""
    found = {f"{way}_r{k}": 100 * float((places <= k).double().mean()) for way, places in ways.items() for k in RANKS}
    both = {f"r{k}": (found[f"i2t_r{k}"] + found[f"t2i_r{k}"]) / 2 for k in RANKS}
    return {**found, **both, "mrr": float(torch.stack([(1 / places.double()).mean() for places in ways.values()]).mean())}


def zero_shot_accuracy(image: Tensor, names: Tensor, labels: Tensor) -> float:
    """Percent of images [N, d] that are nearest to the text embedding of their class's name ([C, d]; labels int64 [N])."""
    return 100 * float(((image @ names.T).argmax(dim=1) == labels).double().mean())


def few_shot_accuracy(
    shown: Tensor, labels: Tensor, drawn: Tensor, tested: Tensor, tested_labels: Tensor, penalty: float = 0.1
) -> float:
    """Percent of `tested` [M, d] that linear classifiers on few embeddings get right, averaged over draws.

    A row of `drawn`, int64 [D, n], names rows of `shown` [N, d] with `labels` int64 [N]. The classifier is ridge regression
    on classes in one-against-all coding with the penalty `penalty` times n, as few-shot tests of image models take it
    (Dosovitskiy et al. 2021, arXiv 2010.11929, section 4.1); embeddings are standardised by the draw's mean and deviation.
    """
    from sklearn.linear_model import RidgeClassifier  # not for who only retrieves

    accuracies = []
    for rows in drawn:
        known = shown[rows].double()
        mean, deviation = known.mean(dim=0), known.std(dim=0).clamp(min=1e-12)
        classifier = RidgeClassifier(alpha=penalty * len(rows))
        classifier.fit(((known - mean) / deviation).cpu().numpy(), labels[rows].cpu().numpy())
        guessed = classifier.predict(((tested.double() - mean) / deviation).cpu().numpy())
        accuracies.append(float((guessed == tested_labels.cpu().numpy()).mean()))
    return 100 * sum(accuracies) / len(accuracies)
