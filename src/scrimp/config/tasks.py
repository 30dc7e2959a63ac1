"""The keys that each built-in task reads beside those of every task; apart from the tasks, since these import torch.

A task called `image-text` has `ImageTextRecipe` and `ImageTextWorkload` here. A user's task brings its own classes, or takes
the plain `Recipe` and `Workload`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic import model_validator as validate_model

from scrimp.config.base import Closed
from scrimp.config.training import Augmentation, Recipe, Workload


class ClassificationRecipe(Recipe):
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    augmentation: Augmentation = Augmentation()


class ClassificationWorkload(Workload):
    recipe: ClassificationRecipe
    image_size: PositiveInt | None = Field(None, description="read pictures from the shards, scaled; null: all in memory")


class ImageTextRecipe(Recipe):
    augmentation: Augmentation = Augmentation()
    patches: list[PositiveInt] = Field([], description="patch sides that share every batch; none: the model's")
    loss: str = Field("sigmoid", pattern="^(sigmoid|softmax)$", description="the contrastive loss, sigmoid or softmax")
    # A contrastive loss takes all pairs of a batch together, so its parts' losses do not add up to it (GradCache).
    micro_batch: PositiveInt | None = Field(
        None, description="pairs a tower embeds at a time, the loss being the whole batch's; null: all"
    )


class ImageTextWorkload(Workload):
    recipe: ImageTextRecipe
    image_size: PositiveInt | None = Field(None, description="read pictures from the shards, scaled; null: all in memory")
    zero_shot: str | None = Field(None, description="a labelled dataset, its `test` classified by class names")
    class_names: str | None = Field(None, description="zero-shot: a JSON file, class -> words, or a list of words")
    templates: list[str] = Field(["{}"], min_length=1, description="zero-shot: prompts, `{}` being the class's words")
    few_shot: int = Field(10, ge=0, description="training pictures a class that a linear classifier gets; 0: no such test")
    few_shot_draws: PositiveInt = Field(5, description="draws of these, whose accuracies are averaged")
    coco: str | None = Field(None, description="a set of pictures with several captions each, for retrieval")

    @property
    def datasets(self) -> dict[str, str]:
        named = {key: getattr(self, key) for key in ("dataset", "zero_shot", "coco")}
        return {key: name for key, name in named.items() if name is not None}

    @validate_model(mode="after")
    def _templates_have_room(self) -> ImageTextWorkload:
        for template in self.templates:
            if template.count("{}") != 1:
                raise ValueError(f"templates: {template!r} must hold {{}} once, where the class's words go")
        return self


class CausalLmRecipe(Recipe):
    pass


class CausalLmWorkload(Workload):
    recipe: CausalLmRecipe
    evaluation_tokens: PositiveInt = Field(65536, description="of a held-out split, evenly spaced")


class FineTuningRecipe(Recipe):
    """A head on a pre-trained body, after GLUE's protocol. The defaults are Cramming's, for models of their size."""

    dropout: float = Field(0.1, ge=0, lt=1, description="in the body and before the head")
    pooling: Literal["mean", "first"] = Field("mean", description="of a text's tokens: their mean, or the first alone")
    head_width: PositiveInt | None = Field(None, description="of a dense layer with tanh before the classes; null: none")


class FineTuningWorkload(Workload):
    recipe: FineTuningRecipe
    tokens_of: str | None = Field(None, description="the pre-training dataset, whose tokenizer reads the texts")
    start: str | None = Field(None, description="a run's saved state, from the workspace's root; null: not pre-trained")
    training_examples: PositiveInt | None = Field(None, description="the first so many of the training split; null: all")

    @property
    def datasets(self) -> dict[str, str]:
        named = {key: getattr(self, key) for key in ("dataset", "tokens_of")}
        return {key: name for key, name in named.items() if name is not None}


class Downstream(Closed):
    """What a pre-trained model is judged by beside its loss: each dataset fine-tuned on alone, outside of the budget."""

    datasets: list[str] = Field(min_length=1, description="labelled texts; their main metrics are averaged")
    recipe: FineTuningRecipe = Field(description="one for all of them")
    epochs: PositiveFloat = Field(5.0, le=5.0, description="of the training split; the protocol allows 5")
    trials: PositiveInt = Field(5, description="heads and orders; the median counts")
    training_examples: PositiveInt | None = Field(None, description="the first so many of the training split; null: all")


class MaskedLmRecipe(CausalLmRecipe):
    masking: float = Field(0.15, gt=0, lt=1, description="share of a window's tokens that is predicted")
    order: Literal["shuffled", "stored"] = Field("shuffled", description="of windows: a new one each pass, or as stored")


class MaskedLmWorkload(CausalLmWorkload):
    recipe: MaskedLmRecipe
    evaluation_masking: float = Field(0.15, gt=0, lt=1, description="share that is predicted, whatever the recipe's")
    downstream: Downstream | None = Field(None, description="null: the loss alone")

    @property
    def datasets(self) -> dict[str, str]:
        more = {} if self.downstream is None else {name: name for name in self.downstream.datasets}
        return {**super().datasets, **more}


def keys_of(task: str) -> tuple[type[Recipe], type[Workload]] | None:
    """The recipe and the workload of a built-in task, found by its name; None for a task without keys of its own here."""
    stem = "".join(word.title() for word in task.split("-"))
    models: dict[str, type[Closed]] = {name: of for name, of in globals().items() if isinstance(of, type)}
    recipe, workload = models.get(f"{stem}Recipe"), models.get(f"{stem}Workload")
    if recipe is None or workload is None:
        return None
    assert issubclass(recipe, Recipe)
    assert issubclass(workload, Workload)
    return recipe, workload
