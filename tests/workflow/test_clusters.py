"""The profiles `slurm` and `kubernetes` with the real plugins, and stubs of the clusters' commands.

The stubs run a job as a process of this machine. With SCRIMP_SLURM=1 a cluster's own commands are tried too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
ARMS = ["full", "rs2-50", "infobatch-50"]
pytestmark = pytest.mark.slow


def needs(plugin: str, extra: str) -> pytest.MarkDecorator:
    missing = find_spec(f"snakemake_executor_plugin_{plugin}") is None
    return pytest.mark.skipif(missing, reason=f"`pip install scrimp[{extra}]`")


# Each job is a folder: `call` is what it was submitted with, `end` its exit status. None starts before WAIT_FOR are there.
SBATCH = """
import json, os, shlex, subprocess, sys
from pathlib import Path
jobs = Path(os.environ["STUB_JOBS"])
number = 1
while True:
    try:
        (jobs / str(number)).mkdir(parents=True)
        break
    except FileExistsError:
        number += 1
job = jobs / str(number)
words = sys.argv[1:]
wrap = next(word.removeprefix("--wrap=") for word in words if word.startswith("--wrap="))
(job / "call").write_text(json.dumps(words))
waits = f"until [ $(ls {jobs} | wc -l) -ge {os.environ['WAIT_FOR']} ]; do sleep .1; done"
script = f"{waits}; export SLURM_JOB_ID={number}; ({wrap}); echo $? > {job}/end.part; mv {job}/end.part {job}/end"
with open(words[words.index("--output") + 1].replace("%j", str(number)), "w") as log:
    subprocess.Popen(["bash", "-c", script], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
print(number)
"""
SACCT = """
import os, sys
from pathlib import Path
for job in sorted(Path(os.environ["STUB_JOBS"]).iterdir()):
    end = (job / "end").read_text().strip() if (job / "end").exists() else None
    print(f"{job.name}|{'RUNNING' if end is None else 'COMPLETED' if end == '0' else 'FAILED'}")
"""
SRUN = """
import os, sys
words = sys.argv[1:]
while words[0].startswith("-"):
    words.pop(0)
os.execvp(words[0], words)
"""
# Each Job is a folder, as of SBATCH: `call` is what was created.
KUBECTL = """
import json, os, subprocess, sys
from pathlib import Path
jobs = Path(os.environ["STUB_JOBS"])
verb, *words = sys.argv[1:]
if verb == "create":
    made = json.load(sys.stdin)
    number = 1 + len(list(jobs.iterdir()))
    job = jobs / str(number)
    job.mkdir()
    (job / "call").write_text(json.dumps(made))
    container = made["spec"]["template"]["spec"]["containers"][0]
    waits = f"until [ $(ls {jobs} | wc -l) -ge {os.environ['WAIT_FOR']} ]; do sleep .1; done"
    script = f"{waits}; sh {container['command'][1]}; echo $? > {job}/end.part; mv {job}/end.part {job}/end"
    where = {"cwd": container["workingDir"], "stdin": subprocess.DEVNULL, "start_new_session": True}
    with (job / "log").open("w") as log:
        subprocess.Popen(["bash", "-c", script], stdout=log, stderr=log, **where)
    print(f"job.batch/{made['metadata']['generateName']}{number}")
elif verb == "get":
    end = jobs / words[1].removeprefix("scrimp-") / "end"
    told = {} if not end.exists() else {"succeeded": 1} if end.read_text().strip() == "0" else {"failed": 1}
    print(json.dumps({"status": told}))
"""
# What a run leaves, without its training: here it is only asked what becomes of a job.
SCRIMP = """
import sys
from pathlib import Path
_, study, arm, _, seed, _, scale = sys.argv[1:8]
folder = Path("results", scale, study, "runs", arm, f"seed{seed}")
folder.mkdir(parents=True, exist_ok=True)
for name in ("summary.json", "curve.parquet", "provenance.json"):
    (folder / name).write_text("a stub")
"""
SILENT = ("squeue", "sinfo", "scancel", "scontrol", "sacctmgr")
STUBS = {
    "sbatch": SBATCH,
    "sacct": SACCT,
    "srun": SRUN,
    "kubectl": KUBECTL,
    "scrimp": SCRIMP,
    **dict.fromkeys(SILENT, ""),
}


@pytest.fixture
def project(tmp_path: Path, template: Path) -> Path:
    """A project whose study `tiny` has three arms, one seed, and a scale that asks for a GPU."""
    root = tmp_path / "project"
    for name in ("src", "workflow", "profiles", "envs"):
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    shutil.copy(PROJECT / "Snakefile", root)
    shutil.copytree(template / "config", root / "config")
    shutil.copytree(template / "resources", root / "resources")
    path = root / "config" / "studies" / "tiny" / "study.yaml"
    study = yaml.safe_load(path.read_text())
    study["scales"]["smoke"]["workloads"]["colours"]["arms"] = ARMS
    del study["scales"]["smoke"]["workloads"]["vit"]
    study["scales"]["smoke"] |= {"seeds": [0], "gpus": 1}
    study["baseline_sweep"] = ["full"]
    path.write_text(yaml.safe_dump(study))
    return root


@pytest.fixture
def stubs(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with the clusters' commands, and one for their jobs."""
    commands, jobs = tmp_path / "bin", tmp_path / "jobs"
    commands.mkdir()
    jobs.mkdir()
    for name, text in STUBS.items():
        (commands / name).write_text(f"#!{sys.executable}\n{text}")
        (commands / name).chmod(0o755)
    return commands, jobs


def submit(root: Path, profile: str, commands: Path | None, *arguments: str, **variables: str) -> str:
    """Snakemake with a profile, which finds the cluster's commands in the folder `commands` first; what it printed."""
    folders = [*([str(commands)] if commands else []), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {**os.environ, "PATH": os.pathsep.join(folders), "PYTHONPATH": str(root / "src"), **variables}
    quick = ["--latency-wait", "5", "--seconds-between-status-checks", "1"]
    command = [sys.executable, "-m", "snakemake", "--profile", f"profiles/{profile}", *quick, *arguments]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def summaries(root: Path) -> list[str]:
    return sorted(path.parts[-3] for path in root.glob("results/smoke/tiny/runs/*/seed0/summary.json"))


TARGETS = [f"results/smoke/tiny/runs/{arm}/seed0/summary.json" for arm in ARMS]
SOON = ["--slurm-init-seconds-before-status-checks", "1"]


# No job starts before three are in the queue: a workflow that submits one at a time would wait for ever.
@needs("slurm", "slurm")
def test_all_ready_runs_are_submitted_to_slurm_at_once_with_what_they_need(project: Path, stubs: tuple[Path, Path]) -> None:
    commands, jobs = stubs
    submit(project, "slurm", commands, *TARGETS, *SOON, STUB_JOBS=str(jobs), WAIT_FOR="3")
    assert summaries(project) == sorted(ARMS)
    calls = [json.loads((job / "call").read_text()) for job in jobs.iterdir()]
    assert len(calls) == 3
    for call in calls:
        words = " ".join(word for word in call if not word.startswith("--wrap"))
        assert "--mem 32000" in words
        assert "-t 1440" in words
        assert re.search(r"--gpus[ =]1\b", words)
        assert re.search(r"--cpus-per-(?:task|gpu)[ =]1\b", words)


@needs("cluster_generic", "kubernetes")
def test_all_ready_runs_become_jobs_of_kubernetes_at_once_with_what_they_need(
    project: Path, stubs: tuple[Path, Path]
) -> None:
    commands, jobs = stubs
    submit(project, "kubernetes", commands, *TARGETS, STUB_JOBS=str(jobs), WAIT_FOR="3")
    assert summaries(project) == sorted(ARMS)
    made = [json.loads((job / "call").read_text()) for job in jobs.iterdir()]
    assert len(made) == 3
    for job in made:
        assert job["spec"]["activeDeadlineSeconds"] == 1440 * 60
        container = job["spec"]["template"]["spec"]["containers"][0]
        assert container["workingDir"] == str(project)
        assert container["resources"] == {
            "requests": {"cpu": "1", "memory": "32000M"},
            "limits": {"memory": "32000M", "nvidia.com/gpu": "1"},
        }


@needs("slurm", "slurm")
@pytest.mark.skipif("SCRIMP_SLURM" not in os.environ, reason="SCRIMP_SLURM=1 submits to this machine's own cluster")
def test_a_real_cluster_makes_the_study_to_its_claims(project: Path) -> None:
    # A cluster of one machine keeps no accounts.
    claims = "results/smoke/tiny/claims.json"
    submit(project, "slurm", None, claims, *SOON, "--slurm-status-command", "squeue")
    assert summaries(project) == sorted(ARMS)
    assert (project / claims).exists()
