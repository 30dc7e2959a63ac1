"""Numbers of the batch study: counted from published runs, derived from its own, and measured while one trains or serves."""

from __future__ import annotations

import functools
import math
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from scrimp.config import Horizon, Workspace
from scrimp.config.training import Workload
from scrimp.measure.clock import Clock
from scrimp.measure.critical_batch import fit_hyperbola
from scrimp.measure.drift import distance, growth_of_distance
from scrimp.measure.gradient_noise import SquaredNorms, simple_noise_scale, squared_norms
from scrimp.measure.serving import poisson_arrivals, serve
from scrimp.methods.base import Method
from scrimp.methods.combined import Methods
from scrimp.methods.large_batch import scaled_rate
from scrimp.methods.noise_schedule import falls, noise_scale, share_out
from scrimp.seeding import derived_generator, stream
from scrimp.studies import probe
from scrimp.tasks import load_task
from scrimp.tasks.base import Batch, Task, sliced
from scrimp.training.budget import Budget
from scrimp.training.loop import train
from scrimp.training.optimizers import build_optimizer, set_learning_rate

from .points import REMEDIES, STUDY, accuracies, accuracy_curves, published


# ------------------------------------------------------------------------------------------------------------- published
@probe("published-runs")
def published_runs(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Smith et al.'s runs: updates counted epoch by epoch from their schedules, and the noise scale that each begins with.

    `noise_over_decay` sets it against the first run's; `saved` is the share of the first run's updates.
    """
    table = published(workspace, "runs")
    rows = []
    runs: Any = table.itertuples()
    for run in runs:
        at = [int(epoch) / run.epochs for epoch in str(run.falls).split()]
        largest = None if math.isnan(run.largest) else run.largest / run.batch
        passed = [falls(epoch / run.epochs, at) for epoch in range(run.epochs)]
        sizes = [run.batch * share_out(past, run.factor, run.growths, largest)[0] for past in passed]
        noise = noise_scale(run.rate, run.examples, run.batch, run.momentum)
        rows.append({"run": run.run, "counted": sum(run.examples / size for size in sizes), "noise": noise})
    counted = pd.DataFrame(rows)
    first = counted.iloc[0]
    counted["noise_over_decay"] = counted["noise"] / first["noise"]
    counted["saved"] = 1 - counted["counted"] / first["counted"]
    return table[["run", "updates", "accuracy"]].merge(counted, on="run")


# ------------------------------------------------------------------------------------------------------------------ runs
@probe("gap")
def gap(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """The large batch's gap by seed, and what share of it each remedy closes: (remedy - large) / (small - large).

    Where the large batch is no worse than the small one there is no gap to close: the share is missing.
    """
    found = accuracies(workspace, scale, ["decay", "large", *REMEDIES])
    rows = []
    for remedy in REMEDIES:
        if remedy not in found or not {"decay", "large"} <= set(found):
            continue
        for seed in sorted(found["decay"].keys() & found["large"].keys() & found[remedy].keys()):
            lost = found["decay"][seed] - found["large"][seed]
            closed = (found[remedy][seed] - found["large"][seed]) / lost if lost > 0 else float("nan")
            rows.append({"seed": seed, "remedy": remedy, "gap": lost, "closed": closed})
    return pd.DataFrame(rows, columns=["seed", "remedy", "gap", "closed"])


@probe("overlap")
def overlap(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """How far growth's curve of test accuracy lies from decay's at as many examples, by seed, in points.

    `difference` is growth minus decay, averaged over all evaluations before the end; `largest` the largest in size.
    """
    curves = accuracy_curves(workspace, scale, ["decay", "grow"])
    rows = []
    for seed, of_seed in curves.groupby("seed"):
        by_arm = {str(arm): rows.sort_values("examples") for arm, rows in of_seed.groupby("arm")}
        if len(by_arm) < 2:
            continue
        decay, grow = (by_arm[arm] for arm in ("decay", "grow"))
        # Batches end where they end: decay's curve is read where growth's points are.
        expected = np.interp(grow["examples"], decay["examples"], decay["value"])
        apart = (grow["value"].to_numpy() - expected)[:-1]
        if len(apart):
            rows.append({"seed": int(str(seed)), "difference": apart.mean(), "largest": np.abs(apart).max()})
    return pd.DataFrame(rows, columns=["seed", "difference", "largest"])


# ------------------------------------------------------------------------------------------------------------- one by one
class Watch(Method):
    """Calls `look(model, step, fraction)` after the steps of a list."""

    def __init__(self, steps: list[int], look: Any) -> None:
        super().__init__(0)
        self.steps, self.look, self.done = set(steps), look, 0

    def after_step(self, model: nn.Module, fraction: float) -> None:
        self.done += 1
        if self.done in self.steps:
            self.look(model, self.done, fraction)


def _loaded(workspace: Workspace, scale: str) -> tuple[Task, Workload]:
    sizes = workspace.study(STUDY).scale(scale)
    workload = sizes.workloads[sizes.main]
    task = load_task("classification", workspace, workload, torch.device("cpu"))
    return task, workload


@probe("along")
def along(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """One arm's training looked at: a row a seed and a point, evenly spread in log t.

    `distance` of the weights from where they began; `noise_scale` (B_simple) with its interval from `batches` batches of
    `large` examples in parts of `small`, each normalised by itself, without augmentation; the batch that growth would have
    there. `advantage`, on the last row of each seed alone, is how much straighter distance lies over log t than over
    the root of t before the rate first falls; `noise_growth` there the logarithm of the last noise scale over the first.
    """
    task, workload = _loaded(workspace, scale)
    config = workspace.study(STUDY)
    arm, growing = config.arm_in(options["arm"], workload), config.arm_in("grow", workload)
    whole = Horizon(epochs=options.get("horizon", 1.0))
    rows: list[dict[str, Any]] = []
    for seed in options["seeds"]:
        model = task.model(seed)
        start = [weight.detach().clone() for weight in model.parameters()]
        methods = Methods.of(arm.methods, task.examples, workload.recipe.batch_size, seed)
        grown = Methods.of(growing.methods, task.examples, workload.recipe.batch_size, seed)
        budget = Budget.of(whole, workload, task.examples, task.flops.training, by_epochs=True)
        steps = math.floor(budget.amount * task.examples / methods.batch_size(0.0, workload.recipe.batch_size))
        at = sorted({round(step) for step in np.geomspace(1, max(steps - 1, 1), options["points"])})
        seen: list[dict[str, Any]] = []

        def look(
            model: nn.Module, step: int, fraction: float, seed: int = seed, start: list[Tensor] = start,
            grown: Methods = grown, methods: Methods = methods, seen: list[dict[str, Any]] = seen,
        ) -> None:  # fmt: skip
            scale_now = simple_noise_scale(_norms(task, model, options, seed, step))
            seen.append(
                {
                    "seed": seed,
                    "step": step,
                    "fraction": fraction,
                    "rate": methods.learning_rate(fraction, 1.0),
                    "distance": distance(model.parameters(), start),
                    "noise_scale": scale_now.value,
                    "noise_scale_low": scale_now.low,
                    "noise_scale_high": scale_now.high,
                    "growths_batch": grown.batch_size(fraction, workload.recipe.batch_size),
                    "advantage": np.nan,
                    "noise_growth": np.nan,
                }
            )

        watched = Methods({**methods.named, "watch": Watch(at, look)})
        train(task, model, watched, workload.recipe, budget, seed, clock=Clock(task.place.device))
        seen[-1] |= _laws(seen)
        rows += seen
    return pd.DataFrame(rows).assign(last=lambda table: table["advantage"].notna())


def _laws(seen: list[dict[str, Any]]) -> dict[str, float]:
    """What a seed's points say together."""
    before = [row for row in seen if row["rate"] == seen[0]["rate"]]
    law = growth_of_distance([row["step"] for row in before], [row["distance"] for row in before])
    first, last = seen[0]["noise_scale"], seen[-1]["noise_scale"]
    return {"advantage": law.advantage, "noise_growth": math.log(last / first) if math.isfinite(last) else math.inf}


def _norms(task: Task, model: nn.Module, options: dict[str, Any], seed: int, step: int) -> list[SquaredNorms]:
    """Squared norms at the model's present weights, from batches that no other point draws; its buffers stay as they are.

    Batch norm works as in training, on each part: its running statistics lag behind while weights move fast.
    """
    large, draws = options["large"], derived_generator(seed, step, "gradient-noise")
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    found = []
    for _ in range(options["batches"]):
        chosen = torch.randperm(task.examples, generator=draws)[:large]
        losses = functools.partial(_losses_of, task, model, task.batch("train", chosen))
        whole = len(chosen) - len(chosen) % options["small"]
        found.append(squared_norms(model, losses, whole, options["small"]))
    with torch.no_grad():
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
    return found


def _losses_of(task: Task, model: nn.Module, batch: Batch, part: slice) -> Tensor:
    return task.losses(model, sliced(batch, part))


@probe("hyperbola")
def hyperbola(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Updates and examples to a training loss of `target`, a row a batch size and seed, at the better of `scalings`.

    The rate is constant, scaled from the recipe's; the loss is its mean over the last `window` examples. A batch
    size that misses the target within `passes` over the data has missing steps. The fit over all rows stands in the
    columns `critical` (with `_low`, `_high`), `least_steps` and `r_squared`, on the row `last`.
    """
    task, workload = _loaded(workspace, scale)
    rows = []
    for seed in options["seeds"]:
        for batch in options["batches"]:
            tried = {scaling: _steps_to(task, workload, batch, scaling, seed, options) for scaling in options["scalings"]}
            best = min(tried, key=lambda scaling: tried[scaling])
            steps = tried[best] if math.isfinite(tried[best]) else float("nan")
            rows.append({"seed": seed, "batch": batch, "scaling": best, "steps": steps, "examples": steps * batch})
    table = pd.DataFrame(rows)
    reached = table.dropna(subset="steps")
    columns = ["critical", "critical_low", "critical_high", "least_steps", "r_squared"]
    note = ""
    try:
        fit = fit_hyperbola(reached["batch"].tolist(), reached["steps"].tolist())
        values = [fit.critical, fit.low, fit.high, fit.least_steps, fit.r_squared]
    except ValueError as error:
        values, note = [float("nan")] * len(columns), str(error)
    fitted = pd.DataFrame([dict(zip(columns, values, strict=True))], index=[len(table) - 1])
    last = table.index == len(table) - 1
    return table.join(fitted).assign(last=last, note=np.where(last, note, ""))


def _steps_to(task: Task, workload: Workload, batch: int, scaling: Any, seed: int, options: dict[str, Any]) -> float:
    """Steps until the mean loss of the last examples is at the target; infinite if it is not within the passes."""
    model = task.model(seed).train()
    recipe = workload.recipe
    optimizer = build_optimizer(model, recipe)
    set_learning_rate(optimizer, recipe.learning_rate * scaled_rate(batch / recipe.batch_size, scaling))
    over, losses = max(1, round(options["window"] / batch)), []
    limit = math.ceil(options["passes"] * task.examples / batch)
    for step in range(limit):
        visits = task.visits([stream(task.examples, step * batch, batch, seed)], seed, step)
        loss = task.losses(model, next(iter(visits))).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        if len(losses) >= over and sum(losses[-over:]) / over <= options["target"]:
            return step + 1
        if not math.isfinite(losses[-1]):
            break
    return math.inf


# --------------------------------------------------------------------------------------------------------------- serving
@probe("serving")
def serving(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """A server that batches requests as they arrive, a row a load, largest batch and wait.

    Arrivals are Poisson at `loads` times the rate that one-by-one serving can bear. The model's forward pass is timed on
    test pictures at powers of two up to the largest batch, `repeats` times each; a batch takes one of the times of its size
    at random, linear between sizes. `calls_saved` and `cpu_saved` set calls and seconds of the worker a request against
    serving one by one at the same load, which is 1 and above; `latency_added_ms` is the mean latency less that of an empty
    server without batching.
    """
    task, _ = _loaded(workspace, scale)
    model = task.model(0).eval()
    largest = max(options["largest"])
    sizes = [2**power for power in range(largest.bit_length())]
    times = {size: _forward_seconds(task, model, size, options["repeats"]) for size in sizes}
    alone = float(np.median(times[1]))
    rows = []
    for load in options["loads"]:
        arrivals = poisson_arrivals(load / alone, options["requests"], 0)
        for most in options["largest"]:
            for wait in options["waits_ms"]:
                service = functools.partial(_drawn, times, np.random.default_rng(0))
                served = serve(arrivals, service, most, wait / 1000)
                rows.append(
                    {
                        "load": load,
                        "largest": most,
                        "wait_ms": wait,
                        "mean_batch": float(served.sizes.mean()),
                        "throughput": served.throughput,
                        "offered": load / alone,
                        "latency_ms": 1000 * float(served.latencies.mean()),
                        "latency_p95_ms": 1000 * float(np.quantile(served.latencies, 0.95)),
                        "latency_added_ms": 1000 * (float(served.latencies.mean()) - alone),
                        "calls_saved": len(arrivals) / served.calls,
                        "cpu_ms": 1000 * served.busy_per_request,
                        "cpu_saved": alone / served.busy_per_request,
                    }
                )
    return pd.DataFrame(rows)


@torch.no_grad()
def _forward_seconds(task: Task, model: nn.Module, size: int, repeats: int) -> list[float]:
    """CPU seconds of forward passes over `size` test pictures, after one that warms up; on one thread these are its time."""
    batch = task.batch("test", torch.arange(size) % task.size("test"))
    found = []
    for _ in range(repeats + 1):
        began = time.process_time()
        task.outputs(model, batch)
        found.append(time.process_time() - began)
    return found[1:]


def _drawn(times: dict[int, list[float]], draws: np.random.Generator, first: int, count: int) -> float:
    """Seconds of a batch of `count`, whichever its `first` request: between times of the powers of two around it."""
    below = 1 << (count.bit_length() - 1)
    low = times[below][draws.integers(len(times[below]))]
    if below == count or 2 * below not in times:
        return low * count / below
    high = times[2 * below][draws.integers(len(times[2 * below]))]
    return low + (high - low) * (count - below) / below
