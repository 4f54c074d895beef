CALIBRATIONS = expand(
    CALIBRATION,
    concurrency=sorted(
        {cell.concurrency for cells_ in POINTS.values() for cell in cells_}
    ),
)
FURTHER_TOLD = [RESULTS.pattern("further")] if FURTHER else []
READY = expand(RESULTS.pattern("ready"), model=MODELS)
SESSIONS = expand(RESULTS.pattern("session"), model=MODELS)
STARTS = expand(RESULTS.pattern("startup"), model=model_plan.startups(PLAN))
CAPACITY = expand(RESULTS.pattern("capacity"), workload=WORKLOADS, model=MODELS)


rule combine_capacity:
    input:
        lambda wildcards: [
            CELL.format(arm=wildcards.model, **cell.columns)
            for cell in POINTS.get(wildcards.model, [])
            if cell.workload == wildcards.workload
        ],
    output:
        RESULTS.pattern("capacity"),
    log:
        f"logs/{GPU}/combine_capacity/{{workload}}_{{model}}.log",
    conda:
        ENVIRONMENT
    params:
        judged_by=JUDGED_BY,
    script:
        "../workflow/scripts/combine_capacity.py"


# It asks the same processes as measure_tuple does, on all lanes. What it adds is on the disk when the jobs that rest on
# all blocks are planned, hence a checkpoint.
checkpoint measure_further:
    input:
        measured_of(ARMS),
        ready=READY,
        calibrations=CALIBRATIONS,
    output:
        RESULTS.pattern("further"),
    log:
        f"logs/{GPU}/measure_further.log",
    # Before a server is stopped.
    priority: 10**8
    conda:
        ENVIRONMENT
    resources:
        **{f"lane{number}": 1 for number in range(len(config["lanes"]))},
    params:
        budget_s=PLAN.budget_s,
        comparison=report_plan.comparison(PLAN, RESULTS),
    script:
        "../workflow/scripts/measure_further.py"


# One job for all workloads: Holm's correction is over all comparisons of a variant.
rule compare_models:
    input:
        measured=all_measured,
        ready=READY,
        calibrations=CALIBRATIONS,
        further=FURTHER_TOLD,
    output:
        verdict=RESULTS.pattern("verdict"),
        tables=expand(RESULTS.pattern("comparison"), workload=WORKLOADS),
        iso_memory=[RESULTS.pattern("iso_memory")] if ISO_MEMORY else [],
    log:
        f"logs/{GPU}/compare_models.log",
    conda:
        ENVIRONMENT
    params:
        judged_by=JUDGED_BY,
        blocks=all_blocks,
        comparison=report_plan.comparison(PLAN, RESULTS),
    script:
        "../workflow/scripts/compare_models.py"


rule describe_measurement:
    input:
        measured=all_measured,
        ready=READY,
        sessions=SESSIONS,
        calibrations=CALIBRATIONS,
        further=FURTHER_TOLD,
    output:
        RESULTS.pattern("measurement"),
    log:
        f"logs/{GPU}/describe_measurement.log",
    conda:
        ENVIRONMENT
    params:
        judged_by=JUDGED_BY,
        blocks=all_blocks,
        baseline=BASELINE,
        gpu_name=PLAN.gpu_name,
        arms=report_plan.arms(PLAN),
    script:
        "../workflow/scripts/describe_measurement.py"


rule tabulate_memory:
    input:
        ready=READY,
        sessions=SESSIONS,
        measured=all_measured,
    output:
        RESULTS.pattern("memory"),
    log:
        f"logs/{GPU}/tabulate_memory.log",
    conda:
        ENVIRONMENT
    params:
        judged_by=JUDGED_BY,
        blocks=all_blocks,
        memory=report_plan.memory(PLAN),
    script:
        "../workflow/scripts/tabulate_memory.py"


rule tabulate_startup:
    input:
        ready=READY,
        starts=STARTS,
    output:
        RESULTS.pattern("startup_table"),
    log:
        f"logs/{GPU}/tabulate_startup.log",
    conda:
        ENVIRONMENT
    params:
        judged_by=JUDGED_BY,
        labels=report_plan.memory(PLAN)["labels"],
    script:
        "../workflow/scripts/tabulate_startup.py"


rule compare_chat_batch:
    input:
        verdict=RESULTS.pattern("verdict"),
        capacity=CAPACITY,
        memory=RESULTS.pattern("memory"),
        ready=READY,
        measurement=RESULTS.pattern("measurement"),
    output:
        RESULTS.pattern("impact"),
    log:
        f"logs/{GPU}/compare_chat_batch.log",
    conda:
        ENVIRONMENT
    params:
        judged_by=JUDGED_BY,
        report=report_plan.report(PLAN),
    script:
        "../workflow/scripts/compare_chat_batch.py"


rule decide:
    input:
        verdict=RESULTS.pattern("verdict"),
        capacity=CAPACITY,
        memory=RESULTS.pattern("memory"),
        startup=RESULTS.pattern("startup_table"),
        ready=READY,
        measurement=RESULTS.pattern("measurement"),
        impact=RESULTS.pattern("impact"),
        quality=expand(
            RESULTS.pattern("quality_details"),
            variant=VARIANTS if config["quality"]["prompts"] else [],
        ),
        suites=SCORES,
        cost=RESULTS.pattern("cost"),
    output:
        RESULTS.pattern("decision"),
    log:
        f"logs/{GPU}/decide.log",
    conda:
        ENVIRONMENT
    params:
        judged_by=JUDGED_BY,
        report=report_plan.report(PLAN),
    script:
        "../workflow/scripts/decide.py"
