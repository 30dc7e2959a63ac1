"""A paired difference of the metric, method minus baseline."""

from __future__ import annotations

from typing import Literal

from scrimp.claims.rules.effect import Effect
from scrimp.claims.rules.paired import Paired


class Difference(Paired, Effect):
    kind: Literal["difference"]


RULE = Difference
