import time

from quantbench.records.layout import Results
from quantbench.report import ending

STARTED = []

# All that a page may quote. `quality` is empty where quality is left out.
EVIDENCE = {
    "verdict": f"{RESULTS}/comparison/verdict.json",
    "capacity": CAPACITY,
    "memory": f"{RESULTS}/memory.csv",
    "startup": f"{RESULTS}/startup.csv",
    "ready": READY,
    "measurement": f"{RESULTS}/measurement.json",
    "impact": f"{RESULTS}/comparison/chat_vs_batch.csv",
    "quality": expand(
        f"{RESULTS}/quality_details_{{variant}}.json",
        variant=VARIANTS if config["quality"]["prompts"] else [],
    ),
    "cost": f"{RESULTS}/cost.json",
    "decision": f"{RESULTS}/decision.json",
}
REPORT = f"{RESULTS}/report"
REPORTS = [
    *expand(f"{REPORT}/{{page}}.md", page=report_plan.PAGES),
    f"{REPORT}/report.html",
    *([f"{RESULTS}/quality.json"] if EVIDENCE["quality"] else []),
]


rule write_page:
    input:
        **EVIDENCE,
    output:
        f"{REPORT}/{{page}}.md",
    log:
        f"logs/{GPU}/write_page/{{page}}.log",
    wildcard_constraints:
        page="|".join(report_plan.PAGES),
    conda:
        "../envs/pipeline.yaml"
    params:
        judged_by=JUDGED_BY,
        report=report_plan.report(PLAN),
    script:
        "../workflow/scripts/write_page.py"


rule write_report:
    input:
        **EVIDENCE,
    output:
        page=f"{REPORT}/report.html",
        plots=directory(f"{REPORT}/plots"),
    log:
        f"logs/{GPU}/write_report.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        judged_by=JUDGED_BY,
        report=report_plan.report(PLAN),
    script:
        "../workflow/scripts/write_report.py"
