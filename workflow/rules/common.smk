# INPUTS:  config/ and the studies' folders (checked here, so that a typo stops the workflow before any work)
# OUTPUTS: what the other files here use: SCALE, STUDIES, and functions from wildcards to files and parameters
# `params: code` is the digest of the modules that its stage imports, and `params: config` the slice of the
# configuration that it reads: a change re-runs just what it can change.

import contextlib
import functools
import os
import re
from pathlib import Path

from scrimp import fork_server
from scrimp.claims.loading import arms_of, load_claims
from scrimp.claims.rules import rule_modules
from scrimp.config import Settings, Workspace, parse_model
from scrimp.config.base import NAME
from scrimp.errors import ScrimpError
from scrimp.files import digest_of, held, sha256_of
from scrimp.listing import check_config
from scrimp.measure.code import code_digest, lock_digest, package_root
from scrimp.stages import training_code
from scrimp.studies.loading import study_code

WORKSPACE = Workspace()
SCALE = config["scale"]
try:
    # Names, of studies that are told by name or by the path of their folder.
    STUDIES = WORKSPACE.studies(
        config["studies"]
        if isinstance(config["studies"], list)
        else config["studies"].split(",")
    )
    # What `--config` put in the place of what the file says is held to the same.
    parse_model({**config, "studies": STUDIES}, Settings, "the configuration")
    check_config(WORKSPACE, SCALE, STUDIES)
except ScrimpError as error:
    raise WorkflowError(str(error))
CONFIGS = {name: WORKSPACE.study(name) for name in STUDIES}
FOLDERS = {name: WORKSPACE.study_folder(name) for name in STUDIES}
# How a command is told a study: by name, or by path where config/config.yaml does not have it.
LISTED = Workspace().study_folders()
TOLD = {
    name: name if FOLDERS[name] == LISTED.get(name) else str(FOLDERS[name])
    for name in STUDIES
}
DATASETS = WORKSPACE.datasets()
LOCK = lock_digest(WORKSPACE.root)
HELD = contextlib.ExitStack()  # until this process ends
# Memory [MB] and minutes of a job, by whether its scale asks for a GPU. On CPUs about twice and five times the largest of
# 391 measured runs of the scale mini (1,882 MB, 734 s); with a GPU nothing was measured. A second attempt gets twice as
# much, and goes on from the checkpoint of the first.
MEMORY = {False: 4000, True: 32000}
MINUTES = {False: 60, True: 1440}


def hold_the_folder():
    """Keep other workflows out: one would delete, as outputs to be made again, what this one's runs have left so far."""
    if not workflow.is_main_process:
        return  # a job of it, on a cluster
    try:
        HELD.enter_context(held(Path("results/.workflow.lock")))
    except ScrimpError as error:
        raise WorkflowError(str(error))


def count_cards():
    """Runs that want a GPU share this machine's cards, one each, unless `--resources gpu=N` says something else."""
    wanted = any(CONFIGS[study].scale(SCALE).gpus for study in STUDIES)
    if wanted and workflow.is_main_process and "gpu" not in workflow.global_resources:
        from scrimp.training.cards import (
            count,
        )  # it imports torch, which takes a second

        cards = count()
        most = max(CONFIGS[study].scale(SCALE).gpus for study in STUDIES)
        if workflow.local_exec and config["device"] != "cpu" and 0 < cards < most:
            raise WorkflowError(
                f"a run of the scale {SCALE} has {most} GPUs (`gpus` in its study.yaml), and this machine {cards}"
            )
        workflow.register_resource("gpu", max(1, most, cards))


def hold_imports():
    """One process imports torch for the jobs that run here: a fork of it begins at once, and a job takes seconds."""
    if workflow.is_main_process and workflow.local_exec:
        threads = {CONFIGS[study].scale(SCALE).threads for study in STUDIES}
        fork_server.start(min(threads))


wildcard_constraints:
    study=NAME,
    scale=NAME,
    arm=rf"{NAME}(?:@{NAME})?",
    seed=r"\d+",
    dataset=NAME,
    probe=NAME,
    reference=NAME,


