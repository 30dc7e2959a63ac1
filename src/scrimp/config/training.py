"""What shapes a run of any task: recipe, model, horizon, arm, workload, reference."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic import model_validator as validate_model

from scrimp.config.base import Closed, Seed, parse_model


class Augmentation(Closed):
    """Random shifts (reflected border, pixels) and horizontal flips, drawn per example.

    `smallest_crop` is for pictures read at an `image_size`: a random crop of at least that share of the area, its sides
    in a ratio of 3:4 to 4:3, is scaled to the size (Szegedy et al. 2014).
    """

    shift: int = Field(0, ge=0)
    flip: bool = False
    smallest_crop: float | None = Field(None, gt=0, le=1)


class Schedule(Closed):
    """A learning-rate schedule as a function of the budget fraction in [0, 1]."""

    name: Literal["one-cycle", "cosine", "linear", "constant", "triangle", "inverse-sqrt"] = "one-cycle"
    warmup: float = Field(0.3, ge=0, le=1)
    warmup_steps: PositiveInt | None = Field(
        None, description="rise linearly over so many steps, whatever the budget, and fall from its start: for `warmup: 0`"
    )
    initial_division: PositiveFloat = 25.0
    final_division: PositiveFloat = 1e4
    floor: float = Field(0.0, ge=0, lt=1, description="cosine and linear: where they end, as a share of the peak")
    stretch: float = Field(1.0, ge=1, description="the fall is laid out for so many times the budget, and cut at its end")
    cooldown: float = Field(0.0, ge=0, le=1, description="constant: the last share of the budget, over which it falls to 0")
    cooldown_shape: Literal["1-sqrt", "linear", "cosine"] = "1-sqrt"

    @validate_model(mode="after")
    def _roots_begin_somewhere(self) -> Schedule:
        if self.name == "inverse-sqrt" and self.warmup == 0:
            raise ValueError("warmup: an inverse square root falls from the warm-up's end; give a share above 0")
        return self


class Recipe(Closed):
    """How a learner is trained, whatever its arm does differently: the keys that the loop reads for every task."""

    optimizer: Literal["sgd", "adamw", "lars", "lamb", "muon"]
    learning_rate: PositiveFloat
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: NonNegativeFloat = 5e-4
    batch_size: PositiveInt = 128
    schedule: Schedule = Schedule()
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: fp32 on a CPU, bf16 on a GPU that has it")
    ema_decay: float | None = Field(None, gt=0, lt=1)
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW and LAMB: decay of both moments")
    eps: PositiveFloat = Field(1e-8, description="AdamW: what is added to the root of the second moment")
    gradient_clip: PositiveFloat | None = Field(None, description="largest norm of the gradient")
    micro_batch: PositiveInt | None = Field(None, description="examples at a time, gradients summed; null: all")


class ModelSpec(Closed):
    """A model's name in `scrimp.models.vision`, `two-towers` or `transformer`, and the arguments of its builder."""

    name: str
    options: dict[str, Any] = {}


class Horizon(Closed):
    """How long a run is: exactly one axis, as a multiple of the workload's full recipe (`seconds`: absolute).

    `epochs` counts passes of the selector, however short it makes them: the published papers' axis. Where examples are
    drawn by the step, as for image-text pairs, a pass is a step.
    """

    epochs: PositiveFloat | None = None
    examples: PositiveFloat | None = None
    steps: PositiveFloat | None = None
    flops: PositiveFloat | None = None
    seconds: PositiveFloat | None = None

    @validate_model(mode="after")
    def _exactly_one(self) -> Horizon:
        given = [axis for axis, amount in self if amount is not None]
        if len(given) != 1:
            raise ValueError(f"a horizon is exactly one of epochs, examples, steps, flops, seconds; got {given or 'none'}")
        return self

    @property
    def axis(self) -> str:
        return next(axis for axis, amount in self if amount is not None)

    @property
    def amount(self) -> float:
        return next(amount for _, amount in self if amount is not None)


