# INPUTS:  shards
# OUTPUTS: a reference's model and embeddings; a run's curve, summary and provenance, and what cooldowns start from;
#          a probe's table
# STEPS:   one process a run, or torchrun's; killed, it goes on from results/checkpoints when it is started again;
#          what others wait for has priority 1, so that a study is judged when its last run ends


rule reference:
    input:
        shards_of_reference,
    output:
        "results/{scale}/{study}/references/{reference}/summary.json",
        "results/{scale}/{study}/references/{reference}/model.safetensors",
        "results/{scale}/{study}/references/{reference}/embeddings.safetensors",
        "results/{scale}/{study}/references/{reference}/curve.parquet",
        "results/{scale}/{study}/references/{reference}/provenance.json",
    log:
        "results/logs/{scale}/{study}/reference-{reference}.log",
    priority: 1
    conda:
        "../../envs/scrimp.yaml"
    threads: run_threads
    resources:
        gpu=run_gpus,
        mem_mb=run_memory,
        runtime=run_minutes,
    params:
        config=reference_config,
        code=reference_code,
        lock=LOCK,
        study=lambda wildcards: TOLD[wildcards.study],
        device=config["device"],
    shell:
        "scrimp reference {params.study:q} {wildcards.reference:q} --scale {wildcards.scale:q}"
        " --device {params.device:q} > {log:q} 2>&1"


# A constant-LR run: it leaves the states that its cooldowns start from, too.
rule constant_run:
    input:
        needs_of_run,
    output:
        directory("results/{scale}/{study}/cooldowns/{arm}/seed{seed}"),
        "results/{scale}/{study}/runs/{arm}/seed{seed}/summary.json",
        "results/{scale}/{study}/runs/{arm}/seed{seed}/curve.parquet",
        "results/{scale}/{study}/runs/{arm}/seed{seed}/provenance.json",
    log:
        "results/logs/{scale}/{study}/{arm}-seed{seed}.log",
    wildcard_constraints:
        arm=constant_arms(),
    conda:
        "../../envs/scrimp.yaml"
    threads: threads_of_processes
    resources:
        gpu=gpus_of_processes,
        mem_mb=run_memory,
        runtime=run_minutes,
    params:
        config=run_config,
        code=run_code,
        lock=LOCK,
        study=lambda wildcards: TOLD[wildcards.study],
        device=config["device"],
        scrimp=run_command,
    shell:
        "{params.scrimp:q} run {params.study:q} {wildcards.arm:q} --seed {wildcards.seed:q} --scale {wildcards.scale:q}"
        " --device {params.device:q} > {log:q} 2>&1"


ruleorder: constant_run > run


rule run:
    input:
        needs_of_run,
    output:
        "results/{scale}/{study}/runs/{arm}/seed{seed}/summary.json",
        "results/{scale}/{study}/runs/{arm}/seed{seed}/curve.parquet",
        "results/{scale}/{study}/runs/{arm}/seed{seed}/provenance.json",
    log:
        "results/logs/{scale}/{study}/{arm}-seed{seed}.log",
    conda:
        "../../envs/scrimp.yaml"
    threads: threads_of_processes
    resources:
        gpu=gpus_of_processes,
        mem_mb=run_memory,
        runtime=run_minutes,
    params:
        config=run_config,
        code=run_code,
        lock=LOCK,
        study=lambda wildcards: TOLD[wildcards.study],
        device=config["device"],
        scrimp=run_command,
    shell:
        "{params.scrimp:q} run {params.study:q} {wildcards.arm:q} --seed {wildcards.seed:q} --scale {wildcards.scale:q}"
        " --device {params.device:q} > {log:q} 2>&1"


rule probe:
    input:
        needs_of_probe,
    output:
        "results/{scale}/{study}/probes/{probe}.parquet",
        "results/{scale}/{study}/probes/{probe}.json",
    log:
        "results/logs/{scale}/{study}/probe-{probe}.log",
    priority: 1
    conda:
        "../../envs/scrimp.yaml"
    threads: run_threads
    resources:
        mem_mb=run_memory,
        runtime=run_minutes,
    params:
        config=probe_config,
        code=lambda wildcards: study_code(FOLDERS[wildcards.study], "probes"),
        lock=LOCK,
        study=lambda wildcards: TOLD[wildcards.study],
    shell:
        "scrimp probe {params.study:q} {wildcards.probe:q} --scale {wildcards.scale:q} > {log:q} 2>&1"
