"""What the prototypes study derives from its runs: exponents of error in data size, and the crossover from easy to hard."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from scrimp.config import Workspace
from scrimp.studies import probe

from .points import errors, sizes_of


@probe("sizes")
def sizes(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Laws of the test error, a row a seed.

    `exponent_random`: of error ~ size ** -exponent over random data; `exponent_half` over the farthest half of each pool;
    `exponent_envelope` over the least error at each size, whatever share of whatever pool it keeps. `advantage` and
    `advantage_half` are the last two less the first. `growth`: the farthest half's accuracy minus the nearest half's, in
    points a doubling of the pool.
    """
    table = errors(workspace, scale)
    rows = []
    for seed, of_seed in table.groupby("seed"):
        random = of_seed[of_seed["keep"] == "random"]
        far = of_seed[of_seed["keep"] == "farthest"]
        half = far[far["ratio"] == 0.5]
        near = of_seed[(of_seed["keep"] == "nearest") & (of_seed["ratio"] == 0.5)]
        law = exponent(random["size"], random["error"])
        # The same sizes for both, or a law's bend would look like an advantage.
        shared = envelope(of_seed[of_seed["keep"] != "nearest"], set(sizes_of(far)) & set(sizes_of(random)))
        even = random[random["size"].isin(half["size"])]
        even_all = random[random["size"].isin(shared["size"])]
        by_pool = half.set_index("pool")["error"].rsub(near.set_index("pool")["error"]).dropna()
        rows.append(
            {
                "seed": int(str(seed)),
                "exponent_random": law,
                "exponent_half": exponent(half["size"], half["error"]),
                "exponent_envelope": exponent(shared["size"], shared["error"]),
                "advantage": exponent(shared["size"], shared["error"]) - exponent(even_all["size"], even_all["error"]),
                "advantage_half": exponent(half["size"], half["error"]) - exponent(even["size"], even["error"]),
                "growth": slope(np.log2(by_pool.index.to_numpy(float)), by_pool.to_numpy(float)),
            }
        )
    return pd.DataFrame(rows)


def envelope(of_seed: pd.DataFrame, at: set[float]) -> pd.DataFrame:
    """The least error at each of some sizes."""
    return of_seed[of_seed["size"].isin(at)].groupby("size")["error"].min().reset_index()


def exponent(sizes: pd.Series[float], found: pd.Series[float]) -> float:
    """The exponent of error ~ size ** -exponent, by least squares on logarithms."""
    return -slope(np.log(sizes.to_numpy(float)), np.log(np.maximum(found.to_numpy(float), 1e-3)))


def slope(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    """Of the line through some points; missing for fewer than two of them."""
    return float(np.polyfit(x, y, 1)[0]) if len(set(x.tolist())) > 1 else float("nan")
