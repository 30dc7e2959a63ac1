"""Claims and the rules they are judged by."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat
from pydantic import model_validator as validate_model

from scrimp.config.base import Closed

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
    """A speedup: the sweep's cost at the method's quality over the method's cost (see claims/statistics.py).

    `way: curves` reads two learning curves instead, as the reports do: the cost at which each first reaches the target.
    """

    kind: Literal["ratio"]
    method: str
    axis: Axis
    no_effect: PositiveFloat = Field(0.05, description="speedups within a factor 1 + no_effect of 1 are no effect")
    way: Literal["sweep", "curves"] = "sweep"
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


class EstimateRule(Closed):
    """A number that a probe derives from the runs, a row a seed, held against `neutral`, within `no_effect` of it none."""

    kind: Literal["estimate"]
    probe: str
    column: str
    where: dict[str, str | int | float | bool] = {}
    neutral: float = 0.0
    no_effect: NonNegativeFloat


Rule = Annotated[
    RatioRule | DifferenceRule | SlopeRule | NonInferiorityRule | OrderingRule | ReductionRule | ExactRule | EstimateRule,
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
    at: dict[str, str | None] = Field({}, description="scale -> workload; null: not run at that scale")
    figure: str | None = None
    deviations: dict[str, str] = Field({}, description="scale -> what differs from the source")

    @validate_model(mode="after")
    def _judged_or_excused(self) -> Claim:
        if (self.rule is None) == (self.not_run is None):
            raise ValueError("give exactly one of `rule` and `not_run` (a reason)")
        return self
