from quantbench.config import report_plan

# The grid, and what was asked for by name and lies on disk.
POINTS = {arm: report_plan.points(PLAN, arm, ROOT / RESULTS) for arm in ARMS}
STEMS = [
    stem for arm in ARMS for cell in POINTS[arm] for stem in block_stems(arm, cell)
]
CALIBRATIONS = expand(
    CALIBRATION,
    concurrency=sorted({cell.concurrency for cells_ in POINTS.values() for cell in cells_}),
)
READY = expand(f"{RESULTS}/servers/{{model}}/ready.json", model=MODELS)
SESSIONS = expand(f"{RESULTS}/servers/{{model}}/session.json", model=MODELS)
STARTS = expand(
    f"{RESULTS}/servers/{{model}}/startup.json", model=model_plan.startups(PLAN)
)
CAPACITY = expand(
    f"{RESULTS}/capacity/{{workload}}_{{model}}.csv", workload=WORKLOADS, model=MODELS
)


rule combine_capacity:
    input:
        lambda wildcards: [
            CELL.format(arm=wildcards.model, **cell.columns)
            for cell in POINTS.get(wildcards.model, [])
            if cell.workload == wildcards.workload
        ],
    output:
        f"{RESULTS}/capacity/{{workload}}_{{model}}.csv",
    log:
        f"logs/{GPU}/combine_capacity/{{workload}}_{{model}}.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        judged_by=JUDGED_BY,
    script:
        "../workflow/scripts/combine_capacity.py"


# One job for all workloads: Holm's correction is over all comparisons of a variant.
rule compare_models:
    input:
        contexts=[f"{stem}.json" for stem in STEMS],
        records=[f"{stem}.parquet" for stem in STEMS],
        ready=READY,
        calibrations=CALIBRATIONS,
    output:
        verdict=f"{RESULTS}/comparison/verdict.json",
        tables=expand(f"{RESULTS}/comparison/{{workload}}.csv", workload=WORKLOADS),
    log:
        f"logs/{GPU}/compare_models.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        judged_by=JUDGED_BY,
        comparison=report_plan.comparison(PLAN),
    script:
        "../workflow/scripts/compare_models.py"


rule describe_measurement:
    input:
        contexts=[f"{stem}.json" for stem in STEMS],
        ready=READY,
        sessions=SESSIONS,
        calibrations=CALIBRATIONS,
    output:
        f"{RESULTS}/measurement.json",
    log:
        f"logs/{GPU}/describe_measurement.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        judged_by=JUDGED_BY,
        baseline=BASELINE,
        gpu_name=PLAN.gpu_name,
    script:
        "../workflow/scripts/describe_measurement.py"


rule tabulate_memory:
    input:
        ready=READY,
        sessions=SESSIONS,
    output:
        f"{RESULTS}/memory.csv",
    log:
        f"logs/{GPU}/tabulate_memory.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        judged_by=JUDGED_BY,
        memory=report_plan.memory(PLAN),
    script:
        "../workflow/scripts/tabulate_memory.py"


rule tabulate_startup:
    input:
        ready=READY,
        starts=STARTS,
    output:
        f"{RESULTS}/startup.csv",
    log:
        f"logs/{GPU}/tabulate_startup.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        judged_by=JUDGED_BY,
        labels=report_plan.memory(PLAN)["labels"],
    script:
        "../workflow/scripts/tabulate_startup.py"


rule compare_chat_batch:
    input:
        verdict=f"{RESULTS}/comparison/verdict.json",
        capacity=CAPACITY,
        memory=f"{RESULTS}/memory.csv",
        ready=READY,
        measurement=f"{RESULTS}/measurement.json",
    output:
        f"{RESULTS}/comparison/chat_vs_batch.csv",
    log:
        f"logs/{GPU}/compare_chat_batch.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        judged_by=JUDGED_BY,
        report=report_plan.report(PLAN),
    script:
        "../workflow/scripts/compare_chat_batch.py"


rule decide:
    input:
        verdict=f"{RESULTS}/comparison/verdict.json",
        capacity=CAPACITY,
        memory=f"{RESULTS}/memory.csv",
        startup=f"{RESULTS}/startup.csv",
        ready=READY,
        measurement=f"{RESULTS}/measurement.json",
        impact=f"{RESULTS}/comparison/chat_vs_batch.csv",
        quality=expand(
            f"{RESULTS}/quality_details_{{variant}}.json",
            variant=VARIANTS if config["quality"]["prompts"] else [],
        ),
        cost=f"{RESULTS}/cost.json",
    output:
        f"{RESULTS}/decision.json",
    log:
        f"logs/{GPU}/decide.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        judged_by=JUDGED_BY,
        report=report_plan.report(PLAN),
    script:
        "../workflow/scripts/decide.py"
