# Scrimp's door: `snakemake --cores all` answers every study of config/config.yaml at its scale.
#
#   fetch -> shard -> run | probe -> claims -> figures -> report, and track beside it; every arrow is a file.
#   `snakemake --cores all infobatch` makes one study, `--config scale=smoke` another scale.


configfile: "config/config.yaml"


# A machine's cards bound what it runs itself. Jobs that are submitted wait for theirs in the cluster's own queue.
resource_scopes:
    gpu="local",


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/judge.smk"
include: "workflow/rules/report.smk"


count_cards()


onstart:
    hold_the_folder()
    hold_imports()


rule all:
    default_target: True
    input:
        f"results/{SCALE}/report/index.html",
        f"results/{SCALE}/claims.csv",
        f"results/{SCALE}/tracked.json",


# One target a study, by its name: its claims, figures and tables, without the page.
for study in STUDIES:

    rule:
        name:
            study
        input:
            study_results(study),
