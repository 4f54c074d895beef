rule price_tokens:
    input:
        capacity=CAPACITY,
        verdict=f"{RESULTS}/comparison/verdict.json",
    output:
        f"{RESULTS}/cost.json",
    log:
        f"logs/{GPU}/price_tokens.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        judged_by=JUDGED_BY,
        price=report_plan.prices(PLAN),
    script:
        "../workflow/scripts/price_tokens.py"
