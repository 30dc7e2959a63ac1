"""What a task is: data, a model, losses per example, an evaluation. This file is its manual.

A task of your own is one file with a subclass of `Task`; the key `task:` of a study names the file. It needs four things:

    class Denoising(Task):
        def setup(self, workspace):                       # read data: split -> a tuple of tensors, or a torch Dataset
            self.data = {"train": (noisy, clean), "test": (noisy_test, clean_test)}

        def model(self, seed):                            # a fresh model, on the task's device, the same for a seed
            return seeded(seed, lambda: MyModel()).to(self.place.device)

        def losses(self, model, batch):                   # float [b]: one value an example, differentiable
            noisy, clean = batch
            return (model(noisy) - clean).square().flatten(1).mean(dim=1)

        def evaluate(self, model, split):                 # metric -> value; scrimp.metrics knows the metric's better side
            return {"mse": self.mean_loss(model, split)}

Whatever selects by example, weighs examples, or changes batch size, rate or model then works on it. The rest has defaults
that can be replaced: FLOPs are counted on a batch, examples are visited in whole epochs, nothing is augmented. An optimiser
that no recipe names is a method `optimizer(model)`.

`scrimp audit FILE` also wants the plain recipe, which a study would have in its `study.yaml`: the keys of a workload, and
the metric that counts (the first that `evaluate` gives, if it is left out):

        plain = {"epochs": 20, "recipe": {"optimizer": "adamw", "learning_rate": 1e-3, "batch_size": 64}, "metric": "mse"}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from scrimp.config.training import Recipe, Workload
from scrimp.cost import Cost
from scrimp.errors import ScrimpError
from scrimp.flops import ExampleFlops, flops_per_example
from scrimp.seeding import derived_generator, stream
from scrimp.training import parallel
from scrimp.training.place import Place

if TYPE_CHECKING:
    from scrimp.config.workspace import Workspace
    from scrimp.methods.batch import BatchSelector
    from scrimp.methods.embeddings import PictureEncoder

Batch = Any  # tensors whose first dimension counts examples, in a tuple or a dict; or one tensor
Made = TypeVar("Made")
EVALUATION_BATCH = 512


def seeded(seed: int, make: Callable[[], Made]) -> Made:
    """What `make()` gives when torch's random state starts from `seed`; the caller's state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


