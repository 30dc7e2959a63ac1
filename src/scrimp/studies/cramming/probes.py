"""Numbers of the cramming study: those that follow from published tables, those of its runs, and a check of its data."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from scrimp.config import Workspace
from scrimp.data.shards import read_samples
from scrimp.data.text import ids, load_text
from scrimp.data.text_filters import Sentences
from scrimp.data.text_packing import decoded_sentences
from scrimp.scaling import fit_isoflop
from scrimp.studies import probe

from .points import (
    ARCHITECTURE,
    NUMBERS,
    SAME,
    SIZE,
    STUDY,
    base_workloads,
    points,
    published,
    published_cost,
    spread,
    variants,
)

ABSOLUTE = ("sinusoidal", "learned")  # variants whose positions are absolute
LETTERS_AT_A_TIME = 2**22
# Through two minima a line goes exactly, whatever their noise.
LEAST_MINIMA = 3


@probe("published-averages")
def published_averages(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Each published row's average as the mean of its nine numbers, what it is of BERT's, its distance to the printed one.

    The row `all` has the largest distance alone.
    """
    table = published(workspace, "glue").set_index("model")
    averages = table[NUMBERS].mean(axis=1)
    distance = (averages - table["average"]).abs()
    found = pd.DataFrame({"computed": averages, "share_of_bert": averages / averages["BERT-base"], "distance": distance})
    found.loc["all"] = {"computed": math.nan, "share_of_bert": math.nan, "distance": distance.max()}
    return found.rename_axis("model").reset_index()


