"""InfoBatch, or another selector, under the Hugging Face Trainer.

    data = InfoBatch(train_set, epochs=3)                                                               # 1
    trainer = SelectedTrainer(model, TrainingArguments(folder, num_train_epochs=3), train_dataset=data)  # 2
    trainer.train()                                                                                     # 3

Sampler, collation, per-example losses, the learning rate's end and resuming inside an epoch are taken care of. Losses that
`example_losses` does not know are given by a subclass; other Trainers take `SelectedTrainerMixin` as their first base.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Trainer, TrainerCallback
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from scrimp.methods.dropin import SelectedData

INDEX = "example_index"  # the key of a batch's indices
STATE = "selected_data.pt"  # the file beside a checkpoint's
TOLERANCE = 0.01  # of the model's own loss, which may be rounded to bfloat16


class SelectedTrainerMixin:
    """What a Trainer has to do otherwise where its `train_dataset` is a SelectedData.

    Raises TypeError for another training set, ValueError for arguments that end training elsewhere than the data's epochs
    or that ask for another loss.
    """

    train_dataset: Any  # a SelectedData; a Trainer's own type is another
    eval_dataset: Any
    args: Any
    model: Any
    accelerator: Any
    lr_scheduler: Any
    data_collator: Any
    compute_loss_func: Any
    loss_is_scaled_for_ga: bool | None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        data = self.train_dataset
        if not isinstance(data, SelectedData):
            raise TypeError(f"{type(self).__name__} wants train_dataset=InfoBatch(...), got {type(data).__name__}")
        self._check_epochs()
        if self.compute_loss_func is not None:
            raise ValueError(
                "compute_loss_func gives one number a batch, and pruning needs a loss of every example: leave it out, and "
                "override example_losses(outputs, inputs) in a subclass"
            )
        if self.args.label_smoothing_factor:
            raise ValueError(
                f"label_smoothing_factor={self.args.label_smoothing_factor:g} would change no loss here: leave it out, and "
                "override example_losses(outputs, inputs) in a subclass with F.cross_entropy(..., label_smoothing=...)"
            )
        strategy = getattr(self.args, "train_sampling_strategy", "random")
        if strategy != "random":
            warnings.warn(
                f"train_sampling_strategy={strategy!r} has no effect: the data's plan says which examples an epoch has, in "
                "an order of its own; leave it out",
                stacklevel=2,
            )
        self._compared = -1  # the last epoch whose first loss was held against the model's own
        self.loss_is_scaled_for_ga = False  # update gives a batch's mean
        self.add_callback(_SaveState(data))  # type: ignore[attr-defined]

    def _check_epochs(self) -> None:
        epochs = self.train_dataset.epochs
        if self.args.max_steps > 0 or self.args.num_train_epochs != epochs:
            raise ValueError(
                f"the data has epochs={epochs}: give TrainingArguments num_train_epochs={epochs} and no max_steps"
                ", since pruned epochs take fewer steps and the learning rate ends with the last of them"
            )

    def example_losses(self, outputs: Any, inputs: dict[str, Any]) -> Tensor:
        """The loss of every example of a batch: float [B].

        Classification, regression and multi-label go by the model's `problem_type` and `num_labels`, then by the labels'
        type; token models give each sequence the mean over its own labelled tokens. Raises ValueError for outputs without
        `logits`, and for one logit where only the labels say what it is of. Once an epoch their mean is held against the
        loss that the model gives itself, if it does: other numbers are an error.
        """
        if "logits" not in outputs or "labels" not in inputs:
            raise ValueError(
                "the model gives no `logits`, or the batch has no `labels`: override example_losses in a subclass"
            )
        logits, labels = outputs["logits"].float(), inputs["labels"]
        if logits.ndim == 3:
            labels = self._aligned(labels)
            logits = logits[:, : labels.shape[1]]
            losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")  # 0 where the label is -100
            return losses.sum(dim=1) / (labels != -100).sum(dim=1).clamp(min=1)
        problem = self._problem(logits, labels)
        if problem == "single_label_classification":
            return F.cross_entropy(logits, labels, reduction="none")
        rule = F.binary_cross_entropy_with_logits if problem == "multi_label_classification" else F.mse_loss
        return rule(logits.flatten(1), labels.view(len(labels), -1).float(), reduction="none").mean(dim=1)

    def _problem(self, logits: Tensor, labels: Tensor) -> str:
        """What transformers takes the labels for: `problem_type` where a config has it, as most do after a first batch."""
        config = getattr(self.accelerator.unwrap_model(self.model), "config", None)
        problem = getattr(config, "problem_type", None)
        if problem is not None:
            return str(problem)
        if labels.is_floating_point() or getattr(config, "num_labels", None) == 1:
            return "regression"
        if logits.ndim == 2 and logits.shape[1] == 1:
            raise ValueError(
                "the labels are whole numbers, and the model gives one logit: for regression give float labels, or set "
                'config.problem_type="regression"; else override example_losses in a subclass'
            )
        return "single_label_classification"

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        index = inputs.pop(INDEX, None)
        if index is None:  # an evaluation
            return super().compute_loss(  # type: ignore[misc]
                model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
            )
        outputs = model(**inputs)
        losses = self.example_losses(outputs, inputs)
        self._compare(losses, outputs, inputs)
        loss = self.train_dataset.update(losses, index)
        return (loss, outputs) if return_outputs else loss

    def get_train_dataloader(self) -> Any:
        collate = self.data_collator
        columns = self._get_collator_with_removed_columns(collate, description="training")  # type: ignore[attr-defined]
        self.data_collator = _WithIndex(columns)
        try:
            return super().get_train_dataloader()  # type: ignore[misc]
        finally:
            self.data_collator = collate

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        named = isinstance(eval_dataset, str)
        held = self.eval_dataset[eval_dataset] if named else self.eval_dataset if eval_dataset is None else eval_dataset
        return super().get_eval_dataloader(held.dataset if isinstance(held, SelectedData) else eval_dataset)  # type: ignore[misc]

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        plain = test_dataset.dataset if isinstance(test_dataset, SelectedData) else test_dataset
        return super().get_test_dataloader(plain)  # type: ignore[misc]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule asked for, as a function of the data's fraction: it ends with the last epoch, however short."""
        own = self.lr_scheduler is not None
        scheduler = super().create_scheduler(num_training_steps, optimizer)  # type: ignore[misc]
        if not own:
            if not hasattr(scheduler, "lr_lambdas"):
                raise ValueError(
                    f"lr_scheduler_type={self.args.lr_scheduler_type} is no function of the steps: take another"
                )
            scheduler.lr_lambdas = [self._by_fraction(shape, num_training_steps) for shape in scheduler.lr_lambdas]
        return scheduler

    def _by_fraction(self, shape: Callable[[float], float], steps: int) -> Callable[[int], float]:
        return lambda step: shape(self.train_dataset.fraction * steps)

    def _aligned(self, labels: Tensor) -> Tensor:
        """The labels [B, T] as positions predict them: a causal model's position the next token's, so [B, T - 1]."""
        return labels[:, 1:] if is_causal(self.accelerator.unwrap_model(self.model)) else labels

    def _compare(self, losses: Tensor, outputs: Any, inputs: dict[str, Any]) -> None:
        """Hold the losses (float [B]) of an epoch's first batch against the model's own loss, the mean over all tokens."""
        epoch = self.train_dataset.next_epoch
        if epoch == self._compared or type(self).example_losses is not SelectedTrainerMixin.example_losses:
            return
        self._compared = epoch
        own = outputs.get("loss")
        if own is None:
            return
        ours, labels = losses.detach(), inputs["labels"]
        if outputs["logits"].ndim == 3:
            tokens = (self._aligned(labels) != -100).sum(dim=1)
            ours = ours * tokens * (len(tokens) / tokens.sum())
        here, there = float(ours.mean()), float(own.detach().float().mean())
        if math.isfinite(there) and abs(here - there) > TOLERANCE * max(abs(here), abs(there)):
            raise ValueError(
                f"the mean of the examples' losses is {here:.5g}, but {type(self.model).__name__} says {there:.5g} for the "
                "same batch: it shifts its labels, or weighs or adds something. Override example_losses(outputs, inputs) in "
                "a subclass, with what the model computes, one value an example"
            )

    # What follows is called by Trainer.train and has no public counterpart.
    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.train_dataset.plain_sampler  # Accelerate, which the Trainer uses, splits its batches

    def _inner_training_loop(self, batch_size: Any = None, args: Any = None, *others: Any, **options: Any) -> Any:
        """A training from its start or a checkpoint; `auto_find_batch_size` has several in one `train`, a search many."""
        self._check_epochs()  # a search may have set others
        if self.train_dataset.trained:
            self.train_dataset.reset()
        self._compared = -1
        return super()._inner_training_loop(batch_size, args, *others, **options)  # type: ignore[misc]

    def _init_training_state(self, max_steps: int, steps: int, epochs: int, checkpoint: str | None, trial: Any) -> Any:
        begun = super()._init_training_state(max_steps, steps, epochs, checkpoint, trial)  # type: ignore[misc]
        if checkpoint is None:
            return begun
        self.train_dataset.load_state_dict(torch.load(Path(checkpoint) / STATE, weights_only=True))
        return self.train_dataset.next_epoch, 0  # nothing is to be skipped

    def _run_epoch(self, *args: Any, **options: Any) -> Any:
        batches = len(options["train_dataloader"])
        options["steps_in_epoch"] = batches
        options["num_update_steps_per_epoch"] = -(-batches // self.args.gradient_accumulation_steps)
        return super()._run_epoch(*args, **options)  # type: ignore[misc]


class SelectedTrainer(SelectedTrainerMixin, Trainer):
    """A Trainer whose `train_dataset` is a SelectedData, such as InfoBatch."""


def is_causal(model: nn.Module) -> bool:
    """Whether a model's positions predict the next token; wrappers (PEFT, TRL) and derived classes count, too."""
    while (inner := _wrapped(model)) is not None:
        model = inner
    return any(kind.__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() for kind in type(model).__mro__)


def _wrapped(model: nn.Module) -> nn.Module | None:
    base = getattr(model, "get_base_model", None)  # PEFT
    inner = base() if callable(base) else getattr(model, "pretrained_model", None)  # TRL
    return inner if isinstance(inner, nn.Module) and inner is not model else None


class _WithIndex:
    """A collate function for items of a SelectedData: what `collate` makes of them, and their indices."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, rows: list[tuple[Any, int]]) -> dict[str, Any]:
        return {**self.collate([item for item, _ in rows]), INDEX: torch.tensor([index for _, index in rows])}


class _SaveState(TrainerCallback):
    """Puts the data's state beside every checkpoint; all processes have the same."""

    def __init__(self, data: SelectedData[Any]) -> None:
        self.data = data

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            torch.save(self.data.state_dict(), Path(args.output_dir) / f"checkpoint-{state.global_step}" / STATE)
