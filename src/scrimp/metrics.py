"""Every metric's unit, better side and label. A name that is not known here is an error, never a guess.

A run names its metrics `SPLIT_METRIC`: `test_accuracy`, `test_emoji_i2t_r1`. The split is taken off, then the metric is
looked up. A task of one's own registers what it measures beside these, in its file:

    register(Metric("dice", unit="%", better="higher", label="Dice score"))
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from scrimp.errors import ScrimpError

Better = Literal["higher", "lower"]
SPLITS = ("test_emoji_", "test_unseen_", "test_", "validation_", "train_")
PREFIXES = (*SPLITS, "zero_shot_", "few_shot_", "coco_", "i2t_", "t2i_")


@dataclass(frozen=True)
class Metric:
    """What a number measures. `better` is None for what is noted and never compared, such as a share or a scale."""

    name: str
    unit: str
    better: Better | None
    label: str


_METRICS: dict[str, Metric] = {}


def register(metric: Metric) -> Metric:
    """Make a metric known; another one under the same name is an error."""
    if _METRICS.setdefault(metric.name, metric) != metric:
        raise ScrimpError(f"the metric {metric.name!r} is registered as {_METRICS[metric.name]}, not as {metric}")
    return metric


def metrics() -> list[Metric]:
    """All that are known, by name."""
    return [_METRICS[name] for name in sorted(_METRICS)]


def metric_of(name: str) -> Metric:
    """The metric that a run's `name` stands for, its split taken off; an unknown one is an error that lists the known."""
    base = name.partition(":")[0]
    while base not in _METRICS:
        prefix = next((prefix for prefix in PREFIXES if base.startswith(prefix)), None)
        if prefix is None:
            close = difflib.get_close_matches(base, _METRICS, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ScrimpError(
                f"unknown metric {name!r}: {hint}known: {', '.join(sorted(_METRICS))}; a task of your own registers its "
                "metrics with scrimp.metrics.register"
            )
        base = base.removeprefix(prefix)
    return _METRICS[base]


def axis_label(name: str) -> str:
    """What a figure writes at the axis of a run's metric: `test_accuracy` is "test top-1 accuracy, %"."""
    metric = metric_of(name)
    split = name.partition(":")[0].removesuffix(metric.name).strip("_").replace("_", " ")
    label = f"{split} {metric.label}" if split else metric.label
    return f"{label}, {metric.unit}" if metric.unit and metric.unit not in label else label


def better_side(name: str) -> Better:
    """Which side of a metric is good; one that is never compared is an error, too."""
    better = metric_of(name).better
    if better is None:
        raise ScrimpError(f"{name} has no better side: it is noted, not compared")
    return better


for _metric in (
    Metric("accuracy", "%", "higher", "top-1 accuracy"),
    Metric("error", "%", "lower", "error"),
    Metric("loss", "nats", "lower", "loss"),
    Metric("nll", "nats", "lower", "negative log-likelihood"),
    Metric("bits_per_byte", "bits a byte", "lower", "bits a byte"),
    Metric("perplexity", "", "lower", "perplexity"),
    Metric("mse", "", "lower", "mean squared error"),
    Metric("mae", "", "lower", "mean absolute error"),
    Metric("rmse", "", "lower", "root mean squared error"),
    Metric("psnr", "dB", "higher", "peak signal-to-noise ratio"),
    Metric("fid", "", "lower", "Frechet inception distance"),
    Metric("r1", "%", "higher", "recall at 1"),
    Metric("r5", "%", "higher", "recall at 5"),
    Metric("r10", "%", "higher", "recall at 10"),
    Metric("unseen_average", "%", "higher", "mean of zero-shot, 10-shot and retrieval of unseen designers"),
    Metric("mrr", "", "higher", "mean reciprocal rank"),
    Metric("f1", "%", "higher", "F1"),
    Metric("mcc", "", "higher", "Matthews correlation"),
    Metric("pearson", "", "higher", "Pearson correlation"),
    Metric("spearman", "", "higher", "Spearman correlation"),
    Metric("average", "%", "higher", "mean of several metrics"),
    Metric("map", "%", "higher", "mean average precision"),
    Metric("miou", "%", "higher", "mean intersection over union"),
    Metric("seconds", "s", "lower", "wall time"),
    Metric("cpu_seconds", "s", "lower", "CPU time"),
    Metric("kept_fraction", "", None, "share of the examples kept"),
    Metric("below_mean", "", None, "share of the losses below their mean"),
    Metric("score_mean", "nats", None, "mean score"),
    *(Metric(f"score_p{share}", "nats", None, f"score below which {share} % of them lie") for share in (10, 25, 50, 75, 90)),
    Metric("chosen_share", "", None, "share of what is chosen"),
    Metric("logit_scale", "", None, "scale of the logits"),
    Metric("logit_bias", "", None, "bias of the logits"),
):
    register(_metric)
