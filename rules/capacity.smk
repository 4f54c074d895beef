rule calibrate_client:
    input:
        by_content("calibrate_client", []),
    output:
        CALIBRATION,
    log:
        f"logs/{GPU}/calibrate_client/c{{concurrency}}.log",
    priority: 10**8
    conda:
        ENVIRONMENT
    threads: workflow.cores
    script:
        "../workflow/scripts/calibrate_client.py"


rule measure_block:
    input:
        ready=by_content("measure_block", ready_of),
        prompts=by_content("measure_block", prompts_of),
    output:
        records=f"{BLOCK}.parquet",
        context=f"{BLOCK}.json",
    log:
        f"logs/{GPU}/measure_block/{{arm}}/{{workload}}/c{{concurrency}}_t{{max_tokens}}/b{{block}}.log",
    priority: block_priority
    conda:
        ENVIRONMENT
    resources:
        **LANE_RESOURCES,
    params:
        spec=spec_of,
        knobs=knobs_of,
        gpu=GPU,
    # A command, as the preamble of a script alone would be half of the time between two blocks.
    shell:
        f"{MEASURE_BLOCK} {{wildcards.arm}} {{wildcards.workload}} {{wildcards.concurrency}} {{wildcards.max_tokens}} {{wildcards.block}}"


rule summarize_tuple:
    input:
        records=block_records,
        contexts=block_contexts,
        ready=ready_of,
        calibration=CALIBRATION,
    output:
        csv=CELL,
    log:
        f"logs/{GPU}/summarize_tuple/{{arm}}/{{workload}}/c{{concurrency}}_t{{max_tokens}}.log",
    conda:
        ENVIRONMENT
    params:
        judged_by=JUDGED_BY,
        gpu_name=PLAN.gpu_name,
        arm=declared_of,
    script:
        "../workflow/scripts/summarize_tuple.py"
