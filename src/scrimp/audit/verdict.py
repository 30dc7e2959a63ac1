"""What an audit found: a sentence a method, a recommendation, `verdict.json` and `report.html`."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ConfigDict

from scrimp.audit.design import PLAIN, Candidate, Design, duration, sweep_arm
from scrimp.audit.folder import AXES, SCALE, Audited, axes_of, claim_id, write_card
from scrimp.audit.plan import Pace, fraction_doubt
from scrimp.claims.evidence import Number
from scrimp.claims.judge import ClaimResult, collect_claims, judge, write_claims
from scrimp.claims.loading import load_claims
from scrimp.claims.pilot import Pilot
from scrimp.claims.power import seeds_for
from scrimp.claims.rules.ratio import FLAT
from scrimp.claims.statistics import mean_interval
from scrimp.claims.verdicts import VerdictName
from scrimp.config import Closed, Workspace
from scrimp.config.claims import AMORTISED
from scrimp.errors import ScrimpError
from scrimp.files import write_json
from scrimp.metrics import better_side, metric_of
from scrimp.runs import Runs

WORTHWHILE = 1.1  # the speedup for which an open question is said to need so many seeds
SAME_POINTS = 0.5  # a shorter recipe that loses no more is as good; for a metric that is no percentage, 1 % of its value
SAME_SHARE = 0.01


class Effect(Closed):
    """A number with its 95 % interval; null where there is none. Of a speedup: times; above 1 the method saves."""

    model_config = ConfigDict(allow_inf_nan=True)

    value: Number | None
    low: Number | None
    high: Number | None
    verdict: VerdictName
    reason: str


class MethodVerdict(Closed):
    """One method against the plain recipe. `speedup` is by axis, `quality` the method's metric minus the plain recipe's.

    `seeds_needed` is how many seeds would find a speedup of 1.1x, and `hours_more` what those beyond the present would take;
    null where the question is not open, or where no number of seeds that was tried is enough.
    """

    arm: str
    label: str
    seeds: int
    speedup: dict[str, Effect]
    quality: Effect
    seeds_needed: int | None
    hours_more: float | None
    sentence: str


class SweepPoint(Closed):
    """The plain recipe at a share of its length: the mean of the metric over seeds, and what it gives away."""

    model_config = ConfigDict(allow_inf_nan=True)

    arm: str
    share: float
    seeds: int
    quality: Number
    difference: Number | None
    low: Number | None
    high: Number | None


class Verdict(Closed):
    """What `verdict.json` holds. `schema_version` changes when a field changes its meaning or goes."""

    schema_version: Literal[1] = 1
    task: str
    metric: str
    unit: str
    better: Literal["higher", "lower"]
    time: str
    seeds: int
    complete: bool
    missing_runs: int
    recommendation: str
    methods: list[MethodVerdict]
    sweep: list[SweepPoint]


def conclude(workspace: Workspace, audited: Audited, design: Design, pace: Pace, at_a_time: int, missing: int) -> Verdict:
    """Judge what is there, write claims, figures, `verdict.json` and `report.html`, and return the verdict."""
    study = workspace.study(audited.name)
    results = {result.claim: result for result in judge(workspace, study, SCALE, load_claims(workspace, audited.name))}
    write_claims(workspace, audited.name, SCALE, list(results.values()))
    runs = Runs.of(workspace, study, SCALE)
    methods = [_method(one, results, runs, workspace, audited, design, pace, at_a_time) for one in design.candidates]
    points = _sweep(runs, audited, design)
    metric = metric_of(audited.metric)
    doubt = fraction_doubt(workspace, audited)
    verdict = Verdict(
        task=audited.file.name,
        metric=audited.metric,
        unit=metric.unit,
        better=better_side(audited.metric),
        time=audited.time_axis,
        seeds=design.seeds,
        complete=missing == 0,
        missing_runs=missing,
        recommendation=f"In doubt: {doubt}." if doubt else recommendation(methods, points, audited),
        methods=methods,
        sweep=points,
    )
    write_json(workspace.root / "verdict.json", verdict.model_dump(mode="json"))
    _page(workspace, audited, verdict)
    return verdict


def _method(
    one: Candidate,
    results: dict[str, ClaimResult],
    runs: Runs,
    workspace: Workspace,
    audited: Audited,
    design: Design,
    pace: Pace,
    at_a_time: int,
) -> MethodVerdict:
    axes = axes_of(one, [audited.time_axis, "examples", "flops"])
    speedup = {axis: _effect(results[claim_id(one.arm, axis)]) for axis in axes}
    quality = _effect(results[claim_id(one.arm, "quality")])
    in_time = results[claim_id(one.arm, audited.time_axis)]
    seeds_needed = hours = None
    if in_time.verdict == "inconclusive" and FLAT not in in_time.reason and in_time.n > 1:
        claim = next(c for c in load_claims(workspace, audited.name) if c.id == in_time.claim)
        pilot = Pilot(workspace.results(SCALE, audited.name), runs.runs)
        seeds_needed = seeds_for(claim, WORTHWHILE, workspace, runs.study, SCALE, pilot, at_least=in_time.n)
        if seeds_needed is not None:
            arms = [sweep_arm(share) for share in design.sweep] + [one.arm]
            per_seed = sum(pace.hours(design.arms()[arm]) for arm in arms)
            hours = max(0, seeds_needed - in_time.n) * per_seed / at_a_time
    return MethodVerdict(
        arm=one.arm,
        label=one.label,
        seeds=in_time.n,
        speedup=speedup,
        quality=quality,
        seeds_needed=seeds_needed,
        hours_more=hours,
        sentence=sentence(one.label, in_time, quality, audited, seeds_needed, hours)
        + without_reference(results.get(claim_id(one.arm, f"{audited.time_axis}{AMORTISED}"))),
    )


def _effect(result: ClaimResult) -> Effect:
    told = {key: getattr(result, key) for key in ("low", "high", "verdict", "reason")}
    return Effect(value=result.measured, **told)


# ------------------------------------------------------------------------------------------------------------- in words
def sentence(
    label: str, result: ClaimResult, quality: Effect, audited: Audited, seeds_needed: int | None, hours: float | None
) -> str:
    """One method's result: `RS2 50 %: 1.02x (0.91 to 1.14) in CPU time at equal accuracy: no saving shown; ...`."""
    axis = AXES[audited.time_axis]
    if result.verdict == "not run":
        return f"{label}: nothing to say yet: {result.reason}"
    size = f"{_times(result.measured, result)} ({_between(result.low, result.high)})"
    what = {
        "supported": "it saves",
        "partly supported": "it saves",
        "not supported": "it saves nothing (within 2 % of none)",
        "contradicted": "it costs more than training the plain recipe for a shorter time",
    }.get(result.verdict, "no saving shown")
    if FLAT in result.reason:
        what += "; the plain recipe hardly gains from training longer there, so a shorter one does as well"
    elif result.verdict == "inconclusive":
        if seeds_needed is None:
            what += f"; no number of seeds that was tried shows {WORTHWHILE}x"
        elif hours is not None:
            more = f", {duration(hours)} more" if hours else ", as many as there are"
            what += f"; to find {WORTHWHILE}x takes {seeds_needed} seeds{more}"
    beside = ""
    if quality.value is not None:
        apart = f"{quality.value:+.3g}{audited.unit} ({_between(quality.low, quality.high)})"
        beside = f" At its full length: {apart} of {audited.label}."
    return f"{label}: {size} in {axis} at equal {audited.label}: {what}.{beside}"


