"""Embeddings of examples, for methods that prune by distances in them.

Two are of pictures, without labels. `contrastive` trains the task's own model of pictures, its last layer taken off, to tell
a picture's two views from all others (Chen et al. 2020, *SimCLR*, arXiv 2002.05709). `pixels` is the picture scaled down,
which costs next to nothing. `features` serves every task: what the task's own model makes of an example after a short
plain training (`scrimp.training.proxy`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scrimp.cost import Cost
from scrimp.errors import ScrimpError
from scrimp.flops import ExampleFlops
from scrimp.seeding import derived_generator, epoch_order

if TYPE_CHECKING:
    from scrimp.data.loading import Normalisation
    from scrimp.tasks.base import Task

Embedding = Literal["contrastive", "pixels", "features"]
EMBEDDING_SEEDS = 2_000_000  # away from learners' seeds and from proxies'
PROJECTED = 64  # numbers that the loss compares; thrown away afterwards
TEMPERATURE = 0.2
LEARNING_RATE = 3e-3
SMALLEST_CROP = 0.4  # share of the side that a view shows at least
PIXELS_SIDE = 8
AT_A_TIME = 512


class PictureEncoder(NamedTuple):
    """What a task's model makes of pictures before its last layer: normalised float [B, 3, S, S] to [B, width]."""

    model: nn.Module
    width: int
    normalise: Normalisation
    flops: ExampleFlops  # of one picture


@dataclass(frozen=True)
class Embedded:
    """Unit vectors float32 [n, d] of some training examples, the cost of training for them, and that of embedding."""

    points: Tensor
    training: Cost
    scoring: Cost


def view(pixels: Tensor, draws: torch.Generator) -> Tensor:
    """A random view of each picture (uint8 [B, S, S, 3]): a crop, scaled to the whole; brightness, contrast, colour.

    Gives float [B, 3, S, S] in [0, 1]. Nothing is mirrored: arrows would change their class.
    """
    count = len(pixels)
    draw = torch.rand(9, count, generator=draws).to(pixels.device)
    side = SMALLEST_CROP + (1 - SMALLEST_CROP) * draw[0]  # of the crop, as a share of the picture's
    stretch = (4 / 3) ** (draw[1] - 0.5)
    sides = torch.stack([(side * stretch).clamp(max=1), (side / stretch).clamp(max=1)])
    middle = (2 * draw[2:4] - 1) * (1 - sides)
    zero = torch.zeros_like(side)
    crops = torch.stack([sides[0], zero, middle[0], zero, sides[1], middle[1]], dim=1).view(count, 2, 3)
    pictures = pixels.permute(0, 3, 1, 2).float() / 255
    grid = F.affine_grid(crops, list(pictures.shape), align_corners=False)
    cropped = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    contrast = 0.5 + draw[4]
    gains = 0.8 + 0.4 * draw[5:8].T  # of each colour
    brightness = 0.4 * (draw[8] - 0.5)
    about = (cropped - 0.5) * (contrast[:, None] * gains)[:, :, None, None] + 0.5 + brightness[:, None, None, None]
    return about.clamp(0, 1)


