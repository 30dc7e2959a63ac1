"""A view of the run files for MLflow's UI. It can be deleted: the next `scrimp track` makes it again from the files.

One experiment a study, `scrimp/STUDY`; in it, for each scale, a run per arm that holds a run per seed, and one run for
the study's claims and figures. Every run has the tag `scrimp.key` (SCALE/STUDY[/ARM[/seedK]]) and, once complete,
`scrimp.digest`, the digest of the files it shows.

Experiments place their artifacts at `mlflow-artifacts:/STUDY`, which MLflow's server resolves against the folder it is
started with. So no address of this machine is stored, and `results/mlflow` may be moved; it takes `scrimp ui` (or
`mlflow server --artifacts-destination`) to look at artifacts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scrimp.config import Workspace
from scrimp.errors import ScrimpError
from scrimp.files import digest_of, holding, read_json, write_json
from scrimp.records import Meters, Summary, read_curve, read_summary, run_folders
from scrimp.ui_port import DEFAULT, remember

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENTS = "experiments.json"  # beside the store: which experiment holds a study's runs
VIEW = "scrimp"  # the name of the columns that are shown
OPEN_WHEN_READY = """
import socket, sys, time, webbrowser
for _ in range(240):
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()
        webbrowser.open(sys.argv[2])
        break
    except OSError:
        time.sleep(0.5)
"""
RUN_FILES = ("summary.json", "provenance.json", "curve.parquet")
PARENT_TAG = "mlflow.parentRunId"
ARTIFACT_SCHEME = "mlflow-artifacts:/"
# MLflow's limits (of all versions from 3.1).
METRICS_A_BATCH = 1000
TAGS_A_BATCH = 100  # and parameters
RUNS_A_PAGE = 1000
NAME_LENGTH = 250  # characters
PARAM_LENGTH = 6000
TAG_LENGTH = 5000


def track(workspace: Workspace, scale: str, studies: list[str]) -> None:
    """Bring MLflow's store in line with the files of `studies` at `scale`, and write `results/SCALE/tracked.json`.

    Runs already there with the same digest are left alone, changed ones replaced, those without files deleted.
    `tracked.json` maps the key of every run that the store has for this scale, of any study, to
    `{experiment_id, run_id}`. Raises `ScrimpError` for unreadable run files or a store of another MLflow version.
    """
    root = _root(workspace)
    # MLflow breaks when two processes make a store at once.
    with holding(root / ".lock"), _told(root):
        client = _open_store(root)
        shown = {study: list(_shown(workspace, scale, study)) for study in studies}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(f"tracking {scale}", total=sum(len(runs) for runs in shown.values()))
            for study, runs in shown.items():
                _bring_in_line(client, root, scale, study, runs, lambda: progress.advance(task))
                _choose_columns(client, study, runs)
        experiments = {
            experiment.name.removeprefix("scrimp/"): experiment.experiment_id
            for experiment in sorted(
                client.search_experiments(filter_string="name LIKE 'scrimp/%'"), key=lambda each: each.name
            )
        }
        write_json(root / EXPERIMENTS, experiments)
        write_json(workspace.results(scale) / "tracked.json", _tracked(client, scale))


def ui(workspace: Workspace, port: int = DEFAULT) -> None:
    """Become MLflow's UI on the store, at 127.0.0.1:`port`; does not return.

    Report pages then link to that port. Prints where each study's runs are, and opens the first in a browser where there is
    one: MLflow's own first page is another. A missing store and a port that is taken are `ScrimpError`s.
    """
    root = _root(workspace)
    if not (root / "mlflow.db").exists():
        raise ScrimpError(f"{root / 'mlflow.db'} does not exist: make it with `scrimp track` first")
    must_be_free(port)
    remember(workspace, port)
    pages = {name: f"http://127.0.0.1:{port}/{path}" for name, path in _pages(root).items()}
    for name, address in pages.items():
        print(f"{name}: {address}", flush=True)
    if pages and sys.stdout.isatty() and (sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)):
        opener = [sys.executable, "-c", OPEN_WHEN_READY, str(port), next(iter(pages.values()))]
        subprocess.Popen(opener, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    _quieten()
    options = ["--backend-store-uri", _store_uri(root), "--artifacts-destination", str(root / "artifacts")]
    # `-m` with the running Python: an `mlflow` on PATH may belong to another environment.
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *options, "--workers", "1", "--port", str(port)])


def _pages(root: Path) -> dict[str, str]:
    """By study, the part of the UI that lists its runs in the columns that `track` has chosen."""
    path = root / EXPERIMENTS
    told = read_json(path) if path.exists() else {}
    return {study: f"#/experiments/{number}/runs?viewStateShareKey={VIEW}" for study, number in told.items()}


def must_be_free(port: int) -> None:
    """Raise ScrimpError where another program listens at a port of this machine."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError as error:
            raise ScrimpError(
                f"port {port} of this machine cannot be had ({error.strerror}): stop what listens there, or take another, "
                f"`scrimp ui --port {port + 1}`"
            ) from error


