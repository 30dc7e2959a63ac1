"""`config/studies/NAME.yaml`: a study's arms, sizes, claims and figures, and the names that they must agree on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PositiveFloat, PositiveInt, SerializeAsAny
from pydantic import model_validator as validate_model

from scrimp.config.base import Closed, must_know, parse_model, unknown
from scrimp.config.claims import Claim
from scrimp.config.training import Arm, ReferenceSpec, Workload
from scrimp.errors import ScrimpError

MAIN_SEPARATOR = "@"  # "full" is an arm of a scale's main workload, "full@vit" the same arm in the workload `vit`


class Scale(Closed):
    """One size of a study. The first workload is the main one: its arms carry no suffix."""

    note: str
    seeds: list[int] = Field(min_length=1)
    threads: PositiveInt = 1
    gpus: int = Field(0, ge=0)
    workloads: dict[str, SerializeAsAny[Workload]] = Field(min_length=1)
    references: dict[str, ReferenceSpec] = {}
    probes: dict[str, dict[str, Any]] = {}

    @property
    def main(self) -> str:
        return next(iter(self.workloads))


class Card(Closed):
    """What the report page says about a study before its claims."""

    question: str
    method: str
    reading: str


class Tuning(Closed):
    """The grid that `scrimp tune` walks on the validation split, equally for every arm named."""

    workload: str
    arms: list[str]
    learning_rates: list[PositiveFloat]
    seeds: list[int] = [100]


class StudyConfig(Closed):
    """`config/studies/NAME.yaml`."""

    study: str
    task: str = "classification"
    title: str
    paper: str
    card: Card
    arms: dict[str, Arm]
    baseline_sweep: list[str]
    scales: dict[str, Scale]
    tuning: dict[str, list[Tuning]] = {}
    figures: dict[str, str] = Field(description="figure name -> caption")
    tables: dict[str, str] = Field({}, description="table name -> caption")
    claims: list[Claim]

    folder: ClassVar[Path | None] = None

    @classmethod
    def prepared(cls, value: Any, where: str) -> Any:
        """Each workload as the model of the study's task, which knows its keys."""
        if not isinstance(value, dict) or not isinstance(value.get("scales"), dict):
            return value
        from scrimp.tasks import task_keys

        task = value.get("task", "classification")
        if not isinstance(task, str):
            return value
        _, model = task_keys(task, cls.folder)
        scales = {
            name: {**scale, "workloads": _typed(scale["workloads"], model, f"{where}: scales.{name}.workloads")}
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
            self._check_branch(name, described)
        for scale_name, scale in self.scales.items():
            for workload_name, workload in scale.workloads.items():
                for arm in workload.arms:
                    must_know(arm, self.arms, f"scales.{scale_name}.workloads.{workload_name}.arms", "arm")
                for arm in workload.methods:
                    must_know(arm, workload.arms, f"scales.{scale_name}.workloads.{workload_name}.methods", "arm")
                for arm in workload.arms:
                    trunk = self.arms[arm].cooldown_of
                    if trunk is not None:
                        must_know(trunk, workload.arms, f"arms.{arm}.cooldown_of, workload {workload_name}", "arm")
                    wanted = self.arm_in(arm, workload).reference
                    if wanted is not None:
                        must_know(wanted, scale.references, f"arms.{arm}.methods, scale {scale_name}", "reference")
        for scale_name, grids in self.tuning.items():
            must_know(scale_name, self.scales, "tuning", "scale")
            for grid in grids:
                must_know(grid.workload, self.scales[scale_name].workloads, f"tuning.{scale_name}", "workload")
                for arm in grid.arms:
                    must_know(arm, self.arms, f"tuning.{scale_name}.{grid.workload}.arms", "arm")
        ids = [claim.id for claim in self.claims]
        if len(set(ids)) != len(ids):
            raise ValueError(f"claims: ids must be unique, but {sorted({i for i in ids if ids.count(i) > 1})} repeat")
        for claim in self.claims:
            for arm in _arms_of(claim.rule):
                must_know(arm.partition(MAIN_SEPARATOR)[0], self.arms, f"claims.{claim.id}.rule", "arm")
            for scale_name in [*claim.at, *claim.deviations]:
                must_know(scale_name, self.scales, f"claims.{claim.id}", "scale")
            for scale_name, at in claim.at.items():
                if at is not None:
                    must_know(at, self.scales[scale_name].workloads, f"claims.{claim.id}.at.{scale_name}", "workload")
            if claim.figure is not None:
                must_know(claim.figure, self.figures, f"claims.{claim.id}.figure", "figure")
        return self

    def _check_branch(self, name: str, arm: Arm) -> None:
        """A branch goes on from an arm that is no branch, lasts as long or longer, and whose rate does not fall."""
        if arm.cooldown_of is None:
            return
        must_know(arm.cooldown_of, self.arms, f"arms.{name}.cooldown_of", "arm")
        trunk = self.arms[arm.cooldown_of]
        if (
            trunk.cooldown_of is not None
            or trunk.horizon.axis != arm.horizon.axis
            or trunk.horizon.amount < arm.horizon.amount
        ):
            raise ValueError(f"arms.{name}.cooldown_of: {arm.cooldown_of} must be no branch itself, and last as long")

    def scale(self, name: str) -> Scale:
        """The scale called `name`; an unknown one is an error that lists the known."""
        if name not in self.scales:
            raise ScrimpError(unknown("scale", name, self.scales, f"config/studies/{self.study}.yaml"))
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
            where = f"config/studies/{self.study}.yaml, scale {scale_name}"
            raise ScrimpError(unknown("arm", arm_at, self.arm_ids(scale_name), where))
        name, _, at = arm_at.partition(MAIN_SEPARATOR)
        workload = scale.workloads[at or scale.main]
        arm = self.arm_in(name, workload)
        return arm, workload.with_recipe(arm.recipe, f"config/studies/{self.study}.yaml: arms.{name}.recipe")

    def run_spec(self, scale_name: str, arm_at: str) -> dict[str, Any]:
        """What a run of an arm at a scale is told, as plain data; a run that was told otherwise is out of date."""
        arm, workload = self.resolve(scale_name, arm_at)
        # Where its branches begin is all that a trunk hears of them: another branch from there leaves it as it is.
        begins = {
            branch.horizon.amount * (1 - workload.with_recipe(branch.recipe, f"arms.{name}.recipe").recipe.schedule.cooldown)
            for name, branch in self.cooldowns(scale_name, arm_at).items()
        }
        return {"arm": arm.spec(), "workload": workload.spec()} | ({"branches": sorted(begins)} if begins else {})

    def cooldowns(self, scale_name: str, arm_at: str) -> dict[str, Arm]:
        """The arms of the same workload that go on from an arm's run, by name."""
        name, _, at = arm_at.partition(MAIN_SEPARATOR)
        scale = self.scale(scale_name)
        workload = scale.workloads[at or scale.main]
        return {other: self.arms[other] for other in workload.arms if self.arms[other].cooldown_of == name}

    def constant_run(self, scale_name: str, arm_at: str) -> str | None:
        """The id of the arm that an arm's runs go on from, if they are branches."""
        arm, _ = self.resolve(scale_name, arm_at)
        if arm.cooldown_of is None:
            return None
        return arm.cooldown_of + arm_at[len(arm_at.partition(MAIN_SEPARATOR)[0]) :]

    def seeds(self, scale_name: str, arm_at: str, planned: list[int] | None = None) -> list[int]:
        """The seeds that an arm is trained with, out of the scale's or of those `planned` in their stead."""
        arm, _ = self.resolve(scale_name, arm_at)
        return (planned or self.scale(scale_name).seeds)[: arm.seeds]

    def arm_in(self, arm: str, workload: Workload) -> Arm:
        """An arm with the parameters of its first method that differ in a workload."""
        described, changed = self.arms[arm], workload.methods.get(arm)
        if not changed:
            return described
        return described.model_copy(update={"methods": [{**described.leading, **changed}, *described.methods[1:]]})


def _typed(workloads: dict[str, Any], model: type[Workload], where: str) -> dict[str, Workload]:
    typed = {}
    for name, value in workloads.items():
        try:
            typed[name] = value if isinstance(value, Workload) else parse_model(value, model, f"{where}.{name}")
        except ScrimpError as error:  # the keys of a workload go on with its own
            raise ScrimpError(str(error).replace(f"{where}.{name}: ", f"{where}.{name}.")) from error
    return typed


def arm_id(arm: str, workload: str | None) -> str:
    """`full`, or `full@vit` outside the main workload."""
    return arm if workload is None else f"{arm}{MAIN_SEPARATOR}{workload}"


def _arms_of(rule: Any) -> list[str]:
    """Every arm a rule names."""
    named: list[str] = []
    for key in ("method", "baseline", "arms"):
        value = getattr(rule, key, None)
        named += [value] if isinstance(value, str) else list(value or [])
    return named
