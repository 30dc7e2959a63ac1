"""Which runs an audit consists of: the plain recipe at several lengths, methods, seeds; and fitting them into a time."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from scrimp.errors import ScrimpError
from scrimp.methods import method_class, method_names
from scrimp.methods.base import EpochSelector
from scrimp.methods.batch import BatchSelector
from scrimp.methods.jest import super_batch_size
from scrimp.tasks.base import Task
from scrimp.tasks.image_text import ImageText
from scrimp.user_files import is_file

SWEEP = (0.25, 0.5, 0.75, 1.0, 1.5)  # lengths of the plain recipe
SEEDS = 5
FEWEST_SEEDS = 2  # an interval needs two
PLAIN = "plain"
REFERENCE = "reference"  # the model that arms of two-tower tasks score against
CHUNKS = 16  # of a joint choice, where the batch size lets it
FILTERED = 0.8  # share of a super-batch that is not trained on
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Candidate:
    """A method as an arm: `share` is about what a run of it takes of the plain recipe's, for the plan alone."""

    arm: str
    label: str
    methods: list[dict[str, Any]]
    share: float = 1.0

    @property
    def reference(self) -> bool:
        """Whether it scores against a model that is trained first."""
        return any("reference" in method for method in self.methods)


@dataclass(frozen=True)
class Traits:
    """What of a task decides on its arms. `contrast` is the loss of a two-tower task; None: it is none."""

    batch_size: int
    examples: int
    batch_norm: bool = False
    labels: bool = False  # one class an example, of ten examples and more in the mean
    features: bool = True  # what prototypes are made in
    logits: bool = True  # `outputs` and `labels`, which EL2N and CCS score by
    history: bool = True  # and `losses` shows them to `on_outputs`, for forgetting
    contrast: str | None = None

    @classmethod
    def of(cls, task: Task) -> Self:
        model = task.model(0)
        return cls(
            task.workload.recipe.batch_size,
            task.examples,
            batch_norm=any(isinstance(module, BATCH_NORMS) for module in model.modules()),
            labels=_has_labels(task) and int(task.labels.max()) < task.examples // 10,
            features=_has_features(task, model),
            logits=_has_logits(task, model),
            history=_shows_logits(task, model),
            contrast=task.recipe.loss if isinstance(task, ImageText) else None,
        )


def _has_labels(task: Task) -> bool:
    if isinstance(task, ImageText):  # whose labels are sites, no classes
        return False
    try:
        labels = task.labels
    except ScrimpError:
        return False
    return labels.ndim == 1 and not labels.is_floating_point() and len(labels) > 0 and int(labels.min()) >= 0


def _has_features(task: Task, model: nn.Module) -> bool:
    found: list[int] = []
    return _gives(lambda *given: found.append(task.features(*given).ndim), task, model) and found == [2]


def _has_logits(task: Task, model: nn.Module) -> bool:
    return _gives(task.outputs, task, model) and _has_labels(task)


@torch.no_grad()
def _gives(what: Callable[..., object], task: Task, model: nn.Module) -> bool:
    """Whether a task has it: those that it leaves to the contract's default raise ScrimpError."""
    try:
        what(model.eval(), task.batch(task.train_split, torch.arange(min(2, task.examples))))
    except ScrimpError:
        return False
    return True


@torch.no_grad()
def _shows_logits(task: Task, model: nn.Module) -> bool:
    shown: list[bool] = []
    task.on_outputs = lambda *_: shown.append(True)
    try:
        task.losses(model.eval(), task.batch(task.train_split, torch.arange(min(2, task.examples))))
    except ScrimpError:
        return False
    finally:
        task.on_outputs = None
    return bool(shown) and _has_labels(task)


