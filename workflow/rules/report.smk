# INPUTS:  claims, figures and tables of all studies; run files
# OUTPUTS: the report page, the claims table, the key of what MLflow holds
# STEPS:   a first page as soon as one of several studies is done, which says what is still to come; one serial `track`
#          (MLflow's database is not an output: it is a view, rebuilt from the files), then the page; all of it takes seconds,
#          and is not submitted to a cluster


for study in STUDIES if len(STUDIES) > 1 else []:

    rule:
        name:
            f"show_{study}".replace("-", "_")
        input:
            study_results(study),
        output:
            touch(shown(study)),
        log:
            f"results/logs/{SCALE}/{study}/show.log",
        priority: 1
        localrule: True
        conda:
            "../../envs/scrimp.yaml"
        params:
            scale=SCALE,
            studies=[word for study in STUDIES for word in ("--study", TOLD[study])],
        shell:
            "scrimp report --scale {params.scale:q} {params.studies:q} > {log:q} 2>&1"


rule track:
    input:
        [run_outputs(study) for study in STUDIES],
        [study_results(study) for study in STUDIES],
    output:
        f"results/{SCALE}/tracked.json",
    log:
        f"results/logs/{SCALE}/track.log",
    localrule: True
    conda:
        "../../envs/scrimp.yaml"
    params:
        code=code_digest("scrimp.tracking"),
        scale=SCALE,
        studies=[word for study in STUDIES for word in ("--study", TOLD[study])],
    shell:
        "scrimp track --scale {params.scale:q} {params.studies:q} > {log:q} 2>&1"


rule report:
    input:
        f"results/{SCALE}/tracked.json",
        [study_results(study) for study in STUDIES],
        [shown(study) for study in STUDIES if len(STUDIES) > 1],
    output:
        page=report(
            f"results/{SCALE}/report/index.html",
            caption="../report/page.rst",
            category="report",
            labels={"claim": "all", "scale": SCALE},
        ),
        claims=f"results/{SCALE}/claims.csv",
    log:
        f"results/logs/{SCALE}/report.log",
    localrule: True
    conda:
        "../../envs/scrimp.yaml"
    params:
        code=code_digest("scrimp.report.page", *rule_modules()),
        page=page_digest(),
        config=page_config(),
        scale=SCALE,
        studies=[word for study in STUDIES for word in ("--study", TOLD[study])],
    shell:
        "scrimp report --scale {params.scale:q} {params.studies:q} > {log:q} 2>&1"
