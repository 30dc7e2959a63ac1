"""What the cascade study measures: models trained as its arms are, cascades of them, and what each answer costs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from scrimp.cascade import Answers, Cascade, Floats, Integers, Point, confidence_of, expected_calibration_error
from scrimp.config import Workspace
from scrimp.studies import probe
from scrimp.tasks import load_task

from .stages import KnownIcons, Stage, Trained, split_of, trained

STUDY = "cascade"
ARM = "model"
ABSTAINED = 0.1
PRICE = 5.0  # of an error, in answers of the large model
SHOWN = 40  # points of a front that are kept


@probe("answers")
def answers(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Everything, a row a seed and a thing measured; accuracies in percent, costs in FLOPs of one answer.

    `models` are the workloads of the single models, the smallest first. Thresholds and temperatures come from the split
    `validation`, all else from `test`. `what`: `single` (a model: `accuracy`, `cost`, `ece`, `ece_tempered`), `front` (a
    cascade at one of its thresholds), `equal` (a cascade as accurate as the large model on the validation split: `gain`
    over the large model, `speedup` in cost, `share_N` of stage N), `oracle`, `abstain`, `chow`, `shift`, `latency`.
    """
    torch.set_flush_denormal(True)
    study = workspace.study(STUDY)
    sizes = study.scale(scale)
    rows: list[dict[str, Any]] = []
    for seed in sizes.seeds:
        models: dict[str, Trained] = {}
        for name in options["models"]:
            workload = sizes.workloads[name]
            task = load_task(study.task, workspace, workload, torch.device("cpu"))
            models[name] = trained(task, study.arm_in(ARM, workload), seed)
        rows += [{"seed": seed, **row} for row in Seed(models).rows(options["latency"])]
    return pd.DataFrame(rows)


