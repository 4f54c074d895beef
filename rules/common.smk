import os

from msgspec import to_builtins

from quantbench import fitting, iso_memory, kept, order
from quantbench.config import (
    command_line,
    expected,
    model_plan,
    report_plan,
    summary,
    targets,
)
from quantbench.judgement import judgement
from quantbench.records.cell import AA_SUFFIX, Cell, served_model
from quantbench.records.layout import TUPLE_LOG, Results
from quantbench.records.suite import PROMPTS, items_file
from quantbench.serving import agenda, folder, identity, lane, owner


def say(lines):
    """Lines on stderr."""
    for line in lines:
        print(f"quantbench: {line}", file=sys.stderr, flush=True)


# And not a job's process, which reads the Snakefile again.
IS_OWNER = owner.is_owner_process()

try:
    PLAN = settings.load(
        ROOT,
        workflow.config_settings.config,
        map(Path, workflow.config_settings.configfiles),
    )
    PLAN = fitting.fitted(PLAN, Results(PLAN.gpu), look=IS_OWNER)
    PLAN = iso_memory.planned(PLAN, Results(PLAN.gpu), ROOT, look=IS_OWNER)
    LANE_MODES = settings.lane_modes(PLAN, Results(PLAN.gpu))
    if IS_OWNER:
        from quantbench import inputs, preview

        owner.check_environment()
        # Here, as snakemake wraps what a param's function raises.
        for model in PLAN.models:
            identity.recorded(Results(PLAN.gpu).file("ready", model=model))
        targets.check(PLAN, sys.argv[1:])  # snakemake itself knows them only later
        print(f"quantbench: {summary.line(PLAN)}", file=sys.stderr, flush=True)
        say(settings.notes(PLAN, ROOT))
        say(fitting.notes(PLAN))
        say(iso_memory.notes(PLAN, Results(PLAN.gpu), ROOT))
        say(inputs.check(PLAN, ROOT))
        say(preview.notes(PLAN))
    KEPT = kept.Kept(PLAN, Results(PLAN.gpu))
    if IS_OWNER:
        say(KEPT.words())
except QuantbenchError as error:
    raise WorkflowError(str(error)) from None
# Of each model, once and not for each of its jobs.
SPECS = {model: PLAN.measured_spec(model) for model in PLAN.config["models"]}
DECLARED = report_plan.arms(PLAN)

config = PLAN.config | {
    # Where the servers are; not in their params, where another port would measure everything again.
    "places": PLAN.places(),
    # What is declared of the models; not in the params of blocks, as it judges them and measures none again.
    "arms": DECLARED,
    # For the pages that print it; here and not in their params, where it would make them again.
    "command": command_line.repeat(
        PLAN.gpu,
        workflow.config_settings.configfiles,
        workflow.config_settings.config_args,
        here=Path.cwd(),
    ),
    # What blocks are compared with whenever they are pooled.
    expected.KEY: KEPT.expected.as_config(),
}

# Servers belong to this run; what it uses of the machine is claimed for as long as it lives.
GPU = PLAN.gpu
RESULTS = Results(GPU)
OWNER = owner.become_owner(PLAN.devices(), f"{RESULTS.root}/servers", PLAN.ports())
MODELS = PLAN.models
ARMS = PLAN.arms
BASELINE = PLAN.baseline
# What a tuple may be named of, measured in every run or not.
ASKABLE = list(dict.fromkeys([*ARMS, BASELINE + AA_SUFFIX]))
VARIANTS = PLAN.variants
WORKLOADS = config["workloads"]
ISO_MEMORY = any(workload["iso_memory"] for workload in WORKLOADS.values())
VLLM_PYTHON = config["vllm_python"]
# In the params of all rules that need no server: their results are made anew when the code that judges changes.
JUDGED_BY = judgement()

CELL = RESULTS.pattern("cell")
BLOCK = RESULTS.pattern("block").removesuffix(".json")
MEASURED = RESULTS.pattern("measured")
MADE = f"models/{GPU}/{{model}}/provenance.json"
CALIBRATION = RESULTS.pattern("calibration")

SCORES = [
    RESULTS.path("suite_score", suite=suite, variant=variant)
    for variant in VARIANTS
    for suite in PLAN.suites
]

SCHEDULE = order.of_plan(PLAN, LANE_MODES)


def one_of(names):
    """Pattern of exactly these names; of nothing if there are none."""
    return "|".join(names) or "(?!)"


