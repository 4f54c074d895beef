from snakemake.utils import min_version

min_version("9.20")


include: "rules/config.smk"


configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/models.smk"
include: "rules/server.smk"
include: "rules/capacity.smk"
include: "rules/quality.smk"
include: "rules/compare.smk"
include: "rules/cost.smk"
include: "rules/report.smk"


localrules:
    all,
    capacity,


rule capacity:
    input:
        # All measurements of all arms, without quality and reports. The tuples are listed, not only what is made of
        # them: a missing intermediate file alone makes no job run.
        [path for arm in ARMS for path in cells(arm)],
        [path for arm in ARMS for path in blocks_of_arm(arm)],
        [path for arm in ARMS for path in records_of_arm(arm)],


rule all:
    default_target: True
    input:
        rules.capacity.input,
        SESSIONS,
        CALIBRATIONS,
        [answers for model in MODELS for answers in answers_of(model)],
        # Not ready.json: the rule start_server knows when it is missed.
        [paths for name, paths in EVIDENCE.items() if name != "ready"],
        REPORTS,


onstart:
    folder.enter(Path.cwd())
    try:
        folder.need_writable(Path(RESULTS.root))
        say(KEPT.set_aside(replaced()))
    except QuantbenchError as error:
        raise WorkflowError(str(error)) from None
    STARTED.append(time.time())


onsuccess:
    lane.sweep("run finished")
    KEPT.put_back()
    print(
        ending.words(RESULTS, report_plan.report(PLAN)["labels"], STARTED[0]),
        file=sys.stderr,
    )


onerror:
    lane.sweep("run failed")
    KEPT.put_back()
