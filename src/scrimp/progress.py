"""How far long work is: a bar at a terminal, a line now and then in a log, and a small file for `scrimp status`."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scrimp.errors import ScrimpError
from scrimp.files import write_json

Progress = Callable[[str, float], None]  # what is being done, and the share that is done
LINE_EVERY = 30.0  # seconds between lines where there is no terminal
BEAT_EVERY = 15.0  # seconds between notes for `scrimp status`
SETTING_UP = "setting up"  # until the work tells something


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
def repeated(seconds: float, work: Callable[[], None]) -> Iterator[None]:
    """Do some small work every so many seconds while a block runs, whatever the block waits for."""
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(seconds):
            work()

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def shown(what: str) -> Iterator[Progress]:
    """What a verb tells about its work on standard error."""
    if sys.stderr.isatty():
        yield from _bar(what)
        return
    pace, told_at, lock = Pace(), time.monotonic(), threading.Lock()
    last = (SETTING_UP, 0.0, 0.0)

    def print_if_due() -> None:
        nonlocal told_at
        with lock:
            if time.monotonic() - told_at >= LINE_EVERY:
                told_at = time.monotonic()
                print(line(what, *last), file=sys.stderr, flush=True)

    def tell(stage: str, fraction: float) -> None:
        nonlocal last
        last = (stage, fraction, pace.rate(fraction, time.monotonic()))
        print_if_due()

    if os.environ.get("RANK", "0") != "0":  # of torchrun's processes the first one speaks
        yield tell
        return
    with repeated(LINE_EVERY / 6, print_if_due):
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
def beating(path: Path, tell: Progress, facts: Mapping[str, Any] | None = None) -> Iterator[Progress]:
    """`tell`, and the file `path`, which is there as long as the work goes on (or was killed).

    It is written at once, and again every BEAT_EVERY seconds as long as the process lives, whether steps advance or not,
    each time with what `facts` holds by then.
    """
    pace, about = Pace(), {"host": socket.gethostname(), "process": os.getpid()}
    last = (SETTING_UP, 0.0, 0.0)

    def write() -> None:
        stage, fraction, rate = last
        write_json(path, {**about, **(facts or {}), "stage": stage, "fraction": fraction, "rate": rate, "when": time.time()})

    def write_again() -> None:
        with suppress(ScrimpError):  # a full disk: whoever saves a checkpoint says so
            write()

    def beat(stage: str, fraction: float) -> None:
        nonlocal last
        last = (stage, fraction, pace.rate(fraction, time.monotonic()))
        tell(stage, fraction)

    write()
    try:
        with repeated(BEAT_EVERY, write_again):
            yield beat
    finally:
        path.unlink(missing_ok=True)
