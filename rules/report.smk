import time

from quantbench.last_words import LastWords

# Of this run, once it has begun.
STARTED, LAST_WORDS = [], []

# All that a page may quote. `quality` is empty where quality is left out.
EVIDENCE = {
    "verdict": RESULTS.pattern("verdict"),
    "capacity": CAPACITY,
    "memory": RESULTS.pattern("memory"),
    "startup": RESULTS.pattern("startup_table"),
    "ready": READY,
    "measurement": RESULTS.pattern("measurement"),
    "impact": RESULTS.pattern("impact"),
    "quality": expand(
        RESULTS.pattern("quality_details"),
        variant=VARIANTS if config["quality"]["prompts"] else [],
    ),
    "suites": SCORES,
    "cost": RESULTS.pattern("cost"),
    "decision": RESULTS.pattern("decision"),
}
PAGES = expand(RESULTS.pattern("page"), page=report_plan.PAGES)
REPORTS = [
    *PAGES,
    RESULTS.pattern("report"),
    *([RESULTS.pattern("first_quality")] if EVIDENCE["quality"] else []),
]


rule write_pages:
    input:
        **EVIDENCE,
    output:
        PAGES,
    log:
        f"logs/{GPU}/write_pages.log",
    conda:
        ENVIRONMENT
    params:
        judged_by=JUDGED_BY,
        report=report_plan.report(PLAN),
    script:
        "../workflow/scripts/write_pages.py"


rule write_report:
    input:
        **EVIDENCE,
    output:
        page=RESULTS.pattern("report"),
        plots=directory(RESULTS.pattern("plots")),
    log:
        f"logs/{GPU}/write_report.log",
    conda:
        ENVIRONMENT
    params:
        judged_by=JUDGED_BY,
        report=report_plan.report(PLAN),
    script:
        "../workflow/scripts/write_report.py"
