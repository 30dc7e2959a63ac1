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
    conda:
        "../../envs/scrimp.yaml"
    params:
        config=study_config,
        code=code_digest("scrimp.claims.judge"),
    shell:
        "scrimp claims {wildcards.study} --scale {wildcards.scale} > {log} 2>&1"


for study in STUDIES:

    rule:
        name:
            f"figures_{study}".replace("-", "_")
        input:
            run_outputs(study),
            probe_outputs(study),
        output:
            figure_outputs(study),
            table_outputs(study),
        log:
            f"results/logs/{SCALE}/{study}/figures.log",
        conda:
            "../../envs/scrimp.yaml"
        params:
            config=digest_of(CONFIGS[study].model_dump(mode="json")),
            code=code_digest(f"scrimp.studies.{study.replace('-', '_')}_figures"),
            study=study,
            scale=SCALE,
        shell:
            "scrimp figures {params.study} --scale {params.scale} > {log} 2>&1"