# ------------------------------------------------------------------------------------------------ what the files show
@dataclass(frozen=True)
class _Shown:
    """A run as MLflow is to show it: for a study's results, an arm, or (with its folder) a seed of an arm."""

    key: str
    name: str
    kind: Literal["study", "arm", "run"]
    digest: str
    files: Mapping[str, Path] = field(default_factory=dict)  # artifact path -> file
    parent: str | None = None  # a key
    folder: Path | None = None


def _shown(workspace: Workspace, scale: str, study: str) -> Iterator[_Shown]:
    """Everything that the files of a study give, parents before children."""
    base = workspace.results(scale, study)
    made = [base / "claims.csv", *sorted((base / "figures").glob("*"))]
    files = {path.relative_to(base).as_posix(): path for path in made if path.is_file()}
    if files:
        yield _Shown(f"{scale}/{study}", f"{scale}: claims and figures", "study", _digest(files), files)
    arms: set[str] = set()
    for folder in run_folders(workspace, scale, study):
        arm, seed = folder.parent.name, folder.name
        key = f"{scale}/{study}/{arm}"
        if arm not in arms:
            arms.add(arm)
            yield _Shown(key, f"{scale}: {arm}", "arm", digest_of(key))
        files = {name: folder / name for name in RUN_FILES}
        yield _Shown(f"{key}/{seed}", f"{arm} {seed}", "run", _digest(files), files, parent=key, folder=folder)


def _digest(files: Mapping[str, Path]) -> str:
    """Digest of the files' names and content."""
    digest = hashlib.sha256()
    for name, path in files.items():
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ScrimpError(f"cannot read {path} ({error.strerror}); make it again with its stage") from error
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


# ---------------------------------------------------------------------------------------------------------- the store
def _bring_in_line(
    client: MlflowClient, root: Path, scale: str, study: str, wanted: list[_Shown], done: Callable[[], None]
) -> None:
    """Make a study's runs at a scale be exactly `wanted`; `done` is called after each."""
    experiment_id = _experiment(client, study, make=bool(wanted))
    if experiment_id is None:
        return
    digests = {shown.key: shown.digest for shown in wanted}
    kept: dict[str, Run] = {}
    for run in _runs(client, experiment_id, scale):
        key = run.data.tags["scrimp.key"]
        # A run without a digest was cut off while it was written.
        if key in kept or run.data.tags.get("scrimp.digest", "") != digests.get(key):
            client.delete_run(run.info.run_id)
            shutil.rmtree(_artifacts(root, run).parent, ignore_errors=True)
        else:
            kept[key] = run
    for shown in wanted:
        parent = {} if shown.parent is None else {PARENT_TAG: kept[shown.parent].info.run_id}
        if shown.key not in kept:
            tags = {"scrimp.key": shown.key, "scrimp.scale": scale, "scrimp.kind": shown.kind, **parent}
            kept[shown.key] = _create(client, root, experiment_id, shown, tags)
        for tag, value in parent.items():
            if kept[shown.key].data.tags.get(tag) != value:  # the parent was made anew: somebody deleted it in the UI
                client.set_tag(kept[shown.key].info.run_id, tag, value)
        done()


