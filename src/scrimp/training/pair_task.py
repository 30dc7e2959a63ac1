"""An image-text setting, loaded: its pairs, how to make a model for them, and how to test one."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from scrimp.config import Setting, Workspace
from scrimp.data.loading import Images, load_classification
from scrimp.data.pairs import PairData, Pairs, load_pairs
from scrimp.errors import ScrimpError
from scrimp.measure.hardware import has_fast_bf16
from scrimp.measure.retrieval import retrieval, zero_shot_accuracy
from scrimp.models.contrastive import TwoTowers, build_two_towers
from scrimp.training.contrast import embed, embed_captions
from scrimp.training.pair_costs import TowerFlops, tower_flops
from scrimp.training.stage import Place


@dataclasses.dataclass(frozen=True)
class PairTask:
    """A loaded image-text setting, and how to make a model for it."""

    setting: Setting
    data: PairData
    zero_shot: tuple[Images, Tensor] | None  # pictures with labels, and the class names' tokens [C, L]
    place: Place
    flops: TowerFlops

    def model(self, seed: int) -> TwoTowers:
        return build_two_towers(self.data.vocabulary, seed, self.setting.model.options).to(self.place.device)

    @property
    def patches(self) -> list[int]:
        """Patch sides that a step trains in; the first is the finest, in which models are tested."""
        return self.setting.recipe.patches or [self.model(0).patch]


def load_pair_task(workspace: Workspace, setting: Setting, device: torch.device) -> PairTask:
    """Map a setting's pictures, read its captions, and count the FLOPs of its model.

    Raises ScrimpError for a model that is no two-tower model and for data without pairs.
    """
    if setting.model.name != "two-towers":
        raise ScrimpError(f"an image-text study trains the model two-towers, not {setting.model.name}")
    data = load_pairs(workspace.shards(setting.dataset))
    zero_shot = None
    if setting.zero_shot is not None:
        splits, names = load_classification(workspace.shards(setting.zero_shot))
        zero_shot = splits["test"], data.encode(names)
    precision = setting.recipe.precision
    place = Place(device, precision == "bf16" or (precision == "auto" and has_fast_bf16(device)))
    model = build_two_towers(data.vocabulary, 0, setting.model.options)
    sides = {model.patch, 2 * model.patch, *setting.recipe.patches}
    usable = [side for side in sides if model.image_tower.size % side == 0]
    # Padding is not computed, so a caption counts with the mean length of the pool's.
    tokens = math.ceil(float((data.splits["pool"].tokens != 0).sum(dim=1).double().mean()))
    flops = tower_flops(model, model.image_tower.size, tokens, usable)
    return PairTask(setting, data, zero_shot, place, flops)


def test(model: TwoTowers, task: PairTask, parts: tuple[str, ...], zero_shot: bool) -> dict[str, float]:
    """Retrieval on held-out parts, as `PART_i2t_r1` and so on, and `zero_shot_accuracy`; at the finest patch side."""
    model.eval()
    found: dict[str, float] = {}
    for part in parts:
        pairs = task.data.splits[part]
        if len(pairs) == 0:  # a small view has no unseen emoji
            continue
        seen = embed(model, pairs, torch.arange(len(pairs)), task.patches[0], task.place)
        found |= {f"{part.replace('-', '_')}_{name}": value for name, value in retrieval(seen.image, seen.text).items()}
    if zero_shot and task.zero_shot is not None:
        images, names = task.zero_shot
        every = torch.arange(len(images))
        shown = embed(model, Pairs(images.pixels, every, names[images.labels]), every, task.patches[0], task.place)
        named = embed_captions(model, names, task.place)
        found["zero_shot_accuracy"] = zero_shot_accuracy(shown.image, named, images.labels.to(task.place.device))
    model.train()
    return found
