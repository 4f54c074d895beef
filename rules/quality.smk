ANSWERS = RESULTS.pattern("answers")


rule generate_answers:
    input:
        ready=by_content("generate_answers", ready_of),
        prompts=by_content("generate_answers", config["quality"]["prompts"] or []),
    output:
        answers=ANSWERS,
    log:
        f"logs/{GPU}/generate_answers/{{model}}.log",
    priority: start_priority
    conda:
        ENVIRONMENT
    resources:
        **LANE_RESOURCES,
    params:
        spec=spec_of,
        concurrency=config["quality"]["concurrency"],
        floor=of_model(model_plan.floor),
    script:
        "../workflow/scripts/generate_answers.py"


rule score_quality:
    input:
        prompts=config["quality"]["prompts"] or [],
        baseline=ANSWERS.format(model=BASELINE),
        variant=ANSWERS.format(model="{variant}"),
    output:
        pairs=RESULTS.pattern("quality"),
        details=RESULTS.pattern("quality_details"),
    log:
        f"logs/{GPU}/score_quality/{{variant}}.log",
    conda:
        ENVIRONMENT
    params:
        judged_by=JUDGED_BY,
        baseline=BASELINE,
        notes=config["quality"]["notes"],
        code=config["quality"]["code"],
    script:
        "../workflow/scripts/score_quality.py"


# The first variant's pair under the plain names.
rule name_quality:
    input:
        pairs=expand(RESULTS.pattern("quality"), variant=VARIANTS[:1]),
        details=expand(RESULTS.pattern("quality_details"), variant=VARIANTS[:1]),
    output:
        pairs=RESULTS.pattern("first_quality"),
        details=RESULTS.pattern("first_quality_details"),
    log:
        f"logs/{GPU}/name_quality.log",
    conda:
        ENVIRONMENT
    params:
        judged_by=JUDGED_BY,
    shell:
        "cp {input.pairs} {output.pairs} > {log} 2>&1 && cp {input.details} {output.details} >> {log} 2>&1"


# A suite that needs the baseline is asked about what the baseline's collection has.
rule collect_suite:
    input:
        baseline=lambda wildcards: (
            [RESULTS.path("collected", suite=wildcards.suite, model=BASELINE)]
            if PLAN.suites[wildcards.suite].needs_baseline
            and wildcards.model != BASELINE
            else []
        ),
        ready=by_content("collect_suite", ready_of),
        prompts=by_content("collect_suite", items_of),
    output:
        collected=RESULTS.pattern("collected"),
    log:
        f"logs/{GPU}/collect_suite/{{suite}}/{{model}}.log",
    priority: start_priority
    conda:
        ENVIRONMENT
    resources:
        **LANE_RESOURCES,
    params:
        spec=spec_of,
        settings=settings_of_suite,
    script:
        "../workflow/scripts/collect_suite.py"


# That of `quality.prompts` too.
rule score_suite:
    input:
        prompts=items_of,
        baseline=lambda wildcards: collected_of(wildcards.suite, BASELINE),
        variant=lambda wildcards: collected_of(wildcards.suite, wildcards.variant),
    output:
        RESULTS.pattern("suite_score"),
    log:
        f"logs/{GPU}/score_suite/{{suite}}/{{variant}}.log",
    conda:
        ENVIRONMENT
    params:
        judged_by=JUDGED_BY,
        baseline=BASELINE,
        settings=settings_of_suite,
        code=config["quality"]["code"],
    script:
        "../workflow/scripts/score_suite.py"
