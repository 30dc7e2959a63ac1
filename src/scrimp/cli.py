"""One verb per stage. A workflow rule and a person call the same verb."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.live import Live
from rich.table import Table

from scrimp import audit_cli, kernels_cli, scaling_cli
from scrimp.config import Workspace
from scrimp.config.base import LARGEST_SEED
from scrimp.consoles import console, errors
from scrimp.errors import ScrimpError, trouble
from scrimp.progress import shown

# torch, pandas and mlflow are imported inside the verbs that need them: `scrimp list` and `--help` answer at once.
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Does cheaper training hold up? Fetch, shard, train, judge, report; all in the folder that holds config/.",
)
app.add_typer(kernels_cli.app, name="kernels")
app.add_typer(scaling_cli.app, name="scaling")
FOR_SNAKEMAKE = {"allow_extra_args": True}  # what follows `--`
app.command("audit", context_settings=FOR_SNAKEMAKE)(audit_cli.audit)
app.command("try", context_settings=FOR_SNAKEMAKE)(audit_cli.try_data)

Scale = Annotated[str | None, typer.Option("--scale", help="smoke, mini, gpu or paper; default: config/config.yaml")]
Device = Annotated[Literal["auto", "cpu", "cuda"] | None, typer.Option(help="default: config/config.yaml")]
Studies = Annotated[list[str] | None, typer.Option("--study", help="may repeat; default: config/config.yaml")]
Study = Annotated[str, typer.Argument(help="its name, or the path of its folder")]


def _workspace() -> Workspace:
    """The folder that the command was given in, which must be a workspace."""
    from scrimp.workspace_files import require_workspace

    require_workspace(Path())
    return Workspace()


def _scale(workspace: Workspace, scale: str | None) -> str:
    return scale or workspace.settings().scale


def _version(wanted: bool) -> None:
    if wanted:
        from scrimp import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def everywhere(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """What holds for every verb."""


def _opened(study: str) -> tuple[Workspace, str]:
    """The workspace, and the name of a study that was told by its name or by the path of its folder."""
    workspace = _workspace()
    return workspace, workspace.study_name(study)


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="where to; it is made, or has none of these files yet")]) -> None:
    """Lay out a workspace: Snakefile, workflow, config, profiles and pinned versions."""
    from scrimp.workspace_files import lay_out

    print(f"{folder}: {', '.join(lay_out(folder))}")
    print(f"next: cd {folder} && snakemake --cores all --config scale=smoke")


Dataset = Annotated[str, typer.Argument(help="a name in config/datasets.yaml")]


@app.command()
def fetch(name: Dataset, path: Annotated[Path | None, typer.Option(help="your own copy of the file")] = None) -> None:
    """Bring a dataset's source file to resources/downloads and check its digest."""
    from scrimp.data.sources import fetch as fetch_source

    workspace = _workspace()
    print(fetch_source(name, workspace.dataset(name), workspace, path))


@app.command()
def shard(
    name: Dataset,
    path: Annotated[Path | None, typer.Option(help="your own file, folder, or tars: 'my/{000..099}.tar'")] = None,
) -> None:
    """Turn a fetched source into WebDataset shards and an index, in resources/shards."""
    from scrimp.data.stage import shard as shard_dataset

    print(shard_dataset(_workspace(), name, path))


@app.command()
def run(
    study: Study,
    arm: Annotated[str, typer.Argument(help="ARM, or ARM@WORKLOAD outside the main workload")],
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="initial weights, order, augmentation and selection follow from it")
    ] = 0,
    scale: Scale = None,
    device: Device = None,
) -> None:
    """Train one arm with one seed. Killed, it goes on where it was when the same command is given again."""
    from scrimp.stages.run import run_arm

    workspace, study = _opened(study)
    with shown(f"{arm} seed {seed}") as advance:
        print(run_arm(workspace, study, arm, seed, _scale(workspace, scale), device or workspace.settings().device, advance))


