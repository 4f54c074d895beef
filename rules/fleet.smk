wildcard_constraints:
    comparison="|".join(FLEET.entries),


# Its results are no outputs: Snakemake would remove them with a job that fails or is cancelled.
rule run_comparison:
    output:
        f"fleets/{FLEET.name}/{{comparison}}/done.json",
    log:
        f"fleets/{FLEET.name}/{{comparison}}/job.log",
    conda:
        "../envs/pipeline.yaml"
    threads: needs("cpus")
    resources:
        gpu=needs("gpus"),
        gpu_model=needs("gpu_model"),
        cpus_per_task=needs("cpus"),
        mem_mb=needs("mem_mb"),
        runtime=needs("runtime_min"),
        slurm_partition=needs("partition"),
        slurm_account=needs("account"),
    params:
        definition=lambda wildcards: FLEET.definition(wildcards.comparison),
    script:
        "../workflow/scripts/run_comparison.py"


rule join_fleet:
    input:
        expand(rules.run_comparison.output, comparison=FLEET.entries),
    output:
        **joined.paths(FLEET.name),
    log:
        f"fleets/{FLEET.name}/joined/join.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        made_by=judgement(),
    script:
        "../workflow/scripts/join_fleet.py"
