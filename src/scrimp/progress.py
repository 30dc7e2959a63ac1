"""How far long work is: a bar at a terminal, a line now and then in a log, and a small file for `scrimp status`."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scrimp.files import write_json

Progress = Callable[[str, float], None]  # what is being done, and the share that is done
LINE_EVERY = 30.0  # seconds between lines where there is no terminal
BEAT_EVERY = 15.0  # seconds between notes for `scrimp status`


class Pace:
    """The rate of some work since it was first looked at: what an earlier process had done says nothing of this one's."""

    def __init__(self) -> None:
        self.first: tuple[float, float] | None = None

    def rate(self, fraction: float, now: float) -> float:
        """Share of the whole a second; 0 as long as nothing is known."""
        if self.first is None or fraction < self.first[1]:
            self.first = (now, fraction)
        seconds, done = now - self.first[0], fraction - self.first[1]
        return done / seconds if seconds > 0 else 0.0


def duration(seconds: float) -> str:
    """
    >>> [duration(seconds) for seconds in (7.2, 190, 9000, 200_000)]
    ['7 s', '3 min', '2 h 30 min', '2 d 7 h']
    """
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{round(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def line(what: str, stage: str, fraction: float, rate: float) -> str:
    """One line of a log: percent, rate, time left."""
    words = [f"{what}: {stage}", f"{fraction:.1%}"]
    if rate > 0:
        words += [f"{6000 * rate:.3g} % a minute", f"{duration((1 - fraction) / rate)} left"]
    return ", ".join(words)


@contextmanager
def shown(what: str) -> Iterator[Progress]:
    """What a verb tells about its work on standard error."""
    if sys.stderr.isatty():
        yield from _bar(what)
        return
    pace, told_at = Pace(), time.monotonic()

    def tell(stage: str, fraction: float) -> None:
        nonlocal told_at
        now = time.monotonic()
        rate = pace.rate(fraction, now)
        if now - told_at >= LINE_EVERY:
            told_at = now
            print(line(what, stage, fraction, rate), file=sys.stderr, flush=True)

    yield tell


def _bar(what: str) -> Iterator[Progress]:
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True, highlight=False)) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda stage, fraction: bar.update(task, completed=fraction, description=f"{what}: {stage}")


@contextmanager
def beating(path: Path, tell: Progress) -> Iterator[Progress]:
    """`tell`, and now and then the file `path`, which is there as long as the work goes on (or was killed)."""
    pace, about = Pace(), {"host": socket.gethostname(), "process": os.getpid()}
    beaten_at = -BEAT_EVERY

    def beat(stage: str, fraction: float) -> None:
        nonlocal beaten_at
        now = time.monotonic()
        rate = pace.rate(fraction, now)
        if now - beaten_at >= BEAT_EVERY:
            beaten_at = now
            write_json(path, {**about, "stage": stage, "fraction": fraction, "rate": rate, "when": time.time()})
        tell(stage, fraction)

    try:
        yield beat
    finally:
        path.unlink(missing_ok=True)
