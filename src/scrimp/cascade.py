"""Cascades: a cheap model answers what it is sure of, and passes the rest on to a dearer one.

    cascade = Cascade([(small, 1.0), (large, 12.0)])  # callables that give probabilities [n, C], and costs an example
    cascade.calibrate(x_validation, y_validation).choose(x_validation, y_validation, accuracy=0.9)
    answers = cascade(x)  # .labels, -1 where it abstains; .stage, .confidence and .cost of each

A stage answers where its confidence is at least its threshold. A rule-based filter is a stage, too: rows that sum to less
than one, or to zero, are answers with reservations, or none. Thresholds are searched on the examples that are given, which
must be no training examples.
Use it where many examples are easy, and where what counts is FLOPs, money or calls: one example at a time on a CPU, a small
network's answer is mostly overhead. Cost: an example that goes through all stages costs their sum (`worst_cost`), and each
model is trained. Deviations: thresholds are searched on a grid, all stages at once, for one aim; a temperature a stage is
fitted to probabilities, not to logits.
Sources: Chow 1970, *On optimum recognition error and reject tradeoff*; Guo et al. 2017, *On calibration of modern neural
networks* (arXiv 1706.04599); Wang et al. 2022, *Wisdom of committees* (arXiv 2012.01988).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from scrimp.errors import ScrimpError

Confidence = Literal["probability", "margin"]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
ABSTAINED = -1
COMBINATIONS = 32_768  # of thresholds that a search tries, about
TEMPERATURES = (0.05, 20.0)  # between which the best is sought
EDGE = 1e-3  # by which a row of probabilities may miss 1


# ------------------------------------------------------------------------------------------------------------- functions
def confidence_of(probabilities: Floats, how: Confidence = "probability") -> Floats:
    """The largest probability of each row [n, C], or its lead over the second largest: [n]."""
    if how == "probability" or probabilities.shape[1] == 1:
        return probabilities.max(axis=1)
    top = np.partition(probabilities, -2, axis=1)[:, -2:]
    return top[:, 1] - top[:, 0]


def tempered(probabilities: Floats, temperature: float) -> Floats:
    """softmax(log p / temperature), row by row; what a row lacks to 1 it goes on lacking, as a filter's does."""
    logs = np.log(np.maximum(probabilities, 1e-30)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True)) * (probabilities > 0)
    whole = probabilities.sum(axis=1, keepdims=True)
    return powers / np.maximum(powers.sum(axis=1, keepdims=True), 1e-30) * whole


def fit_temperature(probabilities: Floats, labels: Integers) -> float:
    """The temperature of least cross-entropy on labelled examples; rows without a word are left out."""
    told = probabilities.sum(axis=1) > 0
    if not told.any():
        return 1.0
    given, right = probabilities[told], labels[told]

    def loss(log_temperature: float) -> float:
        chosen = tempered(given, math.exp(log_temperature))[np.arange(len(right)), right]
        return float(-np.log(np.maximum(chosen, 1e-30)).mean())

    low, high = (math.log(end) for end in TEMPERATURES)
    while high - low > 1e-4:
        left, right_end = low + (high - low) / 3, high - (high - low) / 3
        if loss(left) <= loss(right_end):
            high = right_end
        else:
            low = left
    return math.exp((low + high) / 2)


