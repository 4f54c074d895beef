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


# Its blocks are no outputs: they are kept one by one, also where the job fails, and blocks of other tuples are measured
# between them (A B B A). What is kept fits or does not by its content: `by_content`.
rule measure_tuple:
    input:
        ready=by_content("measure_tuple", ready_of),
        prompts=by_content("measure_tuple", prompts_of),
    output:
        MEASURED,
    log:
        TUPLE_LOG.replace("{gpu}", GPU),
    priority: tuple_priority
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
        f"{MEASURE_TUPLE} {{wildcards.arm}} {{wildcards.workload}} {{wildcards.concurrency}} {{wildcards.max_tokens}} {{output}}"


rule summarize_tuple:
    input:
        measured=measured_tuple,
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
        blocks=blocks_of,
        gpu_name=PLAN.gpu_name,
        arm=declared_of,
    script:
        "../workflow/scripts/summarize_tuple.py"
