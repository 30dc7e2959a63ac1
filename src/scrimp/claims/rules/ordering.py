"""The first arm is beyond every other, each by more than `no_effect`, judged by the closest paired difference."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from scrimp.claims.rules.effect import Effect
from scrimp.claims.verdicts import side
from scrimp.config.claims import Claim

if TYPE_CHECKING:
    from scrimp.claims.evidence import Evidence
    from scrimp.claims.power import Truth
    from scrimp.runs import Runs


class Ordering(Effect):
    kind: Literal["ordering"]
    arms: list[str] = Field(min_length=2)

    row: ClassVar[str] = "vs {}"

    def quantity(self, claim: Claim) -> str:
        extreme = "Smallest" if claim.direction == "higher" else "Largest"
        rivals = ", ".join(self.arms[1:])
        return f"{extreme} paired difference of {claim.metric}, {self.arms[0]} minus each of {rivals}"

    def measure(self, claim: Claim, runs: Runs) -> Evidence:
        """The first arm against its closest rival; the points are the differences to every rival, named by the rival.

        The worse end is the worst of the rivals' ends at 95 %, which needs no correction: all must agree. At the better
        end any one rival can pull it down by chance, so there the error is shared out among them (Bonferroni). With
        direction `lower` the first arm is to lie below, and everything is mirrored.
        """
        import numpy as np

        from scrimp.claims.evidence import Evidence, comparable, interval_of, observations
        from scrimp.claims.statistics import CONFIDENCE, Interval

        arms = [runs.arm(name) for name in self.arms]
        seeds, notes = runs.paired_seeds(arms)
        sign, _, _ = side(claim.direction)
        rows = [runs.differences(arms[0], rival, seeds, claim.metric) for rival in arms[1:]]
        seeds, rows, more = comparable(seeds, rows)
        notes, leads = [*notes, *more], [np.array(row) for row in rows]  # (seeds,) each
        step = runs.resolution(arms, seeds, claim.metric)
        plain = [interval_of((sign * lead).tolist(), step=step) for lead in leads]
        shared = [interval_of((sign * lead).tolist(), 1 - (1 - CONFIDENCE) / len(leads), step=step) for lead in leads]
        # numpy's minimum: one rival without an interval leaves none.
        worse = sign * float(np.min([interval.low for interval in plain]))
        better = sign * float(np.min([interval.high for interval in shared]))
        mean = sign * min(interval.mean for interval in plain)
        interval = Interval(mean, min(worse, better), max(worse, better), len(seeds))
        by_rival = zip(arms[1:], leads, strict=True)
        points = [point for rival, lead in by_rival for point in observations(rival, seeds, lead.tolist())]
        return Evidence(interval, points, arms, runs.run_commands(arms, seeds), notes)

    @property
    def plantable(self) -> bool:
        return True

    def plant(self, claim: Claim, number: float, truth: Truth, runs: Runs) -> Truth:
        sign = side(claim.direction)[0]
        first, *rivals = (runs.arm(name) for name in self.arms)
        closest = sign * max(sign * truth.quality[rival] for rival in rivals)
        return replace(truth, quality={**truth.quality, first: closest + number})


RULE = Ordering