def run_outputs(study):
    """Summaries of every run of a study: the last file that a run writes."""
    return [
        f"results/{SCALE}/{study}/runs/{arm}/seed{seed}/summary.json"
        for arm in CONFIGS[study].arm_ids(SCALE)
        for seed in CONFIGS[study].seeds(SCALE, arm, config["seeds"])
    ]


def constant_arms():
    """A pattern of the arms that others are cooldowns of; it matches nothing where there are none."""
    constants = {
        arm
        for study in STUDIES
        for arm in CONFIGS[study].arm_ids(SCALE)
        if CONFIGS[study].cooldowns(SCALE, arm)
    }
    return "|".join(re.escape(arm) for arm in sorted(constants)) or r"(?!)"


def probe_outputs(study):
    return [
        f"results/{SCALE}/{study}/probes/{name}.parquet"
        for name in CONFIGS[study].scale(SCALE).probes
    ]


def figure_outputs(study):
    names = CONFIGS[study].figures
    return [
        f"results/{SCALE}/{study}/figures/{name}.{kind}"
        for name in names
        for kind in ("svg", "png")
    ]


def table_outputs(study):
    return [
        f"results/{SCALE}/{study}/tables/{name}.csv" for name in CONFIGS[study].tables
    ]


def study_results(study):
    return [
        f"results/{SCALE}/{study}/claims.json",
        *figure_outputs(study),
        *table_outputs(study),
    ]


def shown(study):
    """The mark that a study is on the page."""
    return f"results/{SCALE}/{study}/shown"


def resolved(wildcards):
    return CONFIGS[wildcards.study].resolve(wildcards.scale, wildcards.arm)


def shards_of_workload(workload):
    return [
        f"resources/shards/{name}/manifest.json" for name in workload.datasets.values()
    ]


def needs_of_run(wildcards):
    """The shards of a run, the reference that its arm is scored against, and the constant-LR run that it goes on from."""
    arm, workload = resolved(wildcards)
    needs = shards_of_workload(workload)
    folder = f"results/{wildcards.scale}/{wildcards.study}"
    if arm.reference is not None:
        needs.append(f"{folder}/references/{arm.reference}/summary.json")
    constant = CONFIGS[wildcards.study].constant_run(wildcards.scale, wildcards.arm)
    if constant is not None:
        needs.append(f"{folder}/cooldowns/{constant}/seed{wildcards.seed}")
    return needs


def shards_of_reference(wildcards):
    sizes = CONFIGS[wildcards.study].scale(wildcards.scale)
    return shards_of_workload(sizes.workloads[sizes.main])


def reads_of_probe(wildcards):
    """What a probe reads: `data` (the main workload's, where it says nothing else), the study's `runs`, or `published`."""
    sizes = CONFIGS[wildcards.study].scale(wildcards.scale)
    return sizes.probes[wildcards.probe].get("reads", "data")


def published_tables(study):
    """Published facts: those of config/, and those in the study's own folder."""
    folders = (Path("config/published"), FOLDERS[study] / "published")
    return sorted(str(path) for folder in folders for path in folder.glob("*.csv"))


def needs_of_probe(wildcards):
    """The data of the scale's main workload and a reference, or the study's runs, or the published tables."""
    sizes = CONFIGS[wildcards.study].scale(wildcards.scale)
    reads = reads_of_probe(wildcards)
    if reads != "data":
        return (
            run_outputs(wildcards.study)
            if reads == "runs"
            else published_tables(wildcards.study)
        )
    name = sizes.probes[wildcards.probe].get("reference")
    folder = f"results/{wildcards.scale}/{wildcards.study}/references/{name}"
    shards = shards_of_workload(sizes.workloads[sizes.main])
    return shards + ([f"{folder}/summary.json"] if name else [])


def base_of(wildcards):
    """The dataset that a view looks at, and those that are read beside it."""
    return [
        f"resources/shards/{needed}/manifest.json"
        for needed in DATASETS[wildcards.dataset].needs
    ]


