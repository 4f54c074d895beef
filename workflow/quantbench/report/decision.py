"""What decision.json says, in words: the headline and the card of each use, the memo, the predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from quantbench.config import command_line
from quantbench.records.cell import Cell
from quantbench.records.comparison import Comparison
from quantbench.records.decision import Choice, UseDecision
from quantbench.records.metric import METRICS, PER_GPU, SPEED
from quantbench.records.run import Run
from quantbench.records.suite import GateVerdict
from quantbench.report import cost, factors, iso_memory, speed
from quantbench.report.document import Code, Part, Section, Table, bullets, grouped, table, text
from quantbench.report.marks import bold
from quantbench.report.say import Speech
from quantbench.wording import capitalized, change, integer, listing, number, sentence

TOP_DOUBTS: Final = (
    *("doubts.aa_absent", "doubts.not_interleaved", "doubts.drifted", "doubts.refused", "doubts.no_quality"),
    "doubts.starts_differ",
    "doubts.dummy",
)
"""Doubts that the memo says itself; marks and warning say others, notes.md says all."""
WHEN_CHANGED: Final = ("p50_ttft_ms", "p50_tpot_ms", "j_per_token")
"""Metrics that are evidence where a gain is shown; a loss stands under what got worse."""


def warning(run: Run, say: Speech) -> str:
    """What stands first on every page of a run that is not to be trusted; "" where it is."""
    return "" if run.trusted else say("decision.untrusted", metrics=run.verdict.aa.different)


def alone(run: Run, say: Speech) -> str:
    """What a run without a variant says in place of a decision; "" where there is one."""
    form = "fits" if run.plan.unfit else "selected"
    return "" if run.variants else say("decision.alone", form=form, model=run.baseline)


def uses(run: Run) -> tuple[UseDecision, ...]:
    """The decisions per use; none before the run is judged."""
    return run.decision.uses if run.decision else ()


def leads(run: Run, say: Speech) -> list[str]:
    """What to do per use, and where it says why; without a variant, that there is nothing to decide."""
    lines = [bold(lead(say, use, run.baseline)) for use in uses(run) if run.variants]
    return [
        alone(run, say) or warning(run, say),
        *factors.lines(run, say),
        *lines,
        *([say("decision.why")] if lines else []),
    ]


def headline(run: Run, say: Speech) -> list[str]:
    """Per use what to do, by how much, how sure; without a variant, that there is nothing to decide."""
    if not run.variants:
        return [alone(run, say)]
    lines = [warning(run, say)]
    for use in uses(run):
        named = [use.chosen] if use.chosen else list(use.choices)
        reasons = [_choice(run, say, choice, named=len(named) > 1) for choice in named]
        lines.append(" ".join([bold(lead(say, use, run.baseline)), *reasons, _confidence(say, use)]))
    return [line for line in lines if line]


def lead(say: Speech, use: UseDecision, baseline: str) -> str:
    """ "Chat: use INT8.": what to do, in one sentence."""
    return say("decision.lead", use=say("decision.style", form=use.style), action=action(say, use, baseline))


def action(say: Speech, use: UseDecision, baseline: str) -> str:
    """ "use INT8": what to do."""
    chosen = use.chosen
    return say("decision.action", form=_form(use), model=chosen.variant if chosen else baseline)


def untested(use: UseDecision) -> bool:
    """Whether nothing is known of the speed."""
    return all(choice.code in (None, "invalid", "no_test") for choice in use.choices)


def _form(use: UseDecision) -> str:
    """The action, and what it rests on where it alone would say more than is known."""
    refused = use.choices and all(
        choice.quality == "not acceptable" and choice.code not in ("worse", "equivalent") for choice in use.choices
    )
    if use.action in ("use", "check") and use.chosen and use.chosen.metric == PER_GPU:
        return f"{use.action} per gpu"
    if use.action == "check" and use.chosen and use.chosen.got_worse:
        return "check slower"
    if use.action == "keep" and refused:
        return "keep untested" if untested(use) else "keep refused"
    return "untested" if use.action == "undecided" and untested(use) else use.action


def _confidence(say: Speech, use: UseDecision) -> str:
    """How sure a decision is, and what lowers it, less what the headline itself says."""
    open_ = use.action == "undecided" or _form(use) == "keep untested"
    because = [why for why in use.confidence_because if not (open_ and why.id == "confidence.speed_not_decided")]
    return say("decision.confidence", level=use.confidence, because=because)


def _choice(run: Run, say: Speech, choice: Choice, *, named: bool) -> str:
    """Speed, what got worse, quality: "INT8: tokens/sec improved at c=16 (+19.7 % [+7.0, +33.9]); quality fine (…)"."""
    row = run.row(choice.variant, choice.cell, SPEED)
    workload = _named(run, choice)
    said = [f"{f'{workload} ' if workload else ''}tokens/sec: {_speed(run, say, row)}"]
    slow = row is not None and row.code != "better"
    more = [speed.per_gpu(run, say, choice.variant, choice.cell)]
    more += [speed.ceiling(run, say, choice.variant, choice.cell)] if slow else []
    said += filter(None, more)
    words = "; ".join([*said, *remarks(say, choice)])
    return sentence(f"{run.label(choice.variant)}: {words}" if named else words)


def _named(run: Run, choice: Choice) -> str | None:
    """The workload, where its style has several."""
    return choice.workload if len(run.workloads(choice.style)) > 1 else None


def _speed(run: Run, say: Speech, row: Comparison | None) -> str:
    """What happened to the deciding metric: "improved at c=16 (+19.7 % [+7.0, +33.9])"; why it has no verdict."""
    if row is None:
        return say("decision.not_compared")
    words = speed.clause(run, say, [row])
    because = speed.why(say, row) if row.code in ("invalid", "no_test") else []
    return f"{words}, as {listing(because)}" if because else words


def remarks(say: Speech, choice: Choice) -> Iterator[str]:
    """ "p50 TTFT got worse (+234 %)", "quality fine (lost 0 and gained 1 of 30 items)"."""
    if choice.got_worse and choice.code != "worse":
        changes = [say("decision.change", metric=entry.metric, ratio=entry.ratio) for entry in choice.got_worse]
        yield say("decision.got_worse", changes=changes)
    yield say("decision.quality", form=choice.quality, because=choice.quality_because)


def memo(run: Run, say: Speech) -> list[Section]:
    """The decision memo: decision first, then the evidence; without a variant, what is known of the baseline."""
    decision = Section("Decision", bullets(headline(run, say)))
    untested = Section("What was not tested", bullets(list(_not_tested(run, say))))
    costs = Section("Cost", bullets(cost_lines(run, say)))
    reproduce = Section("Reproduce", (Code(command_line.text(run.command)),))
    if not run.variants:
        return [decision, untested, costs, reproduce]
    worse = bullets(list(_got_worse(run, say))) or (text(say("decision.nothing_worse")),)
    return [
        decision,
        Section("Evidence", (evidence_table(run, say), *bullets(_iso_memory(run, say)))),
        Section("What got worse", worse),
        untested,
        costs,
        Section("Rollback thresholds", _rollback(run, say)),
        Section("Alternatives", bullets(list(_alternatives(run, say)))),
        reproduce,
    ]


def _iso_memory(run: Run, say: Speech) -> list[str]:
    """What was found with as many requests in flight as fit each model."""
    return [words for workload in run.plan.iso_memory for words in iso_memory.lines(run, say, workload)]


def scope(run: Run) -> str:
    """What was measured, where and when."""
    versions = run.measurement.versions.get(run.baseline)
    vllm = f"vLLM {versions.vllm}" if versions and versions.vllm else ""
    parts = [(run.measurement.first_block_at or "")[:10], vllm]
    for name in run.workloads():
        cells = run.cells(name)
        loads = "/".join(dict.fromkeys(str(cell.concurrency) for cell in cells))
        parts.append(f"{name} c={loads} max_tokens={'/'.join(dict.fromkeys(str(cell.max_tokens) for cell in cells))}")
    return f"{'; '.join(filter(None, parts))}."


def evidence_table(run: Run, say: Speech) -> Table:
    """A row per figure, a column per model; variants have their value, the ratio with CI and mark.

    The deciding metric and the tail always, other metrics where their interval excludes "as before".
    """
    lines: list[list[str]] = []
    compared: list[Comparison] = []
    for workload in run.workloads():
        cell = run.deciding_cell(workload)
        for metric in _evidence(run, workload, cell):
            rows = [run.row(variant, cell, metric) for variant in run.variants]
            compared += filter(None, rows)
            base = _baseline_value(run, cell, metric)
            where = f"{workload} {run.place(cell)}" if cell else workload
            unit = "" if METRICS[metric].kind == "throughput" else f" ({METRICS[metric].unit})"
            lines.append([f"{where}: {METRICS[metric].words}{unit}", number(base), *map(_evidence_cell, rows)])
    memory = [run.memory_of(model) for model in run.models]
    if any(row.weights_gib is not None for row in memory):
        lines.append(
            [
                "weights (GiB)",
                *(number(None if row.weights_gib is None else row.weights_gib * row.gpus) for row in memory),
            ]
        )
    if len({row.kv_cache_tokens for row in memory}) > 1:
        lines.append(["KV cache (tokens)", *(integer(row.kv_cache_tokens) for row in memory)])
    gates = [run.gate(variant, "batch") for variant in run.variants]
    if known := next(filter(None, gates), None):
        lines.append([f"answers passed, of {known.n}", integer(known.passed), *(_answers(say, gate) for gate in gates)])
    notes = [say("speed.intervals", legend=speed.legend(say, compared), **_primary(compared))] if compared else []
    return table(["figure", *map(run.label, run.models)], lines, notes=notes)


def _answers(say: Speech, gate: GateVerdict | None) -> str:
    if gate is None:
        return ""
    lost, gained = len(gate.lost), len(gate.gained)
    return say("decision.passed", passed=gate.passed - lost + gained, lost=lost or None)


def _primary(rows: Sequence[Comparison]) -> dict[str, str]:
    """What a note on marks says of the comparison that was declared to decide."""
    primary = next((row for row in rows if row.primary), None)
    return {"primary": primary.metric, "workload": primary.workload} if primary else {}


def _baseline_value(run: Run, cell: Cell | None, metric: str) -> float | None:
    """The baseline's figure in the evidence; None where no comparison has one."""
    rows = (run.row(variant, cell, metric) for variant in run.variants)
    return next((row.baseline_value for row in rows if row and row.baseline_value is not None), None)


