# INPUTS:  the registries and URLs of config/datasets.yaml, or $SCRIMP_MIRROR
# OUTPUTS: resources/shards/DATASET/manifest.json, beside shards and index
# STEPS:   `scrimp shard` fetches what it needs, verifies, builds in a temporary folder, renames


rule shard:
    input:
        base_of,
    output:
        "resources/shards/{dataset}/manifest.json",
    log:
        "results/logs/shard/{dataset}.log",
    # Before all else that is ready: among jobs of one core, which end one by one, the cores are never free together, and
    # what asks for all of them would wait for the last. Priorities of jobs side by side add up.
    priority: 1000
    conda:
        "../../envs/scrimp.yaml"
    threads: all_cores()
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 8000,
        runtime=lambda wildcards, attempt: attempt * 1440,
    params:
        config=dataset_config,
        code=code_digest("scrimp.data.stage"),
    shell:
        "scrimp shard {wildcards.dataset:q} > {log:q} 2>&1"
