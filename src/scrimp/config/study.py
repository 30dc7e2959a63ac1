"""A study is a folder: `study.yaml` (arms, sizes, figures) and its card, `README.md`; here is what both must agree on.

Its claims, `claims.yaml`, are loaded apart (`scrimp.claims.loading`): training knows nothing of them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, SerializeAsAny
from pydantic import model_validator as validate_model

from scrimp.config.base import Closed, Name, Seeds, distinct, load_yaml, must_know, parse_model, unknown
from scrimp.config.grid import expanded, listed
from scrimp.config.recipes import filled
from scrimp.config.training import Arm, ReferenceSpec, Workload
from scrimp.errors import ScrimpError

NAME = re.compile(r"^[a-z0-9-]+$")
# Keys that a study's file does not give, as something else does.
PLACES = {
    "study": "the study is called after its folder",
    "folder": "the study is where its folder is",
    "card": "the card is README.md, beside this file",
    "claims": "claims are claims.yaml, beside this file",
}
# Captions of what `studies/standard.py` draws of a study that has no figures of its own.
STANDARD_FIGURES = {
    "speedups": "Cost of the plain recipe at each method's quality over the method's cost; 1 means that a shorter schedule "
    "does as well. Diamonds show what reading two learning curves, the published way, would say.",
    "quality-cost": "Quality on the test split against examples, FLOPs and seconds. The line is the plain recipe at several "
    "horizons, each fully decayed, with its 95 % interval; a method helps where its point lies on the better side of it.",
    "curves": "Quality on the test split while training. The learning rates of two runs decay at different points, so that "
    "comparisons before the end mislead.",
}
STANDARD_TABLES = {"arms": "Every arm with its quality, its costs, and its speedup against the baseline sweep."}
MAIN_SEPARATOR = "@"  # "full" is an arm of a scale's main workload, "full@vit" the same arm in the workload `vit`


class Scale(Closed):
    """One size of a study. The first workload is the main one: its arms carry no suffix."""

    note: str
    seeds: Seeds
    threads: PositiveInt = 1
    gpus: int = Field(0, ge=0)  # of a run; with more than one it is as many processes of torchrun
    workloads: dict[Name, SerializeAsAny[Workload]] = Field(min_length=1)
    references: dict[Name, ReferenceSpec] = {}
    probes: dict[Name, dict[str, Any]] = {}

    @property
    def main(self) -> str:
        return next(iter(self.workloads))


class Card(Closed):
    """What the report page says about a study before its claims: the sections of those names in its README.md."""

    question: str
    method: str
    reading: str


class Tuning(Closed):
    """The grid that `scrimp tune` walks on the validation split, equally for every arm named."""

    workload: str
    arms: Annotated[list[str], Field(min_length=1), AfterValidator(distinct)]
    learning_rates: Annotated[list[PositiveFloat], Field(min_length=1), AfterValidator(distinct)]
    seeds: Seeds = [100]
    flops: PositiveFloat | None = Field(None, description="the workload's budget while it is tuned; null: its own")


class StudyConfig(Closed):
    """A study's `study.yaml`, with its card; the study is called after its folder."""

    study: str = Field(pattern=NAME.pattern)
    folder: Path | None = Field(None, exclude=True, description="where its files lie; null: made up in memory")
    task: str = "classification"
    title: str
    paper: str
    card: Card
    arms: dict[Name, Arm] = Field(min_length=1)
    baseline_sweep: Annotated[list[str], AfterValidator(distinct)]
    scales: dict[Name, Scale] = Field(min_length=1)
    tuning: dict[str, list[Tuning]] = {}
    metric: str | None = Field(None, description="what standard figures show; null: the first that is taken on `test`")
    figures: dict[Name, str] = Field({}, description="figure name -> caption; a study without figures.py has standard ones")
    tables: dict[Name, str] = Field({}, description="table name -> caption")

    @classmethod
    def prepared(cls, value: Any, where: str) -> Any:
        """Every arm that a grid or a pattern stands for, and each workload as its task's model, which knows its keys."""
        if not isinstance(value, dict) or not isinstance(value.get("scales"), dict):
            return value
        value = {**value, "arms": filled(value.get("arms"), value.get("folder"), f"{where}: arms")}
        value = _with_all_arms(value, where)
        from scrimp.tasks import task_keys

        task = value.get("task", "classification")
        if not isinstance(task, str):
            return value
        _, model = task_keys(task, value.get("folder"))
        scales = {
            name: {**scale, "workloads": _typed(scale["workloads"], model, f"{where}: scales.{name}.workloads", value)}
            if isinstance(scale, dict) and isinstance(scale.get("workloads"), dict)
            else scale
            for name, scale in value["scales"].items()
        }
        return {**value, "scales": scales}

    @validate_model(mode="after")
    def _references_exist(self) -> StudyConfig:
        for arm in self.baseline_sweep:
            must_know(arm, self.arms, "baseline_sweep", "arm")
        for name, described in self.arms.items():
            self._check_cooldown(name, described)
        for scale_name, scale in self.scales.items():
            for workload_name, workload in scale.workloads.items():
                _check_arms(workload.arms, f"scales.{scale_name}.workloads.{workload_name}.arms")
                for arm in workload.arms:
                    must_know(arm, self.arms, f"scales.{scale_name}.workloads.{workload_name}.arms", "arm")
                for arm in workload.methods:
                    must_know(arm, workload.arms, f"scales.{scale_name}.workloads.{workload_name}.methods", "arm")
                    if not self.arms[arm].methods:
                        raise ValueError(
                            f"scales.{scale_name}.workloads.{workload_name}.methods: {arm} has no method to change"
                        )
                for arm in workload.arms:
                    constant = self.arms[arm].cooldown_of
                    if constant is not None:
                        must_know(constant, workload.arms, f"arms.{arm}.cooldown_of, workload {workload_name}", "arm")
                    wanted = self.arm_in(arm, workload).reference
                    if wanted is not None:
                        must_know(wanted, scale.references, f"arms.{arm}.methods, scale {scale_name}", "reference")
        for scale_name, grids in self.tuning.items():
            must_know(scale_name, self.scales, "tuning", "scale")
            for grid in grids:
                must_know(grid.workload, self.scales[scale_name].workloads, f"tuning.{scale_name}", "workload")
                for arm in grid.arms:
                    must_know(arm, self.arms, f"tuning.{scale_name}.{grid.workload}.arms", "arm")
        return self

    def _check_cooldown(self, name: str, arm: Arm) -> None:
        """A cooldown goes on from an arm that is no cooldown, and that lasts as long or longer."""
        if arm.cooldown_of is None:
            return
        must_know(arm.cooldown_of, self.arms, f"arms.{name}.cooldown_of", "arm")
        constant = self.arms[arm.cooldown_of]
        if (
            constant.cooldown_of is not None
            or constant.horizon.axis != arm.horizon.axis
            or constant.horizon.amount < arm.horizon.amount
        ):
            raise ValueError(f"arms.{name}.cooldown_of: {arm.cooldown_of} must be no cooldown itself, and last as long")

    def file(self, name: str) -> str:
        """A file of its folder, as messages call it; results hold messages, so it says nothing of the machine."""
        folder = Path(f"studies/{self.study}") if self.folder is None else Path(os.path.abspath(self.folder))
        return f"{folder.parent.name}/{folder.name}/{name}"

    @property
    def where(self) -> str:
        """Its `study.yaml`, as messages call it."""
        return self.file("study.yaml")

    def scale(self, name: str) -> Scale:
        """The scale called `name`; an unknown one is an error that lists the known."""
        if name not in self.scales:
            raise ScrimpError(unknown("scale", name, self.scales, self.where))
        return self.scales[name]

    def arm_ids(self, scale_name: str) -> list[str]:
        """Every arm of a scale, `ARM` in the main workload and `ARM@WORKLOAD` elsewhere."""
        scale = self.scale(scale_name)
        return [
            arm_id(arm, None if workload_name == scale.main else workload_name)
            for workload_name, workload in scale.workloads.items()
            for arm in workload.arms
        ]

    def resolve(self, scale_name: str, arm_at: str) -> tuple[Arm, Workload]:
        """The arm and the workload that an arm id stands for at a scale, each with what the other changes about it."""
        scale = self.scale(scale_name)
        if arm_at not in self.arm_ids(scale_name):
            raise ScrimpError(unknown("arm", arm_at, self.arm_ids(scale_name), f"{self.where}, scale {scale_name}"))
        name, _, at = arm_at.partition(MAIN_SEPARATOR)
        workload = scale.workloads[at or scale.main]
        arm = self.arm_in(name, workload)
        return arm, workload.with_recipe(arm.recipe, f"{self.where}: arms.{name}.recipe")

    def run_spec(self, scale_name: str, arm_at: str) -> dict[str, Any]:
        """What a run of an arm at a scale is told, as plain data; a run that was told otherwise is out of date."""
        arm, workload = self.resolve(scale_name, arm_at)
        # Where its cooldowns begin is all that a constant-LR run hears of them: another one from there leaves it as it is.
        begins = {
            cooldown.horizon.amount
            * (1 - workload.with_recipe(cooldown.recipe, f"arms.{name}.recipe").recipe.schedule.cooldown)
            for name, cooldown in self.cooldowns(scale_name, arm_at).items()
        }
        return {"arm": arm.spec(), "workload": workload.spec()} | ({"cooldowns": sorted(begins)} if begins else {})

    def cooldowns(self, scale_name: str, arm_at: str) -> dict[str, Arm]:
        """The arms of the same workload that go on from an arm's run, by name."""
        name, _, at = arm_at.partition(MAIN_SEPARATOR)
        scale = self.scale(scale_name)
        workload = scale.workloads[at or scale.main]
        return {other: self.arms[other] for other in workload.arms if self.arms[other].cooldown_of == name}

    def constant_run(self, scale_name: str, arm_at: str) -> str | None:
        """The id of the arm that an arm's runs go on from, if they are cooldowns."""
        arm, _ = self.resolve(scale_name, arm_at)
        if arm.cooldown_of is None:
            return None
        return arm.cooldown_of + arm_at[len(arm_at.partition(MAIN_SEPARATOR)[0]) :]

    def seeds(self, scale_name: str, arm_at: str, planned: list[int] | None = None) -> list[int]:
        """The seeds that an arm is trained with, out of the scale's or of those `planned` in their stead.

        An arm and a workload may each ask for fewer; the fewest count.
        """
        arm, workload = self.resolve(scale_name, arm_at)
        counts = [count for count in (arm.seeds, workload.seeds) if count is not None]
        return (planned or self.scale(scale_name).seeds)[: min(counts, default=None)]

    def arm_in(self, arm: str, workload: Workload) -> Arm:
        """An arm as a workload has it: parameters of its first method that differ, and those of others under their names."""
        described, changed = self.arms[arm], workload.methods.get(arm, {})
        if not changed:
            return described
        names = described.method_names
        changes = {name: changed[name] for name in names if name in changed}
        own = {key: value for key, value in changed.items() if key not in names}
        changes[names[0]] = {**changes.get(names[0], {}), **own}
        methods = [{**method, **changes.get(method["name"], {})} for method in described.methods]
        return described.model_copy(update={"methods": methods})


