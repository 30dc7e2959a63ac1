"""Scaling laws, usable alone: fits of loss against parameters and tokens, and what they say about spending FLOPs.

Three ways to the compute-optimal size, named as in Hoffmann et al. 2022 (arXiv 2203.15556), section 3: `fit_envelope`
(approach 1, the lower envelope of training curves), `fit_isoflop` (approach 2, a parabola per budget), `fit_parametric`
(approach 3, L = E + A / N^alpha + B / D^beta). `optimal_allocation` spends a budget, `fit_power_law` fits y = c + k x^p,
`crossings` says where one training curve overtakes another.

N is a number of parameters, D of training tokens, C of training FLOPs with C = 6 N D, the loss is in nats a token. Arrays
are one-dimensional, one entry a run. All intervals are 95 %. Unusable input is a ValueError that says what to do.
"""

from scrimp.scaling.curves import Crossing, crossings, smooth
from scrimp.scaling.envelope import EnvelopeFit, fit_envelope
from scrimp.scaling.isoflop import Budget, IsoflopFit, fit_isoflop
from scrimp.scaling.parametric import Law, ParametricFit, fit_parametric, optimal_allocation
from scrimp.scaling.power import PowerLaw, fit_power_law

__all__ = [
    "Budget",
    "Crossing",
    "EnvelopeFit",
    "IsoflopFit",
    "Law",
    "ParametricFit",
    "PowerLaw",
    "crossings",
    "fit_envelope",
    "fit_isoflop",
    "fit_parametric",
    "fit_power_law",
    "optimal_allocation",
    "smooth",
]
