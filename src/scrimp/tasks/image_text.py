"""Image-text pairs: two towers under a contrastive loss, retrieval both ways and zero-shot classification.

Pairs are drawn by the step, since batch selectors choose within one. A pair's own loss, where a selector asks for it, is
its image's and its text's share of the batch's loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scrimp.config.tasks import ImageTextRecipe, ImageTextWorkload
from scrimp.cost import Cost
from scrimp.data.ahead import Ahead
from scrimp.data.large_orders import LARGE, large_stream
from scrimp.data.loading import augmented
from scrimp.data.pairs import PairData, PairSource, load_pairs
from scrimp.data.tables import SETS_SHOWN
from scrimp.data.web_pairs import StreamedPairs, load_web_pairs
from scrimp.errors import ScrimpError
from scrimp.flops import ExampleFlops, TowerFlops, tower_flops
from scrimp.methods.batch import BatchSelector
from scrimp.methods.embeddings import PictureEncoder
from scrimp.methods.pairs import Embedded
from scrimp.models.contrastive import TwoTowers, build_two_towers
from scrimp.seeding import stream
from scrimp.tasks.base import Batch, Task
from scrimp.training import parallel
from scrimp.training.contrast import NORMALISATION, SetShares, embed, own_losses, softmax_loss, trimmed
from scrimp.training.losses import sigmoid_loss
from scrimp.training.place import Place
from scrimp.training.reference import Reference, read_reference
from scrimp.training.tower_tests import TowerTests

if TYPE_CHECKING:
    from scrimp.config.workspace import Workspace


class ImageText(Task):
    """Pairs of pictures uint8 [n, S, S, 3] and captions int64 [n, L]; batches are (pictures, tokens)."""

    recipe_model = ImageTextRecipe
    workload_model = ImageTextWorkload
    workload: ImageTextWorkload
    train_split = "pool"
    held_out = ("test", "validation", "test-unseen", "test-emoji")
    by_epochs = False
    loss_points = None
    reference_subset = "raw"  # what an audit trains its reference on: raw, text-filtered, curated or curated++

    def __init__(self, workload: ImageTextWorkload, place: Place) -> None:
        # The loop would take the losses of the parts of a batch: here the towers embed in parts, and the loss is one.
        whole = workload.recipe.model_copy(update={"micro_batch": None})
        super().__init__(workload.model_copy(update={"recipe": whole}), place)
        self.recipe = workload.recipe
        self._ahead: Ahead | None = None
        self._coming: tuple[int, int, int] | None = None  # what the next step draws: the first, how many, the seed
        self._scored: bool | None = None  # whether the last draw's pictures were all looked at; None: nothing was chosen

    @classmethod
    def model_names(cls) -> list[str]:
        return ["two-towers"]

    def setup(self, workspace: Workspace) -> None:
        """Map the pictures, or at an `image_size` leave them on disk, read the captions, count the model's FLOPs.

        Raises ScrimpError for a model that is no two-tower model or has no room for the data, and for data without pairs.
        """
        workload = self.workload
        if workload.dataset is None or workload.model is None or workload.model.name != "two-towers":
            named = workload.model.name if workload.model is not None else "none"
            raise ScrimpError(f"an image-text study needs a `dataset` and trains the model two-towers, not {named}")
        folder = workspace.shards(workload.dataset)
        known = load_pairs(folder) if workload.image_size is None else load_web_pairs(folder, workload.image_size)
        self.use(known)
        self.tests = TowerTests.load(workspace, workload, known, self.patches[0], self.place)

    def use(self, known: PairData) -> None:
        """Take pairs; tests are retrieval alone, unless `setup` loads others."""
        self.known, self.data = known, dict(known.splits)
        model = self.model(0)
        _check_room(self.workload, model, known)
        self.patch = model.patch  # the side of the patches that a model's kernel is stored for
        sides = {model.patch, 2 * model.patch, *self.recipe.patches}
        usable = [side for side in sides if model.image_tower.size % side == 0]
        # Padding is not computed, so a caption counts with the mean length of the pool's.
        tokens = math.ceil(known.mean_length("pool"))
        self.towers: TowerFlops = tower_flops(model, model.image_tower.size, tokens, usable)
        self.tests = TowerTests(known, self.patches[0], self.place)

    @property
    def patches(self) -> list[int]:
        """Patch sides that a step trains in; the first is the finest, in which models are tested."""
        return self.recipe.patches or [self.patch]

    def model(self, seed: int) -> TwoTowers:
        assert self.workload.model is not None
        return build_two_towers(self.known.vocabulary, seed, self.workload.model.options).to(self.place.device)

    # --- training ---
    def draw(self, first: int, count: int, seed: int) -> Tensor:
        self._coming, self._scored = (first + count, count, seed), None
        return self._drawn(first, count, seed)

    def _drawn(self, first: int, count: int, seed: int) -> Tensor:
        return (large_stream if self.examples > LARGE else stream)(self.examples, first, count, seed)

    def visits(self, batches: Sequence[Tensor], seed: int, number: int) -> Iterator[Batch]:
        """As of any task; while a batch is trained on, the next one's pictures are read, where they lie in tars."""
        for place, batch in enumerate(super().visits(batches, seed, number), start=1):
            following = batches[place] if place < len(batches) else self._next_pictures()
            pairs = self._source(self.train_split)
            if isinstance(pairs, Ahead) and following is not None:
                pairs.expect(following)
            yield batch

    def _next_pictures(self) -> Tensor | None:
        """The pairs whose pictures the next step looks at, if it goes on as the last one; None: nobody can say."""
        coming, self._coming = self._coming, None
        if coming is None or self._scored is False:
            return None
        drawn = self._drawn(*coming)
        return drawn[parallel.part_of(len(drawn))[0]] if self._scored else drawn

    def _source(self, split: str) -> PairSource:
        """A split's pairs; those that are trained on are read ahead where they lie in tars."""
        pairs: PairSource = self.data[split]
        if split != self.train_split or not isinstance(pairs, StreamedPairs):
            return pairs
        if self._ahead is None or self._ahead.pairs is not pairs:
            self._ahead = Ahead(pairs, pairs.size)
        return self._ahead

    def batch(self, split: str, indices: Tensor, draws: torch.Generator | None = None) -> Batch:
        pairs = self._source(split)
        pixels = pairs.images(indices)
        wanted = self.recipe.augmentation
        if draws is not None and (wanted.shift or wanted.flip):
            pixels = augmented(pixels, wanted, draws)
        return pixels, pairs.captions(indices)

    def embedded(self, model: TwoTowers, batch: Batch) -> tuple[Tensor, Tensor]:
        """A batch's embeddings [B, d] each, every patch side taking its even share of the pairs.

        Under torchrun each process embeds its part and gets the others' with gradients, so that all compute the whole loss.
        """
        pixels, tokens = (part.to(self.place.device) for part in batch)
        normalise, sides = NORMALISATION.to(self.place.device), self.patches
        # Interleaved, since a choice is ordered: the best would else all be seen at one patch side.
        ways = [partial(lambda side, some: model.embed_images(normalise(some), side), side) for side in sides]
        parts = [self._in_parts(way, pixels[n :: len(sides)]) for n, way in enumerate(ways)]
        texts = [self._in_parts(model.embed_texts, trimmed(tokens[n :: len(sides)])) for n in range(len(sides))]
        return parallel.gathered_with_gradients(torch.cat(parts)), parallel.gathered_with_gradients(torch.cat(texts))

    def _in_parts(self, embed: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """Embeddings [n, d] of inputs [n, ...], `micro_batch` of them at a time.

        What a tower keeps for its backward pass is kept for one part at a time: each is embedded again when the whole loss's
        gradient comes to it, for the same gradients (GradCache, Gao et al. 2021, arXiv 2101.06983). FLOPs do not count it.
        """
        most = self.recipe.micro_batch
        if most is None or most >= len(inputs):
            return embed(inputs)
        # The towers draw nothing at random, so no generator's state need be kept.
        parts = [checkpoint(embed, part, use_reentrant=False, preserve_rng_state=False) for part in inputs.split(most)]
        return torch.cat(parts)

    def loss(self, model: nn.Module, batch: Batch, weights: Tensor | None, factor: float) -> tuple[Tensor, Tensor | None]:
        """The batch's loss as a whole, which the kernels compute at once; with `weights`, the pairs' shares, weighed."""
        if weights is not None:
            return super().loss(model, batch, weights, factor)
        assert isinstance(model, TwoTowers)
        image, text = self.embedded(model, batch)
        with torch.autocast(self.place.device.type, enabled=False):
            if self.recipe.loss == "sigmoid":
                return sigmoid_loss(image, text, model.log_scale.exp(), model.bias, unit=False), None
            return softmax_loss(image, text, model.log_scale.exp()), None

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Each pair's share of the batch's loss, in the order of `batch`; their mean is the whole loss. One process."""
        assert isinstance(model, TwoTowers)
        if parallel.world_size() > 1:
            raise ScrimpError("losses of single pairs, which this selector asks for, are for one process")
        image, text = self.embedded(model, batch)
        own = own_losses(image, text, model.log_scale.exp(), model.bias, self.recipe.loss)
        count = len(self.patches)
        order = torch.cat([torch.arange(len(own))[n::count] for n in range(count)]).to(own.device)
        return torch.zeros_like(own).index_copy(0, order, own)

    # --- scoring and costs ---
    def features(self, model: nn.Module, batch: Batch) -> Tensor:
        """Both embeddings of each pair side by side, in the finest patches: [b, 2 d]."""
        assert isinstance(model, TwoTowers)
        pixels, tokens = (part.to(self.place.device) for part in batch)
        image = model.embed_images(NORMALISATION.to(self.place.device)(pixels), self.patches[0])
        return torch.cat([image, model.embed_texts(trimmed(tokens))], dim=1)

    def score(self, model: nn.Module, indices: Tensor, selector: BatchSelector, reference: Any) -> tuple[Any, Any]:
        mine, _ = parallel.part_of(len(indices))
        pool, finest = self._source(self.train_split), self.patches[0]
        learner = known = None
        self._scored = selector.needs_learner or selector.live
        if selector.needs_learner:
            assert isinstance(model, TwoTowers)
            learner = _shared(embed(model, pool, indices[mine], selector.scoring_patch or finest, self.place))
        if selector.reference is not None:
            assert isinstance(reference, Reference)  # the run stage reads it
            if selector.live:
                assert reference.model is not None
                known = _shared(embed(reference.model, pool, indices[mine], None, self.place))
            else:
                assert reference.cached is not None
                known = reference.cached.rows(indices)
        return learner, known

    def load_reference(self, folder: Path, live: bool) -> tuple[Reference, Cost, str]:
        return read_reference(folder, lambda: self.model(0), live, self.place.device)

    def scoring_flops(self, selector: BatchSelector) -> float:
        """The learner's forward pass, a live reference's, and products between embeddings."""
        if selector.super_batch == selector.size:
            return 0.0
        finest = self.patches[0]
        learner = (
            self.towers.scoring(selector.super_batch, selector.scoring_patch or finest) if selector.needs_learner else 0.0
        )
        reference = self.towers.scoring(selector.super_batch, finest) if selector.live else 0.0
        return learner + reference + selector.pair_flops(self.towers.width)

    @property
    def flops(self) -> ExampleFlops:
        """Of one pair; the loss's share is that of a batch of the recipe's size."""
        count = self.recipe.batch_size
        return ExampleFlops(self.towers.scoring(1, self.patches[0]), self.step_flops(count) / count)

    def step_flops(self, count: int) -> float:
        return self.towers.training(count, self.patches)

    def on_choice(self) -> Callable[[Tensor, float], dict[str, float]] | None:
        if self.data[self.train_split] is not self.known.splits[self.train_split]:
            return None  # a reference's subset: indices are not those of the pool's table
        table = self.known.table
        return SetShares(table.sets("pool"), table.largest_sets("pool", SETS_SHOWN))

    # --- for selectors that prune by pictures ---
    def picture_encoder(self, seed: int) -> PictureEncoder:
        """The image tower, without the head that takes it to the texts' space; in patches of its kernel's side."""
        model, forward = self.model(seed), self.towers.image[self.patch]
        tower, width = model.image_tower, model.image_head.in_features
        return PictureEncoder(tower, width, NORMALISATION.to(self.place.device), ExampleFlops(forward, 3 * forward))

    @property
    def labels(self) -> Tensor:
        """The icon set, or the source, that each pair of the pool is from: pairs have no other classes to balance."""
        return torch.from_numpy(pd.factorize(self.known.table.sets(self.train_split))[0].astype("int64"))

    # --- measurement ---
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Retrieval both ways, `i2t_r1` and so on, in the finest patches; nothing where a small view has no such pair."""
        assert isinstance(model, TwoTowers)
        return self.tests.retrieval(model, split)

    def extras(self, model: nn.Module) -> dict[str, float]:
        """Zero-shot and few-shot accuracy, retrieval on COCO, their average (`TowerTests.extras`); scale and bias."""
        assert isinstance(model, TwoTowers)
        return self.tests.extras(model)


def _shared(mine: Embedded) -> Embedded:
    return mine._replace(image=parallel.gathered_rows(mine.image), text=parallel.gathered_rows(mine.text))


def _check_room(workload: Any, model: TwoTowers, data: PairData) -> None:
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


TASK = ImageText
