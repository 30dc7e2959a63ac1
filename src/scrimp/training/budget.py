"""Horizons as absolute amounts, and the fraction of them that is spent. All clocks but `seconds` are deterministic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scrimp.config.training import Horizon, Workload
from scrimp.errors import ScrimpError


@dataclass
class Spent:
    """What a run has spent so far, all of it together.

    `epochs` counts the selector's passes, the present one by its finished share; where examples are drawn by the step, a
    pass is a step. `drawn` examples were looked at, of which some are trained on and some were only `scored`;
    `flops_scoring` is the part of `flops` that choosing took.
    """

    epochs: float = 0.0
    examples: int = 0
    steps: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    drawn: int = 0
    scored: int = 0
    flops_scoring: float = 0.0


@dataclass(frozen=True)
class Budget:
    """An absolute horizon: `amount` of one axis (epochs, examples, steps, FLOPs or seconds)."""

    axis: str
    amount: float

    @classmethod
    def of(
        cls,
        horizon: Horizon,
        workload: Workload,
        size: int,
        flops_per_example: float,
        *,
        by_epochs: bool,
        scoring: float = 0.0,
    ) -> Budget:
        """A horizon relative to the full recipe of a workload with `size` training examples, in absolute terms.

        The recipe's length is given in epochs, steps or FLOPs; the other axes follow from it. `by_epochs`: whether a pass
        is an epoch, or a step, which then costs `scoring` FLOPs beside those of its examples.
        """
        batch = workload.recipe.batch_size
        per_step = batch * flops_per_example + scoring
        if workload.epochs is not None:
            epochs: float = workload.epochs
            steps: float = round(epochs * math.ceil(size / batch))
            examples, flops = float(round(epochs * size)), epochs * size * flops_per_example
        elif workload.steps is not None:
            steps, examples, flops = workload.steps, workload.steps * batch, workload.steps * per_step
            epochs = examples / size
        else:
            if workload.flops is None:
                raise ScrimpError("give the workload exactly one of `epochs`, `steps` and `flops`")
            flops = workload.flops
            steps, examples = flops / per_step, flops / flops_per_example
            epochs = examples / size
        full = {
            "epochs": epochs if by_epochs else steps,
            "examples": examples,
            "steps": steps,
            "flops": flops,
            "seconds": 1.0,
        }
        amount = horizon.amount * full[horizon.axis]
        whole = horizon.axis in ("examples", "steps") or (horizon.axis == "epochs" and not by_epochs)
        return cls(horizon.axis, max(1, round(amount)) if whole else amount)

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

    def steps_before(self, fraction: float, examples: int, flops: float) -> int:
        """How many steps, of so many examples and FLOPs each, end before `fraction` of the budget is spent."""
        per_step = {"steps": 1.0, "examples": examples, "flops": flops}
        if self.axis not in per_step:
            raise ScrimpError(f"a horizon in {self.axis} does not tell in advance which step ends where: give it in flops")
        return math.floor(fraction * self.amount / per_step[self.axis])