@probe("published-costs")
def published_costs(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """FLOPs by both accountings: the peak of the hardware times the time, and six times parameters times tokens."""

    def of(model: str, quantity: str) -> float:
        return published_cost(workspace, model, quantity)

    bert = of("BERT-base", "steps") * of("BERT-base", "batch") * of("BERT-base", "length") * of("BERT-base", "parameters")
    day = of("crammed (A6000)", "peak rate") * of("crammed (A6000)", "seconds")
    mosaic = of("MosaicBERT", "peak rate") * of("MosaicBERT", "devices") * of("MosaicBERT", "seconds")
    rows = [
        ("BERT over crammed on an A6000, peak", of("BERT-base", "peak") / of("crammed (A6000)", "peak")),
        ("BERT over crammed on a 2080 Ti, peak", of("BERT-base", "peak") / of("crammed (2080 Ti)", "peak")),
        ("BERT, 6ND", 6 * bert),
        ("BERT, peak over 6ND", of("BERT-base", "peak") / (6 * bert)),
        ("a day of an A6000, peak", day),
        ("BERT, 6ND, over a day of an A6000 at its peak", 6 * bert / day),
        ("MosaicBERT over a day of an A6000, peak", mosaic / day),
    ]
    return pd.DataFrame(rows, columns=["quantity", "value"])


@probe("architecture")
def architecture(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Claim 2, a row a seed and a set of variants: how far types and sizes spread the loss at equal FLOPs, in nats.

    `excess` is the spread of types less that of sizes; below 0, size matters more than type.
    """
    types = variants(workspace, scale, "short", ARCHITECTURE)
    sizes = variants(workspace, scale, "short", SIZE)
    seeds = types.index.intersection(sizes.index)
    types, sizes = types.loc[seeds], sizes.loc[seeds]
    relative = types[[name for name in types.columns if name not in ABSOLUTE]]
    rows = [
        {
            "seed": int(seed),
            "variants": told,
            "types": float(of_types),
            "sizes": float(of_sizes),
            "excess": of_types - of_sizes,
        }
        for told, chosen in (("all", types), ("rotary positions alone", relative))
        for seed, of_types, of_sizes in zip(seeds, spread(chosen), spread(sizes), strict=True)
    ]
    return pd.DataFrame(rows, columns=["seed", "variants", "types", "sizes", "excess"])


@probe("sizes")
def sizes(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Claim 3, a row a seed: the loss of the best of the smaller sizes at equal FLOPs less that of the main size, in nats.

    The best is the one whose mean over the seeds is the lowest: one size for all of them.
    """
    losses = variants(workspace, scale, "short", SIZE)
    table, base = points(workspace, scale), base_workloads(workspace, scale)
    names = table["workload"].where(~table["workload"].isin(base), SAME).str.removeprefix(SIZE)
    parameters = table.groupby(names)["parameters_total"].first()
    smaller = [name for name in losses.columns if parameters[name] < parameters[SAME]]
    best = losses[smaller].mean().sort_values().index[:1]
    rows = [
        {"seed": int(str(seed)), "size": name, "parameters": parameters[name], "above": row[name] - row[SAME]}
        for seed, row in losses.iterrows()
        for name in best  # none where a scale has no smaller one
    ]
    return pd.DataFrame(rows, columns=["seed", "size", "parameters", "above"])


@probe("isoflop")
def isoflop(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """Claim 9: N_opt ~ C^a by parabolas over the sizes at each budget, all seeds together; a row a way of counting."""
    table = points(workspace, scale)
    at = table["workload"].str.startswith(SIZE) | table["workload"].isin(base_workloads(workspace, scale))
    runs = table[at & table["arm"].isin(["short", "crammed", "crammed-x2"])]
    rows = []
    for convention in ("total", "non_embedding"):
        try:
            fit = fit_isoflop(runs[f"parameters_{convention}"], runs["flops"], runs["test_loss"], tokens=runs["tokens"])
        except ValueError as error:
            rows.append({"convention": convention, "a": np.nan, "low": np.nan, "high": np.nan, "note": str(error)})
            continue
        inside = sum(not budget.note for budget in fit.budgets)
        if inside < LEAST_MINIMA:
            note = f"{inside} of {len(fit.budgets)} budgets have their best size inside: {LEAST_MINIMA} make a slope"
            rows.append({"convention": convention, "a": np.nan, "low": np.nan, "high": np.nan, "note": note})
            continue
        low, high = fit.interval
        rows.append({"convention": convention, "a": fit.a, "low": low, "high": high, "note": ""})
    return pd.DataFrame(rows)


@probe("text-apart")
def text_apart(workspace: Workspace, scale: str, options: dict[str, Any]) -> pd.DataFrame:
    """The rule that no downstream text is pre-trained on, a row a dataset: sentences of labelled sets found in it.

    What is searched is the decoded training split, sentences of five words and more, without regard to signs and capitals,
    as they are written and as the split's tokenizer leaves them.
    `datasets` of the options are searched, by default all that are trained on; `tokens` searches so many from the split's
    beginning, a random part, and not all.
    """
    workloads = workspace.study(STUDY).scale(scale).workloads.values()
    judged = {name for workload in workloads for name in list(workload.datasets.values())[1:]}
    trained = dict.fromkeys(workload.dataset for workload in workloads if workload.dataset is not None)
    datasets = options.get("datasets") or list(trained)
    tables = [read_samples(workspace.shards(name)) for name in sorted(judged)]
    texts = [text for table in tables for column in ("text", "other") for text in table[column]]
    rows = []
    for name in datasets:
        text = load_text(workspace.shards(name))
        sentences = Sentences(texts) if text.tokenizer is None else decoded_sentences(texts, text.tokenizer)
        train, found, searched = text.splits["train"][: options.get("tokens")], 0, 0
        for part in train.split(LETTERS_AT_A_TIME):
            for document in _documents(ids(part), text.end_of_text):
                decoded = text.decode(document)
                searched += len(decoded)
                found += sum(1 for _ in sentences.places(decoded))
        rows.append({"dataset": name, "sentences": len(sentences), "letters": searched, "found": found})
    return pd.DataFrame(rows)


def _documents(tokens: Any, end: int) -> Any:
    """Tokens cut where texts end."""
    ends = (tokens == end).nonzero().flatten().tolist()
    bounds = [0, *(place + 1 for place in ends), len(tokens)]
    return (tokens[begin:until] for begin, until in pairwise(bounds) if until > begin)
