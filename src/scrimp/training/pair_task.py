"""An image-text workload, loaded: its pairs, how to make a model for them, and how to test one."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from scrimp.config import Workload, Workspace
from scrimp.data.benchmarks import Captioned, ZeroShot, load_captioned, load_zero_shot
from scrimp.data.pairs import PairData, load_pairs
from scrimp.data.web_pairs import load_web_pairs
from scrimp.errors import ScrimpError
from scrimp.measure.retrieval import retrieval, retrieval_many, zero_shot_accuracy
from scrimp.models.contrastive import TwoTowers, build_two_towers
from scrimp.training.contrast import embed, embed_captions
from scrimp.training.pair_costs import TowerFlops, tower_flops
from scrimp.training.stage import Place


@dataclasses.dataclass(frozen=True)
class PairTask:
    """A loaded image-text workload, and how to make a model for it."""

    workload: Workload
    data: PairData
    zero_shot: ZeroShot | None
    captioned: Captioned | None
    place: Place
    flops: TowerFlops
    patch: int  # the side of the patches that a model's kernel is stored for

    def model(self, seed: int) -> TwoTowers:
        return build_two_towers(self.data.vocabulary, seed, self.workload.model.options).to(self.place.device)

    @property
    def patches(self) -> list[int]:
        """Patch sides that a step trains in; the first is the finest, in which models are tested."""
        return self.workload.recipe.patches or [self.patch]


def load_pair_task(workspace: Workspace, workload: Workload, device: torch.device) -> PairTask:
    """Map a workload's pictures, or at its `image_size` leave them on disk, read its captions, count its model's FLOPs.

    Raises ScrimpError for a model that is no two-tower model or has no room for the data, and for data without pairs.
    """
    if workload.model.name != "two-towers":
        raise ScrimpError(f"an image-text study trains the model two-towers, not {workload.model.name}")
    folder = workspace.shards(workload.dataset)
    data = load_pairs(folder) if workload.image_size is None else load_web_pairs(folder, workload.image_size)
    zero_shot = load_zero_shot(workspace, workload, data.encode)
    captioned = load_captioned(workspace, workload, data.encode)
    place = Place.of(device, workload.recipe.precision)
    model = build_two_towers(data.vocabulary, 0, workload.model.options)
    _check_room(workload, model, data)
    sides = {model.patch, 2 * model.patch, *workload.recipe.patches}
    usable = [side for side in sides if model.image_tower.size % side == 0]
    # Padding is not computed, so a caption counts with the mean length of the pool's.
    tokens = math.ceil(float((data.splits["pool"].tokens != 0).sum(dim=1).double().mean()))
    flops = tower_flops(model, model.image_tower.size, tokens, usable)
    return PairTask(workload, data, zero_shot, captioned, place, flops, model.patch)


def _check_room(workload: Workload, model: TwoTowers, data: PairData) -> None:
    if workload.image_size not in (None, model.image_tower.size):
        raise ScrimpError(
            f"the workload's `image_size` is {workload.image_size}, but its model's `size` is {model.image_tower.size}: "
            "make them the same"
        )
    if data.length > model.text_tower.positions.shape[1]:
        raise ScrimpError(
            f"captions of {workload.dataset} have {data.length} tokens, but the model's option `length` is "
            f"{model.text_tower.positions.shape[1]}: raise it"
        )


def test(model: TwoTowers, task: PairTask, parts: tuple[str, ...], zero_shot: bool) -> dict[str, float]:
    """Retrieval on held-out parts, as `PART_i2t_r1` and so on; at the finest patch side.

    Where `zero_shot` is set, also `zero_shot_accuracy` and retrieval on COCO, `coco_i2t_r1` and so on, if the workload has
    data for them.
    """
    model.eval()
    found: dict[str, float] = {}
    for part in parts:
        pairs = task.data.splits[part]
        if len(pairs) == 0:  # a small view has no unseen emoji
            continue
        seen = embed(model, pairs, torch.arange(len(pairs)), task.patches[0], task.place)
        found |= {f"{part.replace('-', '_')}_{name}": value for name, value in retrieval(seen.image, seen.text).items()}
    if zero_shot and task.zero_shot is not None:
        known = task.zero_shot
        shown = embed(model, known.pairs, torch.arange(len(known.pairs)), task.patches[0], task.place)
        named = prompted(model, known.prompts, task.place)
        found["zero_shot_accuracy"] = zero_shot_accuracy(shown.image, named, known.labels.to(task.place.device))
    if zero_shot and task.captioned is not None:
        many = task.captioned
        image = embed(model, many.pairs, torch.arange(len(many.pairs)), task.patches[0], task.place).image
        text = embed_captions(model, many.captions, task.place)
        scores = retrieval_many(image, text, many.owner.to(task.place.device))
        found |= {f"coco_{name}": value for name, value in scores.items()}
    model.train()
    return found


def prompted(model: TwoTowers, prompts: Tensor, place: Place) -> Tensor:
    """Each class's mean embedding over its prompts [C, T, L], a unit vector: [C, d] (CLIP, arXiv 2103.00020, 3.1.4)."""
    text = embed_captions(model, prompts.flatten(0, 1), place).unflatten(0, prompts.shape[:2])
    return text[:, 0] if prompts.shape[1] == 1 else F.normalize(text.mean(dim=1), dim=1)
