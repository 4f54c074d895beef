import time

from quantbench.last_words import LastWords
from quantbench.report import ending

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
    "cost": RESULTS.pattern("cost"),
    "decision": RESULTS.pattern("decision"),
}
REPORTS = [
    *expand(RESULTS.pattern("page"), page=report_plan.PAGES),
    RESULTS.pattern("report"),
    *([RESULTS.pattern("first_quality")] if EVIDENCE["quality"] else []),
]


rule write_page:
    input:
        **EVIDENCE,
    output:
        RESULTS.pattern("page"),
    log:
        f"logs/{GPU}/write_page/{{page}}.log",
    wildcard_constraints:
        page="|".join(report_plan.PAGES),
    conda:
        ENVIRONMENT
    params:
        judged_by=JUDGED_BY,
        report=report_plan.report(PLAN),
    script:
        "../workflow/scripts/write_page.py"


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