@app.command()
def reference(
    study: Study,
    name: Annotated[str, typer.Argument(help="a reference of the scale")],
    scale: Scale = None,
    device: Device = None,
) -> None:
    """Train a model that others are scored against, and embed the pool with it."""
    from scrimp.stages.reference import train_reference

    workspace, study = _opened(study)
    with shown(f"reference {name}") as advance:
        where = device or workspace.settings().device
        print(train_reference(workspace, study, name, _scale(workspace, scale), where, advance))


@app.command()
def probe(study: Study, name: Annotated[str, typer.Argument(help="a probe of the scale")], scale: Scale = None) -> None:
    """Make one measurement that trains nothing, or little."""
    from scrimp.studies.outputs import run_probe

    workspace, study = _opened(study)
    print(run_probe(workspace, study, name, _scale(workspace, scale)))


@app.command()
def tune(study: Study, scale: Scale = None) -> None:
    """Walk the study's learning-rate grid on the validation split; the test split is never looked at."""
    from scrimp.stages.tune import tune_study

    workspace, study = _opened(study)
    with shown("tuning") as advance:
        print(tune_study(workspace, study, _scale(workspace, scale), advance))


@app.command()
def claims(
    study: Study,
    scale: Scale = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="judge a study's published results again, such as results/reference/mini-cpu/jest"),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="with --from: put today's verdicts in the published ones' place")
    ] = False,
) -> None:
    """Judge a study's claims from its run files, or again from published results (--write replaces those)."""
    from scrimp.claims.judge import judge, write_claims
    from scrimp.claims.loading import load_claims

    workspace, study = _opened(study)
    if source is not None:
        from scrimp.claims.again import print_again

        print_again(workspace, workspace.study(study), load_claims(workspace, study), source, write)
        return
    if write:
        raise ScrimpError("--write goes with --from: verdicts of run files are always written")
    chosen = _scale(workspace, scale)
    results = judge(workspace, workspace.study(study), chosen, load_claims(workspace, study))
    write_claims(workspace, study, chosen, results)
    table = Table("claim", "published", "measured", "95 % interval", "verdict")
    for result in results:
        shown = ["" if v is None else f"{v:.4g}" for v in (result.published, result.measured, result.low, result.high)]
        table.add_row(result.claim, shown[0], shown[1], f"{shown[2]} .. {shown[3]}" if shown[2] else "", result.verdict)
    console().print(table)


@app.command()
def power(
    study: Study,
    scale: Scale = None,
    seeds: Annotated[int | None, typer.Option(help="size for so many; default: the scale's")] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="a study's results to size by; default: the scale's, else a reference's")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Size a study's claims before its runs: what n seeds resolve, the chance of each verdict, minutes."""
    from scrimp.claims.loading import check_claims, load_claims
    from scrimp.claims.pilot import find_pilot
    from scrimp.claims.power import power as size_claims
    from scrimp.claims.power import print_sizes

    workspace, study = _opened(study)
    config, chosen, judged = workspace.study(study), _scale(workspace, scale), load_claims(workspace, study)
    check_claims(config, judged)
    pilot = find_pilot(workspace, config, chosen, source)
    sizes = size_claims(workspace, config, chosen, judged, pilot, seeds)
    if as_json:
        about = {"study": study, "scale": chosen, "source": str(pilot.source)}
        print(json.dumps({**about, "claims": [size.model_dump(mode="json") for size in sizes]}, indent=1))
    else:
        print_sizes(sizes, judged, pilot)


@app.command()
def figures(study: Study, scale: Scale = None) -> None:
    """Draw a study's figures and write its tables."""
    from scrimp.studies.outputs import draw_figures

    workspace, study = _opened(study)
    print(draw_figures(workspace, study, _scale(workspace, scale)))


@app.command()
def report(
    scale: Scale = None,
    studies: Studies = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="reference results, such as results/reference/mini-cpu")
    ] = None,
) -> None:
    """Write the report page and the claims table of the studies that were judged, or the page of reference results."""
    from scrimp.claims.judge import collect_claims
    from scrimp.report.page import judged, write_reference_report, write_report

    workspace = _workspace()
    if source is not None:
        print(write_reference_report(workspace, source))
        return
    chosen, names = _scale(workspace, scale), workspace.studies(studies or None)
    page = write_report(workspace, chosen, names)
    collect_claims(workspace, chosen, judged(workspace, chosen, names))
    print(page)


