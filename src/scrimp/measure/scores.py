"""GLUE's metrics by name, from scikit-learn and scipy: of predicted classes, or of predicted grades."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt
from scipy import stats

from scrimp.config.base import unknown
from scrimp.errors import ScrimpError

Values = npt.NDArray[np.float64]


def _accuracy(predicted: Values, labels: Values) -> float:
    from sklearn.metrics import accuracy_score

    return 100 * float(accuracy_score(labels, predicted))


def _f1(predicted: Values, labels: Values) -> float:
    from sklearn.metrics import f1_score

    return 100 * float(f1_score(labels, predicted, pos_label=1, zero_division=0.0))


def _mcc(predicted: Values, labels: Values) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predicted))


def _correlation(of: Callable[..., tuple[float, float]]) -> Callable[[Values, Values], float]:
    def correlation(predicted: Values, labels: Values) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.ConstantInputWarning)
            value = float(of(predicted, labels)[0])
        return value if np.isfinite(value) else 0.0  # of a constant, as GLUE's own code has it

    return correlation


SCORES: dict[str, Callable[[Values, Values], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "mcc": _mcc,
    "pearson": _correlation(stats.pearsonr),
    "spearman": _correlation(stats.spearmanr),
}
PERCENT = {"accuracy", "f1"}  # these are in percent; coefficients run from -1 to 1, and count times 100 in an average


def score(metric: str, predicted: Values, labels: Values) -> float:
    """A metric of predictions [n] against labels [n]; accuracy and F1 (of class 1) in percent.

    An unknown metric is an error that lists the known; F1 of more than two classes is refused.
    """
    if metric not in SCORES:
        raise ScrimpError(unknown("metric", metric, SCORES, "a labelled text"))
    if metric == "f1" and not set(np.unique(labels)) <= {0.0, 1.0}:
        raise ScrimpError("f1 is of the class 1 among two: take accuracy, or mcc, for more classes")
    return SCORES[metric](predicted, labels)


def in_percent(metric: str, value: float) -> float:
    """A metric's value as averages count it."""
    return value if metric in PERCENT else 100 * value


def average(values: Iterable[Mapping[str, float]]) -> float:
    """The mean over test sets, in percent, of the first metric of each: GLUE's, where MNLI's two test sets count as two."""
    firsts = [in_percent(*next(iter(of_one.items()))) for of_one in values]
    if not firsts:
        raise ScrimpError("there is no test set to average over")
    return float(np.mean(firsts))