def _tail(run: Run, cell: Cell | None) -> str:
    """Which E2E is evidence in a cell: the p95, or the p50 where a variant has only that ratio."""

    def known(variant: str, metric: str) -> bool:
        row = run.row(variant, cell, metric)
        return row is not None and row.ratio is not None

    lacking = (known(variant, "p50_e2e_ms") and not known(variant, "p95_e2e_ms") for variant in run.variants)
    return "p50_e2e_ms" if any(lacking) else "p95_e2e_ms"


def _evidence(run: Run, workload: str, cell: Cell | None) -> list[str]:
    """Metrics that are evidence in a deciding cell, what decides first."""
    rows = [row for row in run.compared(workload) if row.cell == cell]
    changed = {row.metric for row in rows if row.excludes_one}
    deciding = [run.plan.primary.metric] if workload == run.plan.primary.workload else []
    wanted = [*deciding, SPEED, PER_GPU, *(m for m in WHEN_CHANGED if m in changed), _tail(run, cell)]
    known = {row.metric for row in rows if row.baseline_value is not None} | {SPEED, *deciding}
    return list(dict.fromkeys(metric for metric in wanted if metric in known))


def _evidence_cell(row: Comparison | None) -> str:
    if not speed.has_ratio(row):
        return "not compared"
    return f"{number(row.variant_value)}; {speed.ratio_cell(row)}"