wildcard_constraints:
    arm=one_of(ASKABLE),
    model=one_of(config["models"]),
    variant=one_of(VARIANTS),
    suite=one_of(PLAN.suites),
    workload=one_of(WORKLOADS),
    concurrency=r"[1-9]\d*",
    max_tokens=r"[1-9]\d*",


def by_content(rule, path):
    """Input function of a rule that measures; `path` is an input, or a function of the wildcards that gives it.

    Files of another configuration, and files that a result has lost, are made again if their job is in the plan at all.
    The times of inputs count only where what is kept does not tell with what it was made.
    """

    def of(wildcards):
        names = dict(wildcards.items())
        if IS_OWNER:
            workflow.dag.forcefiles.update(KEPT.demanded(rule, names))
        given = path(wildcards) if callable(path) else path
        return ancient(given) if KEPT.settles(rule, names) else given

    return of


def replaced():
    """(rule, wildcards, whether the user asked for just this) of the jobs of this run."""
    asked = {str(name) for name in workflow.dag_settings.forcerun}
    if workflow.dag_settings.forcetargets:
        asked |= {str(name) for name in workflow.dag_settings.targets}
    for job in workflow.dag.needrun_jobs():
        named = asked & {job.rule.name, *map(str, job.output)}
        forced = bool(named or workflow.dag_settings.forceall)
        yield job.rule.name, dict(job.wildcards_dict), forced


def of_model(function):
    """An input or param: what a function of the plan says of the rule's model."""
    return lambda wildcards: function(PLAN, wildcards.model)


def made(name):
    """The record of a model that is made here; nothing for models that come from elsewhere."""
    return [MADE.format(model=name)] if PLAN.made_here(name) else []


def cells(arm, workload=None):
    """Tuple CSVs of one arm: its grid, or the part of one workload."""
    return [
        CELL.format(arm=arm, **cell.columns)
        for cell in PLAN.cells(arm)
        if workload in (None, cell.workload)
    ]


def cell_of(wildcards):
    """The cell of a job."""
    return Cell.of(wildcards.workload, wildcards.concurrency, wildcards.max_tokens)


# Further blocks are for comparisons; who names a tuple's CSV wants that tuple.
FURTHER = PLAN.budget_s > 0 and bool(VARIANTS) and not targets.tuples(sys.argv[1:])


LOOKED_AGAIN = []


def after_further(paths):
    """Input function of what rests on all blocks: `paths(wildcards)`, once no further ones will come."""

    def of(wildcards):
        if FURTHER:
            checkpoints.measure_further.get()
            # What the plan saw missing may be there now; once for all such functions, as it reads every block.
            if not LOOKED_AGAIN:
                KEPT.look_again()
                LOOKED_AGAIN.append(True)
        return paths(wildcards)

    return of


def stems(arm, cell):
    """Paths without suffix of all blocks of a cell: as configured, and all of this configuration on disk."""
    numbers = range(1, KEPT.pooled(arm, cell) + 1)
    return [BLOCK.format(arm=arm, **cell.columns, block=n) for n in numbers]


def measured_of(arms):
    """What says that the tuples of these arms are measured: the grid, and all others that lie on disk."""
    return [
        MEASURED.format(arm=arm, **cell.columns) for arm in arms for cell in POINTS[arm]
    ]


@after_further
def measured_tuple(wildcards):
    """The same of one tuple."""
    return MEASURED.format(**dict(wildcards.items()))


@after_further
def measured_of_model(wildcards):
    """The same for all tuples that one server delivers, its A/A arm included."""
    return measured_of(arm for arm in ARMS if served_model(arm) == wildcards.model)


def blocks_of(wildcards):
    """All blocks of one tuple; a param, which snakemake asks for when the inputs are there."""
    return stems(wildcards.arm, cell_of(wildcards))


def prompts_of(wildcards):
    """Prompt file of a workload."""
    return WORKLOADS[wildcards.workload]["prompts"]


def ready_of(wildcards):
    """The record of the server that answers a job's arm or model."""
    name = wildcards.get("arm") or wildcards.get("model")
    return RESULTS.path("ready", model=served_model(name))


def spec_of(wildcards):
    """All of a server that a result depends on; a change here, and only here, invalidates what it served."""
    return SPECS[served_model(wildcards.get("arm") or wildcards.get("model"))]


def declared_of(wildcards):
    """What is declared of the model of an arm: how many GPUs serve it, in what it may differ."""
    return DECLARED[served_model(wildcards.arm)]