def _experiment(client: MlflowClient, study: str, make: bool) -> str | None:
    """The id of a study's experiment; a missing one is made, if `make`, and one deleted in the UI brought back."""
    name = f"scrimp/{study}"
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return client.create_experiment(name, artifact_location=f"{ARTIFACT_SCHEME}{study}") if make else None
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def _choose_columns(client: MlflowClient, study: str, runs: list[_Shown]) -> None:
    """Have the UI show of a study's runs what was trained, what it reached, what it cost: a view that it keeps as a tag."""
    experiment_id = _experiment(client, study, make=False)
    folder = next((shown.folder for shown in runs if shown.folder is not None), None)
    if experiment_id is None or folder is None:
        return
    tests = [name for name in read_summary(folder).metrics if name.startswith("test")]
    metrics = [*(f"final/{name}" for name in tests[:2]), "meters/flops", "meters/examples", "meters/seconds"]
    columns = [f"tags.`scrimp.{name}`" for name in ("arm", "seed")] + [f"metrics.`{_name(name)}`" for name in metrics]
    client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{VIEW}", json.dumps({"selectedColumns": columns}))


def _create(client: MlflowClient, root: Path, experiment_id: str, shown: _Shown, tags: dict[str, str]) -> Run:
    """Make a run with its content. The digest comes last: it says that the run is whole."""
    summary = None if shown.folder is None else read_summary(shown.folder)
    began, ended = (None, None) if summary is None else _times(shown.files["summary.json"], summary.meters)
    run = client.create_run(experiment_id, start_time=began, tags=tags, run_name=shown.name)
    if summary is not None:
        _fill(client, run, shown, summary)
    for name, path in shown.files.items():
        target = _artifacts(root, run) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    status = "FAILED" if summary is not None and summary.diverged is not None else "FINISHED"
    client.set_terminated(run.info.run_id, status=status, end_time=ended)
    client.set_tag(run.info.run_id, "scrimp.digest", shown.digest)
    return run


def _fill(client: MlflowClient, run: Run, shown: _Shown, summary: Summary) -> None:
    """Write a seed's tags, parameters and metrics into its fresh run."""
    from mlflow.entities import Metric, Param, RunTag

    began, ended = _times(shown.files["summary.json"], summary.meters)
    about = {
        "scrimp.study": summary.study,
        "scrimp.arm": summary.arm,
        "scrimp.seed": summary.seed,
        "scrimp.command": summary.command,
        "scrimp.config_digest": summary.config_digest,
        "provenance": read_json(shown.files["provenance.json"]),
    }
    if summary.diverged is not None:
        about["scrimp.diverged"] = f"step {summary.diverged.step}: {summary.diverged.what}"
    tags = [RunTag(key, value[:TAG_LENGTH]) for key, value in _flat(about).items()]
    params = [Param(key, value[:PARAM_LENGTH]) for key, value in _flat(summary.config).items()]
    last = {f"final/{name}": value for name, value in summary.metrics.items()}
    last |= {f"meters/{name}": value for name, value in summary.meters.model_dump().items() if value is not None}
    curve = read_curve(shown.files["curve.parquet"].parent).fillna({"seconds": 0.0})
    points = [curve[column].tolist() for column in ("metric", "value", "seconds", "step")]
    metrics = [Metric(_name(key), float(value), ended, 0) for key, value in last.items()]
    metrics += [
        Metric(_name(f"curve/{metric}"), float(value), began + int(1000 * seconds), int(step))
        for metric, value, seconds, step in zip(*points, strict=True)
    ]
    for start in range(0, len(tags), TAGS_A_BATCH):
        client.log_batch(run.info.run_id, tags=tags[start : start + TAGS_A_BATCH])
    for start in range(0, len(params), TAGS_A_BATCH):
        client.log_batch(run.info.run_id, params=params[start : start + TAGS_A_BATCH])
    for start in range(0, len(metrics), METRICS_A_BATCH):
        client.log_batch(run.info.run_id, metrics=metrics[start : start + METRICS_A_BATCH])


