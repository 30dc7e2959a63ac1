"""`icons-100`: a classification view of `icons`. Classes are concepts (star, lock, arrow right), the split is by designer.

The test asks for generalisation to unseen designers. Icon sets copy from one another, so test and validation icons that
are nearly identical to a training icon are dropped (see `near_duplicates`).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from scrimp.config import Closed
from scrimp.data.shards import read_images, read_manifest, read_samples

# Words that say how an icon is drawn, not what it shows.
STYLE_WORDS = frozenset(
    [
        "alt",
        "altered",
        "baseline",
        "big",
        "block",
        "bold",
        "broken",
        "bulk",
        "circled",
        "color",
        "colour",
        "colored",
        "duo",
        "duotone",
        "dynamic",
        "emoji",
        "fill",
        "filled",
        "flat",
        "flex",
        "free",
        "freehand",
        "ghost",
        "gradient",
        "icon",
        "inverse",
        "light",
        "line",
        "linear",
        "lined",
        "micro",
        "mini",
        "mono",
        "neue",
        "o",
        "off",
        "outline",
        "outlined",
        "outlines",
        "pixel",
        "plump",
        "premium",
        "pro",
        "regular",
        "remix",
        "rounded",
        "round",
        "rough",
        "s",
        "semibold",
        "sharp",
        "sketch",
        "sm",
        "small",
        "solid",
        "stroke",
        "stroked",
        "style",
        "thick",
        "thin",
        "tone",
        "twotone",
        "ultimate",
        "variant",
        "xl",
        "xs",
        "v1",
        "v2",
        "v3",
        "md",
        "lg",
    ]
)
SCHEMA = ["index", "split", "label", "shard", "offset", "size", "base_index"]


class Options(Closed):
    """How the view is cut. Shares are of the icons of the chosen classes.

    A designer with more than `largest_held_out` of the icons always trains, so that the held-out parts have many hands.
    """

    classes: int
    test_share: float = 0.2
    validation_share: float = 0.1
    largest_held_out: float = 0.04
    near_duplicate: float = 0.98


def concept(name: str) -> str:
    """What an icon shows: its name without style words, numbers and single letters.

    >>> concept("arrow-right-24-filled"), concept("outline-star-2"), concept("filled")
    ('arrow right', 'star', '')
    """
    words = name.lower().replace("_", "-").split("-")
    return " ".join(word for word in words if word and word not in STYLE_WORDS and not any(c.isdigit() for c in word))


def split_by_designer(designers: pd.Series, options: Options) -> pd.Series:
    """Assign each designer to `test`, `validation` or `train` by a hash of the name: no seed, no order of rows enters."""
    shares = designers.value_counts(normalize=True)
    small = [name for name in shares.index if shares[name] <= options.largest_held_out]
    split = dict.fromkeys(shares.index, "train")
    filled = 0.0
    for name in sorted(small, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
        if filled >= options.test_share + options.validation_share:
            break
        split[name] = "test" if filled < options.test_share else "validation"
        filled += shares[name]
    return designers.map(split)


def normalised_ink(images: Iterable[bytes]) -> Tensor:
    """Encoded icons as unit vectors of darkness, see `unit_ink`: [N, 256]."""
    return unit_ink(torch.from_numpy(np.stack([np.asarray(Image.open(io.BytesIO(png)).convert("L")) for png in images])))


def unit_ink(grey: Tensor) -> Tensor:
    """Darkness of pictures, uint8 [N, S, S], blurred 2 x 2 so that a shift of half a pixel hardly matters: [N, S * S / 4].

    The vectors have length 1, so that their scalar product is the cosine.
    """
    ink = torch.nn.functional.avg_pool2d(1 - grey[:, None].float() / 255, 2).flatten(1)
    return torch.nn.functional.normalize(ink, dim=1)


def near_duplicates(held_out: Tensor, train: Tensor, threshold: float) -> Tensor:
    """Which rows of `held_out` [M, d] have a cosine of at least `threshold` with any row of `train` [N, d]: bool [M]."""
    return torch.cat([(block @ train.T).amax(dim=1) >= threshold for block in held_out.split(1024)])


def build(folder: Path, base: Path, base_name: str, options: Options) -> dict[str, Any]:
    """Write the view's `samples.parquet` into `folder`. Returns counts and class names for the manifest."""
    samples = read_samples(base)
    samples = samples.assign(concept=samples["name"].map(concept))
    samples = samples[samples["concept"] != ""]
    counts = samples["concept"].value_counts()
    # Ties in the count are broken by the concept's name, so that the classes do not depend on the order of rows.
    ranked = sorted(counts.index, key=lambda name: (-counts[name], name))[: options.classes]
    classes = sorted(ranked)
    samples = samples[samples["concept"].isin(classes)].reset_index(drop=True)
    samples["split"] = split_by_designer(samples["designer"], options)

    ink = normalised_ink(read_images(base, samples))
    in_train = torch.from_numpy((samples["split"] == "train").to_numpy(copy=True))
    duplicate = torch.zeros(len(samples), dtype=torch.bool)
    duplicate[~in_train] = near_duplicates(ink[~in_train], ink[in_train], options.near_duplicate)
    kept = samples[~duplicate.numpy()]

    order = {"train": 0, "validation": 1, "test": 2}
    kept = kept.sort_values(["split", "index"], key=lambda column: column.map(order) if column.name == "split" else column)
    label_of = {name: label for label, name in enumerate(classes)}
    table = pd.DataFrame(
        {
            "index": np.arange(len(kept)),
            "split": kept["split"].to_numpy(),
            "label": kept["concept"].map(label_of).to_numpy(),
            "shard": [f"../{base_name}/{shard}" for shard in kept["shard"]],
            "offset": kept["offset"].to_numpy(),
            "size": kept["size"].to_numpy(),
            "base_index": kept["index"].to_numpy(),
        }
    )
    table.to_parquet(folder / "samples.parquet", index=False)
    return {
        "classes": classes,
        "counts": {name: int((table["split"] == name).sum()) for name in order},
        "near_duplicates_dropped": int(duplicate.sum()),
        "designers": {name: int(kept[kept["split"] == name]["designer"].nunique()) for name in order},
        "base": {"dataset": base_name, "samples_sha256": read_manifest(base)["samples_sha256"]},
    }
