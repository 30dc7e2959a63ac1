"""Claims, and what every rule that judges one has to answer. The rules themselves are in `claims/rules/`, a file each."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, SerializeAsAny
from pydantic import model_validator as validate_model

from scrimp.config.base import Closed, must_know, parse_model
from scrimp.errors import ScrimpError

if TYPE_CHECKING:
    from scrimp.claims.evidence import Evidence
    from scrimp.claims.power import Truth
    from scrimp.claims.statistics import Interval
    from scrimp.claims.verdicts import Band, Verdict
    from scrimp.runs import Runs

Direction = Literal["higher", "lower"]
Origin = Literal["report", "derived", "ours", "remembered"]

COSTS = ("updates", "examples", "flops", "seconds", "cpu_seconds")  # meters of a run that runs are compared on
AMORTISED = "-amortised"  # leaves out what went into reference models, as reports do that hold them to be there already


def _known_axis(name: str) -> str:
    must_know(name, [*COSTS, *(f"{cost}{AMORTISED}" for cost in COSTS)], "axis", "cost")
    return name


Axis = Annotated[str, AfterValidator(_known_axis)]


class Rule(Closed):
    """What a claim is judged by: its fields are those of `rule:` in the YAML.

    Fields called `method`, `baseline` and `arms` name arms, one called `probe` a probe: they are looked up in the study.
    Everything heavy (numpy, scipy, pandas) is imported inside `measure`, so that claims can be listed at once.
    """

    kind: str

    of_effect: ClassVar[bool] = False  # `direction` is a side of no effect; else the side on which a number is good
    logarithmic: ClassVar[bool] = False  # its number is a factor, and drawn on a logarithmic axis
    row: ClassVar[str] = "{}"  # how a drawing names the rows of its points, {} being the arm
    reads_quality: ClassVar[bool] = True  # of runs; else their costs alone

    def check(self, claim: Claim, at: str) -> None:
        """Refuse a claim whose numbers contradict each other; the error begins with `at`, the claim's place."""

    @abstractmethod
    def measure(self, claim: Claim, runs: Runs) -> Evidence:
        """The number that the rule speaks of.

        Raises NotRunError where runs, rows or meters are missing, ScrimpError where a probe's file lacks a named column.
        """

    @abstractmethod
    def decide(self, interval: Interval, claim: Claim) -> Verdict:
        """The verdict on that number, from its interval, the rule's margins and what was published."""

    @abstractmethod
    def sentence(self, claim: Claim) -> str:
        """The rule in words, with its margins."""

    @abstractmethod
    def band(self, published: float | None, direction: Direction) -> Band | None:
        """The stretch of the axis that the rule treats apart, for drawings."""

    @property
    def two_sided(self) -> bool:
        """Whether a number must be the published one, so that neither side of it is better."""
        return False

    # --- for `scrimp power`: rules whose number follows from qualities and costs of runs ---
    @property
    def plantable(self) -> bool:
        """Whether `plant` can make runs with a given number."""
        return False

    def nothing(self) -> float:
        """The number that means no effect."""
        return 0.0

    def plant(self, claim: Claim, number: float, truth: Truth, runs: Runs) -> Truth:
        """A truth like the one given, but in which the rule's number is `number`; `runs` knows the arms' ids."""
        raise TypeError(f"{type(self).__name__} is plantable: it needs `plant`")

    def beyond(self, claim: Claim, truth: Truth, runs: Runs) -> str:
        """What is to be said where the published number cannot be planted as it is; empty where it can."""
        return ""

    def search(self, claim: Claim) -> tuple[float, float]:
        """Where the search for the smallest effect begins, and its first step (with its sign; of logs for factors)."""
        raise TypeError(f"{type(self).__name__} is plantable: it needs `search`")


class Claim(Closed):
    """A statement of a report in our words, with its number, its place, and the rule it is judged by."""

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    number: str = Field(description="its number in the list of the report's claims")
    statement: str
    source: str
    metric: str
    published: float | None
    published_unit: str
    origin: Origin = Field(
        "report",
        description="what `published` is: the report's own number; derived from its numbers or words; ours, where nobody "
        "has published one; remembered, from a table that was not read again: it is shown and sets no threshold",
    )
    direction: Direction
    rule: SerializeAsAny[Rule] | None = None
    not_run: str | None = None
    at: dict[str, str | None] = Field({}, description="scale -> workload; null: not run at that scale")
    figure: str | None = None
    headline: str | None = Field(None, description="what docs/headlines.md calls it; null: not a headline")
    deviations: dict[str, str] = Field({}, description="scale -> what differs from the source")

    @property
    def size(self) -> float | None:
        """The published number where a verdict may rest on it: not one that is only remembered."""
        return None if self.origin == "remembered" else self.published

    @classmethod
    def prepared(cls, value: Any, where: str) -> Any:
        """With its rule as a model of the file in `claims/rules/` that is called after the rule's `kind`."""
        if not isinstance(value, dict) or not isinstance(value.get("rule"), dict):
            return value
        from scrimp.claims.rules import rule_class

        rule = value["rule"]
        if not isinstance(rule.get("kind"), str):
            raise ScrimpError(f"{where}: rule.kind: say what kind of rule it is")
        chosen = rule_class(rule["kind"], f"{where}: rule.kind")
        try:
            return {**value, "rule": parse_model(rule, chosen, f"{where}: rule")}
        except ScrimpError as error:  # the keys of a claim go on with its rule's
            raise ScrimpError(str(error).replace(f"{where}: rule: ", f"{where}: rule.")) from error

    @validate_model(mode="after")
    def _judged_or_excused(self) -> Claim:
        if (self.rule is None) == (self.not_run is None):
            raise ValueError("give exactly one of `rule` and `not_run` (a reason)")
        return self