@app.command()
def publish(
    name: Annotated[str, typer.Argument(help="the hardware, for example mini-cpu")],
    scale: Scale = None,
    studies: Studies = None,
) -> None:
    """Copy a finished scale's measured results to results/reference/NAME, to be committed."""
    from scrimp.report.publish import publish as publish_results

    workspace = _workspace()
    print(publish_results(workspace, _scale(workspace, scale), workspace.studies(studies or None), name))


@app.command()
def docs(
    check: Annotated[bool, typer.Option("--check", help="change nothing; fail where a table is out of date")] = False,
) -> None:
    """Make the tables of verdicts in README.md and docs/ again, from results/reference."""
    from scrimp.report.documents import write_documents

    changed = write_documents(_workspace(), check)
    for path in changed:
        print(path)
    if check and changed:
        raise ScrimpError("these tables are not what results/reference says; run `scrimp docs`")


@app.command()
def track(scale: Scale = None, studies: Studies = None) -> None:
    """Bring MLflow's database in line with the result files."""
    from scrimp.tracking import track as track_runs

    workspace = _workspace()
    track_runs(workspace, _scale(workspace, scale), workspace.studies(studies or None))


@app.command()
def ui(port: Annotated[int, typer.Option(min=1, max=65535, help="of this machine")] = 5000) -> None:
    """Open the MLflow UI on all tracked runs."""
    from scrimp.tracking import ui as open_ui

    open_ui(_workspace(), port)


Json = Annotated[bool, typer.Option("--json", help="for scripts")]


@app.command()
def status(
    scale: Scale = None,
    studies: Annotated[
        list[str] | None, typer.Option("--study", help="may repeat; default: config/config.yaml and what was begun")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="again every ten seconds, until all is done")] = False,
    as_json: Json = False,
) -> None:
    """Sum up a scale's runs: done, at work and how fast, failed and why, FLOPs spent of those planned, time left."""
    from scrimp import status as found

    workspace = _workspace()
    chosen = _scale(workspace, scale)
    names = workspace.studies(studies) if studies else found.at_hand(workspace, chosen)
    if as_json:
        print(json.dumps(found.as_json(workspace, chosen, names), indent=1))
        return
    with Live(console=console(), auto_refresh=False, transient=False) as live:
        while True:
            jobs = found.survey(workspace, chosen, names)
            others = found.stages(workspace, chosen, names)
            live.update(found.view(jobs, chosen, others), refresh=True)
            if not watch or found.finished(jobs):
                return
            time.sleep(10)


@app.command()
def compare(
    one: Annotated[Path, typer.Argument(help="a folder of results: of a scale, of reference results, or of one study")],
    other: Annotated[Path, typer.Argument(help="another one")],
    as_json: Json = False,
) -> None:
    """Put the verdicts of two folders of results side by side: which are the same, which moved."""
    from scrimp import compare as compared

    if as_json:
        print(json.dumps(compared.as_json(one, other), indent=1))
    else:
        console().print(compared.view(one, other))


@app.command(name="list")
def list_everything(as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False) -> None:
    """Print studies, arms, claims, datasets, scales and kernels."""
    from scrimp.listing import listing, print_listing

    content = listing(_workspace())
    if as_json:
        print(json.dumps(content, indent=1))
    else:
        print_listing(content)


@app.command()
def check() -> None:
    """Validate config/ and the studies: keys, values, and every name that they or the code must know."""
    from scrimp.listing import check_code, check_config

    check_config(_workspace())
    check_code(_workspace())
    print("config is valid")


def main() -> None:
    """The `scrimp` command: errors meant for the user are printed without a traceback and exit with status 2."""
    try:
        app()
    except ScrimpError as error:
        errors.print(f"error: {error}", soft_wrap=True, markup=False)
        sys.exit(2)
    except (OSError, MemoryError, RuntimeError, SystemError, ImportError) as error:
        if (told := trouble(error)) is None:
            raise
        print(f"error: {told}", file=sys.stderr)  # rich would want memory
        sys.exit(2)


if __name__ == "__main__":
    main()