def _with_all_arms(value: dict[str, Any], where: str) -> dict[str, Any]:
    """A study's plain value with its grids and its patterns of arms replaced by the arms that they stand for."""
    if not isinstance(value.get("arms"), dict):
        return value
    arms = expanded(value["arms"], f"{where}: arms")

    def lists(inner: Any, at: str) -> Any:
        if isinstance(inner, list):
            return [lists(entry, at) for entry in inner]
        if not isinstance(inner, dict):
            return inner
        named = {key: lists(entry, f"{at}.{key}") for key, entry in inner.items()}
        return {**named, "arms": listed(inner["arms"], arms, f"{at}.arms")} if isinstance(inner.get("arms"), list) else named

    places: dict[str, Any] = {key: lists(value[key], f"{where}: {key}") for key in ("scales", "tuning") if key in value}
    return {**value, "arms": arms, **places}


def _check_arms(arms: list[str], where: str) -> None:
    """Refuse a workload of a study that trains nothing, or an arm twice."""
    if not arms:
        raise ValueError(f"{where}: is empty: list the arms that are trained on it")
    try:
        distinct(arms)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _typed(workloads: dict[str, Any], model: type[Workload], where: str, study: dict[str, Any]) -> dict[str, Workload]:
    typed = {}
    for name, value in filled(workloads, study.get("folder"), where).items():
        try:
            typed[name] = value if isinstance(value, Workload) else parse_model(value, model, f"{where}.{name}")
        except ScrimpError as error:  # the keys of a workload go on with its own
            raise ScrimpError(str(error).replace(f"{where}.{name}: ", f"{where}.{name}.")) from error
    return typed


