"""Which runs an audit consists of: the plain recipe at several lengths, methods, seeds; and fitting them into a time."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from scrimp.errors import ScrimpError
from scrimp.methods import method_class, method_names
from scrimp.methods.base import EpochSelector
from scrimp.methods.batch import BatchSelector
from scrimp.user_files import is_file

SWEEP = (0.25, 0.5, 0.75, 1.0, 1.5)  # lengths of the plain recipe
SEEDS = 5
FEWEST_SEEDS = 2  # an interval needs two
PLAIN = "plain"
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Candidate:
    """A method as an arm: `share` is about what a run of it takes of the plain recipe's, for the plan alone."""

    arm: str
    label: str
    methods: list[dict[str, Any]]
    share: float = 1.0


# The most promising first: a short time leaves out the last.
CANDIDATES = (
    Candidate("infobatch-50", "InfoBatch 50 %", [{"name": "infobatch", "ratio": 0.5}], 0.75),
    Candidate("rs2-50", "RS2 50 %", [{"name": "rs2", "ratio": 0.5}], 0.5),
    Candidate("epsilon-greedy-50", "eps-greedy 50 %", [{"name": "epsilon-greedy", "ratio": 0.5, "period": 2}], 0.55),
    Candidate("growing", "growing batch", [{"name": "batch-growth", "end": 4, "learning_rate": "sqrt"}]),
    Candidate("infobatch-30", "InfoBatch 30 %", [{"name": "infobatch", "ratio": 0.3}], 0.85),
    Candidate("infobatch-70", "InfoBatch 70 %", [{"name": "infobatch", "ratio": 0.7}], 0.65),
)


@dataclass(frozen=True)
class Design:
    """All runs of an audit, by arm and seed."""

    candidates: tuple[Candidate, ...]
    sweep: tuple[float, ...] = SWEEP
    seeds: int = SEEDS

    def arms(self) -> dict[str, float]:
        """Every arm with about what a run of it takes of the plain recipe's."""
        return {sweep_arm(share): share for share in self.sweep} | {one.arm: one.share for one in self.candidates}

    @property
    def runs(self) -> int:
        return self.seeds * len(self.arms())


def sweep_arm(share: float) -> str:
    """The id of the plain recipe at a share of its length."""
    return PLAIN if share == 1 else f"{PLAIN}-x{share:g}"


def candidates(model: nn.Module, batch_size: int, wanted: Sequence[str] = ()) -> tuple[Candidate, ...]:
    """The arms for a model: those of CANDIDATES, or those that are `wanted`, in that order.

    An entry of `wanted` is an arm of CANDIDATES, a method's name (all its arms; of one that has none here, with the defaults
    of its keys), or the path of a file with a method of the user's own. The growing batch has ghost batch norm where the
    model has batch norm. Raises ScrimpError for an unknown name.
    """
    if not wanted:
        return tuple(_suited(one, model, batch_size) for one in CANDIDATES)
    chosen: dict[str, Candidate] = {}
    for name in wanted:
        for one in _named(name):
            chosen[one.arm] = _suited(one, model, batch_size)
    return tuple(chosen.values())


def _suited(one: Candidate, model: nn.Module, batch_size: int) -> Candidate:
    if one.arm != "growing" or not any(isinstance(module, BATCH_NORMS) for module in model.modules()):
        return one
    ghost = {"name": "ghost-batch-norm", "size": batch_size}
    return replace(one, label="growing batch, ghost batch norm", methods=[*one.methods, ghost])


def _named(name: str) -> list[Candidate]:
    if is_file(name):
        path = Path(name).resolve()
        method_class(str(path))  # an error now, not in the midst of runs
        return [Candidate(path.stem.replace("_", "-").lower(), path.stem, [{"name": str(path)}])]
    own = [one for one in CANDIDATES if name == one.arm or name == one.methods[0]["name"]]
    if own:
        return own
    if name not in method_names():
        known = sorted({*method_names(), *(one.arm for one in CANDIDATES)})
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ScrimpError(f"--methods {name}: {hint}known: {', '.join(known)}, and files of your own (my_method.py)")
    if issubclass(method_class(name), BatchSelector):
        raise ScrimpError(
            f"--methods {name}: it scores super-batches; write an arm into the study.yaml of a task with `score`"
        )
    fields = method_class(name).Params.model_fields
    half = {"ratio": 0.5} if "ratio" in fields else {}
    missing = [key for key, field in fields.items() if field.is_required() and key not in half]
    if missing:
        raise ScrimpError(f"--methods {name}: it needs {', '.join(missing)}; write an arm into the audit's study.yaml")
    scores = issubclass(method_class(name), EpochSelector) and bool(half)
    return [Candidate(name, f"{name} 50 %" if half else name, [{"name": name, **half}], 0.5 if scores else 1.0)]


# ----------------------------------------------------------------------------------------------------------- into a time
def fitted(design: Design, hours: Callable[[Design], float], limit: float) -> tuple[Design, list[str]]:
    """The largest design that takes at most `limit` hours by `hours`, and what was left out of the given one.

    Seeds go first, down to three, then the last methods, down to two, then points of the sweep, then seeds and methods
    again. Raises ScrimpError where even the smallest takes longer.
    """
    left_out: list[str] = []
    while hours(design) > limit:
        smaller = _smaller(design)
        if smaller is None:
            raise ScrimpError(
                f"the smallest audit ({design.runs} runs) takes about {duration(hours(design))} here, more than the "
                f"{duration(limit)} given: give it more time or cores, or make the plain recipe shorter"
            )
        design, what = smaller
        left_out.append(what)
    return design, left_out


def _smaller(design: Design) -> tuple[Design, str] | None:
    """The next smaller design, and what it leaves out."""
    if design.seeds > 3:
        return replace(design, seeds=design.seeds - 1), f"seed {design.seeds - 1}"
    if len(design.candidates) > 2:
        return replace(design, candidates=design.candidates[:-1]), design.candidates[-1].label
    for share in (1.5, 0.75):
        if share in design.sweep:
            sweep = tuple(other for other in design.sweep if other != share)
            return replace(design, sweep=sweep), f"the plain recipe x {share:g}"
    if design.seeds > FEWEST_SEEDS:
        return replace(design, seeds=design.seeds - 1), f"seed {design.seeds - 1}"
    if len(design.candidates) > 1:
        return replace(design, candidates=design.candidates[:-1]), design.candidates[-1].label
    return None


def duration(hours: float) -> str:
    """A time in words: `40 s`, `12 min`, `3.5 h`."""
    seconds = 3600 * hours
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{hours:.1f} h"


def hours_of(text: str) -> float:
    """Hours out of `2h`, `30m`, `90s` or `1.5` (hours); raises ScrimpError for anything else."""
    units = {"h": 1.0, "m": 1 / 60, "min": 1 / 60, "s": 1 / 3600}
    number = text.strip().rstrip("hmins")
    unit = text.strip()[len(number) :] or "h"
    try:
        hours = float(number) * units[unit]
    except (ValueError, KeyError) as error:
        raise ScrimpError(f"--budget {text}: give a time such as 2h, 30m or 90s") from error
    if not 0 < hours < float("inf"):
        raise ScrimpError(f"--budget {text}: give a time above zero")
    return hours
