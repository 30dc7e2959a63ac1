"""The workflow runs what changed and nothing else. A copy of the whole project trains a study of three arms, for real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scrimp.config import Workspace
from scrimp.files import held
from scrimp.records import read_summary

PROJECT = Path(__file__).parents[2]
ARMS = ["full", "rs2-50", "infobatch-50"]
FIGURES = """
from matplotlib.figure import Figure
from scrimp.studies import figure


@figure("speedups")
def speedups(workspace, scale):
    return Figure()
"""
pytestmark = pytest.mark.slow


# A `scrimp` that does no work, each of its runs for another time: what it is called for shows the order of the jobs.
IDLE = """#!/bin/sh
case "$1" in
    shard) mkdir -p "resources/shards/$2"; touch "resources/shards/$2/manifest.json";;
    probe) mkdir -p "results/smoke/$2/probes"; touch "results/smoke/$2/probes/$3.parquet" "results/smoke/$2/probes/$3.json";;
    run)
        sleep "0.$(($5 + 1))"; folder="results/smoke/$2/runs/$3/seed$5"; mkdir -p "$folder"
        for name in summary.json curve.parquet provenance.json; do touch "$folder/$name"; done;;
esac
echo "$*" >> order.txt
"""


def run_snakemake(root: Path, *arguments: str, first: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`snakemake` in a copied project; its own source tree, not the installed one, is what the rules import.

    Commands in the folder `first` go before all others.
    """
    folders = [*([] if first is None else [str(first)]), str(Path(sys.executable).parent), os.environ["PATH"]]
    path = os.pathsep.join(folders)
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "PATH": path}
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=1500)


