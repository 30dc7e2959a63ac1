"""What an image-text dataset of many pairs costs: bytes a pair on disk and in memory, pairs a second, and what follows.

    python -m scrimp.measure.web_scale 1_000_000

makes so many synthetic pairs in a temporary folder (4 kB each: a caption of their own and one of 16 pictures), indexes them
with every core as `scrimp shard` does, and reads pictures and captions in training order in a fresh process.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import resource
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from scrimp.data import web_index
from scrimp.data.shards import building, write_manifest
from scrimp.data.web_pairs import load_web_pairs
from scrimp.data.web_parts import find, kept_parts
from scrimp.data.web_tars import SCHEMA, Options, tars_digest
from scrimp.seeding import stream

IN_A_TAR = 10_000
SIDE = 32  # pixels
BATCH = 256
READ = 100_000  # pairs that are read in training order
PUBLISHED = 1_280_000_000  # pairs of DataComp-1B
OPTIONS = Options(score="fit", curated_from=0.9, length=64)


class Spent:
    """Wall seconds, and CPU seconds of this process and of its finished children."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), _cpu_seconds()
        yield
        self.wall, self.cpu = time.perf_counter() - wall, _cpu_seconds() - cpu


def measure(count: int, processes: int, folder: Path) -> dict[str, Any]:
    """Make, index and read `count` pairs in an empty folder; what was found, by name."""
    work = [
        (folder / "tars" / f"{at // IN_A_TAR:05d}.tar", at, min(count, at + IN_A_TAR)) for at in range(0, count, IN_A_TAR)
    ]
    (folder / "tars").mkdir()
    if processes == 1:
        tars = [make_tar(*one) for one in work]
    else:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            tars = pool.starmap(make_tar, work)
    options = OPTIONS.model_copy(update=dict.fromkeys(("test", "validation"), max(1, min(5000, count // 20))))
    reading, writing, web = Spent(), Spent(), folder / "web"
    with kept_parts(web) as parts, building(web) as temporary:
        with reading.measured():
            found = find("web", tars, options, processes, parts)
        parts_bytes = sum(part.stat().st_size for part in found.parts)
        with writing.measured():
            details = web_index.write(temporary, "web", found, options)
            write_manifest(temporary, "web", tars_digest(tars), SCHEMA, **details)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        read = pool.apply(read_in_order, (web,))
    return {
        "pairs": found.total,
        "processes": processes,
        "tars, bytes a pair": sum(tar.stat().st_size for tar in tars) / found.total,
        "parts, bytes a pair, until the end": parts_bytes / found.total,
        **{f"{file.name}, bytes a pair": file.stat().st_size / found.total for file in sorted(web.iterdir())},
        "tars read, pairs a second": found.total / reading.wall,
        "tars read, pairs a CPU second": found.total / reading.cpu,
        "dataset written, pairs a second": found.total / writing.wall,
        "dataset written, pairs a CPU second": found.total / writing.cpu,
        **read,
    }


def read_in_order(web: Path) -> dict[str, float]:
    """Load a dataset and read some of its pool as training does; what a pair takes in memory that no file backs."""
    before = _private_bytes()
    loading, reading = Spent(), Spent()
    with loading.measured():
        data = load_web_pairs(web, SIDE)
    loaded, pool = _private_bytes(), data.splits["pool"]
    count = min(READ, len(pool))
    order = stream(len(pool), 0, count, 0)
    ordered = _private_bytes()
    with reading.measured():
        for at in order.split(BATCH):
            pool.captions(at)
            pool.images(at)
    return {
        "loaded, seconds": loading.wall,
        "loaded, bytes in memory a pair": (loaded - before) / len(data.pairs),
        "order of the pool, bytes in memory a pair": (ordered - loaded) / len(data.pairs),
        "read in training order, bytes in memory a pair": (_private_bytes() - ordered) / len(data.pairs),
        "read in training order, pairs a second": count / reading.wall,
        "read in training order, pairs a CPU second": count / reading.cpu,
    }


def make_tar(path: Path, first: int, end: int) -> Path:
    """A tar of the pairs `first` to `end`, as img2dataset writes them: KEY.jpg, KEY.json, KEY.txt."""
    draws = np.random.default_rng(first)
    pictures = [_picture(number) for number in range(16)]
    words = [f"{begin}{middle}{last}" for begin in "bdfglmprst" for middle in "aeiou" for last in ("n", "rk", "st", "llow")]
    chosen = draws.choice(words, (end - first, 9))
    with tarfile.open(path, "w") as tar:
        for number, caption in zip(range(first, end), chosen, strict=True):
            about = {"url": f"https://host{number * 7919 % 5003}.example/{number}.jpg", "fit": float(draws.random())}
            files = {"jpg": pictures[number % 16], "json": json.dumps(about).encode()}
            files["txt"] = f"{' '.join(caption)} {number}".encode()
            for extension, content in files.items():
                member = tarfile.TarInfo(f"{number:09d}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def extrapolated(found: dict[str, Any]) -> dict[str, str]:
    """What as many pairs as DataComp-1B's take, in proportion."""
    columns = sum(value for name, value in found.items() if name.partition(",")[0].endswith(".npy"))
    reading, writing = (found[f"{name}, pairs a CPU second"] for name in ("tars read", "dataset written"))
    return {
        "mapped on disk": f"{columns * PUBLISHED / 1e9:,.0f} GB",
        "table on disk": f"{found['samples.parquet, bytes a pair'] * PUBLISHED / 1e9:,.0f} GB",
        "parts on disk, until the end": f"{found['parts, bytes a pair, until the end'] * PUBLISHED / 1e9:,.0f} GB",
        "reading tars": f"{PUBLISHED / reading / 3600:,.0f} CPU hours, over as many cores as there are",
        "writing the dataset": f"{PUBLISHED / writing / 3600:,.0f} CPU hours, of which tokens take all cores",
    }


def _picture(number: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(file, "JPEG")
    return file.getvalue()


def _cpu_seconds() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in both)


def _private_bytes() -> int:
    """Memory of this process that no file backs: a mapped page can be dropped, and is shared."""
    used = psutil.Process().memory_info()
    return int(used.rss - getattr(used, "shared", 0))


def main(count: int, say: Callable[[str], None] = print) -> None:
    """Print what `count` pairs cost here, and what those of DataComp-1B would."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(count, os.cpu_count() or 1, Path(folder))
    for name, value in found.items():
        say(f"{name:<50} {value:>14,.1f}" if isinstance(value, float) else f"{name:<50} {value:>14,}")
    say(f"\n{PUBLISHED:,} pairs, in proportion:")
    for name, told in extrapolated(found).items():
        say(f"{name:<50} {told}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