def without_reference(result: ClaimResult | None) -> str:
    """What follows a sentence on a method with a reference: its speedup where that one is there already."""
    if result is None or result.verdict == "not run":
        return ""
    return f" Without what the reference took: {_times(result.measured, result)} ({_between(result.low, result.high)})."


def _times(value: float | None, result: ClaimResult) -> str:
    bound = {"above": "> ", "below": "< "}.get(result.censored or "", "")
    return "no number" if value is None else f"{bound}{value:.2f}x"


def _between(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "no interval"
    if low <= 0 and np.isposinf(high):
        return "unbounded"
    return f"{low:.3g} to {high:.3g}"


def recommendation(methods: list[MethodVerdict], points: list[SweepPoint], audited: Audited) -> str:
    """What to do: the method that saves most for sure, else a shorter recipe that is as good, else what there is."""
    saving = [m for m in methods if m.speedup[audited.time_axis].verdict in ("supported", "partly supported")]
    axis = AXES[audited.time_axis]
    if saving:
        best = max(saving, key=lambda m: m.speedup[audited.time_axis].low or 0.0)
        low = best.speedup[audited.time_axis].low or 0.0
        return f"Use {best.label}: to its {audited.label} the plain recipe takes at least {low:.2f} times the {axis} (95 %)."
    shorter = _as_good(points, audited)
    if shorter is not None:
        margin = _margin(points, audited)
        return (
            f"Train the plain recipe for {shorter.share:g} of its length: it loses at most {margin:.2g}{audited.unit} of "
            f"{audited.label} (95 %; {shorter.difference or 0.0:+.2g} measured), and no method was shown to save more."
        )
    judged = any(m.speedup[audited.time_axis].verdict != "not run" for m in methods)
    if not judged or not any(point.share == 1 for point in points):
        return "Nothing to recommend yet: too few runs are finished."
    return "Keep the plain recipe: no method was shown to save, and no shorter schedule to be as good."


def _margin(points: list[SweepPoint], audited: Audited) -> float:
    """How much worse counts as the same."""
    whole = next((point for point in points if point.share == 1), None)
    if metric_of(audited.metric).unit == "%":
        return SAME_POINTS
    return 0.0 if whole is None else SAME_SHARE * abs(whole.quality)


def _as_good(points: list[SweepPoint], audited: Audited) -> SweepPoint | None:
    """The shortest plain recipe whose interval leaves no loss beyond the margin."""
    sign = 1.0 if better_side(audited.metric) == "higher" else -1.0
    for point in points:
        if point.share >= 1 or point.low is None or point.high is None:
            continue
        worst = point.low if sign > 0 else point.high
        if sign * worst > -_margin(points, audited):
            return point
    return None


def _sweep(runs: Runs, audited: Audited, design: Design) -> list[SweepPoint]:
    points = []
    for share in sorted(design.sweep):
        arm = sweep_arm(share)
        seeds = sorted(runs.runs.get(arm, {}))
        if not seeds:
            continue
        quality = float(np.mean([runs.quality(arm, seed, audited.metric) for seed in seeds]))
        paired = [seed for seed in seeds if seed in runs.runs.get(PLAIN, {})]
        low = high = difference = None
        if share != 1 and paired:
            step = runs.resolution([arm, PLAIN], paired, audited.metric)
            interval = mean_interval(runs.differences(arm, PLAIN, paired, audited.metric), step=step)
            difference = interval.mean
            low, high = (None, None) if np.isnan(interval.low) else (interval.low, interval.high)
        points.append(
            SweepPoint(arm=arm, share=share, seeds=len(seeds), quality=quality, difference=difference, low=low, high=high)
        )
    return points


# ------------------------------------------------------------------------------------------------------------- the page
def _page(workspace: Workspace, audited: Audited, verdict: Verdict) -> Path:
    """`report.html`, with the findings at its head; figures that cannot be drawn yet are left out."""
    from scrimp.report.page import write_report
    from scrimp.studies.outputs import draw_figures

    state = "" if verdict.complete else f"{verdict.missing_runs} runs are missing. "
    findings = [f"{state}{verdict.recommendation}", *(method.sentence for method in verdict.methods)]
    write_card(workspace.study_folder(audited.name), audited, "\n\n".join(findings))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            draw_figures(workspace, audited.name, SCALE)
    except ScrimpError as error:
        if verdict.complete:
            raise
        print(f"figures: {error}")
    collect_claims(workspace, SCALE, [audited.name])
    page = workspace.root / "report.html"
    shutil.copyfile(write_report(workspace, SCALE, [audited.name]), page)
    return page