# The most promising first: a short time leaves out the last.
CANDIDATES = (
    Candidate("infobatch-50", "InfoBatch 50 %", [{"name": "infobatch", "ratio": 0.5}], 0.75),
    Candidate("rs2-50", "RS2 50 %", [{"name": "rs2", "ratio": 0.5}], 0.5),
    Candidate("epsilon-greedy-50", "eps-greedy 50 %", [{"name": "epsilon-greedy", "ratio": 0.5, "period": 2}], 0.55),
    Candidate("growing", "growing batch", [{"name": "batch-growth", "end": 4, "learning_rate": "sqrt"}]),
    Candidate("infobatch-30", "InfoBatch 30 %", [{"name": "infobatch", "ratio": 0.3}], 0.85),
    Candidate("infobatch-70", "InfoBatch 70 %", [{"name": "infobatch", "ratio": 0.7}], 0.65),
    # It trains a proxy first. Where a model offers no features it is left out.
    Candidate("prototypes-20", "prototypes 20 %", [{"name": "prototypes", "ratio": 0.2, "embedding": "features"}], 0.95),
)
# A scoring pass is a third of a training pass, and there are five candidates for every pair that is trained on.
TOWERS = (
    Candidate("jest-80", "JEST 80 %", [{"name": "jest", "ratio": FILTERED, "reference": REFERENCE}], 2.7),
    Candidate(
        "easy-reference-80",
        "easy reference 80 %",
        [{"name": "jest", "ratio": FILTERED, "reference": REFERENCE, "method": "easy-reference"}],
    ),
    Candidate(
        "top-k-80", "top-k 80 %", [{"name": "jest", "ratio": FILTERED, "reference": REFERENCE, "choice": "top-k"}], 2.7
    ),
)
# Only where `--methods` picks them: prunings for good train a proxy first, and one of them tells most of what they do.
PICKED = (
    Candidate("prototypes-50", "prototypes 50 %", [{"name": "prototypes", "ratio": 0.5, "embedding": "features"}], 0.65),
    Candidate("semdedup-50", "SemDeDup 50 %", [{"name": "semdedup", "ratio": 0.5, "embedding": "features"}], 0.65),
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

    @property
    def reference(self) -> bool:
        """Whether a reference is trained, once for all arms and seeds."""
        return any(one.reference for one in self.candidates)


def sweep_arm(share: float) -> str:
    """The id of the plain recipe at a share of its length."""
    return PLAIN if share == 1 else f"{PLAIN}-x{share:g}"


def candidates(traits: Traits, wanted: Sequence[str] = ()) -> tuple[Candidate, ...]:
    """The arms of CANDIDATES that a task can have, with two towers after those of TOWERS; or those `wanted`, in that order.

    An entry of `wanted` is an arm (of PICKED, too), a method's name (all its arms; of one that has none here, with the
    defaults of its keys), or the path of a file with a method of the user's own. Raises ScrimpError for an unknown name, and
    for an arm that the task cannot have.
    """
    if not wanted:
        towers = TOWERS if traits.contrast is not None else ()
        offered = (one for one in (*towers, *CANDIDATES) if traits.features or not _by_features(one))
        return tuple(_suited(one, traits) for one in offered)
    chosen: dict[str, Candidate] = {}
    for name in wanted:
        for one in _named(name, traits):
            chosen[one.arm] = _suited(one, traits)
    return tuple(chosen.values())


def _by_features(one: Candidate) -> bool:
    return one.methods[0].get("embedding") == "features"


def _suited(one: Candidate, traits: Traits) -> Candidate:
    """An arm with what a task decides about it."""
    first, *others = one.methods
    if one.arm == "growing" and traits.batch_norm:
        ghost = {"name": "ghost-batch-norm", "size": traits.batch_size}
        return replace(one, label="growing batch, ghost batch norm", methods=[*one.methods, ghost])
    if one.reference:
        wanted = super_batch_size(traits.batch_size, FILTERED)
        if traits.examples < wanted:
            raise ScrimpError(
                f"{one.arm}: {traits.examples:,} pairs to train on are too few, since it chooses {traits.batch_size} out of "
                f"{wanted}: make batch_size smaller in the task's file, or add pairs"
            )
        return replace(one, label=_label(one, traits), methods=[{**first, **_choice(first, traits)}, *others])
    if _by_features(one):
        if not traits.features:
            raise ScrimpError(f"{one.arm}: the task offers no features: define features(model, batch) -> float [b, d] in it")
        told: dict[str, Any] = {} if traits.labels else {"clusters": max(2, round(math.sqrt(traits.examples)))}
        if traits.labels and first["name"] == "prototypes":
            told["balance"] = 0.5
        return replace(one, methods=[{**first, **told}, *others])
    return one


def _choice(first: dict[str, Any], traits: Traits) -> dict[str, Any]:
    """How a method scores and chooses under the task's loss: only the sigmoid loss has one of every combination."""
    if traits.contrast == "softmax":
        return {"loss": "softmax", "choice": first.get("choice", "independent")}
    return {} if "choice" in first else {"chunks": math.gcd(CHUNKS, traits.batch_size)}


def _label(one: Candidate, traits: Traits) -> str:
    joint = "choice" not in one.methods[0]
    return f"{one.label}, pair by pair" if joint and traits.contrast == "softmax" else one.label


def _named(name: str, traits: Traits) -> list[Candidate]:
    if is_file(name):
        path = Path(name).resolve()
        method_class(str(path))  # an error now, not in the midst of runs
        arm = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-") or "own"
        return [Candidate(arm, path.stem, [{"name": str(path)}])]
    known = (*(TOWERS if traits.contrast is not None else ()), *CANDIDATES, *PICKED)
    own = [one for one in known if name == one.arm or name == one.methods[0]["name"]]
    if own:
        return own
    if any(name in (one.arm, one.methods[0]["name"]) for one in TOWERS):  # of a task without towers
        raise ScrimpError(
            f"--methods {name}: it scores pairs by two towers: `scrimp try --pairs` writes such a task, a subclass of "
            "scrimp.tasks.image_text.ImageText"
        )
    if name not in method_names():
        names = sorted({*method_names(), *(one.arm for one in known)})
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ScrimpError(f"--methods {name}: {hint}known: {', '.join(names)}, and files of your own (my_method.py)")
    if issubclass(method_class(name), BatchSelector):
        raise ScrimpError(
            f"--methods {name}: it scores super-batches; write an arm into the study.yaml of a task with `score`"
        )
    fields = method_class(name).Params.model_fields
    half = {"ratio": 0.5} if "ratio" in fields else {}
    missing = [key for key, field in fields.items() if field.is_required() and key not in half]
    if missing:
        raise ScrimpError(f"--methods {name}: it needs {', '.join(missing)}; write an arm into the audit's study.yaml")
    _check_scoring(name, half, traits)
    scores = issubclass(method_class(name), EpochSelector) and bool(half)
    return [Candidate(name, f"{name} 50 %" if half else name, [{"name": name, **half}], 0.5 if scores else 1.0)]


def _check_scoring(name: str, half: dict[str, Any], traits: Traits) -> None:
    """Raise ScrimpError for a method that scores by what the task does not tell."""
    made = method_class(name)
    scoring = made(traits.examples, 0, **half).scoring() if issubclass(made, EpochSelector) else None
    if scoring is not None and scoring.of_logits is not None and not traits.logits:
        raise ScrimpError(
            f"--methods {name}: it scores by logits: define outputs(model, batch) -> (float [b, C], int64 [b]), "
            "and the property labels, int64 [N], in the task's file, as scrimp.audit.ready.Classifier does"
        )
    if scoring is not None and scoring.of_history is not None and not traits.history:
        raise ScrimpError(
            f"--methods {name}: it looks at every training batch's logits: let losses call self.on_outputs(logits, labels) "
            "where that is not None, and define the property labels, as scrimp.audit.ready.Classifier does"
        )


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