def run_config(wildcards):
    """What shapes a run, and nothing else: editing another arm does not re-run this one."""
    study = CONFIGS[wildcards.study]
    spec = study.run_spec(wildcards.scale, wildcards.arm)
    return digest_of([spec, study.scale(wildcards.scale).threads, config["device"]])


# Hundreds of runs share a handful of codes.
@functools.cache
def code_of(stage, study, methods=()):
    chosen = CONFIGS[study]
    return training_code(stage, chosen.task, list(methods), chosen.folder)


def run_code(wildcards):
    """The training code, the task's and this arm's methods'."""
    methods = resolved(wildcards)[0].method_names
    return code_of("run", wildcards.study, tuple(methods))


def reference_code(wildcards):
    return code_of("reference", wildcards.study)


def reference_config(wildcards):
    sizes = CONFIGS[wildcards.study].scale(wildcards.scale)
    spec = sizes.references[wildcards.reference].spec()
    workload = sizes.workloads[sizes.main].spec()
    return digest_of([spec, workload, sizes.threads, config["device"]])


def run_processes(wildcards):
    """A run that is given several GPUs is as many processes of torchrun."""
    return max(1, CONFIGS[wildcards.study].scale(wildcards.scale).gpus)


def run_command(wildcards):
    """What trains a run: the command itself, or torchrun with a process a GPU; a list, since each word is quoted by itself."""
    count = run_processes(wildcards)
    if count == 1:
        return ["scrimp"]
    return ["torchrun", "--standalone", "--nproc-per-node", str(count), "-m", "scrimp"]


def run_threads(wildcards):
    return CONFIGS[wildcards.study].scale(wildcards.scale).threads


def threads_of_processes(wildcards):
    return run_threads(wildcards) * run_processes(wildcards)


def run_gpus(wildcards):
    return 1 if CONFIGS[wildcards.study].scale(wildcards.scale).gpus else 0


def gpus_of_processes(wildcards):
    """Each process has the card of its own number, so that of such runs this machine takes one at a time, on all its cards."""
    count = CONFIGS[wildcards.study].scale(wildcards.scale).gpus
    if count > 1 and workflow.local_exec:
        return workflow.global_resources.get("gpu").value or count
    return count


def run_memory(wildcards, attempt):
    return attempt * MEMORY[run_gpus(wildcards) > 0]


def run_minutes(wildcards, attempt):
    return attempt * MINUTES[run_gpus(wildcards) > 0]


def all_cores():
    """All of this machine's; on a cluster (`--jobs`), where nobody has said how many there are, eight."""
    return workflow.resource_settings.cores or 8


def probe_config(wildcards):
    sizes = CONFIGS[wildcards.study].scale(wildcards.scale)
    workload = sizes.workloads[sizes.main].spec()
    return digest_of([sizes.probes[wildcards.probe], workload, sizes.threads])


def study_told(study):
    """All of a study's file, its card left out."""
    return CONFIGS[study].model_dump(mode="json", exclude={"card"})


def figures_config(study):
    """A study's file and its headlines, whose arms are drawn first."""
    headlines = [c for c in load_claims(WORKSPACE, study) if c.headline]
    return digest_of([study_told(study), [[c.id, arms_of(c.rule)] for c in headlines]])


def claims_config(wildcards):
    """A study's file and its claims."""
    claims = load_claims(WORKSPACE, wildcards.study)
    return digest_of(
        [study_told(wildcards.study), [c.model_dump(mode="json") for c in claims]]
    )


def dataset_config(wildcards):
    return digest_of(DATASETS[wildcards.dataset].model_dump(mode="json"))


def page_digest():
    """The page's template, style and script."""
    return digest_of(
        [sha256_of(path) for path in sorted((package_root() / "report").glob("page.*"))]
    )


def page_config():
    """What the page shows of the studies' files: titles, cards, captions."""
    return digest_of([CONFIGS[study].model_dump(mode="json") for study in STUDIES])