class Arm(Closed):
    """One way of training inside a study."""

    label: str
    methods: list[dict[str, Any]] = Field(
        [], description="what it does differently, each with its `name`; none: the plain recipe"
    )
    horizon: Horizon = Horizon(epochs=1.0)
    recipe: dict[str, Any] = Field({}, description="keys of the workload's recipe that differ for this arm")
    cooldown_of: str | None = Field(
        None, description="the constant-LR arm whose run it goes on from, where its cooldown begins"
    )
    seeds: PositiveInt | None = Field(None, description="train this arm with the first so many of the scale's seeds")
    note: str = ""

    @validate_model(mode="after")
    def _named_methods(self) -> Arm:
        for method in self.methods:
            if not isinstance(method.get("name"), str):
                raise ValueError("each of `methods` needs a `name`, the stem of a file in scrimp/methods")
        if len(set(self.method_names)) != len(self.methods):
            raise ValueError(f"methods: {', '.join(self.method_names)}: the same method twice")
        return self

    @property
    def method_names(self) -> list[str]:
        return [method["name"] for method in self.methods]

    @property
    def leading(self) -> dict[str, Any]:
        """The first of its methods, whose colour it has in figures; empty for the plain recipe."""
        return self.methods[0] if self.methods else {}

    @property
    def reference(self) -> str | None:
        """The model that one of its methods scores against, trained first."""
        return next((method["reference"] for method in self.methods if method.get("reference") is not None), None)

    def spec(self) -> dict[str, Any]:
        """What shapes a run of it: all but words. Defaults are left out, so that a new key with one changes no old run."""
        return self.model_dump(mode="json", exclude={"label", "note", "seeds"}, exclude_defaults=True)


class Workload(Closed):
    """What arms are compared on: data, model, recipe and the length of the full recipe. A task adds keys of its own."""

    dataset: str | None = None
    model: ModelSpec | None = None
    recipe: Recipe
    epochs: PositiveFloat | None = None
    steps: PositiveInt | None = None
    flops: PositiveFloat | None = None
    evaluations: PositiveInt = 6
    arms: list[str]
    seeds: PositiveInt | None = Field(None, description="train its arms with the first so many of the scale's seeds")
    methods: dict[str, dict[str, Any]] = Field(
        {}, description="arm -> parameters of its first method that differ here, and of others under their names"
    )

    @validate_model(mode="after")
    def _one_length(self) -> Workload:
        if sum(length is not None for length in (self.epochs, self.steps, self.flops)) != 1:
            raise ValueError("give exactly one of `epochs`, `steps` and `flops`")
        return self

    @property
    def datasets(self) -> dict[str, str]:
        """Every dataset that it reads, by the key that names it; the one to train on first."""
        return {} if self.dataset is None else {"dataset": self.dataset}

    def with_recipe(self, changes: dict[str, Any], where: str) -> Self:
        """The same with some keys of the recipe replaced; a wrong key or value is an error that says `where`."""
        if not changes:
            return self
        recipe = parse_model({**self.recipe.model_dump(), **changes}, type(self.recipe), where)
        return self.model_copy(update={"recipe": recipe})

    def spec(self) -> dict[str, Any]:
        """What shapes a run in it, beside the arm."""
        return self.model_dump(mode="json", exclude={"arms", "methods", "seeds"}, exclude_defaults=True)


class ReferenceSpec(Closed):
    """A model that selectors score against, trained first, as the main workload's learner is but for what is said here."""

    label: str
    subset: str = Field(description="the pairs it is trained on: raw, text-filtered, curated or curated++")
    steps: PositiveInt
    seed: Seed = Field(1000, description="learners never share it")
    recipe: dict[str, Any] = Field({}, description="keys of the workload's recipe that differ")

    def spec(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"label"}, exclude_defaults=True)
