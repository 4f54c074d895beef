rule price_tokens:
    input:
        capacity=CAPACITY,
        verdict=RESULTS.pattern("verdict"),
    output:
        RESULTS.pattern("cost"),
    log:
        f"logs/{GPU}/price_tokens.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        judged_by=JUDGED_BY,
        price=report_plan.prices(PLAN),
    script:
        "../workflow/scripts/price_tokens.py"