def _times(summary_file: Path, meters: Meters) -> tuple[int, int]:
    """When a run began and ended, in milliseconds since 1970: the summary is the last file that a run writes."""
    ended = summary_file.stat().st_mtime
    return int(1000 * (ended - meters.seconds - meters.seconds_evaluation - meters.seconds_setup)), int(1000 * ended)


def _runs(client: MlflowClient, experiment_id: str, scale: str) -> list[Run]:
    """The live runs of an experiment at a scale."""
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id], f"tags.`scrimp.scale` = '{scale}'", max_results=RUNS_A_PAGE, page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


def _tracked(client: MlflowClient, scale: str) -> dict[str, dict[str, str]]:
    """Where each run of a scale is, for whoever links to the UI."""
    return {
        run.data.tags["scrimp.key"]: {"experiment_id": run.info.experiment_id, "run_id": run.info.run_id}
        for experiment in client.search_experiments(filter_string="name LIKE 'scrimp/%'")
        for run in _runs(client, experiment.experiment_id, scale)
    }


def _open_store(root: Path) -> MlflowClient:
    """A client of the store, which is made if missing."""
    _quieten()
    from mlflow import MlflowClient

    if not (root / "mlflow.db").exists():
        shutil.rmtree(root / "artifacts", ignore_errors=True)  # they belong to runs of a database that is gone
    client = MlflowClient(tracking_uri=_store_uri(root))
    client.search_experiments(max_results=1)  # opens the database
    return client


@contextmanager
def _told(root: Path) -> Iterator[None]:
    """What MLflow and its database complain of, as one sentence with what to do."""
    _quieten()
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        path, why = root / "mlflow.db", str(error).splitlines()[0]
        if "locked" in why:
            raise ScrimpError(
                f"{path} is in use by another process: wait until it is done, then run the same command"
            ) from error
        if "disk I/O error" in why:
            raise ScrimpError(
                f"cannot write {path} ({why}): the disk is full, a quota or a limit on a file's size (`ulimit -f`) is "
                "reached, or the disk fails; mend that, then run the same command again"
            ) from error
        if "readonly" in why or "disk is full" in why or "unable to open" in why:
            raise ScrimpError(
                f"cannot write {path} ({why}): free some space, mend its permissions or raise the limit of open files "
                "(`ulimit -n`), then run the same command again"
            ) from error
        raise ScrimpError(
            f"{path} cannot be used by the installed MLflow ({why}); "
            f"it is only a view: delete {root} and run the same command again"
        ) from error


def _root(workspace: Workspace) -> Path:
    return workspace.root / "results" / "mlflow"


def _store_uri(root: Path) -> str:
    return f"sqlite:///{root / 'mlflow.db'}"


def _artifacts(root: Path, run: Run) -> Path:
    """The folder of a run's artifacts: where MLflow's server looks for the address stored with the run."""
    return root / "artifacts" / run.info.artifact_uri.removeprefix(ARTIFACT_SCHEME)


def _quieten() -> None:
    """Before MLflow is imported: no report on every migration of a new database, no usage statistics sent out."""
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("mlflow", "alembic"):  # where somebody else has imported it already
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # tracebacks of what `_told` says in a sentence


# ------------------------------------------------------------------------------------------------------- small helpers
def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested mapping as `a.b.c` -> text; what is no text is written as JSON."""
    flat: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            flat |= _flat(item, f"{prefix}{key}.")
        else:
            flat[_name(f"{prefix}{key}")] = item if isinstance(item, str) else json.dumps(item)
    return flat


def _name(text: str) -> str:
    """A name that MLflow accepts for a metric, a parameter or a tag."""
    return re.sub(r"[^\w\-. :/]", "_", text)[:NAME_LENGTH]