def contrastive_loss(first: Tensor, second: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Cross-entropy of finding each picture's other view among all: unit vectors [B, d] of both views, a scalar.

    An example's own similarity does not take part. With B pictures and no information it is log(2 B - 1).
    """
    both = torch.cat([first, second])
    logits = (both @ both.T / temperature).fill_diagonal_(-torch.inf)
    count = len(first)
    other = torch.arange(2 * count, device=both.device).roll(count)
    return F.cross_entropy(logits, other)


def centred(points: Tensor) -> Tensor:
    """Points [n, d] about their mean, as unit vectors: a common part would make all cosines large."""
    return F.normalize(points - points.mean(dim=0), dim=1)


def without_head(model: nn.Module) -> int:
    """Take a model's last linear layer off, in place; the width of what went into it. ScrimpError where there is none."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise ScrimpError(f"{type(model).__name__} has no linear layer: give the method `embedding: pixels`")
    parent, _, leaf = names[-1].rpartition(".")
    holder = model.get_submodule(parent)
    width = int(getattr(holder, leaf).in_features)
    setattr(holder, leaf, nn.Identity())
    return width


def embedded(
    task: Task,
    which: Embedding,
    examples: Tensor,
    horizon: float,
    seed: int,
    on_progress: Callable[[float], None] | None = None,
) -> Embedded:
    """Embed the pictures of training `examples` (int64 [n]) of a task; contrastive training sees these alone.

    It lasts `horizon` of the full recipe's epochs over them, two views a picture. Raises ScrimpError for a task without
    pictures.
    """
    encoder = task.picture_encoder(EMBEDDING_SEEDS + 1000 * seed)
    if which == "pixels":
        parts = [_scaled_down(_pictures(task, part)) for part in examples.split(AT_A_TIME)]
        return Embedded(centred(torch.cat(parts)), Cost(), Cost(scored=len(examples)))
    training = _train(task, encoder, examples, horizon, seed, on_progress)
    encoder.model.eval()
    with torch.no_grad(), task.place.autocast():
        parts = [encoder.model(encoder.normalise(_pictures(task, part))).float().cpu() for part in examples.split(AT_A_TIME)]
    scoring = Cost(scored=len(examples), flops=len(examples) * encoder.flops.forward)
    return Embedded(centred(torch.cat(parts)), training, scoring)


def _pictures(task: Task, indices: Tensor) -> Tensor:
    pixels: Tensor = task.batch(task.train_split, indices)[0]
    return pixels.to(task.place.device)


def _scaled_down(pixels: Tensor) -> Tensor:
    """Pictures of a few pixels a side: uint8 [B, S, S, 3] to float [B, 3 * 64]."""
    pictures = pixels.permute(0, 3, 1, 2).float() / 255
    return F.adaptive_avg_pool2d(pictures, PIXELS_SIDE).flatten(1).cpu()


def _train(
    task: Task,
    encoder: PictureEncoder,
    examples: Tensor,
    horizon: float,
    seed: int,
    on_progress: Callable[[float], None] | None,
) -> Cost:
    """Train the encoder and a projection on two views of every example; what it took, without time."""
    device, recipe = task.place.device, task.workload.recipe
    model, width = encoder.model, encoder.width
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(EMBEDDING_SEEDS + 1000 * seed + 1)
        projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, PROJECTED)).to(device)
    size = min(recipe.batch_size, len(examples))
    per_epoch = len(examples) // size  # a broken batch would meet fewer others
    steps = max(1, round(_epochs(task) * horizon * per_epoch))
    parameters = [*model.parameters(), *projection.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=1e-4)
    mean, deviation = (value.view(1, 3, 1, 1) for value in (encoder.normalise.mean, encoder.normalise.deviation))
    model.train()
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        epoch, at = divmod(step, per_epoch)
        if at == 0:
            order = epoch_order(len(examples), EMBEDDING_SEEDS + seed, epoch)
        pixels = _pictures(task, examples[order[at * size : (at + 1) * size]])
        draws = derived_generator(seed, step, "contrastive-views")
        views = torch.cat([view(pixels, draws), view(pixels, draws)])
        with task.place.autocast():
            projected = projection(model((views - mean) / deviation)).float()
        loss = contrastive_loss(*F.normalize(projected, dim=1).split(size))
        loss.backward()
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if on_progress is not None:
            on_progress((step + 1) / steps)
    heads = 6 * 2 * size * (width * width + width * PROJECTED) + 6 * (2 * size) ** 2 * PROJECTED
    flops = steps * (2 * size * encoder.flops.training + heads)
    return Cost(updates=steps, examples=2 * size * steps, flops=flops)


def _epochs(task: Task) -> float:
    """How many epochs the full recipe has."""
    workload = task.workload
    if workload.epochs is not None:
        return float(workload.epochs)
    if workload.steps is not None:
        return workload.steps * workload.recipe.batch_size / task.examples
    return float(workload.flops or 0.0) / (task.examples * task.flops.training)