def identity_of(wildcards):
    """The files of a model and the version of vLLM: another one of either is another server, under the same spec."""
    ready = RESULTS.file("ready", model=wildcards.model)
    return identity.planned(
        PLAN.server_spec(wildcards.model),
        ready,
        made_here=PLAN.made_here(wildcards.model),
    )


def knobs_of(wildcards):
    """All that defines a block beside the server and the prompts."""
    return PLAN.block_knobs(cell_of(wildcards))


def on_lane(number):
    """One unit of a lane's resource for the jobs of that lane, none for others."""
    name = list(config["lanes"])[number]
    if len(config["lanes"]) == 1:
        return 1  # no function to call for each job
    return lambda wildcards: int(
        PLAN.lane_of(wildcards.get("arm") or wildcards.get("model")) == name
    )


LANE_RESOURCES = {
    f"lane{number}": on_lane(number) for number in range(len(config["lanes"]))
}


def items_of(wildcards):
    """The file of a suite's items; none of a kind that has none."""
    path = items_file(PLAN.suites[wildcards.suite])
    return [path] if path else []


def settings_of_suite(wildcards):
    """All that a suite's collections and scores depend on beside its items and servers."""
    return to_builtins(PLAN.suites[wildcards.suite])


def collected_of(suite, model):
    """What one server has answered to a suite."""
    if suite == PROMPTS:
        return RESULTS.path("answers", model=model)
    return RESULTS.path("collected", suite=suite, model=model)


def answers_of(model):
    """All that one server answers for its quality."""
    return [collected_of(suite, model) for suite in PLAN.suites]


def answers_of_model(wildcards):
    """The same of a job's server."""
    return answers_of(wildcards.model)


def start_priority(wildcards):
    """Servers start before blocks where a lane interleaves, before their own blocks where it restarts."""
    return SCHEDULE.start(wildcards.model)


def stop_priority(wildcards):
    """A server stops when nothing is left to ask it."""
    return SCHEDULE.stop(wildcards.model)


def tuple_priority(wildcards):
    """That of its first block: A B B A, see quantbench.judge.schedule."""
    return SCHEDULE.block(wildcards.arm, cell_of(wildcards), 1)


def blocks_to_measure():
    """The blocks of this run in the order of the schedule: (arm, cell, number)."""
    blocks = []
    for what, names, asked in replaced():
        if what == kept.TUPLE:
            arm, cell = names["arm"], Cell.of_row(names)
            files = map(Path, (ready_of(names), WORKLOADS[cell.workload]["prompts"]))
            since = max((f.stat().st_mtime for f in files if f.exists()), default=0)
            numbers = KEPT.to_measure(names, asked, since)
            blocks += [(arm, cell, number) for number in numbers]
    return sorted(blocks, key=lambda block: -SCHEDULE.block(*block))


def agenda_of(blocks):
    """What `serving.agenda` tells the lanes of this run."""
    started = {
        job.wildcards.model
        for job in workflow.dag.needrun_jobs()
        if job.rule.name == "start_server"
    }
    return {
        "lanes": {arm: PLAN.lane_of(arm) for arm in ASKABLE},
        "order": [(arm, *cell.columns.values(), n) for arm, cell, n in blocks],
        "ready": {
            arm: RESULTS.file("ready", model=served_model(arm)) for arm in ASKABLE
        },
        "starts": {arm for arm in ASKABLE if served_model(arm) in started},
    }


def blocks_kept():
    """How far the grid is: "2 of 12 blocks"; those of another configuration do not count."""
    KEPT.look_again()
    blocks = [
        dict(arm=arm, **cell.columns, block=number)
        for arm in ARMS
        for cell in PLAN.cells(arm)
        for number in range(1, KEPT.pooled(arm, cell) + 1)
    ]
    states = [KEPT.found("block", block).state for block in blocks]
    return f"{sum(s in ('fits', 'unknown') for s in states)} of {len(blocks)} blocks"


# The grid, and what was asked for by name and lies on disk.
POINTS = {arm: report_plan.points(PLAN, arm, RESULTS) for arm in ARMS}


@after_further
def all_measured(wildcards):
    """What says that all tuples are measured."""
    return measured_of(ARMS)


def all_blocks(wildcards):
    """All their blocks; a param as well."""
    return [stem for arm in ARMS for cell in POINTS[arm] for stem in stems(arm, cell)]
