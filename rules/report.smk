import time

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
}
COST = f"{RESULTS}/cost.json"
REPORT = f"{RESULTS}/report"
REPORTS = [
    *expand(
        f"{REPORT}/{{page}}",
        page=["notes.md", "cost.md", "best_practices.md", "decision.md", "report.html"],
    ),
    *([f"{RESULTS}/quality.json"] if EVIDENCE["quality"] else []),
]


rule write_notes:
    input:
        **EVIDENCE,
    output:
        f"{REPORT}/notes.md",
    log:
        f"logs/{GPU}/write_notes.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        judged_by=JUDGED_BY,
        report=report_plan.report(PLAN, predictions=True),
    script:
        "../workflow/scripts/write_notes.py"


rule write_cost:
    input:
        **EVIDENCE,
        cost=COST,
    output:
        f"{REPORT}/cost.md",
    log:
        f"logs/{GPU}/write_cost.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        judged_by=JUDGED_BY,
        report=report_plan.report(PLAN),
    script:
        "../workflow/scripts/write_cost.py"


rule write_best_practices:
    input:
        **EVIDENCE,
        cost=COST,
    output:
        f"{REPORT}/best_practices.md",
    log:
        f"logs/{GPU}/write_best_practices.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        judged_by=JUDGED_BY,
        report=report_plan.report(PLAN),
    script:
        "../workflow/scripts/write_best_practices.py"


rule write_decision:
    input:
        **EVIDENCE,
        cost=COST,
    output:
        f"{REPORT}/decision.md",
    log:
        f"logs/{GPU}/write_decision.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        judged_by=JUDGED_BY,
        report=report_plan.report(PLAN),
    script:
        "../workflow/scripts/write_decision.py"


rule write_report:
    input:
        **EVIDENCE,
        cost=COST,
    output:
        page=f"{REPORT}/report.html",
        plots=directory(f"{REPORT}/plots"),
    log:
        f"logs/{GPU}/write_report.log",
    conda:
        "../envs/pipeline.yaml"
    params:
        judged_by=JUDGED_BY,
        report=report_plan.report(PLAN, predictions=True),
    script:
        "../workflow/scripts/write_report.py"