def planned(root: Path, *arguments: str) -> list[str]:
    """The runs that a dry run would train, as ARM/seedK."""
    done = run_snakemake(root, "-n", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted(set(re.findall(r"output: results/smoke/tiny/runs/([^/]+/seed\d+)/", done.stdout + done.stderr)))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Path:
    """A finished project: the study `tiny` with three arms and one seed, trained from nothing to its page."""
    root = tmp_path_factory.mktemp("project")
    for name in ("src", "workflow", "profiles", "envs"):
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    shutil.copy(PROJECT / "Snakefile", root)
    shutil.copytree(template / "config", root / "config")
    shutil.copytree(template / "resources", root / "resources")
    study = yaml.safe_load((root / "config" / "studies" / "tiny" / "study.yaml").read_text())
    study["scales"]["smoke"]["workloads"]["colours"]["arms"] = ARMS
    del study["scales"]["smoke"]["workloads"]["vit"]
    study["scales"]["smoke"]["seeds"] = [0]
    study["baseline_sweep"] = ["full"]
    (root / "config" / "studies" / "tiny" / "study.yaml").write_text(yaml.safe_dump(study))
    (root / "config" / "studies" / "tiny" / "figures.py").write_text(FIGURES)
    done = run_snakemake(root)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def test_the_whole_workflow_leaves_the_page_and_the_claims(project: Path) -> None:
    assert "lossless" in (project / "results" / "smoke" / "claims.csv").read_text()
    assert "lossless" in (project / "results" / "smoke" / "report" / "index.html").read_text()
    trained = Workspace(project).results("smoke", "tiny") / "runs"
    assert sorted(path.parts[-3] for path in trained.glob("*/seed0/summary.json")) == sorted(ARMS)


def test_a_second_run_does_nothing(project: Path) -> None:
    done = run_snakemake(project)
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


@pytest.mark.parametrize(("key", "drawn"), [("headline", True), ("statement", False)])
def test_a_new_headline_draws_the_figures_again_and_another_word_of_a_claim_does_not(
    project: Path, key: str, drawn: bool
) -> None:
    path = project / "config" / "studies" / "tiny" / "claims.yaml"
    before = path.read_text()
    claims = yaml.safe_load(before)
    claims["claims"][0][key] = "Something else."
    try:
        path.write_text(yaml.safe_dump(claims))
        told = run_snakemake(project, "-n").stdout
    finally:
        path.write_text(before)
    assert re.search(r"^(local)?rule claims:", told, re.MULTILINE)
    assert bool(re.search(r"^(local)?rule figures_tiny:", told, re.MULTILINE)) == drawn


def test_editing_a_selector_runs_its_arms_only(project: Path) -> None:
    source = project / "src" / "scrimp" / "methods" / "rs2.py"
    before = source.read_text()
    source.write_text(before + "\n# a change\n")
    try:
        assert planned(project) == ["rs2-50/seed0"]
    finally:
        source.write_text(before)
    assert planned(project) == []


def test_editing_the_training_loop_runs_everything(project: Path) -> None:
    source = project / "src" / "scrimp" / "training" / "loop.py"
    before = source.read_text()
    source.write_text(before + "\n# a change\n")
    try:
        assert planned(project) == sorted(f"{arm}/seed0" for arm in ARMS)
    finally:
        source.write_text(before)


def test_editing_the_page_or_the_cli_trains_nothing(project: Path) -> None:
    for name in ("report/page.py", "cli.py", "tracking.py", "claims/judge.py"):
        source = project / "src" / "scrimp" / name
        source.write_text(source.read_text() + "\n# a change\n")
    assert planned(project) == []


def test_changing_or_adding_an_arm_runs_it_only(project: Path) -> None:
    path = project / "config" / "studies" / "tiny" / "study.yaml"
    before = path.read_text()
    study = yaml.safe_load(before)
    try:
        study["arms"]["infobatch-50"]["methods"][0]["ratio"] = 0.6
        path.write_text(yaml.safe_dump(study))
        assert planned(project) == ["infobatch-50/seed0"]
        study["arms"]["infobatch-50"]["methods"][0]["ratio"] = 0.5
        study["arms"]["infobatch-30"] = {"label": "InfoBatch 30 %", "methods": [{"name": "infobatch", "ratio": 0.3}]}
        study["scales"]["smoke"]["workloads"]["colours"]["arms"].append("infobatch-30")
        path.write_text(yaml.safe_dump(study))
        assert planned(project) == ["infobatch-30/seed0"]
    finally:
        path.write_text(before)


def test_a_view_waits_for_everything_that_it_is_made_from(project: Path) -> None:
    path = project / "config" / "datasets.yaml"
    before = path.read_text()
    datasets = yaml.safe_load(before)
    view = {"title": "Pairs", "builder": "icon_pairs", "view_of": "icons", "also_reads": ["icons-2"]}
    datasets["pairs"] = {**view, "options": {"curated_sets": ["alpha"]}, "licence": "none", "used_for": "tests"}
    try:
        path.write_text(yaml.safe_dump(datasets))
        done = run_snakemake(project, "-n", "resources/shards/pairs/manifest.json")
    finally:
        path.write_text(before)
    # One after the other: icons-2 looks at icons, and pairs at both.
    sharded = re.findall(r"output: resources/shards/([^/]+)/manifest.json", done.stdout + done.stderr)
    assert sharded == ["icons", "icons-2", "pairs"]


def test_a_second_workflow_in_the_folder_leaves_with_a_word_and_deletes_nothing(project: Path) -> None:
    summary = project / "results" / "smoke" / "tiny" / "runs" / "full" / "seed0" / "summary.json"
    with held(project / "results" / ".workflow.lock"):  # as a first workflow does
        done = run_snakemake(project, "--forcerun", "run")
        assert run_snakemake(project, "-n").returncode == 0  # a dry run is none
    assert done.returncode != 0
    assert "another process is at the same work" in done.stdout + done.stderr
    assert summary.exists()


def test_a_run_with_two_gpus_is_two_processes_of_torchrun(project: Path) -> None:
    """On a machine without a card, too. Batch norm has statistics of each process, so that losses differ from one's."""
    path = project / "config" / "studies" / "tiny" / "study.yaml"
    before, summary = path.read_text(), "results/smoke/tiny/runs/full/seed0/summary.json"
    alone = read_summary((project / summary).parent)
    study = yaml.safe_load(before)
    study["scales"]["smoke"]["gpus"] = 2
    path.write_text(yaml.safe_dump(study))
    try:
        done = run_snakemake(project, "--printshellcmds", summary)
    finally:
        path.write_text(before)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert re.search(r"torchrun --standalone --nproc-per-node 2 -m scrimp\s+run tiny full ", told)
    assert re.search(r"threads: 2\n\s+resources: .*gpu=2", told)
    together = read_summary((project / summary).parent)
    assert together.meters.examples == alone.meters.examples
    assert together.meters.updates == alone.meters.updates
    assert set(together.metrics) == set(alone.metrics)


def test_an_arm_that_is_called_like_a_command_runs_none(project: Path) -> None:
    path = project / "config" / "studies" / "tiny" / "study.yaml"
    before = path.read_text()
    study = yaml.safe_load(before)
    study["arms"]["$(touch PWNED)"] = study["arms"]["full"]
    study["scales"]["smoke"]["workloads"]["colours"]["arms"].append("$(touch PWNED)")
    try:
        path.write_text(yaml.safe_dump(study))
        done = run_snakemake(project)
    finally:
        path.write_text(before)
    assert done.returncode != 0
    assert "is no name" in done.stdout + done.stderr
    assert not (project / "PWNED").exists()


def test_a_typo_in_the_configuration_stops_before_any_work(project: Path) -> None:
    path = project / "config" / "studies" / "tiny" / "study.yaml"
    before = path.read_text()
    try:
        path.write_text(before.replace("epochs: 4", "epoch: 4"))
        done = run_snakemake(project, "-n")
        assert done.returncode != 0
        assert "tiny/study.yaml: scales.smoke.workloads.colours.epoch" in done.stdout + done.stderr
    finally:
        path.write_text(before)
    unknown = run_snakemake(project, "-n", "--config", "scale=huge")
    assert unknown.returncode != 0
    assert "unknown scale 'huge'" in unknown.stdout + unknown.stderr


def test_a_run_waits_for_the_reference_that_it_is_scored_against_and_for_no_other(tmp_path: Path) -> None:
    for name in ("src", "workflow", "profiles", "envs", "config"):
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    shutil.copy(PROJECT / "Snakefile", tmp_path)
    wanted = [f"results/smoke/jest/runs/{arm}/seed0/summary.json" for arm in ("uniform", "jest-80-plus")]
    done = run_snakemake(tmp_path, "-n", "--config", "scale=smoke", "--", *wanted)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r"output: (results/smoke/jest/\S+?)/summary\.json", done.stdout + done.stderr)
    reference, run = "results/smoke/jest/references/curated++", "results/smoke/jest/runs/jest-80-plus/seed0"
    assert sorted(found) == [reference, run, "results/smoke/jest/runs/uniform/seed0"]
    assert found.index(reference) < found.index(run)


