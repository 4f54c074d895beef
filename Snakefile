from snakemake.utils import min_version

min_version("9.20")


configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/models.smk"
include: "rules/server.smk"
include: "rules/capacity.smk"
include: "rules/quality.smk"
include: "rules/compare.smk"
include: "rules/cost.smk"
include: "rules/report.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        # The tuples too: a missing intermediate file alone makes no job run.
        [path for arm in ARMS for path in cells(arm)],
        [path for arm in ARMS for path in blocks_of_arm(arm)],
        expand(f"{RESULTS}/servers/{{model}}/session.json", model=MODELS),
        reports(),


onsuccess:
    lane.sweep(OWNER, "run finished")


onerror:
    lane.sweep(OWNER, "run failed")
