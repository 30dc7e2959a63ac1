"""One currency for everything that a run spends: by the learner, by choosing, and by models trained before it."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Cost:
    """What some work took. Costs add up; a difference is what came on top.

    `updates` of weights, `examples` trained on (forward and backward), examples `scored` (forward only, for the sake of a
    choice), `flops` (a multiply-add is two), `seconds` of wall time, `cpu_seconds` of this process.
    """

    updates: int = 0
    examples: int = 0
    scored: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Cost)))

    def __sub__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(Cost)))


@dataclass(frozen=True)
class RunCost:
    """A run's cost in its three parts; the whole is their sum.

    `learner`: its own training. `scoring`: choosing among examples, with forward passes for that purpose. `earlier`:
    models trained before it, such as a reference, proxies, or the constant-LR run that a cooldown starts from.
    """

    learner: Cost
    scoring: Cost = Cost()
    earlier: Cost = Cost()

    @property
    def total(self) -> Cost:
        return self.learner + self.scoring + self.earlier
