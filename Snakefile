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
        measured_of(ARMS),


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
    try:
        folder.enter(Path.cwd(), Path(RESULTS.root))
        folder.need_writable(Path(RESULTS.root))
        KEPT.forget_links()
        say(KEPT.set_aside(replaced()))
        fitting.keep(PLAN, RESULTS)
        iso_memory.keep(PLAN, RESULTS)
    except QuantbenchError as error:
        raise WorkflowError(str(error)) from None
    STARTED.append(time.time())
    blocks = blocks_to_measure()
    owner.announce_blocks(len(blocks))
    agenda.announce(config, **agenda_of(blocks))
    LAST_WORDS.append(LastWords(blocks_kept, [Path(RESULTS.root)]))
    LAST_WORDS[0].begin(owner.end_jobs)


onsuccess:
    # Here, as it loads polars and what judges, a fifth of the time of a plan, which ends without it.
    from quantbench.report import ending

    lane.sweep("run finished")
    KEPT.put_back()
    agenda.forget()
    LAST_WORDS[0].end()
    print(
        ending.words(
            RESULTS,
            report_plan.report(PLAN)["labels"],
            config["command"],
            STARTED[0],
        ),
        ending.rows(targets.tuples(sys.argv[1:])),
        sep="",
        file=sys.stderr,
    )


onerror:
    lane.sweep("run failed")
    KEPT.put_back()
    agenda.forget()