class Task:
    """A workload loaded on a device. Subclasses define `setup`, `model`, `losses` and, usually, `evaluate`.

    `recipe_model` and `workload_model` hold the keys that the YAML may have. `train_split` is trained on. `held_out` are
    measured at the end, the first of them along the way; a name that is not there is left out, but for the first.
    `by_epochs`: whether the plain recipe visits whole epochs, or draws by the step.
    `plain` is the recipe that an audit starts from.
    `loss_points`: where it draws by the step, the training loss is noted as its mean over so many even parts of the budget;
    None: the last step's, beside each evaluation.
    """

    recipe_model: ClassVar[type[Recipe]] = Recipe
    workload_model: ClassVar[type[Workload]] = Workload
    train_split: str = "train"
    held_out: tuple[str, ...] = ("test", "validation")
    by_epochs: bool = True
    loss_points: int | None = 200
    plain: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, workload: Workload, place: Place) -> None:
        self.workload, self.place = workload, place
        self.data: dict[str, Any] = {}
        # Sees logits and labels of every training batch: of tasks that give logits, in `losses`.
        self.on_outputs: Callable[[Tensor, Tensor], None] | None = None

    # --- what a task defines ---
    @classmethod
    def model_names(cls) -> list[str] | None:
        """The names that a workload's `model` may have; None: the task looks at no name."""
        return None

    def setup(self, workspace: Workspace) -> None:
        """Read the data into `self.data`: split -> tensors of one length in a tuple, or an indexed torch Dataset."""

    def model(self, seed: int) -> nn.Module:
        """A fresh model on `self.place.device`, a function of the seed alone."""
        raise ScrimpError(f"{type(self).__name__} defines no model(seed)")

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """One loss an example, differentiable: float [b]."""
        raise ScrimpError(f"{type(self).__name__} defines no losses(model, batch)")

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """What the model reaches on a split, by metric, in the metric's unit. The default: the mean loss."""
        return {"loss": self.mean_loss(model, split)}

    # --- defaults: data, batches ---
    def size(self, split: str) -> int:
        """How many examples a split has."""
        examples = self.data[split]
        return len(examples[0]) if isinstance(examples, tuple) else len(examples)

    @property
    def examples(self) -> int:
        """How many examples there are to train on: N."""
        return self.size(self.train_split)

    def batch(self, split: str, indices: Tensor, draws: torch.Generator | None = None) -> Batch:
        """The examples `indices` (int64 [b]) of a split, on the device; `draws`: augment them with it."""
        examples = self.data[split]
        if isinstance(examples, tuple):
            found: Any = tuple(tensor[indices.to(tensor.device)] for tensor in examples)
        else:
            found = default_collate([examples[index] for index in indices.tolist()])
        return moved(found, self.place.device)

    def draw(self, first: int, count: int, seed: int) -> Tensor:
        """The training examples that come next where they are drawn by the step, `first` being drawn: int64 [count]."""
        return stream(self.examples, first, count, seed)

    def visits(self, batches: Sequence[Tensor], seed: int, number: int) -> Iterator[Batch]:
        """This process's part of each of some batches of training examples, augmented by (seed, number).

        `number` is the epoch or the step. Every process draws for whole batches, so that all see the same pictures.
        """
        draws = derived_generator(seed, number, "augmentation")
        for indices in batches:
            part, _ = parallel.part_of(len(indices))
            whole = self.batch(self.train_split, indices, draws)
            yield whole if parallel.world_size() == 1 else sliced(whole, part)

    def batches(self, split: str, at_a_time: int = EVALUATION_BATCH) -> Iterator[Batch]:
        """A whole split in order."""
        for indices in torch.arange(self.size(split)).split(at_a_time):
            yield self.batch(split, indices)

    # --- defaults: loss, measurement ---
    def loss(self, model: nn.Module, batch: Batch, weights: Tensor | None, factor: float) -> tuple[Tensor, Tensor | None]:
        """The scalar to differentiate, and the losses [b] that it came from (None where it came from none).

        `weights` (float [b]; None: all 1) weigh the examples; `factor` makes a sum over this process's part a mean.
        """
        losses = self.losses(model, batch)
        if losses.ndim != 1:
            raise ScrimpError(
                f"{type(self).__name__}.losses gave a tensor of shape {tuple(losses.shape)}, not one value an example: "
                "take the mean over all dimensions but the first, and no reduction in the loss function"
            )
        weighted = losses if weights is None else losses * weights
        return weighted.sum() * factor, losses.detach()

    @torch.no_grad()
    def mean_loss(self, model: nn.Module, split: str) -> float:
        """The mean of `losses` over a split, in evaluation mode."""
        model.eval()
        total, count = 0.0, self.size(split)
        for batch in self.batches(split):
            with self.place.autocast():
                total += float(self.losses(model, batch).sum(dtype=torch.float64))
        model.train()
        return total / count

    def measure(self, model: nn.Module, splits: Sequence[str]) -> dict[str, float]:
        """`evaluate` on each split, its metrics named after it: `test_loss`."""
        return {
            f"{split.replace('-', '_')}_{name}": value
            for split in splits
            for name, value in self.evaluate(model, split).items()
        }

    def extras(self, model: nn.Module) -> dict[str, float]:
        """What is measured of a finished model once, beside its splits; it may look at test data."""
        return {}

    def facts(self, model: nn.Module, examples: int) -> dict[str, float]:
        """Sizes of a run on so many examples, counted by named conventions."""
        return {"parameters_total": float(sum(parameter.numel() for parameter in model.parameters()))}

    # --- defaults: FLOPs, rates ---
    @cached_property
    def flops(self) -> ExampleFlops:
        """FLOPs of one example's forward and training pass, counted on two."""
        model, batch = self.model(0).train(), self.batch(self.train_split, torch.arange(2))
        return flops_per_example(model, lambda: self.losses(model, batch), 2)

    def step_flops(self, count: int) -> float:
        """FLOPs of an update on `count` examples."""
        return count * self.flops.training

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer | None:
        """An optimiser of your own over the model's parameters; None: the one that the recipe names.

        The recipe's schedule scales the learning rates of its groups, over each arm's own length: attach no scheduler. Take
        the rate from `self.workload.recipe.learning_rate`, and tuning reaches it too.
        """
        return None

    def learning_rate_scales(self, model: nn.Module) -> Mapping[str, float] | None:
        """Parameter name -> its share of the learning rate; None: the same for all."""
        return None

    # --- for selectors that need more than losses ---
    def outputs(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits float [b, C] and labels int64 [b], for selectors that score by them."""
        raise ScrimpError(f"{type(self).__name__} gives no class logits: EL2N, forgetting and CCS need them")

    @property
    def labels(self) -> Tensor:
        """The training examples' classes, int64 [N], for selectors that balance them."""
        raise ScrimpError(f"{type(self).__name__} has no class labels")

    def picture_encoder(self, seed: int) -> PictureEncoder:
        """A fresh model of pictures without its last layer, for selectors that embed them without labels."""
        raise ScrimpError(
            f"{type(self).__name__} does not hold pictures as the task classification does: give the method "
            "`embedding: features`"
        )

    def features(self, model: nn.Module, batch: Batch) -> Tensor:
        """What a model makes of each example, float [b, d], for selectors that compare examples.

        By default what goes into the last linear layer that runs, averaged over the dimensions between first and last.
        Raises ScrimpError where there is no such layer, or where it is not given a row an example.
        """
        last: list[Tensor] = []

        def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            last[:] = inputs[:1]

        hooks = [one.register_forward_pre_hook(note) for one in model.modules() if isinstance(one, nn.Linear)]
        try:
            count = len(self.losses(model, batch))
        finally:
            for hook in hooks:
                hook.remove()
        if not last or last[0].ndim < 2 or len(last[0]) != count:
            raise ScrimpError(
                f"{type(self).__name__}: no linear layer of the model gets a row an example, to compare examples by: define "
                "features(model, batch) -> float [b, d]"
            )
        return last[0] if last[0].ndim == 2 else last[0].flatten(1, -2).mean(dim=1)

    def score(self, model: nn.Module, indices: Tensor, selector: BatchSelector, reference: Any) -> tuple[Any, Any]:
        """A super-batch as the learner and as the reference see it, for a batch selector's `choose`."""
        raise ScrimpError(f"{type(self).__name__} embeds no super-batch: choose a selector of epochs")

    def load_reference(self, folder: Path, live: bool) -> tuple[Any, Cost, str]:
        """What the stage `reference` left in a folder, in the form that `score` wants; its cost and its digest."""
        raise ScrimpError(f"{type(self).__name__} has no reference models: none of its selectors scores against one")

    def scoring_flops(self, selector: BatchSelector) -> float:
        """FLOPs of one choice of a batch selector."""
        return 0.0

    def on_choice(self) -> Callable[[Tensor, float], dict[str, float]] | None:
        """A new observer of every step's examples (indices, fraction of the budget): metrics worth a curve; None: none."""
        return None


def moved(batch: Batch, device: torch.device) -> Batch:
    """A batch on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: moved(value, device) for key, value in batch.items()}
    return type(batch)(moved(value, device) for value in batch)


def sliced(batch: Batch, part: slice | Tensor) -> Batch:
    """Some examples of a batch."""
    if isinstance(batch, Tensor):
        return batch[part]
    if isinstance(batch, dict):
        return {key: sliced(value, part) for key, value in batch.items()}
    return type(batch)(sliced(value, part) for value in batch)
