# INPUTS:  summaries, curves and probes of a study
# OUTPUTS: its claims with verdicts; its figures and tables
# STEPS:   files in, files out; nothing is trained here


rule claims:
    input:
        lambda wildcards: [
            *run_outputs(wildcards.study),
            *probe_outputs(wildcards.study),
        ],
    output:
        json="results/{scale}/{study}/claims.json",
        csv=report(
            "results/{scale}/{study}/claims.csv",
            caption="../report/claims.rst",
            category="{study}",
            labels={"claim": "all", "scale": "{scale}"},
        ),
    log:
        "results/logs/{scale}/{study}/claims.log",
    priority: 1
    conda:
        "../../envs/scrimp.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: attempt * MEMORY[False],
        runtime=lambda wildcards, attempt: attempt * MINUTES[False],
    params:
        config=claims_config,
        code=code_digest("scrimp.claims.judge", *rule_modules()),
        study=lambda wildcards: TOLD[wildcards.study],
    shell:
        "scrimp claims {params.study:q} --scale {wildcards.scale:q} > {log:q} 2>&1"


for study in STUDIES:

    rule:
        name:
            f"figures_{study}".replace("-", "_")
        input:
            run_outputs(study),
            probe_outputs(study),
            published_tables(study),
        output:
            figure_outputs(study),
            table_outputs(study),
        log:
            f"results/logs/{SCALE}/{study}/figures.log",
        priority: 1
        conda:
            "../../envs/scrimp.yaml"
        resources:
            mem_mb=lambda wildcards, attempt: attempt * MEMORY[False],
            runtime=lambda wildcards, attempt: attempt * MINUTES[False],
        params:
            config=figures_config(study),
            code=study_code(FOLDERS[study], "figures"),
            study=TOLD[study],
            scale=SCALE,
        shell:
            "scrimp figures {params.study:q} --scale {params.scale:q} > {log:q} 2>&1"