def expected_calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = 15) -> float:
    """Mean distance between confidence and accuracy over even bins of confidence, weighed by their examples (Guo et al.)."""
    at = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(at, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def chow_threshold(price: float, cost: float, error_of_next: float = 0.0) -> float:
    """Below which calibrated probability of being right it pays to ask on, or to abstain: Chow's rule.

    An error costs `price`, asking on `cost`; who is asked errs with probability `error_of_next`.
    """
    if price <= 0 or cost < 0:
        raise ScrimpError(f"an error's price must be above 0 and the cost of asking on not below, got {price}, {cost}")
    return min(1.0, max(0.0, 1.0 - error_of_next - cost / price))


def stages_of(confidences: Floats, thresholds: Sequence[float]) -> Integers:
    """Which stage answers each example: the first whose confidence [k, n] reaches its threshold; k where none does."""
    reached = confidences >= np.asarray(thresholds)[:, None]
    return np.where(reached.any(axis=0), reached.argmax(axis=0), len(confidences)).astype(np.int64)


@dataclass(frozen=True)
class Point:
    """Thresholds of all stages but the last, and what they gave: accuracy (a share), mean cost, share of the last stage."""

    thresholds: tuple[float, ...]
    accuracy: float
    cost: float
    last: float


def points(confidences: Floats, right: NDArray[np.bool_], costs: Sequence[float]) -> list[Point]:
    """Every combination of thresholds on a grid: `confidences` and `right` are [k, n], `costs` [k]; the last answers all.

    A stage's grid lies at even shares of the confidences that occur, and has the ends: it answers all, it answers nothing.
    A stage that knows few confidences, as a rule does, leaves its part of the combinations to the others.
    """
    deciding = len(costs) - 1
    grids: list[list[float]] = [[] for _ in range(deciding)]
    room = float(COMBINATIONS)
    distinct = [np.unique(of) for of in confidences[:-1]]
    for left, stage in enumerate(sorted(range(deciding), key=lambda stage: len(distinct[stage]))):
        steps = max(2, int(room ** (1 / (deciding - left))) - 2)
        inner = distinct[stage]
        if len(inner) > steps:
            inner = np.unique(np.quantile(confidences[stage], np.linspace(0, 1, steps)))
        grids[stage] = [0.0, *inner.tolist(), math.inf]
        room /= len(grids[stage])
    count = right.shape[1]

    def walk(stage: int, left: Integers, won: int, spent: float) -> Iterator[Point]:
        spent += costs[stage] * len(left)
        if stage == deciding or not len(left):
            total = won + int(right[stage, left].sum())
            yield Point(tuple(0.0 for _ in range(deciding - stage)), total / count, spent / count, len(left) / count)
            return
        here, hits = confidences[stage, left], right[stage, left]
        for threshold in grids[stage]:
            sure = here >= threshold
            for rest in walk(stage + 1, left[~sure], won + int(hits[sure].sum()), spent):
                yield Point((threshold, *rest.thresholds), rest.accuracy, rest.cost, rest.last)

    return list(walk(0, np.arange(count), 0, 0.0))


def front(found: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both cost and accuracy, the cheapest first."""
    kept: list[Point] = []
    for point in sorted(found, key=lambda point: (point.cost, -point.accuracy)):
        if not kept or point.accuracy > kept[-1].accuracy:
            kept.append(point)
    return kept


# --------------------------------------------------------------------------------------------------------------- cascade
@dataclass(frozen=True)
class Answers:
    """What a cascade says of n examples: `labels` (-1: it abstains), `stage` that answered, its `confidence`, the `cost`."""

    labels: Integers
    stage: Integers
    confidence: Floats
    cost: Floats

    @property
    def answered(self) -> NDArray[np.bool_]:
        return self.labels != ABSTAINED


class Cascade:
    """Stages (callable, cost of an example), the cheapest first, that answer what they are sure of.

    A callable takes examples (a tensor, an array, or a list) and gives probabilities [n, C], as a tensor or an array.
    `temperatures` soften them (see `calibrate`), `thresholds` decide (see `choose`): one a stage; the last stage's is the
    confidence below which the cascade abstains. Raises ScrimpError for stages, costs and probabilities that cannot be.
    """

    def __init__(
        self,
        stages: Sequence[tuple[Callable[[Any], Any], float]],
        confidence: Confidence = "probability",
        thresholds: Sequence[float] | None = None,
        temperatures: Sequence[float] | None = None,
    ) -> None:
        if len(stages) < 2:
            raise ScrimpError(f"a cascade has two stages or more, got {len(stages)}: give (callable, cost) for each")
        for number, stage in enumerate(stages):
            if not isinstance(stage, tuple | list) or len(stage) != 2 or not callable(stage[0]):
                raise ScrimpError(f"stage {number} is no pair (callable, cost): got {stage!r}")
            if not _is_number(stage[1]) or not math.isfinite(stage[1]) or stage[1] < 0:
                raise ScrimpError(f"stage {number} costs {stage[1]!r}: give a number that is not below 0")
        if confidence not in ("probability", "margin"):
            raise ScrimpError(f"unknown confidence {confidence!r}: known: probability, margin")
        self.stages = [(stage[0], float(stage[1])) for stage in stages]
        self.how: Confidence = confidence
        self.thresholds = None if thresholds is None else self._one_each(thresholds, "thresholds")
        if any(limit < 0 or 1 < limit < math.inf for limit in self.thresholds or []):
            raise ScrimpError(f"thresholds are confidences from 0 to 1, or inf for a stage that never answers: {thresholds}")
        self.temperatures = [1.0] * len(stages) if temperatures is None else self._one_each(temperatures, "temperatures")
        if any(temperature <= 0 for temperature in self.temperatures):
            raise ScrimpError(f"temperatures must be above 0, got {self.temperatures}")

    @property
    def costs(self) -> list[float]:
        return [cost for _, cost in self.stages]

    @property
    def worst_cost(self) -> float:
        """What an example costs that goes through all stages."""
        return sum(self.costs)

    def calibrate(self, inputs: Any, labels: Any) -> Cascade:
        """Fit each stage's temperature on held-out examples, and forget thresholds of before; returns itself."""
        right = _labels(labels, _count(inputs))
        self.temperatures, self.thresholds = [1.0] * len(self.stages), None  # those were chosen at other temperatures
        self.temperatures = [fit_temperature(given, right) for given in self._all(inputs, right)]
        return self

    def choose(
        self,
        inputs: Any,
        labels: Any,
        *,
        accuracy: float | None = None,
        cost: float | None = None,
        price: float | None = None,
        abstain: float = 0.0,
    ) -> Cascade:
        """Set the thresholds on held-out examples, by exactly one aim; returns itself.

        `accuracy` (a share): the cheapest that reach it. `cost`: the most accurate of that mean cost or less. `price`: the
        least mean cost plus `price` times the share of errors. `abstain`: the share of examples, those that the last stage
        is least sure of, that get no answer: so many at least are left to it. Raises ScrimpError for an aim that no
        thresholds reach.
        """
        if sum(aim is not None for aim in (accuracy, cost, price)) != 1:
            raise ScrimpError("choose thresholds by exactly one of accuracy=, cost= and price=")
        for name, aim in {"accuracy": accuracy, "cost": cost, "price": price}.items():
            if aim is not None and (not _is_number(aim) or not aim >= 0 or math.isinf(aim)):
                raise ScrimpError(f"{name} is a finite number that is not below 0, got {aim!r}")
        if not 0 <= abstain < 1:
            raise ScrimpError(f"abstain is a share of the examples, from 0 to below 1, got {abstain}")
        found = points(*self._table(inputs, labels), self.costs)
        silent = round(abstain * len(labels))
        found = [point for point in found if point.last * len(labels) > silent - 0.5]  # the last stage may have all
        if accuracy is not None:
            good = [point for point in found if point.accuracy >= accuracy - 1e-12]
            if not good:
                best = max(point.accuracy for point in found)
                raise ScrimpError(
                    f"no thresholds reach an accuracy of {accuracy:g}: the best is {best:.4g}; give a share of 1"
                )
            best_point = min(good, key=lambda point: (point.cost, -point.accuracy))
        elif cost is not None:
            cheap = [point for point in found if point.cost <= cost + 1e-12]
            if not cheap:
                raise ScrimpError(f"no thresholds cost {cost:g} or less: the first stage alone costs {self.costs[0]:g}")
            best_point = max(cheap, key=lambda point: (point.accuracy, -point.cost))
        else:
            assert price is not None  # one of the three
            best_point = min(found, key=lambda point: point.cost + price * (1 - point.accuracy))
        self.thresholds = [*best_point.thresholds, 0.0]
        if abstain:
            answers = self(inputs)
            last = np.sort(answers.confidence[answers.stage == len(self.stages) - 1])
            self.thresholds[-1] = float(np.nextafter(last[silent - 1], 2)) if silent else 0.0
        return self

    def choose_by_chow(self, price: float, errors: Sequence[float]) -> Cascade:
        """Set the thresholds by Chow's rule: an error costs `price`; `errors` are the error shares of the later stages."""
        later = self._one_each([*errors, 0.0], "errors of the stages after the first")[:-1]
        if not _is_number(price) or not 0 < price < math.inf or any(not 0 <= error <= 1 for error in later):
            raise ScrimpError(f"Chow's rule takes a price above 0 and errors from 0 to 1, got {price!r} and {errors}")
        if self.how != "probability":
            raise ScrimpError("Chow's rule reads a probability of being right: it goes with confidence='probability'")
        pairs = zip(self.costs[1:], later, strict=True)
        self.thresholds = [*(chow_threshold(price, cost, error) for cost, error in pairs), 0.0]
        return self

    def front(self, inputs: Any, labels: Any) -> list[Point]:
        """What thresholds can reach on labelled examples: accuracy against mean cost, the cheapest first."""
        return front(points(*self._table(inputs, labels), self.costs))

    def __call__(self, inputs: Any) -> Answers:
        """Answer examples; a stage sees only those that no stage before it has answered."""
        if self.thresholds is None:
            raise ScrimpError("the cascade has no thresholds: choose(...) them on held-out examples, or give `thresholds`")
        count = _count(inputs)
        labels, stage = np.full(count, ABSTAINED, np.int64), np.full(count, len(self.stages) - 1, np.int64)
        confidence, cost, left = np.zeros(count), np.zeros(count), np.arange(count)
        classes: dict[int, int] = {}  # that each stage tells
        for number, threshold in enumerate(self.thresholds):
            if not len(left):
                break
            given = self._ask(number, _taken(inputs, left), len(left))
            classes[number] = given.shape[1]
            if len(set(classes.values())) > 1:
                raise ScrimpError(f"stages tell {sorted(set(classes.values()))} classes: all must know the same")
            certain = confidence_of(given, self.how)
            cost[left] += self.stages[number][1]
            confidence[left] = certain
            sure = certain >= threshold
            labels[left[sure]] = given.argmax(axis=1)[sure]
            stage[left[sure]] = number
            left = left[~sure]
        return Answers(labels, stage, confidence, cost)

    # --- within ---
    def _one_each(self, values: Sequence[float], what: str) -> list[float]:
        if len(values) != len(self.stages) or any(math.isnan(value) for value in values):
            raise ScrimpError(f"{what}: give a number for each of {len(self.stages)} stages, got {list(values)}")
        return [float(value) for value in values]

    def _ask(self, number: int, inputs: Any, count: int) -> Floats:
        stage = self.stages[number][0]
        if isinstance(stage, torch.nn.Module) and stage.training:
            raise ScrimpError(
                f"stage {number} is in training mode, where dropout and batch norm give other answers: call eval()"
            )
        with torch.no_grad():
            given = stage(inputs)
        found = np.asarray(given.detach().cpu().double() if isinstance(given, torch.Tensor) else given, dtype=np.float64)
        if found.ndim != 2 or len(found) != count:
            raise ScrimpError(f"stage {number} gave an array of shape {found.shape} for {count} examples, not [{count}, C]")
        if not np.isfinite(found).all() or found.min(initial=0.0) < 0 or found.sum(axis=1).max(initial=0.0) > 1 + EDGE:
            raise ScrimpError(f"stage {number} gave numbers that are no probabilities: let it return softmax(logits)")
        return tempered(found, self.temperatures[number])

    def _all(self, inputs: Any, labels: Integers) -> list[Floats]:
        """Every stage's probabilities of all examples."""
        given = [self._ask(number, inputs, len(labels)) for number in range(len(self.stages))]
        classes = {of.shape[1] for of in given}
        if len(classes) > 1 or labels.max() >= min(classes):
            raise ScrimpError(f"stages tell {sorted(classes)} classes, labels go to {labels.max()}: all must know the same")
        return given

    def _table(self, inputs: Any, labels: Any) -> tuple[Floats, NDArray[np.bool_]]:
        """Confidences [k, n] of all stages, and where each is right."""
        true = _labels(labels, _count(inputs))
        given = self._all(inputs, true)
        confidences = np.stack([confidence_of(of, self.how) for of in given])
        return confidences, np.stack([(of.argmax(axis=1) == true) & (of.sum(axis=1) > 0) for of in given])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _count(inputs: Any) -> int:
    if isinstance(inputs, dict):
        keys = ", ".join(map(str, inputs))
        raise ScrimpError(f"examples come as a tensor, an array or a list, got a dict ({keys}): give a list of examples")
    try:
        count = len(inputs)
    except TypeError as error:
        raise ScrimpError(f"examples come as a tensor, an array or a list, got {type(inputs).__name__}") from error
    if count == 0:
        raise ScrimpError("there are no examples: give one or more")
    return count


def _labels(labels: Any, count: int) -> Integers:
    found = np.asarray(labels.cpu() if isinstance(labels, torch.Tensor) else labels)
    if found.shape != (count,) or found.dtype.kind not in "iu" or found.min() < 0:
        raise ScrimpError(f"labels must be {count} whole numbers from 0 on, got shape {found.shape} of {found.dtype}")
    return found.astype(np.int64)


def _taken(inputs: Any, indices: Integers) -> Any:
    if isinstance(inputs, torch.Tensor):
        return inputs[torch.from_numpy(indices).to(inputs.device)]
    if isinstance(inputs, np.ndarray):
        return inputs[indices]
    if hasattr(inputs, "iloc"):  # pandas looks up by label otherwise
        return inputs.iloc[indices]
    return [inputs[index] for index in indices.tolist()]