def _got_worse(run: Run, say: Speech) -> Iterator[str]:
    """Worse metrics with their cells, where these differ only their names; and prompts lost."""
    for variant in run.variants:
        worse = [row for row in run.compared(variant=variant) if row.code == "worse"]
        by_metric = grouped(worse, lambda row: row.metric)
        places = {tuple(row.cell for row in rows) for rows in by_metric.values()}
        if len(places) == 1:
            changes = [say("decision.worse_by", metric=name, by=speed.extent(rows)) for name, rows in by_metric.items()]
            cells = _by_workload(places.pop())
            where = [f"{workload} {listing(map(run.place, some))}" for workload, some in cells.items()]
            yield say("decision.worse", model=variant, metrics=changes, places=where)
        elif places:
            where = list(dict.fromkeys(row.workload for row in worse))
            yield say("decision.worse_apart", model=variant, metrics=list(by_metric), places=where)
        if (gate := run.gate(variant, "batch")) and gate.lost:
            counts = {"lost": len(gate.lost), "gained": len(gate.gained) or None}
            yield say("decision.answers_worse", model=variant, **counts, n=gate.n)
    yield from iso_memory.got_worse(run, say)


def _by_workload(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    return grouped(cells, lambda cell: cell.workload)


def _not_tested(run: Run, say: Speech) -> Iterator[str]:
    """What weighs most of what could still be wrong, and what the prompts cannot exclude."""
    doubts = run.decision.doubts if run.decision else ()
    top = [doubt for doubt in doubts if doubt.id in TOP_DOUBTS]
    yield from map(say, top)
    if any(doubt.id == "doubts.refused" for doubt in top):
        yield say("decision.again")
    if bounds := loss_bounds(run, say):
        yield say("decision.bounds", bounds=bounds)
    if more := len(doubts) - len(top):
        yield say("decision.more_doubts", n=more)


def loss_bounds(run: Run, say: Speech) -> list[str]:
    """ "up to 12 % with INT8": which loss of acceptable answers the items cannot exclude."""
    gates = {variant: run.gate(variant, "batch") for variant in run.variants}
    return [
        say("decision.bound", model=variant, bound=gate.high)
        for variant, gate in gates.items()
        if gate and gate.high is not None
    ]


def cost_lines(run: Run, say: Speech) -> list[str]:
    """The price, and one line per workload: what the baseline costs and each variant saves."""
    lines = [cost.price(run, say)]
    for workload in run.workloads() if run.cost else ():
        row = run.cost_row(run.baseline, run.deciding_cell(workload))
        costs = []
        if run.cost and row and row.cost_per_1m_tokens is not None:
            values = {"cost": row.cost_per_1m_tokens, "currency": run.cost.assumptions.currency}
            costs.append(say("decision.costs", model=run.baseline, **values))
        costs += [cost.saving(run, say, workload, variant, brief=True) for variant in run.variants]
        lines.append(f"{workload}: {'; '.join(costs)}.")
    return lines


def _threshold(run: Run, cell: Cell | None, metric: str) -> float | None:
    """The baseline's figure as the evidence shows it; where it shows none, as measured in valid blocks."""
    shown = _baseline_value(run, cell, metric)
    measured = run.capacity_row(run.baseline, cell)
    return measured.number(metric) if shown is None and measured and measured.blocks else shown


def _rollback(run: Run, say: Speech) -> tuple[Part, ...]:
    """Live metrics and the thresholds at which to go back."""
    lines = []
    rate = PER_GPU if len({run.plan.arm(model).gpus for model in run.models}) > 1 else SPEED
    for workload in run.workloads():
        cell = run.deciding_cell(workload)
        limits = {metric: _threshold(run, cell, metric) for metric in (_tail(run, cell), "p50_e2e_ms")}
        tail = next((metric for metric, limit in limits.items() if limit is not None), None)
        if tail:
            values = {"metric": tail, "limit": limits[tail], "rate": rate, "least": _threshold(run, cell, rate)}
            lines.append(say("decision.rollback", workload=workload, cell=cell, **values))
    served = any(use.action in ("use", "check") for use in uses(run))
    back = say("decision.rollback_to", form="served" if served else "kept", model=run.baseline)
    return (text(back), *bullets([*lines, say("decision.rollback_answers")]))


def _alternatives(run: Run, say: Speech) -> Iterator[str]:
    """Each variant's outcome per use, and what else there is."""
    for variant in run.variants:
        choices = [choice for use in uses(run) for choice in use.choices if choice.variant == variant]
        outcomes = grouped(choices, _outcome)
        each = [
            f"{listing(dict.fromkeys(say('decision.style', form=c.style).lower() for c in some))} "
            f"{say('decision.outcome', form=outcome)}"
            for outcome, some in outcomes.items()
        ]
        yield say("decision.alternative", model=variant, outcomes="; ".join(each))
    yield say("decision.alternative_none", model=run.baseline)


def _outcome(choice: Choice) -> str:
    refused = choice.action == "keep" and choice.quality == "not acceptable"
    if choice.action == "check" and choice.metric == PER_GPU:
        return "check per gpu"
    return "refused" if refused else choice.action


@dataclass(frozen=True)
class Card:
    """One use at the top of the report: what to do, the change in tokens/sec with its CI, a line per variant.

    of: whose change it is. shown: whether it is a finding; else it is drawn no stronger than its interval.
    """

    use: str
    action: str
    title: str
    figure: str
    interval: str
    of: str
    shown: bool
    lines: tuple[str, ...]


def cards(run: Run, say: Speech) -> list[Card]:
    """A card per use, for the variant that the headline names."""
    return [_card(run, say, use) for use in uses(run) if use.choices]


def _card(run: Run, say: Speech, use: UseDecision) -> Card:
    declared = [choice for choice in use.choices if choice.workload == run.plan.primary.workload]
    top = use.chosen or max(declared or use.choices, key=lambda choice: choice.ratio or 0)
    row = run.speed_row(top.variant, top.cell)
    return Card(
        use=say("decision.style", form=use.style),
        action=use.action,
        title=capitalized(action(say, use, run.baseline)),
        figure=change(row.ratio) if speed.has_ratio(row) else say("cards.not_compared"),
        interval=_interval(say, row) if speed.has_ratio(row) else "",
        of=say(
            "cards.of",
            metric=row.metric if row else SPEED,
            model=top.variant,
            workload=_named(run, top),
            place=run.place(top.cell) if top.cell else None,
        ),
        shown=run.trusted and row is not None and row.decided,
        lines=tuple(_line(run, say, choice) for choice in use.choices),
    )


def _interval(say: Speech, row: Comparison) -> str:
    form = "known" if row.has_ci else "unknown"
    return say("cards.interval", form=form, low=row.ci_low, high=row.ci_high)


def _line(run: Run, say: Speech, choice: Choice) -> str:
    """One variant in a card: speed, what got worse, quality."""
    row = run.speed_row(choice.variant, choice.cell)
    form, figure = "none", ""
    if speed.has_ratio(row):
        form, figure = "shown" if row.decided else "not_shown", speed.figure(row)
    change_of = say("cards.change", form=form, model=choice.variant, workload=_named(run, choice), change=figure,
                    metric=row.metric if row else SPEED)  # fmt: skip
    return sentence("; ".join([change_of, *remarks(say, choice)]))


def predictions(run: Run, say: Speech) -> Section:
    """The questions that had a prediction, what was measured, and the scores."""
    questions = run.decision.predictions if run.decision else ()
    predicted = [question for question in questions if question.predicted is not None]
    if not predicted:
        return Section("Predictions", (text(say("prediction_page.none")),))
    everything = len(predicted) == len(questions)
    intro = (
        say("prediction_page.all") if everything else say("prediction_page.some", n=len(predicted), of=len(questions))
    )
    lines = []
    for question in predicted:
        measured = {answer.variant: say.all(answer.measured, ", ") for answer in question.answers}
        scores = {answer.variant: say("prediction_page.score", form=answer.score) for answer in question.answers}
        words = (_joined(run, by_variant) for by_variant in (measured, scores))
        lines.append([say(f"question.{question.id}"), str(question.predicted), *words])
    return Section("Predictions", (text(intro), table(["question", "prediction", "measured", "score"], lines)))


def _joined(run: Run, by_variant: dict[str, str]) -> str:
    """What variants have in common is said once."""
    if len(set(by_variant.values())) == 1:
        return next(iter(by_variant.values()))
    return "; ".join(f"{run.label(variant)}: {words}" for variant, words in by_variant.items())
