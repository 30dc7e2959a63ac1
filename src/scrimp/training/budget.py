"""Horizons as absolute amounts, and the fraction of them that is spent. All clocks but `seconds` are deterministic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scrimp.config import Horizon
from scrimp.errors import ScrimpError


@dataclass
class Spent:
    """What a run has spent so far. `epochs` counts the selector's passes, the present one by its finished share."""

    epochs: float = 0.0
    examples: int = 0
    steps: int = 0
    flops: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Budget:
    """An absolute horizon: `amount` of one axis (epochs, examples, steps, FLOPs or seconds)."""

    axis: str
    amount: float

    @classmethod
    def of(cls, horizon: Horizon, epochs: float, size: int, batch_size: int, flops_per_example: float) -> Budget:
        """A horizon relative to the full recipe (`epochs` passes over `size` examples) in absolute terms."""
        full = {
            "epochs": epochs,
            "examples": round(epochs * size),
            "steps": round(epochs * math.ceil(size / batch_size)),
            "flops": epochs * size * flops_per_example,
            "seconds": 1.0,
        }
        amount = horizon.amount * full[horizon.axis]
        return cls(horizon.axis, max(1, round(amount)) if horizon.axis in ("examples", "steps") else amount)

    @classmethod
    def of_steps(cls, horizon: Horizon, steps: int, batch_size: int, flops_per_step: float) -> Budget:
        """The same for a recipe of so many steps, under a batch selector, whose every pass is a step."""
        examples = steps * batch_size
        full = {"epochs": steps, "steps": steps, "examples": examples, "flops": steps * flops_per_step, "seconds": 1.0}
        amount = horizon.amount * full[horizon.axis]
        return cls(horizon.axis, amount if horizon.axis in ("flops", "seconds") else max(1, round(amount)))

    @classmethod
    def of_flops(cls, horizon: Horizon, flops: float) -> Budget:
        """The same for a recipe of so many FLOPs: the horizon is a share of them, or absolute seconds."""
        if horizon.axis not in ("flops", "seconds"):
            raise ScrimpError(f"a language recipe counts FLOPs: give its horizon in flops or seconds, not {horizon.axis}")
        return cls(horizon.axis, horizon.amount * (flops if horizon.axis == "flops" else 1.0))

    def fraction(self, spent: Spent) -> float:
        """The share of the budget spent, at most 1; what binary fractions leave over (1.2 of 12 x 0.1) is no rest."""
        spent_here = getattr(spent, self.axis)
        return 1.0 if spent_here >= self.amount * (1 - 1e-12) else spent_here / self.amount

    def room(self, spent: Spent, wanted: int, epoch_size: int, flops_per_example: float, until: float = 1.0) -> int:
        """How many of the `wanted` examples that come next fit before `until`, a fraction of the budget, is reached.

        A broken example is rounded up. On the axis of epochs only the budget's end cuts an epoch, as in the published
        methods, which change their ways between epochs; steps and seconds are not known in advance and cut nothing.
        """
        left = self.amount * (1.0 if self.axis == "epochs" else until) - getattr(spent, self.axis)
        fits = {
            "epochs": left * epoch_size,
            "examples": left,
            "flops": left / flops_per_example,
        }.get(self.axis, wanted)
        return min(wanted, max(1, math.ceil(round(fits, 6))))
