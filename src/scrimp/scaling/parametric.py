"""Approach 3: the parametric law, its fit, and the allocation that it calls best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from scrimp.scaling.checks import FLOPS_FACTOR, Array, Interval, first_of_repeats, percentiles, positive

NAMES = ("E", "A", "B", "alpha", "beta")
POLISHED = 50  # starts that are followed to their minimum
FEWEST = 6  # runs: one more than unknowns
FEWEST_FOR_INTERVALS = 8  # runs; of fewer, most resamplings leave too few different ones
REDRAWN = 0.25  # the largest share of resamplings that may leave fewer different runs than unknowns
TIED = 0.15  # spread of a log; with less, size and tokens are taken to move together
MISFIT = 0.01  # of the loss; seeds of one run differ by less
FLAT = 1e-3  # an exponent at or below: at ten times the size its term is the same to .2 %
OUTLIER = 10.0  # typical misfits


@dataclass(frozen=True)
class Law:
    """L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, equation 2); E, A and B in nats."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    @property
    def a(self) -> float:
        """Exponent of the optimal size: N_opt ~ C^a, a = beta / (alpha + beta) (equation 4)."""
        return self.beta / (self.alpha + self.beta)

    @property
    def b(self) -> float:
        """Exponent of the optimal tokens: D_opt ~ C^b, b = alpha / (alpha + beta) (equation 4)."""
        return self.alpha / (self.alpha + self.beta)

    def predict(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        """Loss in nats; `params` and `tokens` broadcast against each other."""
        n, d = np.asarray(params, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
        return np.asarray(self.E + self.A / n**self.alpha + self.B / d**self.beta)


@dataclass(frozen=True)
class ParametricFit(Law):
    """A fitted law. `intervals` and `errors` (standard errors) have the keys E, A, B, alpha, beta, a and b.

    `points`: rows used. `huber`: the summed objective at the optimum, in squared log loss. `replicates`: the fits of the
    resampled runs, shape (bootstrap, 5), columns E, A, B, alpha, beta; `covariance` is theirs. Without a bootstrap, or with
    too few runs for one, these, `intervals` and `errors` are empty. `notes` say what a reader of the numbers should know:
    why there are no intervals, rows that repeat, designs that cannot tell the unknowns apart, a misfit.
    """

    huber: float
    delta: float
    points: int
    intervals: dict[str, Interval] = field(repr=False)
    errors: dict[str, float] = field(repr=False)
    covariance: Array = field(repr=False)
    replicates: Array = field(repr=False)
    notes: tuple[str, ...] = ()

    def laws(self) -> list[Law]:
        """The resampled fits as laws, for bands."""
        return [Law(*map(float, row)) for row in self.replicates]


def fit_parametric(
    params: ArrayLike,
    tokens: ArrayLike,
    loss: ArrayLike,
    *,
    runs: Sequence[object] | ArrayLike | None = None,
    delta: float = 1e-3,
    bootstrap: int = 1000,
    polished: int = POLISHED,
    seed: int = 0,
) -> ParametricFit:
    """Fit L = E + A / N^alpha + B / D^beta to runs: approach 3 of Hoffmann et al. 2022 (section 3.3, appendix D.2).

    The summed Huber loss (threshold `delta`) of log predicted minus log observed loss is minimised by L-BFGS over
    (log A, log B, log E, alpha, beta). All 4,500 published starts are evaluated, the `polished` best of them are followed to
    their minimum, and the lowest is kept. The objective is divided by n delta^2 meanwhile: at its own size, near 1e-5 a
    run, the optimiser's tolerances end the search early (Besiroglu et al. 2024 on the published fit).

    Intervals are percentiles over `bootstrap` resamplings of the runs. Each starts from the optimum of all runs, because
    the starts serve to find the basin and a resampling moves the optimum within it; a search each would cost 50 times more.
    `runs` names the run of each row: rows of one run share its noise, so that whole runs are resampled. Without it a row is
    a run. Rows that repeat another to six digits count once. Below 8 runs, or where more than a quarter of the resamplings
    would leave fewer different runs than unknowns, there are no intervals; fewer such ones are drawn again. `notes` says so.

    Raises ValueError on arrays of different length, on values that are not positive and finite, and on too few runs.
    """
    n, d, observed = positive(params=params, tokens=tokens, loss=loss)
    labels = np.arange(len(n)).astype(str) if runs is None else np.array([str(run) for run in np.asarray(runs).ravel()])
    if len(labels) != len(n):
        raise ValueError(f"runs names {len(labels)} rows, the other arrays have {len(n)}: give one name a row")
    first = first_of_repeats(n, d, observed)
    n, d, observed, labels, rows = n[first], d[first], observed[first], labels[first], len(n)
    names, of_run = np.unique(labels, return_inverse=True)
    if len(names) < FEWEST or len(np.unique(n)) < 3 or len(np.unique(d)) < 3:
        raise ValueError(
            f"five unknowns need {FEWEST} runs, 3 sizes and 3 token counts or more, got {len(names)} different runs, "
            f"{len(np.unique(n))} sizes and {len(np.unique(d))} token counts: add runs, or fix one and use fit_power_law"
        )
    if delta <= 0:
        raise ValueError(f"delta is the Huber threshold in log loss and must be above 0, got {delta}")
    problem = _Huber(np.log(n), np.log(d), np.log(observed), delta)
    starts = problem.centre(_starts())  # (4500, 5)
    first_starts = np.argsort(problem.values(starts), kind="stable")[:polished]
    found = [problem.minimise(starts[at], np.ones(len(n))) for at in first_starts]
    best = min(found, key=lambda pair: pair[1])
    counts, notes = _resamplings(len(names), bootstrap, seed)
    drawn = [problem.minimise(best[0], of[of_run].astype(np.float64))[0] for of in counts]
    replicates = problem.natural(np.array(drawn).reshape(len(counts), 5))
    law = Law(*map(float, problem.natural(best[0][None])[0]))
    columns = {name: replicates[:, at] for at, name in enumerate(NAMES)}
    columns["a"] = columns["beta"] / (columns["alpha"] + columns["beta"])
    columns["b"] = 1 - columns["a"]
    several = len(counts) > 1
    if len(n) < rows:
        notes.append(f"{rows - len(n)} of {rows} rows repeat another (size, tokens, loss to six digits): each counts once")
    if len(names) < len(n):
        notes.append(f"{len(n)} rows belong to {len(names)} runs: whole runs are resampled, rows of one share its noise")
    return ParametricFit(
        **{name: getattr(law, name) for name in NAMES},
        huber=best[1],
        delta=delta,
        points=len(n),
        intervals={name: percentiles(column) for name, column in columns.items()} if several else {},
        errors={name: float(column.std(ddof=1)) for name, column in columns.items()} if several else {},
        covariance=np.cov(replicates, rowvar=False) if several else np.empty((0, 0)),
        replicates=replicates,
        notes=(*notes, *_flat_notes(law), *_design_notes(n, d), *_misfit_notes(law, n, d, observed)),
    )


def _resamplings(runs: int, bootstrap: int, seed: int) -> tuple[NDArray[np.int64], list[str]]:
    """How often each run is drawn, shape (bootstrap, runs), or (0, runs) where no interval can be had; and words on it."""
    if bootstrap == 0:
        return np.empty((0, runs), dtype=np.int64), []
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(runs, np.full(runs, 1 / runs), size=2 * bootstrap)
    enough = (counts > 0).sum(axis=1) >= len(NAMES)
    if runs < FEWEST_FOR_INTERVALS or enough.mean() < 1 - REDRAWN:
        why = f"{1 - enough.mean():.0%} of the resamplings of {runs} runs leave fewer different ones than the five unknowns"
        return np.empty((0, runs), dtype=np.int64), [f"no intervals: {why}; {FEWEST_FOR_INTERVALS} runs or more give them"]
    again = int((~enough[:bootstrap]).sum())
    notes = [f"{again} of {bootstrap} resamplings left fewer different runs than the five unknowns: drawn again"] * bool(
        again
    )
    return counts[enough][:bootstrap], notes


def _design_notes(n: Array, d: Array) -> list[str]:
    """Designs in which size and tokens move together, so that the law's two terms cannot be told apart."""
    notes = []
    if np.log(n * d).std() < TIED:
        notes.append(
            f"all runs spend about one budget, {FLOPS_FACTOR * float(np.median(n * d)):.2g} FLOPs: what another budget "
            "buys, and so a and b, is not in these runs"
        )
    if np.log(d / n).std() < TIED:
        notes.append(
            f"all runs have about {float(np.median(d / n)):.3g} tokens a parameter: what size and tokens do apart, and so "
            "a and b, is not in these runs"
        )
    return notes


def _flat_notes(law: Law) -> list[str]:
    """By which of both the loss does not fall: then exponents of an optimum mean nothing."""
    flat = {"parameters (alpha)": law.alpha, "tokens (beta)": law.beta}
    return [
        f"the loss does not fall with {name} = {value:.3g}: the law has no optimal allocation, and a and b mean nothing"
        for name, value in flat.items()
        if not value > FLAT
    ]


def _misfit_notes(law: Law, n: Array, d: Array, observed: Array) -> list[str]:
    misfit = np.log(observed / law.predict(n, d))
    typical = float(np.median(np.abs(misfit)))
    notes = []
    if typical > MISFIT:
        notes.append(
            f"the typical misfit is {typical:.1%} of the loss: one law hardly describes these runs; are they of one recipe, "
            "dataset and tokenizer, and each fully decayed?"
        )
    far = np.flatnonzero(np.abs(misfit) > max(OUTLIER * typical, MISFIT))
    if far.size and typical <= MISFIT:
        worst = far[np.abs(misfit[far]).argmax()]
        side = "above" if misfit[worst] > 0 else "below"
        notes.append(
            f"{far.size} of {len(n)} runs lie {OUTLIER:g} typical misfits ({typical:.2%}) or more from the law, the "
            f"farthest (N = {n[worst]:.3g}, D = {d[worst]:.3g}) {abs(misfit[worst]):.1%} {side}: are they of another recipe "
            "or dataset, or not decayed?"
        )
    return notes


class _Huber:
    """The objective in coordinates that separate slopes from levels: log A - alpha mean(log N), and likewise for B.

    In them the search needs a third of the steps; the minimum is the same.
    """

    def __init__(self, log_n: Array, log_d: Array, log_loss: Array, delta: float) -> None:
        self.means = float(log_n.mean()), float(log_d.mean())
        self.log_n, self.log_d, self.log_loss, self.delta = log_n - self.means[0], log_d - self.means[1], log_loss, delta

    def centre(self, points: Array) -> Array:
        """(log A, log B, log E, alpha, beta), shape (k, 5), in this objective's coordinates."""
        moved = points.copy()
        moved[:, 0] -= points[:, 3] * self.means[0]
        moved[:, 1] -= points[:, 4] * self.means[1]
        return moved

    def natural(self, points: Array) -> Array:
        """(E, A, B, alpha, beta), shape (k, 5), of points in this objective's coordinates."""
        alpha, beta = points[:, 3], points[:, 4]
        log_a, log_b = points[:, 0] + alpha * self.means[0], points[:, 1] + beta * self.means[1]
        return np.stack([np.exp(points[:, 2]), np.exp(log_a), np.exp(log_b), alpha, beta], axis=1)

    def values(self, points: Array) -> Array:
        """The summed objective at many points (k, 5), all runs weighing 1."""
        found = []
        for chunk in np.array_split(points, max(1, points.shape[0] * self.log_n.size // 1_000_000)):
            terms = np.stack(
                [
                    chunk[:, :1] - chunk[:, 3:4] * self.log_n,
                    chunk[:, 1:2] - chunk[:, 4:5] * self.log_d,
                    np.broadcast_to(chunk[:, 2:3], (len(chunk), self.log_n.size)),
                ]
            )
            found.append(self._huber(logsumexp(terms, axis=0) - self.log_loss).sum(axis=1))
        return np.concatenate(found)

    def _huber(self, residual: Array) -> Array:
        size = np.abs(residual)
        return np.where(size <= self.delta, residual**2 / 2, self.delta * (size - self.delta / 2))

    def minimise(self, start: Array, weights: Array) -> tuple[Array, float]:
        """The minimum that L-BFGS reaches from a start, and the summed objective there; `weights`: of each run."""
        unit = weights.sum() * self.delta**2

        def objective(point: Array) -> tuple[float, Array]:
            log_a, log_b, log_e, alpha, beta = point
            terms = np.stack([log_a - alpha * self.log_n, log_b - beta * self.log_d, np.full(self.log_n.size, log_e)])
            top = terms.max(axis=0)
            shares = np.exp(terms - top)
            total = shares.sum(axis=0)
            shares /= total  # of A's, B's and E's term in the predicted loss
            residual = top + np.log(total) - self.log_loss
            slope = weights * np.clip(residual, -self.delta, self.delta)
            by_term = shares @ slope
            gradient = np.array([*by_term, -(shares[0] * slope) @ self.log_n, -(shares[1] * slope) @ self.log_d])
            return float(weights @ self._huber(residual)) / unit, gradient / unit

        options = {"maxiter": 1000, "maxfun": 2000, "ftol": 1e-13, "gtol": 1e-8}
        found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
        return found.x, float(found.fun * unit)


def _starts() -> Array:
    """The published grid of starts (log A, log B, log E, alpha, beta), shape (4500, 5)."""
    levels, exponents = np.arange(0, 26, 5.0), np.arange(0, 2.1, 0.5)
    grid = np.meshgrid(levels, levels, np.arange(-1, 1.1, 0.5), exponents, exponents, indexing="ij")
    return np.stack([axis.ravel() for axis in grid], axis=1)


def optimal_allocation(law: Law, flops: ArrayLike) -> tuple[Array, Array]:
    """Parameters and tokens with the lowest predicted loss at C = 6 N D FLOPs, in closed form (equation 4).

    Raises ValueError for a law by which more parameters or more tokens do not lower the loss: it has no optimum.
    """
    falls = {"A": law.A, "B": law.B, "alpha": law.alpha, "beta": law.beta}
    if any(not value > 0 for value in falls.values()):
        told = ", ".join(f"{name} = {value:.4g}" for name, value in falls.items())
        raise ValueError(f"the law has no optimal allocation: its loss must fall with parameters and tokens, but {told}")
    (budget,) = positive(flops=np.atleast_1d(np.asarray(flops, dtype=np.float64)))
    ratio = (law.alpha * law.A / (law.beta * law.B)) ** (1 / (law.alpha + law.beta))
    per_factor = np.reshape(budget, np.shape(flops)) / FLOPS_FACTOR
    return np.asarray(ratio * per_factor**law.a), np.asarray(per_factor**law.b / ratio)
