"""What a two-tower model is tested on: retrieval of held-out pairs, classification by names and few pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from scrimp.config.tasks import ImageTextWorkload
from scrimp.config.workspace import Workspace
from scrimp.data.benchmarks import Captioned, FewShot, ZeroShot, load_captioned, load_few_shot, load_zero_shot
from scrimp.data.pairs import PairData
from scrimp.measure.retrieval import few_shot_accuracy, mean_retrieval, retrieval_many, zero_shot_accuracy
from scrimp.models.contrastive import TwoTowers
from scrimp.training.contrast import embed, embed_captions, embed_pictures
from scrimp.training.place import Place

UNSEEN = ("zero_shot_accuracy", "few_shot_accuracy", "test_unseen_i2t_r5", "test_unseen_t2i_r5")


@dataclass(frozen=True)
class TowerTests:
    """Data of the tests beside the held-out splits; None where a workload has none. Models are tested in `patch`."""

    known: PairData
    patch: int
    place: Place
    zero_shot: ZeroShot | None = None
    few_shot: FewShot | None = None
    captioned: Captioned | None = None

    @classmethod
    def load(
        cls, workspace: Workspace, workload: ImageTextWorkload, known: PairData, patch: int, place: Place
    ) -> TowerTests:
        """What the workload names; errors are those of `data.benchmarks`."""
        zero_shot = load_zero_shot(workspace, workload, known.encode)
        few_shot = load_few_shot(workspace, workload)
        return cls(known, patch, place, zero_shot, few_shot, load_captioned(workspace, workload, known.encode))

    def retrieval(self, model: TwoTowers, split: str) -> dict[str, float]:
        """Recall both ways, `i2t_r1` and so on, the mean of the split's galleries; nothing where it has no pair."""
        galleries = self.known.galleries(split)
        if not galleries:
            return {}
        pairs = self.known.splits[split]
        model.eval()
        shown = embed(model, pairs, torch.arange(len(pairs)), self.patch, self.place)
        model.train()
        return mean_retrieval(shown.image, shown.text, galleries)

    def extras(self, model: TwoTowers) -> dict[str, float]:
        """What a finished model is tested on, once; scale and bias.

        `zero_shot_accuracy`; `few_shot_accuracy`; retrieval on COCO, `coco_i2t_r1`; and `unseen_average`, the plain mean of
        zero-shot and few-shot accuracy and recall at 5 both ways on pairs of designers whom nothing trained on. It stands
        for the average of JEST's Table 1 (zero-shot, 10-shot, COCO both ways), where a workload has all four.
        """
        model.eval()
        measured: dict[str, float] = {}
        if self.zero_shot is not None:
            labels = self.zero_shot.labels.to(self.place.device)
            pairs = self.zero_shot.pairs
            image = embed_pictures(model, pairs, torch.arange(len(pairs)), self.patch, self.place)
            named = prompted(model, self.zero_shot.prompts, self.place)
            measured["zero_shot_accuracy"] = zero_shot_accuracy(image, named, labels)
        if self.few_shot is not None:
            shots = self.few_shot
            shown = embed_pictures(model, shots.pairs, torch.arange(len(shots.pairs)), self.patch, self.place)
            tested = embed_pictures(model, shots.tested, torch.arange(len(shots.tested)), self.patch, self.place)
            measured["few_shot_accuracy"] = few_shot_accuracy(shown, shots.labels, shots.drawn, tested, shots.tested_labels)
        if self.captioned is not None:
            many = self.captioned
            image = embed_pictures(model, many.pairs, torch.arange(len(many.pairs)), self.patch, self.place)
            text = embed_captions(model, many.captions, self.place)
            scores = retrieval_many(image, text, many.owner.to(self.place.device))
            measured |= {f"coco_{name}": value for name, value in scores.items()}
        unseen = measured | {f"test_unseen_{name}": value for name, value in self.retrieval(model, "test-unseen").items()}
        if all(name in unseen for name in UNSEEN):
            measured["unseen_average"] = sum(unseen[name] for name in UNSEEN) / len(UNSEEN)
        model.train()
        return {
            **measured,
            "logit_scale": float(model.log_scale.detach().exp()),
            "logit_bias": float(model.bias.detach()),
        }


def prompted(model: TwoTowers, prompts: Tensor, place: Place) -> Tensor:
    """Each class's mean embedding over its prompts [C, T, L], a unit vector: [C, d] (CLIP, arXiv 2103.00020, 3.1.4)."""
    text = embed_captions(model, prompts.flatten(0, 1), place).unflatten(0, prompts.shape[:2])
    return text[:, 0] if prompts.shape[1] == 1 else F.normalize(text.mean(dim=1), dim=1)