def arm_id(arm: str, workload: str | None) -> str:
    """`full`, or `full@vit` outside the main workload."""
    return arm if workload is None else f"{arm}{MAIN_SEPARATOR}{workload}"


# --------------------------------------------------------------------------------------------------------------- loading
def name_of(folder: Path) -> str:
    """The name of the study in a folder: the folder's, with a dash where a package has an underscore."""
    name = Path(os.path.abspath(folder)).name.replace("_", "-")
    if not NAME.fullmatch(name):
        raise ScrimpError(f"{folder}: a study is called after its folder, in small letters, digits and dashes")
    return name


def load_study(folder: Path) -> StudyConfig:
    """Read the study in a folder; every problem names the file and the key."""
    path = folder / "study.yaml"
    raw = load_yaml(path)
    for key, place in PLACES.items():
        if isinstance(raw, dict) and key in raw:
            raise ScrimpError(f"{path}: {key}: leave it out; {place}")
    known = {"study": name_of(folder), "folder": folder, "card": read_card(folder / "README.md")}
    study = parse_model({**raw, **known} if isinstance(raw, dict) else raw, StudyConfig, str(path))
    if study.figures or study.tables or list(folder.glob("*figures.py")):
        return study
    figures = STANDARD_FIGURES if len(study.baseline_sweep) > 1 else {"curves": STANDARD_FIGURES["curves"]}
    return study.model_copy(update={"figures": figures, "tables": STANDARD_TABLES})


def read_card(path: Path) -> Card:
    """The card in a study's README.md: what stands under `## Question`, `## Method` and `## Reading`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ScrimpError(f"{path} does not exist; it is the study's card: {_sections()}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ScrimpError(f"cannot read {path} as UTF-8 text: {error}") from error
    parts = re.split(r"^## +(.+?) *$", text, flags=re.MULTILINE)[1:]
    sections = {title.lower(): " ".join(body.split()) for title, body in zip(parts[::2], parts[1::2], strict=True)}
    for name in Card.model_fields:
        if not sections.get(name):
            raise ScrimpError(f"{path}: no section `## {name.capitalize()}`; the card has {_sections()}")
    return Card(**{name: sections[name] for name in Card.model_fields})


def _sections() -> str:
    return ", ".join(f"`## {name.capitalize()}`" for name in Card.model_fields)
