"""What rules share that hold a number against no effect and, where the source gives one, against a published size."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from pydantic import NonNegativeFloat

from scrimp.claims.verdicts import HALF, REACH, Band, Size, Verdict, interval_words, number_words, percent, side, verdict
from scrimp.config.claims import Claim, Direction, Rule
from scrimp.errors import ScrimpError

if TYPE_CHECKING:
    from scrimp.claims.statistics import Interval

SMALL = 1e-3  # where the band has no width, effects are looked for from here on


class Effect(Rule):
    """A subclass says what is measured (`measure`, `quantity`), and where no effect is, unless that is at 0."""

    no_effect: NonNegativeFloat

    of_effect: ClassVar[bool] = True

    def no_effect_band(self) -> tuple[float, float]:
        """Numbers between these two are no effect either."""
        return self.nothing() - self.no_effect, self.nothing() + self.no_effect

    @abstractmethod
    def quantity(self, claim: Claim) -> str:
        """The number in words, as the beginning of the rule's sentence."""

    def size(self, claim: Claim) -> Size | None:
        """What was published, counted from no effect."""
        return None if claim.size is None else Size(claim.size, self.nothing(), self.logarithmic)

    def check(self, claim: Claim, at: str) -> None:
        sign, beyond, _ = side(claim.direction)
        nothing, published = self.nothing(), claim.published
        if published is not None and sign * published < sign * nothing:
            raise ScrimpError(
                f"{at}: direction {claim.direction!r} puts the measured {self.kind} {beyond} {nothing:g}, but published is "
                f"{published:g}; direction speaks of the measured number, not of the metric: mend one of the two"
            )

    def decide(self, interval: Interval, claim: Claim) -> Verdict:
        return verdict(interval, self.size(claim), self.no_effect_band(), claim.direction)

    def sentence(self, claim: Claim) -> str:
        _, beyond, short = side(claim.direction)
        band, size = self.no_effect_band(), self.size(claim)
        good, bad = (band[1], band[0]) if claim.direction == "higher" else band
        reached = ""
        if size is not None:
            reach, half = number_words(size.share(REACH)), number_words(size.share(HALF))
            reached = (
                f" and either the mean is at or {beyond} {reach} ({percent(REACH)} of the published "
                f"{number_words(size.published)}) or the whole interval {beyond} {half} (half of it), partly supported if "
                "it lies there without either"
            )
        return (
            f"{self.quantity(claim)}: supported if the 95 % interval lies wholly {beyond} {number_words(good)}{reached}, "
            f"contradicted if wholly {short} {number_words(bad)}, not supported if inside {interval_words(*band)}, "
            "otherwise inconclusive."
        )

    def search(self, claim: Claim) -> tuple[float, float]:
        sign = side(claim.direction)[0]
        if self.logarithmic:
            return self.nothing(), sign * math.log(self.no_effect_band()[1] / self.nothing())
        return self.nothing(), sign * (self.no_effect or SMALL)

    def band(self, published: float | None, direction: Direction) -> Band:
        return Band(*self.no_effect_band(), "no effect")
