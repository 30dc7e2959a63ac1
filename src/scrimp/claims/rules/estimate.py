"""A number that a probe derives from the runs, a row a seed, held against `neutral`: within `no_effect` of it is none.

`neutral` is the number that speaks for neither side. A share of cases cannot lie below 0: it is held against a half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from scrimp.claims.rules.effect import Effect
from scrimp.config.claims import Claim

if TYPE_CHECKING:
    from scrimp.claims.evidence import Evidence
    from scrimp.runs import Runs


class Estimate(Effect):
    kind: Literal["estimate"]
    probe: str
    column: str
    where: dict[str, str | int | float | bool] = Field({}, description="column -> value, of the rows that count")
    neutral: float = 0.0
    of: str | None = Field(None, description="for a share: the column with the number of cases, one of which it resolves")

    def nothing(self) -> float:
        return self.neutral

    def quantity(self, claim: Claim) -> str:
        return f"{self.column} from the probe {self.probe}, by seed"

    def measure(self, claim: Claim, runs: Runs) -> Evidence:
        from scrimp.claims.evidence import probed

        return probed(self.probe, self.column, self.where, runs, self.of)


RULE = Estimate