def test_data_come_before_all_else_and_what_others_wait_for_before_runs(tmp_path: Path) -> None:
    """A dataset asks for all cores, which runs of one core, ending one by one, would never leave free together."""
    for name in ("src", "workflow", "profiles", "envs", "config"):
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    shutil.copy(PROJECT / "Snakefile", tmp_path)
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "scrimp").write_text(IDLE)
    (commands / "scrimp").chmod(0o755)
    wanted = [f"results/smoke/{run}/summary.json" for run in ("jest/runs/uniform/seed0", "scaling/runs/cosine-x1/seed0")]
    wanted += [f"results/smoke/sparse/runs/dense/seed{seed}/summary.json" for seed in range(5)]
    probes = [f"results/smoke/{probe}.parquet" for probe in ("infobatch/probes/overhead", "batch/probes/serving")]
    done = run_snakemake(tmp_path, "--config", "scale=smoke", "seeds=[0,1,2,3,4]", "--", *wanted, *probes, first=commands)
    assert done.returncode == 0, done.stdout + done.stderr
    order = [line.split()[0] for line in (tmp_path / "order.txt").read_text().splitlines()]
    assert order.count("run") == 7
    shards = order.count("shard")
    assert shards > 3
    assert order == ["shard"] * shards + ["probe"] * 2 + ["run"] * 7
