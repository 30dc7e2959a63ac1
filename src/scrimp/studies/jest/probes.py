"""The JEST study: what it probes. Its figures and tables are in `figures.py`.

Probes look at a learner after a few uniform steps and at one of the study's references, on super-batches of the pool.
"""

from __future__ import annotations

import io
import itertools
import time
from typing import Any

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from scrimp.config import Workspace
from scrimp.flops import tower_flops
from scrimp.methods import jest
from scrimp.methods.base import derived_generator
from scrimp.methods.pairs import Embedded
from scrimp.models.contrastive import TwoTowers, build_two_towers
from scrimp.seeding import candidates_of
from scrimp.stages.fit import trained
from scrimp.studies import probe
from scrimp.tasks import load_task
from scrimp.tasks.image_text import ImageText
from scrimp.training.budget import Budget
from scrimp.training.contrast import embed

SEED = 500  # no run has it


class Bench:
    """A partly trained learner, a reference, and what both make of a super-batch."""

    def __init__(self, workspace: Workspace, scale: str, options: dict[str, Any]) -> None:
        config = workspace.study("jest")
        sizes = config.scale(scale)
        cpu = torch.device("cpu")
        torch.set_flush_denormal(True)
        task = load_task(config.task, workspace, sizes.workloads[sizes.main], cpu)
        assert isinstance(task, ImageText)
        self.task = task
        folder = workspace.reference_folder(scale, "jest", options["reference"])
        self.reference, _, _ = task.load_reference(folder, False)
        self.pool = task.data["pool"]
        model = trained(task, Budget("steps", options["steps"]), SEED)
        assert isinstance(model, TwoTowers)
        self.model = model

    def super_batch(self, count: int, repeat: int) -> tuple[Tensor, Embedded, Embedded]:
        """Indices of the pool, and the pairs as the learner and as the reference see them."""
        at = candidates_of(len(self.pool), count, SEED + 1 + repeat, 0)
        assert self.reference.cached is not None
        learner = embed(self.model, self.pool, at, self.task.patches[0], self.task.place)
        return at, learner, self.reference.cached.rows(at)

    def scores(self, count: int, repeat: int) -> Tensor:
        """Learnability of every combination: float64 [count, count]."""
        _, learner, reference = self.super_batch(count, repeat)
        return jest.pairwise_scores(jest.signed_models("learnability", learner, reference))