class Seed:
    """The models of one seed, and what they say of every picture."""

    def __init__(self, models: dict[str, Trained]) -> None:
        self.names = list(models)
        self.large = self.names[-1]
        any_model = models[self.large]
        task: Any = any_model.task
        out = torch.ones(task.examples, dtype=torch.bool)
        out[any_model.kept] = False
        self.splits = {split: split_of(task, split) for split in ("validation", "test")}
        self.splits["seen"] = split_of(task, task.train_split, out.nonzero().flatten())
        pixels, labels = split_of(task, task.train_split, any_model.kept)
        self.callables: dict[str, Stage] = {"rule": KnownIcons(pixels, torch.from_numpy(labels), task.classes), **models}
        self.costs = {"rule": KnownIcons.flops(pixels)} | {name: model.task.flops.forward for name, model in models.items()}
        # Every stage's word on every picture, once: cascades below look it up.
        self.said: dict[tuple[str, str], Floats] = {
            (name, split): np.asarray(ask(pixels), dtype=np.float64)
            for name, ask in self.callables.items()
            for split, (pixels, _) in self.splits.items()
        }

    # --- cascades over what was said: an example is its number ---
    def cascade(self, names: list[str], split: str, calibrated_on: str | None = "validation", **how: Any) -> Cascade:
        made = self._over(names, split, **how)
        if calibrated_on is not None:
            rows, labels = self._examples(calibrated_on)
            made.temperatures = self._over(names, calibrated_on, **how).calibrate(rows, labels).temperatures
        return made

    def _over(self, names: list[str], split: str, **how: Any) -> Cascade:
        return Cascade([(self._lookup(name, split), self.costs[name]) for name in names], **how)

    def _lookup(self, name: str, split: str) -> Stage:
        said = self.said[name, split]
        return lambda rows: said[rows]

    def _examples(self, split: str) -> tuple[Integers, Integers]:
        labels = self.splits[split][1]
        return np.arange(len(labels)), labels

    def _right(self, name: str, split: str) -> NDArray[np.bool_]:
        right: NDArray[np.bool_] = self.said[name, split].argmax(axis=1) == self.splits[split][1]
        return right

    def _accuracy(self, name: str, split: str) -> float:
        return 100 * float(self._right(name, split).mean())

    # --- what is measured ---
    def rows(self, latency: int) -> list[dict[str, Any]]:
        two, three, filtered = [self.names[0], self.large], self.names, ["rule", *self.names]
        found = [self.single(name) for name in self.names]
        equal = {
            name: self.equal(names, **how)
            for name, names, how in (
                ("two", two, {}),
                ("three", three, {}),
                ("filtered", filtered, {}),
                ("margin", three, {"confidence": "margin"}),
                ("raw", three, {"calibrated_on": None}),
            )
        }
        for name, row in equal.items():
            row |= {"over_three": equal["three"]["cost"] / row["cost"], "over_raw": equal["raw"]["cost"] / row["cost"]}
            found.append({"what": "equal", "name": name, **row})
        for name, names in (("two", two), ("three", three), ("filtered", filtered)):
            found += self.front(name, names)
        return [*found, self.oracle(), self.abstain(), self.chow(), self.shift(), self.latency(latency)]

    def single(self, name: str) -> dict[str, Any]:
        """A model alone: accuracy, cost, and calibration before and after its temperature, in points."""
        rows, labels = self._examples("validation")
        fitted = self._over([name, self.large], "validation").calibrate(rows, labels).temperatures
        made = self._over([name, self.large], "test", temperatures=fitted)
        right = self._right(name, "test")
        before = 100 * expected_calibration_error(confidence_of(self.said[name, "test"]), right)
        made.thresholds = [0.0, 0.0]
        after = 100 * expected_calibration_error(made(self._examples("test")[0]).confidence, right)
        return {
            "what": "single",
            "name": name,
            "accuracy": self._accuracy(name, "test"),
            "cost": self.costs[name],
            "temperature": fitted[0],
            "ece": before,
            "ece_tempered": after,
            "ece_change": after - before,
        }

    def equal(self, names: list[str], chosen_on: str = "validation", abstain: float = 0.0, **how: Any) -> dict[str, Any]:
        """A cascade that is as accurate as the large model where its thresholds are chosen, on the test split."""
        made = self._chosen(names, chosen_on, abstain, **how)
        rows, labels = self._examples("test")
        given = made(rows)
        cost, accuracy = float(given.cost.mean()), 100 * float((given.labels == labels)[given.answered].mean())
        shares = np.bincount(given.stage[given.answered], minlength=len(names)) / len(rows)
        return {
            "accuracy": accuracy,
            "gain": accuracy - self._accuracy(self.large, "test"),
            "cost": cost,
            "speedup": self.costs[self.large] / cost,
            "saved": 1 - cost / self.costs[self.large],
            "before_large": float(shares[:-1].sum()),
            "examples": len(rows),
            "over_random": accuracy - self.at_random(cost),
            "over_front": accuracy - self.between(cost),
            "worst": made.worst_cost / self.costs[self.large],
            **{f"share_{name}": float(share) for name, share in zip(names, shares, strict=True)},
        }

    def _chosen(self, names: list[str], chosen_on: str, abstain: float = 0.0, **how: Any) -> Cascade:
        there = self.cascade(names, chosen_on, **{"calibrated_on": chosen_on, **how})
        rows, labels = self._examples(chosen_on)
        there.choose(rows, labels, accuracy=self._accuracy(self.large, chosen_on) / 100, abstain=abstain)
        made = self._over(names, "test", confidence=there.how)
        made.thresholds, made.temperatures = there.thresholds, there.temperatures
        return made

    def at_random(self, cost: float) -> float:
        """Accuracy in percent of asking the large model at random after the small one, as often as `cost` allows."""
        small, large = self.names[0], self.large
        share = min(1.0, max(0.0, (cost - self.costs[small]) / self.costs[large]))
        return (1 - share) * self._accuracy(small, "test") + share * self._accuracy(large, "test")

    def between(self, cost: float) -> float:
        """Accuracy in percent of a single model of that cost: on the line through the models, over the logarithm of cost."""
        costs = [self.costs[name] for name in self.names]
        return float(np.interp(np.log(cost), np.log(costs), [self._accuracy(name, "test") for name in self.names]))

    def front(self, name: str, names: list[str]) -> list[dict[str, Any]]:
        """A cascade at thresholds that are best on the validation split, each on the test split."""
        rows, labels = self._examples("validation")
        there = self.cascade(names, "validation")
        best = there.front(rows, labels)
        chosen = [best[at] for at in np.unique(np.linspace(0, len(best) - 1, min(SHOWN, len(best))).round().astype(int))]
        made = self._over(names, "test", temperatures=there.temperatures)
        tests, truth = self._examples("test")
        found = []
        for number, point in enumerate(chosen):
            given = self._at(made, point, tests)
            accuracy = 100 * float((given.labels == truth).mean())
            found.append(
                {"what": "front", "name": name, "place": number, "accuracy": accuracy, "cost": float(given.cost.mean())}
            )
        return found

    @staticmethod
    def _at(made: Cascade, point: Point, rows: Integers) -> Answers:
        made.thresholds = [*point.thresholds, 0.0]
        return made(rows)

    def oracle(self) -> dict[str, Any]:
        """The cheapest model that is right answers alone, or the cheapest where none is."""
        right = np.stack([self._right(name, "test") for name in self.names])
        asked = np.where(right.any(axis=0), right.argmax(axis=0), 0)
        accuracy = 100 * float(right.any(axis=0).mean())
        cost = float(np.array([self.costs[name] for name in self.names])[asked].mean())
        gain = accuracy - self._accuracy(self.large, "test")
        return {"what": "oracle", "name": "oracle", "accuracy": accuracy, "cost": cost, "gain": gain}

    def abstain(self) -> dict[str, Any]:
        """Accuracy on what is answered, less that on everything, where a tenth gets no answer."""
        silent, whole = self.equal(self.names, abstain=ABSTAINED), self.equal(self.names)
        return {"what": "abstain", "name": "three", **silent, "gain": silent["accuracy"] - whole["accuracy"]}

    def chow(self) -> dict[str, Any]:
        """Risk on the test split of Chow's thresholds over that of searched ones, less 1."""
        rows, labels = self._examples("validation")
        price = PRICE * self.costs[self.large]
        searched = self.cascade(self.names, "validation").choose(rows, labels, price=price)
        errors = [1 - self._accuracy(name, "validation") / 100 for name in self.names[1:]]
        tests, truth = self._examples("test")

        def risk(thresholds: list[float] | None) -> float:
            made = self._over(self.names, "test", thresholds=thresholds, temperatures=searched.temperatures)
            given = made(tests)
            return float(given.cost.mean() + price * (given.labels != truth).mean())

        by_rule = self._over(self.names, "test").choose_by_chow(price, errors)
        return {"what": "chow", "name": "three", "excess": risk(by_rule.thresholds) / risk(searched.thresholds) - 1}

    def shift(self) -> dict[str, Any]:
        """As `equal`, but with temperatures and thresholds from designers that were seen in training."""
        return {"what": "shift", "name": "three", **self.equal(self.names, chosen_on="seen")}

    def latency(self, count: int) -> dict[str, Any]:
        """CPU seconds of single answers by the large model and by the cascade that matches it, on `count` test pictures.

        Each is the least of three tries, so that what else the machine does weighs less. `worst` sets the mean of the
        answers that went through all stages (or the slowest) against the large model's mean.
        """
        of = self._chosen(self.names, "validation")
        live = Cascade([(self.callables[name], self.costs[name]) for name in self.names], thresholds=of.thresholds)
        live.temperatures = of.temperatures
        pixels = self.splits["test"][0][:count]
        alone, routed, last = [], [], []
        for picture in pixels.split(1):
            alone.append(_fastest(self.callables[self.large], picture))
            routed.append(_fastest(live, picture))
            last.append(int(live(picture).stage[0]) == len(self.names) - 1)
        through = [seconds for seconds, all_stages in zip(routed, last, strict=True) if all_stages] or [max(routed)]
        mean = float(np.mean(alone))
        return {
            "what": "latency",
            "name": "three",
            "seconds_large": mean,
            "seconds_cascade": float(np.mean(routed)),
            "seconds_worst": float(np.mean(through)),
            "speedup": mean / float(np.mean(routed)),
            "worst": float(np.mean(through)) / mean,
        }


def _fastest(ask: Any, picture: Tensor) -> float:
    seconds = []
    for _ in range(3):
        start = time.process_time()
        ask(picture)
        seconds.append(time.process_time() - start)
    return min(seconds)
