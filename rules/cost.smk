rule price_tokens:
    input:
        capacity=CAPACITY,
        verdict=RESULTS.pattern("verdict"),
        suites=SCORES,
    output:
        RESULTS.pattern("cost"),
    log:
        f"logs/{GPU}/price_tokens.log",
    conda:
        ENVIRONMENT
    params:
        judged_by=JUDGED_BY,
        price=report_plan.prices(PLAN),
    script:
        "../workflow/scripts/price_tokens.py"