# ------------------------------------------------------------------------------------------------------------ the matrix
@probe("matrix")
def matrix(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """How much of a score matrix's variance its rows, its columns and its diagonal explain, and a corner of it to look at.

    Options: `reference`, `steps`, `super_batches` (the last is the largest), `repeats`, `shown`. Rows of kind `variance`:
    per matrix (learner, reference, learnability), super-batch, repeat and part, the `share` of the sum of squares (see
    `variance_shares`). Rows of kind `law`: the diagonal's `share` at the report's super-batch, as `at_size` extrapolates it
    from each measured one. Rows of kind `cell`: `value` at (`row`, `column`) of the corner of the first largest matrix.
    """
    bench = Bench(workspace, scale, options)
    rows: list[dict[str, Any]] = []
    largest = options["super_batches"][-1]
    for size, repeat in itertools.product(options["super_batches"], range(options["repeats"])):
        _, learner, reference = bench.super_batch(size, repeat)
        of_learner, of_reference = (jest.sigmoid_losses(model.to(torch.float64)) for model in (learner, reference))
        matrices = {"learner": of_learner, "reference": of_reference, "learnability": of_learner - of_reference}
        for name, values in matrices.items():
            shares = variance_shares(values)
            about = {"matrix": name, "super_batch": size, "repeat": repeat}
            rows += [{"kind": "variance", **about, "part": part, "share": share} for part, share in shares.items()]
            extrapolated = at_size(shares["diagonal"], size, PUBLISHED_SIZE)
            rows.append({"kind": "law", **about, "part": "diagonal", "share": extrapolated})
            if size == largest and repeat == 0:
                corner = values[: options["shown"], : options["shown"]].tolist()
                rows += [
                    {"kind": "cell", "matrix": name, "row": i, "column": j, "value": value}
                    for i, line in enumerate(corner)
                    for j, value in enumerate(line)
                ]
    return pd.DataFrame(rows)


PUBLISHED_SIZE = 65_536  # candidates of the report's super-batch


def at_size(share: float, size: int, other: int) -> float:
    """The diagonal's share of a matrix's variance at another size, from its `share` at `size`.

    A matrix of B x B has B entries on its diagonal and about B^2 off it. While an entry's distribution does not depend on
    B, share / (1 - share) falls as 1 / B.
    """
    odds = share / (1 - share) * (size - 1) / (other - 1)
    return odds / (1 + odds)


def variance_shares(values: Tensor) -> dict[str, float]:
    """Shares of a matrix's [B, B] sum of squares about its off-diagonal mean: `diagonal`, `rows`, `columns`, `rest`.

    The diagonal explains its own entries, each with its own value; rows and columns the means of what lies off it. They
    add up to 1.
    """
    size = len(values)
    off = ~torch.eye(size, dtype=torch.bool)
    left = values - values[off].mean()
    total = left.square().sum()
    diagonal = left.diagonal().square().sum()
    left = left.masked_fill(~off, 0.0)
    by_row, by_column = (left.sum(dim=dim) / (size - 1) for dim in (1, 0))
    parts = {
        "diagonal": diagonal,
        "rows": (size - 1) * by_row.square().sum(),
        "columns": (size - 1) * by_column.square().sum(),
    }
    shares = {name: float(part / total) for name, part in parts.items()}
    return {**shares, "rest": 1 - sum(shares.values())}


# ---------------------------------------------------------------------------------------------------- chunks, ratios, costs
@probe("chunks")
def chunks(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Learnability of the chosen sub-batch by the number of chunks, beside Gibbs sampling by its iterations.

    Options: `reference`, `steps`, `size`, `ratio`, `chunks`, `gibbs` (iterations, `every`), `repeats`. Per repeat a new
    super-batch; `relative` is 0 at a uniform sub-batch and 1 at the end of Gibbs sampling.
    """
    bench = Bench(workspace, scale, options)
    rows: list[dict[str, Any]] = []
    size, ratio = options["size"], options["ratio"]
    for repeat in range(options["repeats"]):
        scores = bench.scores(jest.super_batch_size(size, ratio), repeat)
        noise = derived_generator(SEED, repeat, "chunks")
        _, trace = jest.gibbs(scores, size, options["gibbs"]["iterations"], noise, every=options["gibbs"]["every"])
        uniform = sum(_uniform(scores, size, noise) for _ in range(20)) / 20
        reached = trace[-1][1]
        found = [("gibbs", iteration, score) for iteration, score in trace]
        for number in options["chunks"]:
            chosen = jest.dense(scores, jest.Options(size, number), noise)
            found.append(("joint", number, jest.batch_score(scores, chosen)))
        rows += [
            {"way": way, "at": at, "repeat": repeat, "learnability": s, "relative": (s - uniform) / (reached - uniform)}
            for way, at, s in [("uniform", 0, uniform), *found]
        ]
    return pd.DataFrame(rows)


def _uniform(scores: Tensor, size: int, generator: torch.Generator) -> float:
    return jest.batch_score(scores, torch.randperm(len(scores), generator=generator)[:size])


@probe("ratios")
def ratios(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Learnability of the chosen sub-batch by filter ratio: joint, independent and top-k choice, and Gibbs sampling.

    Options: `reference`, `steps`, `size`, `ratios`, `chunks`, `gibbs` (iterations), `repeats`. `relative` is 0 at a uniform
    sub-batch (a ratio of 0) and 1 at joint choice with a ratio of .5, as the report's figure is normalised.
    """
    bench = Bench(workspace, scale, options)
    rows: list[dict[str, Any]] = []
    size = options["size"]
    for repeat in range(options["repeats"]):
        found = []
        for ratio in options["ratios"]:
            scores = bench.scores(jest.super_batch_size(size, ratio), repeat)
            noise = derived_generator(SEED, repeat, f"ratio {ratio}")
            drawn = jest.Options(size, options["chunks"])
            chosen = {
                "joint": jest.dense(scores, drawn, noise),
                "independent": jest.independent(scores.diagonal(), drawn, noise),
                "top-k": jest.top_k(scores.diagonal(), size),
                "gibbs": jest.gibbs(scores, size, options["gibbs"], noise, every=options["gibbs"])[0],
            }
            found += [(way, ratio, jest.batch_score(scores, at)) for way, at in chosen.items()]
            found.append(("uniform", ratio, sum(_uniform(scores, size, noise) for _ in range(20)) / 20))
        uniform = [score for way, _, score in found if way == "uniform"]
        zero = sum(uniform) / len(uniform)
        one = next(score for way, ratio, score in found if way == "joint" and ratio == 0.5)
        rows += [
            {"way": way, "ratio": ratio, "repeat": repeat, "learnability": s, "relative": (s - zero) / (one - zero)}
            for way, ratio, s in found
        ]
    return pd.DataFrame(rows)


@probe("scoring-cost")
def scoring_cost(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """FLOPs and CPU seconds of the learner's scoring forward pass, by patch side; `saved` is against the finest.

    Options: `patches`, `super_batch`, `repeats`. The first call at each side is not timed.
    """
    config = workspace.study("jest")
    sizes = config.scale(scale)
    task = load_task(config.task, workspace, sizes.workloads[sizes.main], torch.device("cpu"))
    assert isinstance(task, ImageText)
    torch.set_flush_denormal(True)
    model, pool = task.model(SEED), task.data["pool"]
    at = candidates_of(len(pool), options["super_batch"], SEED, 0)
    rows: list[dict[str, Any]] = []
    for repeat in range(options["repeats"] + 1):
        first: dict[str, float] = {}
        for patch in options["patches"]:
            start = time.process_time()
            embed(model, pool, at, patch, task.place)
            spent = {"seconds": time.process_time() - start, "flops": task.towers.scoring(len(at), patch)}
            first = first or spent
            if repeat > 0:
                saved = {f"saved_{name}": 1 - value / first[name] for name, value in spent.items()}
                rows.append({"patch": patch, "repeat": repeat, **spent, **saved})
    return pd.DataFrame(rows)


@probe("published-towers")
def published_towers(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """FLOPs of the learner's scoring pass on towers of the report's size, by patch side; nothing is trained.

    Options: `size` (pixels), `patches`, `image` and `text` (width, layers, heads), `length` (tokens of a caption). Columns:
    `image` and `pair`, FLOPs of a picture and of a picture with its caption; `saved_...`, against the first side.
    """
    finest = options["patches"][0]
    towers = {key: options[key] for key in ("size", "image", "text", "length")}
    model = build_two_towers(
        1000, SEED, {**towers, "patch": finest, "finest_patch": finest, "width_out": options["image"][0]}
    )
    counted = tower_flops(model, options["size"], options["length"], options["patches"])
    rows: list[dict[str, float]] = []
    for patch in options["patches"]:
        flops = {"image": counted.image[patch], "pair": counted.scoring(1, patch)}
        first = rows[0] if rows else flops
        saved = {f"saved_{name}": 1 - value / first[name] for name, value in flops.items()}
        rows.append({"patch": patch, **flops, **saved})
    return pd.DataFrame(rows)


@probe("flop-conventions")
def conventions(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """What a JEST step costs against a uniform step, and a whole run against SigLIP's, by two ways of counting; percent.

    Options: none. A forward pass counts 1, a training step 3 (backward is twice forward), a super-batch is 5 sub-batches
    (f = .8), the reference's embeddings are free. `reused`: the chosen pairs' scoring pass serves as their forward pass,
    (5 + 2) / 3; `repeated`: it does not, (5 + 3) / 3. Flexi: scoring in coarse patches costs .28 of a forward pass, half of
    the training batch in coarse patches leaves .64 of a step. A tenth of the examples: 4B against 40B. Source: Table 1 and
    Figure 1 of arXiv 2406.17711.
    """
    return pd.DataFrame(
        [{"method": method, "way": way, "step": 100 * cost, "total": 100 * cost / 10} for method, way, cost in CONVENTIONS]
    )


CANDIDATES = 5  # sub-batches in a super-batch at f = .8
COARSE = 0.28  # of a forward pass in coarse patches, as published
CONVENTIONS = [
    ("jest", "reused", (CANDIDATES + 2) / 3),
    ("jest", "repeated", (CANDIDATES + 3) / 3),
    ("flexi-jest", "repeated", (CANDIDATES * COARSE + 3 * (1 + COARSE) / 2) / 3),
]


# --------------------------------------------------------------------------------------------------------------- pictures
@probe("extremes")
def extremes(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """The most and the least learnable pairs of a super-batch, as pictures with their captions.

    Options: `reference`, `steps`, `super_batch`, `shown`. A row per pair: `side`, `place` (from 0), `caption`, `set`, the
    pair's own losses and learnability, and `png`.
    """
    bench = Bench(workspace, scale, options)
    at, learner, reference = bench.super_batch(options["super_batch"], 0)
    losses = [jest.sigmoid_diagonal(model) for model in (learner, reference)]
    order = (losses[0] - losses[1]).argsort(descending=True, stable=True)
    samples = bench.task.known.samples
    pool = samples[samples["split"] == "pool"].reset_index(drop=True)
    rows = []
    for side, places in (("most", order[: options["shown"]]), ("least", order.flip(0)[: options["shown"]])):
        for place, chosen in enumerate(places.tolist()):
            index = int(at[chosen])
            encoded = io.BytesIO()
            Image.fromarray(bench.pool.images(torch.tensor([index]))[0].numpy()).save(encoded, "PNG")
            rows.append(
                {
                    "side": side,
                    "place": place,
                    "caption": pool.at[index, "caption"],
                    "set": pool.at[index, "set"],
                    "learner_loss": float(losses[0][chosen]),
                    "reference_loss": float(losses[1][chosen]),
                    "learnability": float(losses[0][chosen] - losses[1][chosen]),
                    "png": encoded.getvalue(),
                }
            )
    return pd.DataFrame(rows)
